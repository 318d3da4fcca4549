package queue

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/internal/keyring"
	"usher/queue/drand"
)

// receiptIssuer keeps receipts apart from passes, which the same keys sign.
const receiptIssuer = "usher-receipt"

// Receipt is what a signed receipt says of a place.
type Receipt struct {
	Room       string
	Epoch      string
	Number     uint64
	Commitment string
	JoinedAt   time.Time
}

type receiptClaims struct {
	Number     uint64    `json:"number"`
	Epoch      string    `json:"epoch"`
	Commitment string    `json:"commitment"`
	JoinedAt   time.Time `json:"joined_at"`
	jwt.RegisteredClaims
}

// SignReceipt is an EdDSA-signed JWT that proves number, epoch, commitment and time of
// a place without being one.
func SignReceipt(ring *keyring.Ring, t Token) (string, error) {
	kid, private := ring.PassKey()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, receiptClaims{
		Number: t.Number, Epoch: t.Epoch, Commitment: t.Commitment, JoinedAt: t.IssuedAt,
		RegisteredClaims: jwt.RegisteredClaims{Issuer: receiptIssuer, Subject: t.Room, IssuedAt: jwt.NewNumericDate(t.IssuedAt)},
	})
	token.Header["kid"] = kid
	signed, err := token.SignedString(private)
	if err != nil {
		return "", fmt.Errorf("sign receipt: %w", err)
	}
	return signed, nil
}

// OpenReceipt checks a receipt's signature under a site's public keys and reads it.
func OpenReceipt(signed string, keys map[string]ed25519.PublicKey) (Receipt, error) {
	var c receiptClaims
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(receiptIssuer)).
		ParseWithClaims(signed, &c, func(t *jwt.Token) (any, error) {
			kid, _ := t.Header["kid"].(string)
			key, ok := keys[kid]
			if !ok {
				return nil, fmt.Errorf("the site publishes no key %q", kid)
			}
			return key, nil
		})
	if err != nil {
		return Receipt{}, fmt.Errorf("receipt: %w", err)
	}
	return Receipt{Room: c.Subject, Epoch: c.Epoch, Number: c.Number, Commitment: c.Commitment, JoinedAt: c.JoinedAt}, nil
}

// Finding is one check of a draw and how it went.
type Finding struct {
	Check string
	OK    bool
	// Detail says what was compared.
	Detail string
}

// Verdict is what may honestly be said of a draw.
type Verdict string

// The verdicts. Consistent: every rank follows from values that were promised before
// the draw, yet whoever holds the secret could have known the outcome and added places
// until it suited. Fair: a public beacon that nobody could know before the lobby's size
// was fixed is part of the seed.
const (
	Wrong      Verdict = "wrong"
	Consistent Verdict = "consistent"
	Fair       Verdict = "fair"
)

// Verify recomputes from public values alone what d says about the place of r. rank is
// the place's, and means something unless the verdict is Wrong.
func Verify(d Draw, r Receipt) (found []Finding, rank uint64, verdict Verdict) {
	check := func(what string, ok bool, format string, args ...any) bool {
		found = append(found, Finding{Check: what, OK: ok, Detail: fmt.Sprintf(format, args...)})
		return ok
	}
	ok := check("algorithm", d.Algorithm == DrawAlgorithm, "%s", d.Algorithm)
	raw, err := hex.DecodeString(d.Secret)
	if !check("secret", err == nil && len(raw) == sha256.Size, "%d bytes", len(raw)) {
		return found, 0, Wrong
	}
	secret := [32]byte(raw)
	ok = check("commitment of the draw", Commitment(secret) == d.Commitment, "SHA-256 of the secret is %s", Commitment(secret)) && ok
	ok = check("commitment of the receipt", r.Commitment == Commitment(secret), "promised when the place was given: %s", r.Commitment) && ok
	seed := Seed(secret, d.LobbySize, d.Beacon)
	ok = check("seed", hex.EncodeToString(seed[:]) == d.Seed, "SHA-256 of secret, lobby size and beacon is %x", seed) && ok
	verdict = Consistent
	if s := d.BeaconSource; s != nil {
		round := drand.Round{Round: s.Round, Signature: s.Signature}
		randomness, err := round.Randomness()
		ok = check("beacon", err == nil && randomness == d.Beacon, "SHA-256 of the signature of drand round %d is %s", s.Round, randomness) && ok
		err = s.Chain.Check(s.URL)
		ok = check("chain", err == nil, "key and schedule are those of %s", s.URL) && ok
		ok = check("signature", err == nil && s.Chain.Verify(round) == nil, "round %d is signed with the chain's key", s.Round) && ok
		ok = check("time of the round", s.RoundAt.Equal(s.Chain.At(s.Round)), "%s by the chain's schedule", s.Chain.At(s.Round).Format(time.RFC3339)) && ok
		ok = check("beacon after the lobby", s.RoundAt.After(s.LobbyFixedAt),
			"round %d came at %s, the lobby's size was fixed at %s", s.Round, s.RoundAt.Format(time.RFC3339), s.LobbyFixedAt.Format(time.RFC3339Nano)) && ok
		verdict = Fair
	}
	if !ok {
		return found, 0, Wrong
	}
	rank = Rank(seed, d.LobbySize, r.Number)
	where := "number " + strconv.FormatUint(r.Number, 10) + " of a lobby of " + strconv.FormatUint(d.LobbySize, 10)
	if r.Number >= d.LobbySize {
		where = "number " + strconv.FormatUint(r.Number, 10) + " came after the lobby of " + strconv.FormatUint(d.LobbySize, 10) + " and keeps its place"
	}
	check("rank", true, "%s: rank %d", where, rank)
	return found, rank, verdict
}
