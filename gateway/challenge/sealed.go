package challenge

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// A turn is the answer of one who waited, a clearance what a solved challenge is worth
// outside of rooms. Both are JSON, signed, and held by the visitor alone.

var raw64 = base64.RawURLEncoding.Strict()

const (
	turnWord      = "wait"
	clearanceWord = "clear"
	maxTurn       = 600 // bytes
)

type turn struct {
	Room    string `json:"room"`
	From    string `json:"from"`
	Visitor string `json:"visitor"`
	ReadyAt int64  `json:"ready"` // Unix milliseconds
	Expires int64  `json:"exp"`
	Serial  uint64 `json:"serial"`
}

func (t turn) ready() time.Time { return time.UnixMilli(t.ReadyAt) }

type clearance struct {
	ID      string `json:"id"`
	Expires int64  `json:"exp"` // Unix milliseconds
}

// seal signs v under its word: a MAC for one never verifies for another.
func seal(secret, word string, v any) string {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and integers: cannot fail
	}
	encoded := word + "." + raw64.EncodeToString(body)
	return encoded + "." + raw64.EncodeToString(mac(secret, []byte(encoded)))
}

var errSeal = errors.New("not sealed by us")

func unseal(secret, word, sealed string, into any) error {
	encoded, signature, ok := cutLast(sealed, ".")
	if len(sealed) > maxTurn || !ok || !strings.HasPrefix(encoded, word+".") {
		return errSeal
	}
	given, err := raw64.DecodeString(signature)
	if err != nil || !hmac.Equal(given, mac(secret, []byte(encoded))) {
		return errSeal
	}
	body, err := raw64.DecodeString(encoded[len(word)+1:])
	if err != nil {
		return errSeal
	}
	return json.Unmarshal(body, into)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+len(sep):], true
}

// NewVisitor is a fresh value for the cookie by which a browser is known again.
func NewVisitor() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return raw64.EncodeToString(b[:])
}
