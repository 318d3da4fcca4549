package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"usher/gateway/origin"
)

func TestAScriptThatAsksTooFastIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	if a := s.visitor().want(200, "", "GET", "/api/v1/rooms/gala", ""); a.header.Get("RateLimit-Policy") != `"visit";q=50;w=1` {
		t.Errorf("the policy that is there by default: %v", a.header)
	}
	s = s.another(func(c *Config) { setLimit(c, "visit", 1, 2, 30) }) // also a slow machine asks faster
	s.line("gala")
	script, fan := s.visitor(), s.visitor()
	fan.from = script.from
	fan.join("gala")
	denied := 0
	for range 100 {
		a := script.do("GET", "/api/v1/rooms/gala", "")
		if a.status != 429 {
			if a.header.Get("RateLimit-Policy") != `"visit";q=1;w=2` || !strings.HasPrefix(a.header.Get("RateLimit"), `"visit";r=`) {
				t.Fatalf("headers of an allowed request: %v", a.header)
			}
			continue
		}
		denied++
		if wait, err := strconv.Atoi(a.header.Get("Retry-After")); a.code() != "quota-exceeded" || err != nil || wait < 1 || !strings.Contains(a.body, `"violated-policies":["visit"]`) {
			t.Fatalf("%v %s", a.header, a.body)
		}
	}
	if denied == 0 {
		t.Error("100 requests at once passed")
	}
	// The neighbour behind the same address is known by the place and charged alone.
	fan.want(200, "", "GET", "/api/v1/rooms/gala/place", "")
}

func TestJoinsAreLimitedOverAllGateways(t *testing.T) {
	t.Parallel()
	limited := func(c *Config) {
		setLimit(c, "joins", 1, 60, 10)
	}
	a := open(t, limited)
	a.set("gala", `{"pace_per_min":0}`)
	b := a.another(limited)
	b.line("gala")
	var joined, denied atomic.Int64
	var wg sync.WaitGroup
	for i := range 30 {
		v := []*site{a, b}[i%2].visitor()
		v.from = "203.0.113.5"
		wg.Go(func() {
			switch r := v.do("POST", "/api/v1/rooms/gala/places", ""); {
			case r.status == 201:
				joined.Add(1)
			case r.status == 429 && r.code() == "quota-exceeded" && r.header.Get("Retry-After") != "":
				denied.Add(1)
			default:
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	wg.Wait()
	if joined.Load() != 10 || denied.Load() != 20 {
		t.Errorf("%d joined and %d were denied, want 10 and 20", joined.Load(), denied.Load())
	}
	v := a.visitor()
	v.from = "2001:db8:1:2::1"
	for range 10 {
		v.client.Jar = nil
		v.want(201, "", "POST", "/api/v1/rooms/gala/places", "")
	}
	v.from = "2001:db8:1:2:ffff::9" // the same network
	v.want(429, "quota-exceeded", "POST", "/api/v1/rooms/gala/places", "")
}

func TestACrowdFromManyAddressesIsNotLimited(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	work := make(chan *visitor)
	var wg sync.WaitGroup
	var numbers sync.Map
	for range 32 {
		wg.Go(func() {
			for v := range work {
				if a := v.do("POST", "/api/v1/rooms/gala/places", ""); a.status != 201 {
					t.Errorf("%d %s", a.status, a.body)
				} else if _, twice := numbers.LoadOrStore(decode[joined](t, a).Number, true); twice {
					t.Error("a number was given twice")
				}
			}
		})
	}
	for range 500 {
		work <- s.visitor()
	}
	close(work)
	wg.Wait()
}

func TestOneSessionCannotFeedManyBots(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) {
		setLimit(c, "origin", 1, 60, 5)
	})
	s.set("gala", `{}`)
	now := time.Now()
	good := s.pass("gala", "session-1", now, now.Add(time.Hour))
	for range 5 {
		s.visitor().want(200, "", "GET", availability, "", "Usher-Pass", good)
	}
	s.visitor().want(429, "quota-exceeded", "GET", availability, "", "Usher-Pass", good)
}

func TestWaitingPages(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"title":"Gala","message":"Welcome.","pace_per_min":0,"capacity":10}`)
	fan := s.visitor()
	page := func() WaitingPage {
		t.Helper()
		return decode[WaitingPage](t, fan.want(200, "", "GET", "/rooms/gala?return_to=%2Fevents%2Fgala%3Fx%3D1", ""))
	}
	if p := page(); p.Joined || p.Title != "Gala" || p.Message != "Welcome." || p.ReturnTo != "/events/gala?x=1" {
		t.Errorf("before joining: %+v", p)
	}
	if p := page(); p.Joined {
		t.Error("looking at the page joined the line")
	}
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", s.url.String()}
	to := "return_to=" + url.QueryEscape("/events/gala?x=1")
	back := fan.want(303, "", "POST", "/rooms/gala/join", to, form...).header.Get("Location")
	if back != "/rooms/gala?"+to {
		t.Errorf("after joining: %s", back)
	}
	if p := page(); !p.Joined || p.State != "waiting" || *p.Position != 1 || p.Refresh < 1 || p.Refresh > pageTime {
		t.Errorf("in line: %+v", p)
	}
	if p := decode[WaitingPage](t, fan.want(409, "", "POST", "/rooms/gala/enter", to, form...)); p.Problem == "" || p.State != "waiting" {
		t.Errorf("entering too early: %+v", p)
	}
	fan.want(303, "", "POST", "/rooms/gala/return", to, form...)
	s.set("gala", `{"pace_per_min":6000}`)
	fan.called("gala")
	if p := page(); p.State != "called" || p.CallExpiresAt == nil {
		t.Errorf("called: %+v", p)
	}
	if p := page(); !p.Extendable {
		t.Errorf("a call cannot be lengthened: %+v", p)
	}
	fan.want(303, "", "POST", "/rooms/gala/extend", to, form...)
	if p := decode[WaitingPage](t, fan.want(409, "", "POST", "/rooms/gala/extend", to, form...)); p.Problem == "" || p.Extendable || p.State != "called" {
		t.Errorf("lengthened twice: %+v", p)
	}
	entered := fan.want(303, "", "POST", "/rooms/gala/enter", to, form...)
	if entered.header.Get("Location") != "/events/gala?x=1" || !strings.Contains(entered.header.Get("Set-Cookie"), "usher-pass-gala=") {
		t.Errorf("entered to %v", entered.header)
	}
	fan.want(200, "", "GET", availability, "")
	s.visitor().want(404, "", "GET", "/rooms/nowhere", "")
}

func TestReturnToStaysOnTheHost(t *testing.T) {
	t.Parallel()
	for wish, ok := range map[string]bool{
		"/": true, "/events/gala": true, "/a?b=//evil.example&c=%2F%2Fx": true, "/a#b": true, "/%E2%9C%93": true,
		"": false, "events": false, "//evil.example": false, "///evil.example": false, `/\evil.example`: false, `\\evil.example`: false,
		"https://evil.example": false, "javascript:alert(1)": false, "/\tevil": false, "/\n/evil.example": false, "/ /evil": false,
		"/%2F/evil.example": false, "/%5Cevil.example": false, "/.//evil.example": false, "/a/..//evil.example": false, "/rooms/gala": false,
		"/" + strings.Repeat("a", 4000): false, "/%zz": false, "/%00": false,
	} {
		if got := localPath(wish); got != ok {
			t.Errorf("%q: %v, want %v", wish, got, ok)
		}
	}
}

func FuzzLocalPath(f *testing.F) {
	for _, s := range []string{"/", "//x", "/\\x", "/a?b", "/%2f", "/.//x", "http://x"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://shop.example/rooms/gala")
	f.Fuzz(func(t *testing.T, wish string) {
		if !localPath(wish) {
			return
		}
		to, err := base.Parse(wish)
		if err != nil || to.Host != base.Host || to.Scheme != base.Scheme || strings.HasPrefix(to.Path, "//") {
			t.Fatalf("%q leads to %v, %v", wish, to, err)
		}
	})
}

func TestPagesAndDescription(t *testing.T) {
	t.Parallel()
	box := huma.DefaultConfig("Box office", "1")
	s := open(t, func(c *Config) {
		c.BoxOffice = &huma.OpenAPI{Components: box.Components, Paths: map[string]*huma.PathItem{
			"/api/v1/events": {Get: &huma.Operation{OperationID: "list-events", Summary: "All events", Tags: []string{"catalogue"}}},
		}}
	})
	fan := s.visitor()
	if a := fan.want(200, "", "GET", "/events/gala", ""); a.body != "asset /events/gala" {
		t.Errorf("%s", a.body)
	}
	for _, path := range []string{"/", "/api/v1/docs", "/.well-known/jwks.json"} {
		if a := fan.want(200, "", "HEAD", path, ""); a.body != "" {
			t.Errorf("HEAD %s has a body: %.50s", path, a.body)
		}
	}
	a := fan.want(200, "", "GET", "/api/v1/openapi.json", "")
	doc := decode[struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}](t, a)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	for path, methods := range map[string]string{
		"/api/v1/rooms/{room}": "get", "/api/v1/rooms/{room}/places": "post", "/api/v1/rooms/{room}/place": "get delete",
		"/api/v1/rooms/{room}/place/return": "post", "/api/v1/rooms/{room}/place/ws": "get", "/api/v1/rooms/{room}/place/events": "get",
		"/api/v1/rooms/{room}/place/receipt": "get", "/api/v1/rooms/{room}/pass": "post delete", "/api/v1/rooms/{room}/draw": "get",
		"/.well-known/jwks.json": "get", "/api/v1/operate/rooms/{room}": "get put", "/api/v1/events": "get",
		"/authz/nginx": "get", "/authz/traefik": "get", "/authz/caddy": "get", "/authz/envoy/{path}": "get",
	} {
		for _, method := range strings.Fields(methods) {
			if doc.Paths[path][method] == nil {
				t.Errorf("%s %s is not described", method, path)
			}
		}
	}
	docs := fan.want(200, "", "GET", "/api/v1/docs", "")
	if !strings.Contains(docs.body, "/api/v1/events") || strings.Contains(docs.body, "//cdn") || strings.Contains(docs.header.Get("Content-Security-Policy"), "unsafe") {
		t.Errorf("docs under %q: %.200s", docs.header.Get("Content-Security-Policy"), docs.body)
	}
	for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
		if a.header.Get(header) != want {
			t.Errorf("%s is %q", header, a.header.Get(header))
		}
	}
	if a := fan.do("GET", "/api/v1/rooms/x", "", "X-Forwarded-Proto", "https"); a.header.Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS behind TLS")
	}
}

func TestConfigReportsAllFaults(t *testing.T) {
	t.Parallel()
	bad := Config{
		Origins: map[string]origin.Config{"x": {URLs: []*url.URL{{Scheme: "ftp", Host: "x"}}}},
		Routes:  []Route{{Host: "UPPER", Origin: "nowhere"}},
	}
	_, err := New(bad)
	for _, part := range []string{"Redis", "Ring", "Hall", "Auth", "Log", "Assets", "Waiting", `"x"`, "nowhere", "UPPER"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
}

func TestKeepCookies(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]string{
		"a=1; usher-place-gala=x; b=2":                  "a=1; b=2",
		"__Host-usher-place-gala=x":                     "",
		"USHER-PLACE-gala=x; a=1":                       "a=1",
		"usher-pass-gala=x; usher-place-x=y":            "usher-pass-gala=x",
		" usher-place-x = y ;a=\"quoted; usher-place\"": `a="quoted; usher-place"`,
		";;": "",
	} {
		h := http.Header{"Cookie": {sent}}
		keepCookies(h, func(name string) bool { return !isPlaceCookie(name) })
		if got := h.Get("Cookie"); got != want {
			t.Errorf("%q: got %q, want %q", sent, got, want)
		}
	}
}

func FuzzKeepCookies(f *testing.F) {
	for _, s := range []string{"a=1; usher-place-x=y", ";", "=", "usher-place-", "__Host-usher-place-x=1;a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		h := http.Header{"Cookie": {sent}}
		keepCookies(h, func(name string) bool { return !isPlaceCookie(name) })
		r := &http.Request{Header: h}
		for _, c := range r.Cookies() {
			if isPlaceCookie(c.Name) {
				t.Fatalf("%q leaks %s", sent, c.Name)
			}
		}
	})
}

func TestEventOf(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]string{
		"GET /api/v1/events":                                     " false",
		"GET /api/v1/events/gala":                                "gala false",
		"GET /api/v1/events/gala/":                               "gala false",
		"GET /api/v1/events/gala/performances/p/plan":            "gala false",
		"POST /api/v1/events/gala/performances/p/plan":           "gala true",
		"GET /api/v1/events/gala/performances/p/plan/x":          "gala true",
		"GET /api/v1/events/gala/performances/p/availability":    "gala true",
		"GET /api/v1/events/gala/performances/p/availability/":   "gala true",
		"GET /api/v1/events/gala/performances/p/availability/ws": "gala true",
		"DELETE /api/v1/events/gala/performances/p/holds/h":      "gala true",
		"GET /api/v1/events/gala/performances/p/future":          "gala true",
		"POST /api/v1/events/gala/orders":                        "gala true",
		"POST /api/v1/events/gala/orders/":                       "gala true",
		"GET /api/v1/events/gala/orders/o":                       "gala false",
		"POST /api/v1/events/gala/orders/o/cancel":               "gala false",
		"GET /api/v1/operate/events/gala/orders":                 " false",
	} {
		method, path, _ := strings.Cut(call, " ")
		event, guarded := eventOf(method, path)
		if got := fmt.Sprint(event, " ", guarded); got != want {
			t.Errorf("%s: got %q, want %q", call, got, want)
		}
	}
}
