package pass

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"usher/internal/keyring"
)

// Issuer is the iss of every pass.
const Issuer = "usher"

// maxTokenLen bounds what is parsed at all; a pass has about 400 bytes.
const maxTokenLen = 2048

// remembered bounds the verified passes kept in memory (about 400 bytes each).
const remembered = 100_000

// SameNamed bounds the cookies of one name that are looked at: a site of the same domain
// can plant some in front of ours.
const SameNamed = 4

// The ways in which a pass is no pass.
var (
	ErrNone    = errors.New("no pass")
	ErrInvalid = errors.New("pass is not valid")
	ErrExpired = errors.New("pass has expired")
	ErrRoom    = errors.New("pass is for another room")
	ErrEnded   = errors.New("the session of the pass is over")
)

// Claims are what a verified pass says.
type Claims struct {
	Room      string // aud
	Session   string // sub
	ID        string // jti
	KeyID     string // kid
	IssuedAt  time.Time
	NotBefore time.Time
	ExpiresAt time.Time
}

// RoomOfEvent is the audience that a pass for an event needs: its room, or for an
// event without a room "event.<slug>" (a slug has no dot, so no room has that name).
func RoomOfEvent(slug, room string) string {
	if room == "" {
		return "event." + slug
	}
	return room
}

const (
	cookieName = "usher-pass-" // and a room
	hostOnly   = "__Host-"
)

// CookieName is the cookie that carries the pass of a room.
func CookieName(room string, secure bool) string {
	if secure {
		return hostOnly + cookieName + room
	}
	return cookieName + room
}

// Issue signs a pass for session in room with the ring's newest key. Times are cut
// to whole seconds: the end is never later than expires.
func Issue(ring *keyring.Ring, room, session string, issued, expires time.Time) (string, error) {
	kid, private := ring.PassKey()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.RegisteredClaims{
		Issuer:    Issuer,
		Audience:  jwt.ClaimStrings{room},
		Subject:   session,
		IssuedAt:  &jwt.NumericDate{Time: issued.Truncate(time.Second)},
		NotBefore: &jwt.NumericDate{Time: issued.Truncate(time.Second)},
		ExpiresAt: &jwt.NumericDate{Time: expires.Truncate(time.Second)},
		ID:        uuid.Must(uuid.NewV7()).String(),
	})
	t.Header["kid"] = kid
	signed, err := t.SignedString(private)
	if err != nil {
		return "", fmt.Errorf("sign pass: %w", err)
	}
	return signed, nil
}

// Verifier checks passes against public keys.
type Verifier struct {
	// Ended tells that a session is over before its pass has expired; nil: none is. Set it
	// before the first use.
	Ended func(Claims) bool

	keys     func() map[string]ed25519.PublicKey
	parser   *jwt.Parser
	verified *otter.Cache[[sha256.Size]byte, verified]
	checks   singleflight.Group // of signatures: a browser shows a new pass many times at once
}

// verified is a pass whose signature is right, and by which key.
type verified struct {
	Claims
	key ed25519.PublicKey
}

// NewVerifier checks against the keys that the function returns at each call, so that
// a new key is known and one that was withdrawn counts no more at once.
func NewVerifier(keys func() map[string]ed25519.PublicKey) *Verifier {
	return &Verifier{
		keys:     keys,
		parser:   jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding()),
		verified: otter.Must(&otter.Options[[sha256.Size]byte, verified]{MaximumSize: remembered}),
	}
}

// Verify checks token for room at now: signature, issuer, audience and times.
// Errors: ErrInvalid, ErrExpired, ErrRoom, and ErrEnded with the claims. A clock may be
// off by two seconds at nbf.
func (v *Verifier) Verify(token, room string, now time.Time) (Claims, error) {
	if token == "" || len(token) > maxTokenLen {
		return Claims{}, ErrInvalid
	}
	digest := sha256.Sum256([]byte(token))
	c, ok := v.verified.GetIfPresent(digest)
	switch {
	case !ok:
		checked, err, _ := v.checks.Do(string(digest[:]), func() (any, error) {
			if c, ok := v.verified.GetIfPresent(digest); ok { // another was just faster
				return c, nil
			}
			c, err := v.signed(token)
			if err == nil {
				v.verified.Set(digest, c)
			}
			return c, err
		})
		if err != nil {
			return Claims{}, err
		}
		c = checked.(verified)
	case !c.key.Equal(v.keys()[c.KeyID]):
		v.verified.Invalidate(digest)
		return Claims{}, ErrInvalid
	}
	switch {
	case !now.Before(c.ExpiresAt):
		v.verified.Invalidate(digest)
		return Claims{}, ErrExpired
	case now.Add(2 * time.Second).Before(c.NotBefore):
		return Claims{}, ErrInvalid
	case c.Room != room:
		return Claims{}, ErrRoom
	case v.Ended != nil && v.Ended(c.Claims):
		return c.Claims, ErrEnded
	}
	return c.Claims, nil
}

// signed checks the signature and that every claim is there.
func (v *Verifier) signed(token string) (verified, error) {
	var rc jwt.RegisteredClaims
	var key ed25519.PublicKey
	kid := ""
	_, err := v.parser.ParseWithClaims(token, &rc, func(t *jwt.Token) (any, error) {
		kid, _ = t.Header["kid"].(string)
		if key = v.keys()[kid]; key == nil {
			return nil, ErrInvalid
		}
		return key, nil
	})
	if err != nil || rc.Issuer != Issuer || len(rc.Audience) != 1 || rc.Subject == "" ||
		rc.ExpiresAt == nil || rc.NotBefore == nil || rc.IssuedAt == nil {
		return verified{}, ErrInvalid
	}
	return verified{Claims{
		Room: rc.Audience[0], Session: rc.Subject, ID: rc.ID, KeyID: kid,
		IssuedAt: rc.IssuedAt.Time, NotBefore: rc.NotBefore.Time, ExpiresAt: rc.ExpiresAt.Time,
	}, key}, nil
}

// FromRequest finds and checks the request's pass for room: the Usher-Pass header,
// else a Bearer that is ours, else the cookie. ErrNone when there is none. Where
// several are sent the first that verifies counts; else the first one's error, with its
// claims if it is ErrEnded.
func (v *Verifier) FromRequest(r *http.Request, room string, now time.Time) (Claims, error) {
	var claims Claims
	first := ErrNone
	for token := range tokens(r.Header, room) {
		c, err := v.Verify(token, room, now)
		if err == nil {
			return c, nil
		}
		if errors.Is(first, ErrNone) {
			claims, first = c, err
		}
	}
	return claims, first
}

func tokens(h http.Header, room string) iter.Seq[string] {
	return func(yield func(token string) bool) {
		if sent := h["Usher-Pass"]; len(sent) > 0 && sent[0] != "" && !yield(sent[0]) {
			return
		}
		if sent := h["Authorization"]; len(sent) > 0 {
			if b := bearer(sent[0]); b != "" && IsOurs(b) && !yield(b) {
				return
			}
		}
		for _, of := range [...]struct {
			prefix string
			most   int // a browser has one of a __Host- name; each more is a signature to check
		}{{hostOnly + cookieName, 1}, {cookieName, SameNamed}} {
			n := 0
			for value := range CookiesNamed(h, of.prefix, room) {
				if n++; n > of.most {
					break
				}
				if value != "" && !yield(value) {
					return
				}
			}
		}
	}
}

// CookiesNamed are the values of the cookies with a name of two parts, as they were sent:
// what of them is ours its signature tells.
func CookiesNamed(h http.Header, prefix, suffix string) iter.Seq[string] {
	return func(yield func(value string) bool) {
		for _, line := range h["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				name, value, _ := strings.Cut(pair, "=")
				if rest, ok := strings.CutPrefix(strings.TrimSpace(name), prefix); ok && rest == suffix && !yield(strings.TrimSpace(value)) {
					return
				}
			}
		}
	}
}

// Bearer returns the Authorization header's bearer token, or "".
func Bearer(r *http.Request) string { return bearer(r.Header.Get("Authorization")) }

func bearer(field string) string {
	scheme, token, ok := strings.Cut(field, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// IsOurs tells, without verifying anything, whether token claims to be a pass: a
// JWT whose iss is ours. A foreign bearer goes to the origin untouched.
func IsOurs(token string) bool {
	if len(token) > maxTokenLen {
		return false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return false
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var claims struct {
		Iss string `json:"iss"`
	}
	return json.Unmarshal(body, &claims) == nil && claims.Iss == Issuer
}
