package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"usher/internal/keyring"
	"usher/internal/pass"
)

func aToken() Token {
	return Token{
		Room: "arena-night", Epoch: uuid.Must(uuid.NewV7()).String(), Number: 1234567, IssuedAt: start.Add(7 * time.Millisecond),
		Frontier: 99, Visitor: newVisitor(), Commitment: Commitment([32]byte{1}),
	}
}

func TestTokenGoesThereAndBack(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(start)
	want := aToken()
	sealed := SealToken(ring, want)
	if got, err := OpenToken(ring, sealed); err != nil || got != want {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	phone := want
	phone.Phone, phone.Generation = true, 300
	if got, err := OpenToken(ring, SealToken(ring, phone)); err != nil || got != phone {
		t.Errorf("%+v %v, want %+v", got, err, phone)
	}
	ring.Rotate(keyring.Place, start, start)
	if got, err := OpenToken(ring, sealed); err != nil || got != want {
		t.Errorf("after a rotation: %+v %v", got, err)
	}
	if strings.ContainsFunc(sealed, func(c rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", c)
	}) {
		t.Errorf("%q does not fit a cookie and a subprotocol", sealed)
	}
}

func TestAlteredTokensAreNone(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(start)
	sealed := SealToken(ring, aToken())
	for i := range sealed {
		for _, c := range []byte{'A', 'b', '.', '=', 0} {
			if sealed[i] == c {
				continue
			}
			if _, err := OpenToken(ring, sealed[:i]+string(c)+sealed[i+1:]); err == nil {
				t.Errorf("accepted with byte %d changed to %q", i, c)
			}
		}
		if _, err := OpenToken(ring, sealed[:i]); err == nil {
			t.Errorf("accepted when cut to %d bytes", i)
		}
	}
	for name, other := range map[string]string{
		"another site's": SealToken(keyring.Generate(start), aToken()),
		"longer":         sealed + "A", "twice": sealed + sealed, "spaced": " " + sealed, "empty": "", "endless": strings.Repeat("u1.", 1000),
	} {
		if _, err := OpenToken(ring, other); err == nil {
			t.Errorf("accepted a %s token", name)
		}
	}
}

func FuzzOpenToken(f *testing.F) {
	ring := keyring.Generate(start)
	sealed := SealToken(ring, aToken())
	for _, seed := range []string{sealed, sealed[:len(sealed)-1], "u1...", "u1.a.b.c", strings.Replace(sealed, "u1", "u2", 1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := OpenToken(ring, s); err == nil && SealToken(ring, got) != s {
			t.Errorf("%q opens and is not what we seal", s)
		}
	})
}

// FuzzTokenPayload gives the parser what only a key of ours could have signed.
func FuzzTokenPayload(f *testing.F) {
	f.Add(aToken().appendPayload(nil))
	f.Add([]byte{})
	f.Add([]byte{255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parsePayload(b); err == nil && (got.Number >= maxNumber || len(got.Room) > 255) {
			t.Errorf("%x gives %+v", b, got)
		}
	})
}

func TestReceiptProvesAPlaceAndIsNoPass(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(start)
	l := newLine(Config{Ring: ring, Log: quietLog()}, "arena-night")
	place := aToken()
	receipt, err := l.Receipt(place)
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.MapClaims
	_, err = jwt.ParseWithClaims(receipt, &claims, func(tok *jwt.Token) (any, error) { return ring.PassPublic()[tok.Header["kid"].(string)], nil })
	if err != nil || claims["number"] != 1234567.0 || claims["epoch"] != place.Epoch || claims["commitment"] != place.Commitment {
		t.Errorf("receipt %v: %v", claims, err)
	}
	if pass.IsOurs(receipt) {
		t.Error("a receipt looks like a pass")
	}
	if _, err := pass.NewVerifier(ring.PassPublic).Verify(receipt, "arena-night", start); err == nil {
		t.Error("a receipt is accepted as a pass")
	}
}
