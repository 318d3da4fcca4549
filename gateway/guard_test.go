package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"usher/internal/problem"
	"usher/queue"
)

const (
	performance  = "/api/v1/events/gala/performances/p1"
	availability = performance + "/availability"
)

func TestPassesGuardTheBoxOffice(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	now := time.Now()
	good := s.pass("gala", "session-1", now.Add(-time.Minute), now.Add(time.Hour))
	last := len(good) - 5
	altered := good[:last] + string(good[last]^1) + good[last+1:]
	for name, c := range map[string]struct {
		header []string
		ok     bool
	}{
		"none":                        {nil, false},
		"header":                      {[]string{"Usher-Pass", good}, true},
		"bearer":                      {[]string{"Authorization", "Bearer " + good}, true},
		"cookie":                      {[]string{"Cookie", "usher-pass-gala=" + good}, true},
		"secure cookie":               {[]string{"Cookie", "__Host-usher-pass-gala=" + good}, true},
		"expired":                     {[]string{"Usher-Pass", s.pass("gala", "s", now.Add(-time.Hour), now.Add(-time.Second))}, false},
		"another room's":              {[]string{"Usher-Pass", s.pass("club", "s", now, now.Add(time.Hour))}, false},
		"another room's in the name":  {[]string{"Cookie", "usher-pass-gala=" + s.pass("club", "s", now, now.Add(time.Hour))}, false},
		"altered":                     {[]string{"Usher-Pass", altered}, false},
		"cut":                         {[]string{"Usher-Pass", good[:last]}, false},
		"a foreign bearer":            {[]string{"Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."}, false},
		"a bad header, a good cookie": {[]string{"Usher-Pass", altered, "Cookie", "usher-pass-gala=" + good}, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range []string{
				"GET " + availability, "GET " + availability + "/", "POST " + performance + "/holds", "GET " + performance + "/holds/h1",
				"DELETE " + performance + "/holds/h1", "POST " + performance + "/plan", "GET " + performance + "/anything", "POST /api/v1/events/gala/orders",
				"GET /api/v1/events/gala/%70erformances/p1/availability",
			} {
				method, path, _ := strings.Cut(call, " ")
				if c.ok {
					s.visitor().want(200, "", method, path, "", c.header...)
					continue
				}
				a := s.visitor().want(403, "pass-required", method, path, "", c.header...)
				if !strings.Contains(a.body, `"room":"gala"`) || !strings.Contains(a.body, `"join_url":"/rooms/gala"`) {
					t.Errorf("%s: %s", call, a.body)
				}
			}
		})
	}
	for _, path := range []string{performance + "/plan", "/api/v1/events", "/api/v1/events/gala", "/api/v1/events/gala/orders/o1", "/api/v1/events/lost"} {
		s.visitor().want(200, "", "GET", path, "")
	}
	s.visitor().want(404, "event-not-found", "GET", "/api/v1/events/unheard-of/performances/p1/availability", "")
	s.visitor().want(403, "pass-required", "GET", "/api/v1/events/lost/performances/p1/availability", "")
}

func TestAnEventWithoutARoomGivesAPass(t *testing.T) {
	t.Parallel()
	s := open(t)
	fan := s.visitor()
	const path = "/api/v1/events/free/performances/p1/holds"
	first := decode[seen](t, fan.want(200, "", "POST", path, "{}"))
	second := decode[seen](t, fan.want(200, "", "POST", path, "{}"))
	if first.Header.Get("Usher-Pass") == "" {
		t.Error("booking was not given the pass")
	}
	if a, b := first.Header.Get("X-Usher-Session"), second.Header.Get("X-Usher-Session"); a == "" || a != b {
		t.Errorf("sessions %q and %q of one visitor", a, b)
	}
	if other := decode[seen](t, s.visitor().want(200, "", "POST", path, "{}")); other.Header.Get("X-Usher-Session") == first.Header.Get("X-Usher-Session") {
		t.Error("two visitors share a session")
	}
}

func TestBypassGivesAPass(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"state":"bypass","capacity":1}`)
	until(t, line, "the room is in bypass", func() bool { return line.View().Bypass() })
	for range 3 {
		fan := s.visitor()
		first := decode[seen](t, fan.want(200, "", "GET", availability, ""))
		second := decode[seen](t, fan.want(200, "", "GET", availability, ""))
		if a, b := first.Header.Get("X-Usher-Session"), second.Header.Get("X-Usher-Session"); a == "" || a != b {
			t.Errorf("sessions %q and %q of one visitor", a, b)
		}
	}
	s.set("gala", `{"state":"auto"}`)
	until(t, line, "the bypass ends", func() bool { return !line.View().Bypass() })
	s.visitor().want(403, "pass-required", "GET", availability, "")
}

func TestProtectedSites(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) {
		c.Routes = []Route{{Host: "theatre.example", PathPrefix: "/", Origin: "theatre"}}
	})
	line := s.set("gala", `{"pace_per_min":6000,"origin":"theatre","protect":[{"host":"theatre.example","path_prefix":"/tickets"}]}`)
	s.set("vip", `{"protect":[{"path_prefix":"/vip"}]}`)
	until(t, line, "the protection holds", func() bool { _, _, ok := s.hall.Protects("theatre.example", "/tickets"); return ok })
	at := func() *visitor { v := s.visitor(); v.host = "theatre.example"; return v }

	page := at().want(303, "", "GET", "/tickets/buy?seat=1&to=%2Fx", "", "Accept", "text/html")
	if to := page.header.Get("Location"); to != "/rooms/gala?return_to="+url.QueryEscape("/tickets/buy?seat=1&to=%2Fx") {
		t.Errorf("sent to %s", to)
	}
	at().want(403, "pass-required", "GET", "/tickets/api", "", "Accept", "application/json")
	at().want(403, "pass-required", "POST", "/tickets", "", "Accept", "text/html")
	for _, trick := range []string{"/tickets", "/tickets/", "/%74ickets", "/tickets?x=/..", "/tickets;a=b", "/TICKETS/buy", "/%54ickets", "/;/tickets", "/;a=b/tickets", "/;a/;b/Tickets;c"} {
		at().want(403, "pass-required", "GET", trick, "")
	}
	for _, host := range []string{"THEATRE.example", "theatre.example.", "theatre.example:8080"} {
		v := at()
		v.host = host
		v.want(403, "pass-required", "GET", "/tickets", "")
	}
	for _, trick := range []string{"//tickets", "/./tickets", "/x/../tickets", "/x/%2e%2e/tickets", "/x%2f..%2ftickets", "/x%5c..%5ctickets", "/%2e/tickets", "/..;/tickets", "/x/..%3b/tickets", "/%252e%252e/tickets", "/tickets%00", "/%2574ickets", "/x%253b/tickets"} {
		at().want(400, "path-ambiguous", "GET", trick, "")
	}
	odd := at()
	odd.host = "theatre..example"
	odd.want(400, "host-invalid", "GET", "/tickets", "")

	fan := at()
	pass := fan.admitted("gala").Pass
	got := decode[seen](t, at().want(200, "", "GET", "/tickets/buy?seat=1", "", "Usher-Pass", pass))
	if got.Path != "/tickets/buy" || got.Query != "seat=1" || got.Host != "theatre.example" || got.Header.Get("X-Usher-Room") != "gala" {
		t.Errorf("the origin saw %+v", got)
	}
	if open := decode[seen](t, at().want(200, "", "GET", "/about", "")); open.Path != "/about" {
		t.Errorf("the unprotected page saw %+v", open)
	}
	at().want(200, "", "GET", "/api/v1/rooms/gala", "")
	at().want(200, "", "GET", "/rooms/gala", "")
	at().want(200, "", "GET", "/.well-known/jwks.json", "")
	if a := at().want(200, "", "GET", "/rooms/_/assets/x.js", ""); a.body != "asset /assets/x.js" {
		t.Errorf("the waiting page's file is %q", a.body)
	}

	s.visitor().want(303, "", "GET", "/vip/lounge", "", "Sec-Fetch-Mode", "navigate")
	now := time.Now()
	if a := s.visitor().want(200, "", "GET", "/vip/lounge", "", "Usher-Pass", s.pass("vip", "s", now, now.Add(time.Hour))); a.body != "asset /vip/lounge" {
		t.Errorf("the shop's own page is %q", a.body)
	}
	s.set("stray", `{"origin":"nowhere","protect":[{"host":"stray.example","path_prefix":"/"}]}`)
	until(t, line, "the stray room protects", func() bool { _, _, ok := s.hall.Protects("stray.example", "/"); return ok })
	stray := s.visitor()
	stray.host = "stray.example"
	stray.want(502, "origin-unavailable", "GET", "/", "", "Usher-Pass", s.pass("stray", "s", now, now.Add(time.Hour)))
}

func TestAGatewayThatKnowsNoRoomsForwardsNothing(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) {
		fresh, err := queue.NewHall(queue.Config{Redis: c.Redis, Ring: c.Ring, Log: c.Log})
		if err != nil {
			t.Fatal(err)
		}
		c.Hall = fresh // nothing runs it
		c.Routes = []Route{{Host: "theatre.example", Origin: "theatre"}}
	})
	v := s.visitor()
	v.want(503, "unavailable", "GET", availability, "")
	v.host = "theatre.example"
	v.want(503, "unavailable", "GET", "/", "")
}

func TestWhatAnOriginIsTold(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.Routes = []Route{{Host: "theatre.example", Origin: "theatre"}} })
	s.set("gala", `{}`)
	now := time.Now()
	good := s.pass("gala", "session-1", now, now.Add(time.Hour))
	forged := []string{
		"X-Usher-Room", "vip", "X-Usher-Session", "forged", "X_Usher_Session", "forged", "x-usher-anything", "forged",
		"Forwarded", "for=198.18.77.7;host=evil", "X-Forwarded-Host", "evil", "X-Real-Ip", "6.6.6.6", "Connection", "X-Secret", "X-Secret", "hop",
		"Cookie", "a=1; usher-place-gala=p; __Host-usher-place-gala=q; __Host-usher-operator=o; b=2",
	}
	fan := s.visitor()
	fan.from = "198.18.77.7"
	for name, call := range map[string]func() seen{
		"booking": func() seen {
			return decode[seen](t, fan.want(200, "", "GET", availability, "", append(forged, "Usher-Pass", good)...))
		},
		"booking, without a pass": func() seen {
			return decode[seen](t, fan.want(200, "", "GET", performance+"/plan", "", forged...))
		},
		"an origin": func() seen {
			v := s.visitor()
			v.host, v.from = "theatre.example", fan.from
			return decode[seen](t, v.want(200, "", "GET", "/x", "", append(forged, "Authorization", "Bearer theirs")...))
		},
		"booking's WebSocket": func() seen {
			conn, _, err := fan.dial(availability+"/ws", append([]string{"Usher-Pass", good, "X-Usher-Room", "vip", "Cookie", "a=1; usher-place-gala=p; b=2"}, "Origin", s.url.String())...)
			if err != nil {
				t.Fatal(err)
			}
			var got seen
			if err := conn.ReadJSON(&got); err != nil {
				t.Fatal(err)
			}
			return got
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := call()
			wantRoom, wantSession := "", ""
			if strings.HasPrefix(name, "booking") && !strings.Contains(name, "without") {
				wantRoom, wantSession = "gala", "session-1"
			}
			h := got.Header
			if h.Get("X-Usher-Room") != wantRoom || h.Get("X-Usher-Session") != wantSession || h.Get("X-Usher-Anything") != "" || h["X_usher_session"] != nil {
				t.Errorf("forged assertions: %v", h)
			}
			if h.Get("X-Forwarded-For") != fan.from || h.Get("Forwarded") != "" || h.Get("X-Real-Ip") != "" || h.Get("X-Forwarded-Proto") != "http" || h.Get("X-Forwarded-Host") == "evil" {
				t.Errorf("forged address: %v", h)
			}
			if h.Get("X-Secret") != "" || h.Get("X-Request-Id") == "" {
				t.Errorf("hop-by-hop or request id: %v", h)
			}
			cookies := h.Get("Cookie")
			if strings.Contains(cookies, "place") || !strings.Contains(cookies, "a=1") || !strings.Contains(cookies, "b=2") {
				t.Errorf("cookies: %s", cookies)
			}
			if name == "an origin" && (strings.Contains(cookies, "operator") || h.Get("Authorization") != "Bearer theirs") {
				t.Errorf("an operator's session or a changed bearer: %v", h)
			}
		})
	}
}

func TestProxyFaults(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	fan := s.visitor()
	a := fan.want(200, "", "GET", "/api/v1/events", "")
	if ids := a.header.Values("X-Request-Id"); len(ids) != 1 || ids[0] == "the origin's own" {
		t.Errorf("request ids %q", ids)
	}
	if csp := a.header.Values("Content-Security-Policy"); len(csp) != 1 || csp[0] != "default-src 'self'" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", a.header)
	}
	if status := s.server.OriginStatus(""); status.Health != "ok" || status.LatencyMS <= 0 || status.InFlight != 0 {
		t.Errorf("the box office does %+v", status)
	}
	fan.want(418, "teapot", "GET", "/api/v1/events/gala/orders/teapot", "")
	fan.want(413, "body-too-large", "POST", "/api/v1/payments/sandbox/webhook", strings.Repeat("x", maxShopBody+1))
	chunked := fan.request("POST", "/api/v1/payments/sandbox/webhook", "")
	chunked.Body, chunked.ContentLength = http.NoBody, -1
	chunked.Body = readCloser{strings.NewReader(strings.Repeat("x", maxShopBody+1))}
	if got := fan.send(chunked); got.status != 413 || got.code() != "body-too-large" {
		t.Errorf("a long body of unknown length: %d %s", got.status, got.body)
	}
	if got := fan.want(502, "origin-unavailable", "POST", "/api/v1/events/gala/orders/cut", ""); got.header.Get("Content-Type") != problem.ContentType {
		t.Errorf("%v", got.header)
	}
	for range 30 {
		fan.want(502, "origin-unavailable", "POST", "/api/v1/events/gala/orders/cut", "")
	}
	if status := s.server.OriginStatus(""); status.Health != "failing" {
		t.Errorf("the box office does %+v", status)
	}
	fan.want(403, "origin-refused", "POST", "/api/v1/events/gala/orders/o1/cancel", "", "Origin", "https://evil.example")
	fan.want(200, "", "POST", "/api/v1/payments/sandbox/webhook", "{}", "Origin", "https://psp.example")
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestAvailabilitySocket(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	now := time.Now()
	cookie := "usher-pass-gala=" + s.pass("gala", "session-1", now, now.Add(time.Hour))
	for name, c := range map[string]struct {
		status int
		header []string
	}{
		"no pass":               {403, []string{"Origin", s.url.String()}},
		"a foreign page":        {403, []string{"Origin", "https://evil.example", "Cookie", cookie}},
		"a cookie and no page":  {403, []string{"Cookie", cookie}},
		"an expired pass":       {403, []string{"Usher-Pass", s.pass("gala", "s", now.Add(-time.Hour), now.Add(-time.Minute))}},
		"an origin that is odd": {403, []string{"Origin", "null", "Cookie", cookie}},
	} {
		if _, res, err := s.visitor().dial(availability+"/ws", c.header...); err == nil || res == nil || res.StatusCode != c.status {
			t.Errorf("%s: %v %v", name, res, err)
		}
	}
	conn, _, err := s.visitor().dial(availability+"/ws", "Origin", s.url.String(), "Cookie", cookie)
	if err != nil {
		t.Fatal(err)
	}
	var first seen
	if err := conn.ReadJSON(&first); err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.ReadMessage(); err != nil || string(message) != "hello" {
		t.Errorf("%q, %v", message, err)
	}

	short := s.pass("gala", "session-2", time.Now(), time.Now().Add(8*time.Second))
	ends, _, err := s.visitor().dial(availability+"/ws", "Usher-Pass", short)
	if err != nil {
		t.Fatal(err)
	}
	if err := ends.ReadJSON(&first); err != nil {
		t.Fatal(err)
	}
	if _, _, err = ends.ReadMessage(); !websocket.IsCloseError(err, websocket.ClosePolicyViolation) {
		t.Errorf("the socket outlived its pass: %v", err)
	}
}
