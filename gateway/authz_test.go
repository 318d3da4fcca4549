package gateway

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/internal/keyring"
	"usher/internal/pass"
)

// A page and a program that ask for /box?seat=1 of www.example.org, as each proxy says it.
func authzCalls(room string) map[string][]string {
	return map[string][]string{
		"nginx":         {"/authz/nginx?room=" + room, "X-Original-URI", "/box?seat=1", "X-Original-Method", "GET", "X-Forwarded-Host", "www.example.org"},
		"nginx by URL":  {"/authz/nginx?room=" + room, "X-Original-URL", "https://www.example.org/box?seat=1"},
		"traefik":       {"/authz/traefik?room=" + room, "X-Forwarded-Uri", "/box?seat=1", "X-Forwarded-Method", "GET", "X-Forwarded-Host", "www.example.org"},
		"caddy":         {"/authz/caddy?room=" + room, "X-Forwarded-Uri", "/box?seat=1", "X-Forwarded-Method", "GET", "X-Forwarded-Host", "www.example.org"},
		"envoy":         {"/authz/envoy/box?seat=1", "X-Usher-Room", room},
		"envoy by hand": {"/authz/envoy?room=" + room},
	}
}

func TestAuthz(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":6000}`)
	now := time.Now()
	good := s.pass("gala", "session-1", now, now.Add(time.Hour))
	forge := func(change func(*jwt.RegisteredClaims), ring *keyring.Ring) string {
		kid, private := ring.PassKey()
		c := jwt.RegisteredClaims{Issuer: pass.Issuer, Audience: []string{"gala"}, Subject: "s",
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))}
		change(&c)
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
		token.Header["kid"] = kid
		signed, err := token.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	bad := map[string]string{
		"none":        "",
		"forged":      forge(func(*jwt.RegisteredClaims) {}, keyring.Generate(now)),
		"expired":     s.pass("gala", "session-1", now.Add(-time.Hour), now.Add(-time.Second)),
		"other room":  s.pass("club", "session-1", now, now.Add(time.Hour)),
		"no audience": forge(func(c *jwt.RegisteredClaims) { c.Audience = nil }, s.ring),
	}
	for name, call := range authzCalls("gala") {
		t.Run(name, func(t *testing.T) {
			ask := func(token, accept string, more ...string) answer {
				v := s.visitor()
				v.host = "www.example.org"
				h := append([]string{"X-Forwarded-Proto", "https", "Accept", accept}, append(more, call[1:]...)...)
				if token != "" {
					h = append(h, "Cookie", "__Host-usher-pass-gala="+token+"; __Host-usher-place-gala=p; __Host-usher-cleared=c; __Host-usher-wait-gala=t; theirs=1")
				}
				return v.do("GET", call[0], "", h...)
			}
			a := ask(good, "text/html")
			if a.status != 200 || a.header.Get("X-Usher-Room") != "gala" || a.header.Get("X-Usher-Session") != "session-1" {
				t.Errorf("with a pass: %d %v", a.status, a.header)
			}
			if c := a.header.Get("Cookie"); strings.Contains(c, "place") || strings.Contains(c, "usher-cleared") || strings.Contains(c, "usher-wait") || !strings.Contains(c, "theirs=1") {
				t.Errorf("cookies for the site: %q", c)
			}
			uri := "%2Fbox%3Fseat%3D1"
			if name == "envoy by hand" {
				uri = "%2F"
			}
			to := "https://www.example.org/rooms/gala?return_to=" + uri
			for what, token := range bad {
				page, program := ask(token, "text/html"), ask(token, "application/json")
				if strings.HasPrefix(name, "nginx") {
					if page.status != 401 || page.header.Get("X-Usher-Location") != to || page.header.Get("Location") != "" || program.status != 403 {
						t.Errorf("%s: %d %v, %d", what, page.status, page.header, program.status)
					}
					continue
				}
				if page.status != 303 || page.header.Get("Location") != to || program.status != 403 || program.code() != "pass-required" {
					t.Errorf("%s: %d %v, %d %s", what, page.status, page.header, program.status, program.body)
				}
			}
			if a := ask(good, "text/html", "X-Forwarded-For", "198.18.0.9"); a.status != 200 {
				t.Errorf("through a further proxy: %d", a.status)
			}
		})
	}
}

func TestAuthzRooms(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"protect":[{"host":"www.example.org","path_prefix":"/box"}]}`)
	s.set("club", `{}`)
	now := time.Now()
	gala, club := s.pass("gala", "g", now, now.Add(time.Hour)), s.pass("club", "c", now, now.Add(time.Hour))
	ask := func(status int, code, path, token string, header ...string) {
		t.Helper()
		v := s.visitor()
		v.host = "www.example.org"
		v.want(status, code, "GET", path, "", append(header, "Usher-Pass", token)...)
	}
	ask(200, "", "/authz/caddy", gala, "X-Forwarded-Uri", "/box/1")
	ask(200, "", "/authz/caddy", gala, "X-Forwarded-Uri", "/BOX;x/1")
	ask(403, "pass-required", "/authz/caddy", club, "X-Forwarded-Uri", "/box/1")
	ask(403, "room-not-found", "/authz/caddy", gala, "X-Forwarded-Uri", "/free")
	ask(403, "room-not-found", "/authz/caddy", gala, "X-Forwarded-Uri", "/box", "X-Forwarded-Host", "other.example.org")
	ask(403, "room-not-found", "/authz/caddy?room=none", gala, "X-Forwarded-Uri", "/free")
	ask(403, "room-not-found", "/authz/traefik?room=..%2Fgala", gala)
	ask(200, "", "/authz/caddy?room=club", club, "X-Forwarded-Uri", "/free")
	// A visitor of Envoy writes the query, and cannot choose the room that he has a pass for.
	ask(403, "pass-required", "/authz/envoy/box?room=club", club)
	ask(403, "pass-required", "/authz/envoy/box", club, "X-Usher-Room", "club")
	ask(403, "room-not-found", "/authz/envoy/free?room=club", club)
	// Paths that two programs read in two ways.
	for _, path := range []string{"/box/../free", "/free/%2e%2e/box", "//box", "/box%2f1", `/box\1`, "/%2562ox", "box", "*", "http://evil.example/box"} {
		v := s.visitor()
		if a := v.do("GET", "/authz/traefik?room=gala", "", "X-Forwarded-Uri", path, "Usher-Pass", gala); a.status != 400 && a.status != 403 {
			t.Errorf("%q: %d", path, a.status)
		}
		if a := v.do("GET", "/authz/nginx?room=gala", "", "X-Original-URI", path, "Usher-Pass", gala); a.status != 403 {
			t.Errorf("%q for nginx: %d", path, a.status)
		}
	}
	// Said twice, or for no site, or what would lead elsewhere.
	ask(403, "authz-invalid", "/authz/caddy?room=gala", gala, "X-Forwarded-Uri", "/a", "X-Forwarded-Uri", "/b")
	ask(400, "host-invalid", "/authz/caddy?room=gala", gala, "X-Forwarded-Host", "a.example, evil.example")
	ask(400, "host-invalid", "/authz/caddy?room=gala", gala, "X-Forwarded-Host", "user@evil.example")
	ask(400, "host-invalid", "/authz/caddy?room=gala", gala, "X-Forwarded-Host", "evil.example/..")
	for _, path := range []string{"/authz", "/authz/", "/authz/apache", "/authz/nginx/x"} {
		s.visitor().want(200, "", "GET", path, "") // the shop's, as any path
	}
}

// Nobody but the site's own proxies is told anything, and no stranger's word is believed.
func TestAuthzIsForTrustedProxies(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	s.set("gala", `{}`)
	now := time.Now()
	good := s.pass("gala", "session-1", now, now.Add(time.Hour))
	for _, call := range authzCalls("gala") {
		a := s.visitor().want(403, "proxy-not-trusted", "GET", call[0], "", append(call[1:], "Usher-Pass", good)...)
		if a.header.Get("X-Usher-Session") != "" || a.header.Get("Location") != "" {
			t.Errorf("%s: %v", call[0], a.header)
		}
	}
}

// Limits charge the visitor's prefix, not the proxy's, and nginx is told so in its words.
func TestAuthzIsLimited(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	flood, other := s.visitor(), s.visitor()
	for n := 0; flood.do("GET", "/authz/caddy?room=gala", "").status != http.StatusTooManyRequests; n++ {
		if n > 5000 {
			t.Fatal("nobody is ever slowed")
		}
	}
	other.want(403, "pass-required", "GET", "/authz/caddy?room=gala", "")
}

func TestAuthzInBypass(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"state":"bypass"}`)
	until(t, line, "the room is in bypass", func() bool { return line.View().Bypass() })
	for name, call := range authzCalls("gala") {
		a := s.visitor().do("GET", call[0], "", call[1:]...)
		cookies := a.header.Values("Set-Cookie")
		if a.status != 200 || a.header.Get("X-Usher-Session") == "" || len(cookies) == 0 || !strings.HasPrefix(cookies[len(cookies)-1], "usher-pass-gala=") {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
		if strings.HasPrefix(name, "nginx") && len(cookies) != 1 {
			t.Errorf("nginx is given %d cookies", len(cookies))
		}
	}
}
