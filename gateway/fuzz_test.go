package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"usher/internal/keyring"
	"usher/queue"
)

// A host is refused, or comes to one name whatever it is asked again.
func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"a.example", "A.example.:80", "[::1]:80", "[::1", "a:b", "..", "é.example", "a b", "a\x00b", "[fe80::1%25eth0]", "[::ffff:1.2.3.4]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name, ok := canonicalHost(host)
		if !ok {
			return
		}
		again := name
		if strings.Contains(name, ":") {
			again = "[" + name + "]"
		}
		if second, ok := canonicalHost(again); !ok || second != name {
			t.Fatalf("%q is %q and then %q, %v", host, name, second, ok)
		}
		if strings.ContainsAny(name, "/\\@?# \r\n\t%") && !strings.Contains(name, ":") || name != strings.ToLower(name) {
			t.Fatalf("%q is %q", host, name)
		}
	})
}

// Whoever the headers name, a stranger is who is connected, and behind a trusted proxy
// there is always somebody to charge.
func FuzzClientAddress(f *testing.F) {
	f.Add("1.2.3.4", "for=1.2.3.4", "https")
	f.Add("1.2.3.4, ::1, x", `for="[::1]:80";proto=https, for=_x`, "http, https")
	f.Add(",,,", ";;", ",")
	f.Add("[fe80::1%eth0]:80", "For=\"[fe80::1%25eth0]\"", "")
	trusted := trustedProxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, xff, forwarded, proto string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = http.Header{"X-Forwarded-For": {xff}, "Forwarded": {forwarded}, "X-Forwarded-Proto": {proto}}
		r.RemoteAddr = "203.0.113.9:1"
		if addr, secure := trusted.client(r); addr.String() != "203.0.113.9" || secure {
			t.Fatalf("a stranger is %v, %v", addr, secure)
		}
		r.RemoteAddr = "10.0.0.1:1"
		if addr, _ := trusted.client(r); !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" || !prefixOf(addr).IsValid() {
			t.Fatalf("behind a proxy: %v", addr)
		}
	})
}

// A join's body gives strings or a refusal.
func FuzzReadJoin(f *testing.F) {
	for _, s := range []string{"", "{}", `{"invite":"x","challenge":"y","resume":"z"}`, `{"invite":1}`, `{"INVITE":"x"}`, `{"invite":null}`, "[", `{"a":{"b":[]}}`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		_, refused := readJoin(httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if refused != nil && refused.Status != http.StatusBadRequest && refused.Status != http.StatusUnprocessableEntity {
			t.Fatalf("%q: %v", body, refused)
		}
	})
}

// Only a token of ours is a place, in whatever header it comes.
func FuzzPlaceHeaders(f *testing.F) {
	s := &Server{cfg: Config{Ring: keyring.Generate(time.Now())}}
	sealed := queue.SealToken(s.cfg.Ring, queue.Token{Room: "gala", Epoch: "01890a5d-ac96-774b-bcce-b302099a8057", Number: 7, IssuedAt: time.UnixMilli(1_800_000_000_000).UTC(), Visitor: strings.Repeat("a", 32), Commitment: strings.Repeat("b", 64)})
	f.Add("Place "+sealed, "usher.v1, place."+sealed, "usher-place-gala="+sealed)
	f.Add("place x", "place.", "usher-place-gala=; usher-place-gala=x")
	f.Add("", ",,,", ";;=")
	f.Fuzz(func(t *testing.T, authorization, protocol, cookie string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = http.Header{"Authorization": {authorization}, "Sec-Websocket-Protocol": {protocol}, "Cookie": {cookie}}
		if _, _, ok := s.place(r, "gala"); ok && !strings.Contains(authorization+" "+protocol+" "+cookie, sealed) {
			t.Fatalf("%q, %q, %q is a place", authorization, protocol, cookie)
		}
	})
}
