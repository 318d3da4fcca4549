package gateway

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"

	"usher/queue"
)

// A pass whose session is over is refused by every gateway, also by one that started later.
func TestEndedPassIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"pace_per_min":6000}`)
	fan := s.visitor()
	given := fan.admitted("gala")
	other := s.another()
	other.line("gala")
	for _, gateway := range []*site{s, other} {
		gateway.visitor().want(200, "", "GET", availability, "", "Usher-Pass", given.Pass)
	}
	for range 2 { // said again: done again
		s.visitor().want(204, "", "DELETE", "/api/v1/rooms/gala/pass", "", "Usher-Pass", given.Pass)
	}
	s.visitor().want(403, "pass-required", "GET", availability, "", "Usher-Pass", given.Pass)
	until(t, line, "the other gateway refuses the pass", func() bool {
		return other.visitor().do("GET", availability, "", "Usher-Pass", given.Pass).code() == "pass-required"
	})
	restarted := s.another()
	restarted.line("gala")
	restarted.visitor().want(403, "pass-required", "GET", availability, "", "Usher-Pass", given.Pass)
	// The order of before is still its buyer's.
	s.visitor().want(200, "", "GET", "/api/v1/events/gala/orders/o1", "", "Usher-Pass", given.Pass)
}

func TestEndedPassInBypass(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"state":"bypass"}`)
	until(t, line, "the room is in bypass", func() bool { return line.View().Bypass() })
	fan := s.visitor()
	first := decode[seen](t, fan.want(200, "", "GET", availability, ""))
	fan.want(204, "", "DELETE", "/api/v1/rooms/gala/pass", "", "Usher-Pass", first.Header.Get("Usher-Pass"))
	again := decode[seen](t, fan.want(200, "", "GET", availability, ""))
	if a, b := first.Header.Get("X-Usher-Session"), again.Header.Get("X-Usher-Session"); a == "" || b == "" || a == b {
		t.Errorf("sessions %q and %q", a, b)
	}
}

// Bypass spares the line, not the invitation.
func TestBypassAsksForTheInvitation(t *testing.T) {
	t.Parallel()
	s := open(t)
	key, jwk := inviteKey(t)
	line := s.set("gala", `{"state":"bypass","invite_only":true,"invite_keys":[`+jwk+`]}`)
	until(t, line, "the room is in bypass", func() bool { return line.View().Bypass() })
	s.visitor().want(403, "pass-required", "GET", availability, "")
	guest := s.visitor()
	guest.want(201, "", "POST", "/api/v1/rooms/gala/places", invite(t, key, jwt.MapClaims{"room": "gala", "identity": "guest", "exp": time.Now().Add(time.Hour).Unix()}))
	guest.want(200, "", "GET", availability, "")
	guest.want(200, "", "GET", availability, "")
}

// Behind planted cookies of the same name the visitor's own is found.
func TestPlantedCookiesDoNotHideOurs(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":6000}`)
	fan := s.visitor()
	place := fan.join("gala")
	stranger := s.visitor()
	a := stranger.want(200, "", "GET", "/api/v1/rooms/gala/place", "", "Cookie", "usher-place-gala=x; usher-place-gala="+place.Token)
	if found := decode[queue.Place](t, a); found.Number != place.Number {
		t.Errorf("number %d, want %d", found.Number, place.Number)
	}
	now := time.Now()
	own := s.pass("gala", "session-1", now, now.Add(time.Hour))
	stranger.want(200, "", "GET", availability, "", "Cookie", "usher-pass-gala=x; usher-pass-gala="+own)
}

// One pass has so many requests and WebSockets under way and no more, however they end.
func TestOnePassCannotFeedAHundredBots(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.SessionInFlight = 2 })
	s.server.inFlight.wait = 3 * time.Second // for the end of what was answered, too
	s.set("gala", `{}`)
	now := time.Now()
	shared := s.pass("gala", "shared", now, now.Add(time.Hour))
	for range 5 {
		s.visitor().want(502, "origin-unavailable", "GET", performance+"/cut", "", "Usher-Pass", shared)
	}
	s.visitor().want(418, "teapot", "GET", performance+"/teapot", "", "Usher-Pass", shared)
	var sockets []*websocket.Conn
	for range 2 {
		conn, _, err := s.visitor().dial(availability+"/ws", "Usher-Pass", shared)
		if err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, conn)
	}
	third := s.visitor().want(429, "quota-exceeded", "GET", availability, "", "Usher-Pass", shared)
	if third.header.Get("Retry-After") == "" || !strings.Contains(third.body, "#abnormal-usage-detected") {
		t.Errorf("the refusal: %v %s", third.header, third.body)
	}
	s.visitor().want(200, "", "GET", availability, "", "Usher-Pass", s.pass("gala", "another", now, now.Add(time.Hour)))
	sockets[0].Close()
	line := s.line("gala")
	until(t, line, "a socket's end makes room", func() bool {
		return s.visitor().do("GET", availability, "", "Usher-Pass", shared).status == 200
	})
	sockets[1].Close()
	until(t, line, "nothing is under way", func() bool {
		s.server.inFlight.mu.Lock()
		defer s.server.inFlight.mu.Unlock()
		return len(s.server.inFlight.of) == 0
	})
}

// A WebSocket lasts no longer than its pass.
func TestSocketsEndWithTheirPass(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	now := time.Now()
	watch := func(token string) *websocket.Conn {
		conn, _, err := s.visitor().dial(availability+"/ws", "Usher-Pass", token)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	farewell := func(conn *websocket.Conn) string {
		for {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, _, err := conn.ReadMessage(); err != nil {
				return err.Error()
			}
		}
	}
	var short *websocket.Conn
	for life := 4 * time.Second; short == nil; life *= 2 { // a slow machine opens none within the shortest
		if life > time.Minute {
			t.Fatal("no socket opens")
		}
		now := time.Now()
		short, _, _ = s.visitor().dial(availability+"/ws", "Usher-Pass", s.pass("gala", "short", now, now.Add(life)))
	}
	if got := farewell(short); !strings.Contains(got, "1008") || !strings.Contains(got, "pass-expired") {
		t.Errorf("at its expiry: %s", got)
	}
	given := s.pass("gala", "given", now, now.Add(time.Hour))
	long := watch(given)
	s.visitor().want(204, "", "DELETE", "/api/v1/rooms/gala/pass", "", "Usher-Pass", given)
	if got := farewell(long); !strings.Contains(got, "1008") || !strings.Contains(got, "pass-ended") {
		t.Errorf("when it is given back: %s", got)
	}
}

func TestTurnsInFlight(t *testing.T) {
	t.Parallel()
	f := newInFlight(2)
	h := holder{"gala", "one"}
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		if !f.begin(ctx, h) {
			t.Fatal("two may be under way")
		}
	}
	if !f.begin(ctx, holder{"gala", "two"}) {
		t.Fatal("another session waits")
	}
	var turns sync.WaitGroup
	got := make(chan bool, 3)
	for range 2 {
		turns.Go(func() { got <- f.begin(ctx, h) })
	}
	f.end(h)
	if !<-got {
		t.Error("a turn was not handed on")
	}
	cancel()
	if <-got {
		t.Error("one who went away got a turn")
	}
	turns.Wait()
	f.end(h)
	f.end(h)
	f.end(holder{"gala", "two"})
	if len(f.of) != 0 {
		t.Errorf("%d sessions are remembered with nothing under way", len(f.of))
	}
}
