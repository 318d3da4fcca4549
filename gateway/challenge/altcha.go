package challenge

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// The wire format is ALTCHA's second: parameters as compact JSON with sorted names, the
// HMAC-SHA256 of these bytes as signature; the solver looks for a counter so that
// PBKDF2(nonce ‖ counter as 4 bytes big-endian, salt, cost) begins with keyPrefix.

const (
	algorithm = "PBKDF2/SHA-256"
	keyLength = 32
	nonceLen  = 16
	maxAnswer = 4096 // bytes of an answer, encoded
)

// Parameters are what a proof has to satisfy. The fields stand in the order in which
// their names sort: that is the form that is signed.
type Parameters struct {
	Algorithm string `json:"algorithm"`
	Cost      int    `json:"cost"` // rounds of PBKDF2 a try
	Data      Bound  `json:"data"`
	ExpiresAt int64  `json:"expiresAt"` // Unix seconds
	KeyLength int    `json:"keyLength"`
	KeyPrefix string `json:"keyPrefix"` // hex digits that the key begins with
	Nonce     string `json:"nonce"`
	Salt      string `json:"salt"`
}

// Bound is whom and what a challenge is for. Digests are keyed, so that nobody reads an
// address out of them.
type Bound struct {
	From    string `json:"from"` // digest of the client prefix
	Level   int    `json:"level"`
	Room    string `json:"room"`
	Visitor string `json:"visitor"` // digest of the browser's cookie
	Wide    string `json:"wide"`    // digest of the IPv6 /48, or ""
}

// signed is a challenge as ALTCHA has it.
type signed struct {
	Parameters Parameters `json:"parameters"`
	Signature  string     `json:"signature"`
}

type solution struct {
	Counter    int64   `json:"counter"`
	DerivedKey string  `json:"derivedKey"`
	Time       float64 `json:"time"` // milliseconds that it took; nobody's proof of anything
}

type payload struct {
	Challenge signed   `json:"challenge"`
	Solution  solution `json:"solution"`
}

// canonical is the form that is signed. Every string in it is of characters that JSON
// never escapes: a forged one that is not has no signature of ours.
func (p Parameters) canonical() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(p); err != nil {
		panic(err) // strings and integers: cannot fail
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// sign makes a challenge of that many bits of work.
func sign(secret string, bound Bound, bits int, expires int64) signed {
	var random [2 * nonceLen]byte
	_, _ = rand.Read(random[:]) // never fails since Go 1.24
	cost, prefix := workOf(bits)
	p := Parameters{
		Algorithm: algorithm, Cost: cost, Data: bound, ExpiresAt: expires, KeyLength: keyLength, KeyPrefix: prefix,
		Nonce: hex.EncodeToString(random[:nonceLen]), Salt: hex.EncodeToString(random[nonceLen:]),
	}
	return signed{p, hex.EncodeToString(mac(secret, p.canonical()))}
}

func mac(secret string, message []byte) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write(message)
	return h.Sum(nil)
}

var errNotAltcha = errors.New("not an altcha answer")

// parseAnswer reads what the widget makes: base64 of a JSON object. It tells nothing
// about whether the answer is right.
func parseAnswer(answer string) (payload, error) {
	var p payload
	if len(answer) > maxAnswer {
		return p, errNotAltcha
	}
	raw, err := base64.StdEncoding.DecodeString(answer)
	if err != nil || json.Unmarshal(raw, &p) != nil || p.Challenge.Parameters.Algorithm == "" {
		return payload{}, errNotAltcha
	}
	return p, nil
}

// ours tells whether we signed the challenge, in constant time.
func (p payload) ours(secret string) bool {
	given, err := hex.DecodeString(p.Challenge.Signature)
	return err == nil && hmac.Equal(given, mac(secret, p.Challenge.Parameters.canonical()))
}

// right derives the key of a challenge of ours and compares it.
func (p payload) right() bool {
	q := p.Challenge.Parameters
	nonce, err1 := hex.DecodeString(q.Nonce)
	salt, err2 := hex.DecodeString(q.Salt)
	given, err3 := hex.DecodeString(p.Solution.DerivedKey)
	if err1 != nil || err2 != nil || err3 != nil || p.Solution.Counter < 0 || p.Solution.Counter > math.MaxUint32 || !begins(given, q.KeyPrefix) {
		return false
	}
	key, err := derive(nonce, uint32(p.Solution.Counter), salt, q.Cost)
	return err == nil && hmac.Equal(key, given)
}

func derive(nonce []byte, counter uint32, salt []byte, cost int) ([]byte, error) {
	password := binary.BigEndian.AppendUint32(bytes.Clone(nonce), counter)
	return pbkdf2.Key(sha256.New, string(password), salt, cost, keyLength)
}

func begins(key []byte, prefix string) bool {
	return strings.HasPrefix(hex.EncodeToString(key), prefix)
}

// Solve computes the answer to an offer of provider altcha, as a visitor's browser does.
func Solve(ctx context.Context, offer []byte) (string, error) {
	var c signed
	if err := json.Unmarshal(offer, &c); err != nil {
		return "", fmt.Errorf("read the challenge: %w", err)
	}
	p := c.Parameters
	nonce, err1 := hex.DecodeString(p.Nonce)
	salt, err2 := hex.DecodeString(p.Salt)
	if p.Algorithm != algorithm || p.KeyLength != keyLength || err1 != nil || err2 != nil {
		return "", fmt.Errorf("no challenge of %s: %q", algorithm, p.Algorithm)
	}
	for counter := range uint32(math.MaxUint32) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		key, err := derive(nonce, counter, salt, p.Cost)
		if err != nil {
			return "", fmt.Errorf("derive a key: %w", err)
		}
		if begins(key, p.KeyPrefix) {
			raw, err := json.Marshal(payload{c, solution{Counter: int64(counter), DerivedKey: hex.EncodeToString(key)}})
			return base64.StdEncoding.EncodeToString(raw), err
		}
	}
	return "", errors.New("no counter solves the challenge")
}
