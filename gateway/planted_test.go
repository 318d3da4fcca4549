package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a sibling domain can plant in a browser counts for nothing over TLS.
func TestPlantedCookiesCountForNothingOverTLS(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	now := time.Now()
	good := s.pass("gala", "the attacker's", now.Add(-time.Minute), now.Add(time.Hour))
	s.visitor().want(403, "pass-required", "GET", availability, "", "X-Forwarded-Proto", "https", "Cookie", "usher-pass-gala="+good)
	s.visitor().want(200, "", "GET", availability, "", "X-Forwarded-Proto", "https", "Cookie", "usher-pass-gala=x; __Host-usher-pass-gala="+good)
	token := s.visitor().join("gala").Token
	const place = "/api/v1/rooms/gala/place"
	s.visitor().want(404, "no-place", "GET", place, "", "X-Forwarded-Proto", "https", "Cookie", "usher-place-gala="+token)
	s.visitor().want(200, "", "GET", place, "", "X-Forwarded-Proto", "https", "Cookie", "__Host-usher-place-gala="+token)
	s.visitor().want(200, "", "GET", place, "", "Cookie", "usher-place-gala="+token)
}

// An answer that sets a pass is nobody else's, whatever the origin says of caches.
func TestAnAnswerWithAPassIsNotCached(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"state":"bypass"}`)
	until(t, line, "the room is in bypass", func() bool { return line.View().Bypass() })
	fan := s.visitor()
	first := fan.want(200, "", "GET", availability+"/cacheable", "")
	if first.header.Get("Set-Cookie") == "" || first.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a pass in an answer that is %q", first.header.Get("Cache-Control"))
	}
	if again := fan.want(200, "", "GET", availability+"/cacheable", ""); again.header.Get("Cache-Control") != "public, max-age=60" {
		t.Errorf("the origin's own word has become %q", again.header.Get("Cache-Control"))
	}
}

// A place reaches no origin, whatever header it comes in.
func TestPlacesStayAtTheEdge(t *testing.T) {
	t.Parallel()
	h := http.Header{"Authorization": {"Basic x", "place secret"}, "Sec-Websocket-Protocol": {"usher.v1, place.secret"}, "Cookie": {"a=1; usher-place-r=secret"}}
	sanitise(h, &visit{}, "a.example", false)
	for name, values := range h {
		for _, value := range values {
			if strings.Contains(value, "secret") {
				t.Errorf("%s: %s", name, value)
			}
		}
	}
}
