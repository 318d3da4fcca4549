package gateway

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/queue"
)

func inviteKey(t *testing.T) (ed25519.PrivateKey, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return private, fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","kid":"k1","x":%q}`, base64.RawURLEncoding.EncodeToString(public))
}

func invite(t *testing.T, key ed25519.PrivateKey, claims jwt.MapClaims) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"invite": signed})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestInvitations(t *testing.T) {
	t.Parallel()
	s := open(t)
	key, jwk := inviteKey(t)
	stranger, _ := inviteKey(t)
	const places = "/api/v1/rooms/gala/places"
	operate := []string{"Authorization", "Bearer " + testKey}
	s.visitor().want(422, "invalid", "PUT", "/api/v1/operate/rooms/gala", `{"invite_only":true}`, operate...)
	s.visitor().want(422, "invalid", "PUT", "/api/v1/operate/rooms/gala", `{"invite_keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`, operate...)
	line := s.set("gala", `{"pace_per_min":0,"invite_only":true,"invite_keys":[`+jwk+`]}`)
	now := time.Now()
	claims := func(identity string, change jwt.MapClaims) jwt.MapClaims {
		c := jwt.MapClaims{"room": "gala", "identity": identity, "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()}
		for name, v := range change {
			if c[name] = v; v == nil {
				delete(c, name)
			}
		}
		return c
	}
	s.visitor().want(403, "invite-required", "POST", places, "")
	for name, body := range map[string]string{
		"no JWT":         `{"invite":"x"}`,
		"another key":    invite(t, stranger, claims("ada", nil)),
		"another room":   invite(t, key, claims("ada", jwt.MapClaims{"room": "other"})),
		"over":           invite(t, key, claims("ada", jwt.MapClaims{"exp": now.Add(-time.Minute).Unix()})),
		"without an end": invite(t, key, claims("ada", jwt.MapClaims{"exp": nil})),
		"too early":      invite(t, key, claims("ada", jwt.MapClaims{"nbf": now.Add(time.Minute).Unix()})),
		"nobody's":       invite(t, key, claims("", nil)),
	} {
		if a := s.visitor().do("POST", places, body); a.status != 403 || a.code() != "invite-invalid" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	ada := invite(t, key, claims("ada@example.org", nil))
	first := decode[joined](t, s.visitor().want(201, "", "POST", places, ada))
	second := decode[joined](t, s.visitor().want(200, "", "POST", places, ada))
	if second.Number != first.Number || !second.JoinedAt.Equal(first.JoinedAt) {
		t.Errorf("ada has numbers %d and %d", first.Number, second.Number)
	}
	if bob := decode[joined](t, s.visitor().want(201, "", "POST", places, invite(t, key, claims("bob", nil)))); bob.Number == first.Number {
		t.Error("bob has ada's number")
	}

	// Many devices at once.
	var mu sync.Mutex
	numbers := map[uint64]int{}
	var devices sync.WaitGroup
	eve := invite(t, key, claims("eve", nil))
	for range 12 {
		v := s.visitor()
		devices.Go(func() {
			a := v.do("POST", places, eve)
			var p queue.Place
			if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 200 && a.status != 201 {
				t.Errorf("a device of eve's: %d %s", a.status, a.body)
			}
			mu.Lock()
			defer mu.Unlock()
			numbers[p.Number]++
		})
	}
	devices.Wait()
	if len(numbers) != 1 {
		t.Errorf("eve has the numbers %v", numbers)
	}
	until(t, line, "three places wait", func() bool { return line.View().Live().Waiting == 3 })

	// One who has left begins anew, at the end.
	app := s.visitor()
	app.want(204, "", "DELETE", "/api/v1/rooms/gala/place", "", "Authorization", "Place "+first.Token)
	until(t, line, "two places wait", func() bool { return line.View().Live().Waiting == 2 })
	if again := decode[joined](t, s.visitor().want(201, "", "POST", places, ada)); again.Number <= first.Number {
		t.Errorf("ada came back with number %d", again.Number)
	}
	if a := s.visitor().want(200, "", "GET", "/api/v1/rooms/gala", ""); !decode[queue.Room](t, a).InviteOnly {
		t.Errorf("the room does not say that it is for the invited: %s", a.body)
	}
}
