package pass

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/internal/keyring"
)

var now = time.Date(2026, 11, 24, 20, 0, 0, 0, time.UTC)

func TestVerify(t *testing.T) {
	t.Parallel()
	ring, other := keyring.Generate(now), keyring.Generate(now)
	v := NewVerifier(ring.PassPublic)
	good := issue(t, ring, "gala", now, now.Add(10*time.Minute))

	for range 2 { // the second time from memory
		c, err := v.Verify(good, "gala", now.Add(time.Minute))
		if err != nil || c.Room != "gala" || c.Session != "s1" || c.ID == "" {
			t.Fatalf("got %+v, %v", c, err)
		}
	}
	for name, c := range map[string]struct {
		token string
		room  string
		at    time.Time
		want  error
	}{
		"expired, to the second": {good, "gala", now.Add(10 * time.Minute), ErrExpired},
		"not yet":                {good, "gala", now.Add(-time.Minute), ErrInvalid},
		"another room":           {good, "club", now, ErrRoom},
		"another site's key":     {issue(t, other, "gala", now, now.Add(time.Hour)), "gala", now, ErrInvalid},
		"cut":                    {good[:len(good)-3], "gala", now, ErrInvalid},
		"altered":                {flip(good), "gala", now, ErrInvalid},
		"empty":                  {"", "gala", now, ErrInvalid},
		"huge":                   {strings.Repeat("a", 1<<20), "gala", now, ErrInvalid},
		"unsigned":               {unsigned(t), "gala", now, ErrInvalid},
		"no expiry":              {signedWith(t, ring, jwt.RegisteredClaims{Issuer: Issuer, Audience: []string{"gala"}, Subject: "s"}), "gala", now, ErrInvalid},
		"another issuer": {signedWith(t, ring, jwt.RegisteredClaims{Issuer: "x", Audience: []string{"gala"}, Subject: "s",
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))}), "gala", now, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := v.Verify(c.token, c.room, c.at); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// A browser shows a new pass many times in one moment: its signature is checked once.
func TestASignatureIsCheckedOnce(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(now)
	token := issue(t, ring, "gala", now, now.Add(time.Hour))
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		answer := make(chan struct{})
		v := NewVerifier(func() map[string]ed25519.PublicKey {
			asked.Add(1)
			<-answer
			return ring.PassPublic()
		})
		var requests sync.WaitGroup
		for range 50 {
			requests.Go(func() {
				if c, err := v.Verify(token, "gala", now); err != nil || c.Session != "s1" {
					t.Errorf("%+v, %v", c, err)
				}
			})
		}
		synctest.Wait() // all others wait for the first
		if n := asked.Load(); n != 1 {
			t.Errorf("%d asked for the key at once", n)
		}
		close(answer)
		requests.Wait()
	})
}

// A remembered token must still be refused once it has expired.
func TestMemoryDoesNotOutliveExpiry(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(now)
	v := NewVerifier(ring.PassPublic)
	token := issue(t, ring, "gala", now, now.Add(time.Minute))
	if _, err := v.Verify(token, "gala", now); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := v.Verify(token, "gala", now.Add(time.Minute)); !errors.Is(err, ErrExpired) {
			t.Fatalf("got %v, want ErrExpired", err)
		}
	}
}

// A key that is taken out of the file is believed no more, nor what was remembered under it.
func TestWithdrawnKey(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(now)
	v := NewVerifier(ring.PassPublic)
	old, _ := ring.PassKey()
	before := issue(t, ring, "gala", now, now.Add(time.Hour))
	ring.Rotate(keyring.Pass, now.Add(-time.Hour), time.Time{})
	after := issue(t, ring, "gala", now, now.Add(time.Hour))
	for _, token := range []string{before, after} {
		if _, err := v.Verify(token, "gala", now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ring.Retire(old, now, true); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(before, "gala", now); !errors.Is(err, ErrInvalid) {
		t.Errorf("a pass of a withdrawn key: %v", err)
	}
	if _, err := v.Verify(after, "gala", now); err != nil {
		t.Errorf("a pass of the newer key: %v", err)
	}
}

// Of several passes one whose session is over does not stand in the way of another's.
func TestEndedSession(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(now)
	v := NewVerifier(ring.PassPublic)
	over := ""
	v.Ended = func(c Claims) bool { return c.Room == "gala" && c.Session == over }
	first := issue(t, ring, "gala", now, now.Add(time.Hour))
	second, err := Issue(ring, "gala", "s2", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Usher-Pass", first)
	if c, err := v.FromRequest(r, "gala", now); err != nil || c.Session != "s1" {
		t.Fatal(c, err)
	}
	over = "s1"
	if c, err := v.FromRequest(r, "gala", now); !errors.Is(err, ErrEnded) || c.Session != "s1" {
		t.Errorf("got %+v, %v; want the claims and ErrEnded", c, err)
	}
	r.AddCookie(&http.Cookie{Name: "usher-pass-gala", Value: second})
	if c, err := v.FromRequest(r, "gala", now); err != nil || c.Session != "s2" {
		t.Errorf("got %+v, %v; want the second session", c, err)
	}
}

func TestFromRequest(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(now)
	v := NewVerifier(ring.PassPublic)
	good := issue(t, ring, "gala", now, now.Add(time.Hour))
	foreign := "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJvdGhlciJ9.c2ln"
	for name, c := range map[string]struct {
		set  func(*http.Request)
		want error
	}{
		"none":                   {func(*http.Request) {}, ErrNone},
		"header":                 {func(r *http.Request) { r.Header.Set("Usher-Pass", good) }, nil},
		"bearer":                 {func(r *http.Request) { r.Header.Set("Authorization", "bearer "+good) }, nil},
		"foreign bearer is none": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+foreign) }, ErrNone},
		"basic is none":          {func(r *http.Request) { r.Header.Set("Authorization", "Basic "+good) }, ErrNone},
		"cookie over http":       {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "usher-pass-gala", Value: good}) }, nil},
		"cookie over https":      {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "__Host-usher-pass-gala", Value: good}) }, nil},
		"another room's cookie":  {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "usher-pass-club", Value: good}) }, ErrNone},
		"a stale header, a cookie": {func(r *http.Request) {
			r.Header.Set("Usher-Pass", "x")
			r.AddCookie(&http.Cookie{Name: "usher-pass-gala", Value: good})
		}, nil},
		"behind two planted cookies": {func(r *http.Request) {
			for _, value := range []string{"x", flip(good), good} {
				r.AddCookie(&http.Cookie{Name: "usher-pass-gala", Value: value})
			}
		}, nil},
		"behind more planted cookies than are looked at": {func(r *http.Request) {
			for range SameNamed {
				r.AddCookie(&http.Cookie{Name: "usher-pass-gala", Value: "x"})
			}
			r.AddCookie(&http.Cookie{Name: "usher-pass-gala", Value: good})
		}, ErrInvalid},
		"a forged header": {func(r *http.Request) { r.Header.Set("Usher-Pass", flip(good)) }, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			c.set(r)
			if _, err := v.FromRequest(r, "gala", now); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	ring := keyring.Generate(now)
	v := NewVerifier(ring.PassPublic)
	good, err := Issue(ring, "gala", "s1", now, now.Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		_ = IsOurs(token)
		if _, err := v.Verify(token, "gala", now); err == nil && token != good {
			t.Fatalf("verified a token that was never issued: %q", token)
		}
	})
}

func issue(t *testing.T, ring *keyring.Ring, room string, from, to time.Time) string {
	t.Helper()
	token, err := Issue(ring, room, "s1", from, to)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// flip changes one character in the middle of the signature.
func flip(token string) string {
	i := len(token) - 20
	c := byte('A')
	if token[i] == 'A' {
		c = 'B'
	}
	return token[:i] + string(c) + token[i+1:]
}

func unsigned(t *testing.T) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.RegisteredClaims{Issuer: Issuer, Audience: []string{"gala"}, Subject: "s",
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signedWith(t *testing.T, ring *keyring.Ring, c jwt.RegisteredClaims) string {
	t.Helper()
	kid, private := ring.PassKey()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	token.Header["kid"] = kid
	s, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// However many forged passes a request shows, seven at most are looked at.
func TestForgedPassesAreFew(t *testing.T) {
	t.Parallel()
	forged := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+Issuer+`"}`)) + ".c2ln"
	h := http.Header{"Usher-Pass": {forged, forged}, "Authorization": {"Bearer " + forged, "Bearer " + forged}}
	for range 50 {
		for _, prefix := range []string{cookieName, hostOnly + cookieName} {
			h.Add("Cookie", prefix+"gala="+forged+"; "+prefix+"gala="+forged)
		}
	}
	n := 0
	for range tokens(h, "gala") {
		n++
	}
	if n != 7 { // two fields, a __Host- cookie, and what a domain's other sites may plant
		t.Errorf("%d are looked at", n)
	}
}

// A key id that names another algorithm's key must not help: the verifier takes EdDSA alone.
func TestOnlyEdDSA(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(now)
	kid, _ := ring.PassKey()
	public := ring.PassPublic()[kid]
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{Issuer: Issuer, Audience: []string{"gala"}, Subject: "s",
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))})
	token.Header["kid"] = kid
	forged, err := token.SignedString([]byte(public)) // HMAC keyed with what everyone knows
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewVerifier(ring.PassPublic).Verify(forged, "gala", now); !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token = jwt.NewWithClaims(jwt.SigningMethodEdDSA, token.Claims)
	token.Header["kid"] = kid
	if forged, err = token.SignedString(stranger); err != nil {
		t.Fatal(err)
	}
	if _, err := NewVerifier(ring.PassPublic).Verify(forged, "gala", now); !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v, want ErrInvalid", err)
	}
}
