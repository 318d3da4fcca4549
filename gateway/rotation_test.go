package gateway

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/internal/keyring"
)

// keyOf is the key that signed a pass.
func keyOf(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, &jwt.RegisteredClaims{})
	if err != nil {
		t.Fatal(err)
	}
	kid, _ := parsed.Header["kid"].(string)
	return kid
}

// Keys are rotated under two running gateways: no place and no pass is lost, both keys
// are published, and a key that is withdrawn takes its passes along.
func TestKeysRotateWhileGatewaysRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := keyring.Generate(time.Now()).Save(path); err != nil {
		t.Fatal(err)
	}
	load := func() *keyring.Ring {
		ring, err := keyring.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return ring
	}
	watched := func(s *site) *site {
		keepRunning(t, func(ctx context.Context) error { return s.ring.Watch(ctx, path, slog.New(slog.DiscardHandler)) })
		return s
	}
	a := watched(openWith(t, load()))
	b := &site{t: t, rdb: a.rdb, ring: load()}
	b.start()
	watched(b)
	line := a.set("gala", `{"pace_per_min":6000}`)
	b.line("gala")

	fan, waiting := a.visitor(), a.visitor()
	old := fan.admitted("gala").Pass
	place := waiting.join("gala")
	good := func(when, token string) {
		t.Helper()
		for _, gateway := range []*site{a, b} {
			gateway.visitor().want(200, "", "GET", availability, "", "Usher-Pass", token)
			gateway.visitor().want(200, "", "GET", "/api/v1/rooms/gala/place", "", "Authorization", "Place "+place.Token)
		}
		if t.Failed() {
			t.Fatal(when)
		}
	}
	published := func(n int) func() bool {
		return func() bool {
			for _, gateway := range []*site{a, b} {
				if strings.Count(gateway.visitor().do("GET", "/.well-known/jwks.json", "").body, `"kid"`) != n {
					return false
				}
			}
			return true
		}
	}
	good("before", old)

	file, now := load(), time.Now()
	for _, purpose := range keyring.Purposes {
		file.Rotate(purpose, now, now.Add(10*time.Second))
	}
	if err := file.Save(path); err != nil {
		t.Fatal(err)
	}
	until(t, line, "both gateways publish both keys", published(2))
	good("published", old)
	another := a.visitor()
	good("between", another.admitted("gala").Pass)
	until(t, line, "the new key signs on both", func() bool {
		here, _ := a.ring.PassKey()
		there, _ := b.ring.PassKey()
		return here != keyOf(t, old) && here == there
	})
	fresh := decode[admitted](t, another.want(200, "", "POST", "/api/v1/rooms/gala/pass", "")).Pass
	if keyOf(t, fresh) == keyOf(t, old) {
		t.Error("the old key signs on")
	}
	good("after, an old pass", old)
	good("after, a new pass", fresh)
	// A place goes on under the new key when it is shown.
	again := decode[joined](t, waiting.want(200, "", "POST", "/api/v1/rooms/gala/places", ""))
	if again.Number != place.Number || again.Token == place.Token {
		t.Errorf("number %d became %d", place.Number, again.Number)
	}

	file = load()
	if _, err := file.Retire(keyOf(t, old), time.Now(), true); err != nil {
		t.Fatal(err)
	}
	if err := file.Save(path); err != nil {
		t.Fatal(err)
	}
	until(t, line, "the withdrawn key is gone", published(1))
	for _, gateway := range []*site{a, b} {
		gateway.visitor().want(403, "pass-required", "GET", availability, "", "Usher-Pass", old)
		gateway.visitor().want(200, "", "GET", availability, "", "Usher-Pass", fresh)
	}
}
