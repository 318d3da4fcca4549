package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"usher/queue"
)

const socketPath = "/api/v1/rooms/gala/place/ws"

func TestSocketTellsEveryChange(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0,"capacity":10}`)
	ahead, fan := s.visitor(), s.visitor()
	ahead.join("gala")
	fan.join("gala")
	conn := fan.watch("gala")
	if conn.Subprotocol() != "usher.v1" {
		t.Errorf("subprotocol %q", conn.Subprotocol())
	}
	wantPlace := func(what string, good func(queue.Place) bool) queue.Place {
		t.Helper()
		for {
			p, err := readPlace(t, conn)
			if err != nil {
				t.Fatalf("waiting for %s: %v", what, err)
			}
			if good(p) {
				return p
			}
		}
	}
	wantPlace("the first document", func(p queue.Place) bool { return p.State == queue.Waiting && *p.Position == 2 })
	s.set("gala", `{"message":"Soon."}`)
	wantPlace("the message", func(p queue.Place) bool { return p.Message != nil && *p.Message == "Soon." })
	s.set("gala", `{"state":"paused"}`)
	wantPlace("the pause", func(p queue.Place) bool { return p.Phase == queue.Paused })
	ahead.want(204, "", "DELETE", "/api/v1/rooms/gala/place", "")
	wantPlace("the first place", func(p queue.Place) bool { return *p.Position == 1 })
	s.set("gala", `{"state":"auto","pace_per_min":6000}`)
	wantPlace("the call", func(p queue.Place) bool { return p.State == queue.Called && p.CallExpiresAt != nil })
	fan.want(200, "", "POST", "/api/v1/rooms/gala/pass", "")
	wantPlace("the admission", func(p queue.Place) bool { return p.State == queue.Admitted && p.PassExpiresAt != nil })
	s.visitor().want(200, "", "POST", "/api/v1/operate/rooms/gala/reset", "", "Authorization", "Bearer "+testKey)
	wantPlace("the end", func(p queue.Place) bool { return p.State == queue.Lapsed })
	if _, err := readPlace(t, conn); !websocket.IsCloseError(err, websocket.CloseNormalClosure) || !strings.Contains(err.Error(), "place-lapsed") {
		t.Errorf("after the last document: %v", err)
	}

	late := fan.watch("gala")
	if p, err := readPlace(t, late); err != nil || p.State != queue.Lapsed {
		t.Errorf("a lapsed place is told %+v, %v", p, err)
	}
	if _, err := readPlace(t, late); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("a lapsed place's socket: %v", err)
	}
}

func TestWhoMayOpenASocket(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.AllowedOrigins = []string{"https://shop.example"} })
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	token := fan.join("gala").Token
	here := s.url.String()
	for name, c := range map[string]struct {
		visitor *visitor
		status  int
		header  []string
	}{
		"the page itself":        {fan, 101, []string{"Origin", here}},
		"a listed page":          {fan, 101, []string{"Origin", "https://shop.example"}},
		"a foreign page":         {fan, 403, []string{"Origin", "https://evil.example"}},
		"a page that looks like": {fan, 403, []string{"Origin", "http://" + s.url.Host + ".evil.example"}},
		"null":                   {fan, 403, []string{"Origin", "null"}},
		"a cookie alone":         {fan, 403, nil},
		"an app, by protocol":    {s.visitor(), 101, []string{"Sec-WebSocket-Protocol", "usher.v1, place." + token}},
		"an app, by header":      {s.visitor(), 101, []string{"Authorization", "Place " + token}},
		"an app's bad token":     {s.visitor(), 403, []string{"Sec-WebSocket-Protocol", "usher.v1, place." + token[:len(token)-2]}},
		"a page without a place": {s.visitor(), 404, []string{"Origin", here}},
	} {
		conn, res, err := c.visitor.dial(socketPath, c.header...)
		if res == nil || res.StatusCode != c.status {
			t.Errorf("%s: %v, want %d", name, err, c.status)
			continue
		}
		if res.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: an answer without an id", name)
		}
		if conn != nil {
			if p, err := readPlace(t, conn); err != nil || p.State != queue.Waiting {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
	}
	fan.want(426, "websocket-required", "GET", socketPath, "", "Origin", here)
	req, err := http.NewRequest(http.MethodHead, here+socketPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": here} {
		req.Header.Set(name, value)
	}
	res, err := fan.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode < 400 {
		t.Errorf("HEAD opens a socket: %s", res.Status)
	}
}

func TestSocketsAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.MaxSockets, c.MaxSocketsPerPrefix = 12, 9 })
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	var tabs []*websocket.Conn
	for range maxPerPlace {
		tabs = append(tabs, fan.watch("gala"))
	}
	if _, res, _ := fan.dial(socketPath, "Origin", s.url.String()); res == nil || res.StatusCode != 429 {
		t.Errorf("one tab too many: %v", res)
	}
	sibling := s.visitor()
	sibling.from = fan.from
	sibling.join("gala")
	sibling.watch("gala")
	if _, res, _ := sibling.dial(socketPath, "Origin", s.url.String()); res == nil || res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("one too many of a prefix: %v", res)
	}
	for range 3 {
		v := s.visitor()
		v.join("gala")
		v.watch("gala")
	}
	last := s.visitor()
	last.join("gala")
	if _, res, _ := last.dial(socketPath, "Origin", s.url.String()); res == nil || res.StatusCode != 503 {
		t.Errorf("one too many of all: %v", res)
	}
	for _, tab := range tabs {
		tab.Close()
	}
	until(t, s.line("gala"), "closed tabs make room", func() bool {
		conn, _, err := last.dial(socketPath, "Origin", s.url.String())
		return err == nil && conn != nil
	})
}

func TestChatterEndsASocket(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	for _, message := range []string{"hello", strings.Repeat("x", 1000)} {
		conn := fan.watch("gala")
		for range 3 * maxChatter {
			if conn.WriteMessage(websocket.TextMessage, []byte(message)) != nil {
				break
			}
		}
		var err error
		for err == nil {
			_, err = readPlace(t, conn)
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("a socket that sends %d bytes a message stays open", len(message))
		}
	}
}

func TestDrainSpreadsReconnects(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	var conns []*websocket.Conn
	for range 5 {
		v := s.visitor()
		v.join("gala")
		conn := v.watch("gala")
		if _, err := readPlace(t, conn); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	streaming := s.visitor()
	streaming.join("gala")
	stream := streaming.stream("gala")
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.server.Drain(ctx)
	}()
	for _, conn := range conns {
		var err error
		for err == nil {
			_, err = readPlace(t, conn)
		}
		if !websocket.IsCloseError(err, websocket.CloseServiceRestart) || !strings.Contains(err.Error(), "reconnect=") {
			t.Errorf("a drained socket: %v", err)
		}
	}
	rest := make([]string, 0, 4)
	for line := range stream {
		rest = append(rest, line)
	}
	if !strings.Contains(strings.Join(rest, "\n"), "retry: ") {
		t.Errorf("the stream ended with %q", rest)
	}
	select {
	case <-drained:
	case <-time.After(patience):
		t.Fatal("the drain does not end")
	}
	if s.server.Ready(context.Background()) == nil {
		t.Error("a drained gateway is ready")
	}
	v := s.visitor()
	v.join("gala")
	if _, res, _ := v.dial(socketPath, "Origin", s.url.String()); res == nil || res.StatusCode != 503 {
		t.Errorf("a socket after the drain: %v", res)
	}
}

func TestOpeningsAreCountedAndGivenBack(t *testing.T) {
	t.Parallel()
	o := newOpenings(8)
	a, b := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	first, second := o.take(a), o.take(a)
	if first == nil || second == nil || o.take(a) != nil || o.take(b) == nil {
		t.Fatal("a prefix must have a quarter, and no more")
	}
	first()
	second()
	if o.open != 1 || len(o.byPrefix) != 1 {
		t.Errorf("%d open of %d prefixes; want 1 of 1", o.open, len(o.byPrefix))
	}
}

// Who is far back hears of it that the line moves, too: by a stream as by a socket.
func TestThoseFarBackHearOfTheLine(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"pace_per_min":0}`)
	for range 250 {
		if _, err := line.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fan := s.visitor()
	place := fan.join("gala")
	if *place.Ahead < 250 {
		t.Fatalf("only %d are ahead", *place.Ahead)
	}
	lines, conn := fan.stream("gala"), fan.watch("gala")
	grown := make(chan error, 1)
	go func() {
		for line := range lines {
			data, found := strings.CutPrefix(line, "data: ")
			var p queue.Place
			if found && json.Unmarshal([]byte(data), &p) == nil && p.Waiting > place.Waiting {
				grown <- nil
				return
			}
		}
		grown <- errors.New("the stream ended")
	}()
	if _, err := readPlace(t, conn); err != nil {
		t.Fatal(err)
	}
	s.visitor().join("gala")
	for {
		p, err := readPlace(t, conn)
		if err != nil {
			t.Fatal(err)
		}
		if p.Waiting > place.Waiting {
			break
		}
	}
	select {
	case err := <-grown:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the stream says nothing new")
	}
}

func TestConsoleSocket(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	const path = "/api/v1/operate/rooms/gala/ws"
	if _, res, _ := s.visitor().dial(path); res == nil || res.StatusCode != 401 {
		t.Errorf("a stranger: %v", res)
	}
	if _, res, _ := s.visitor().dial(path, "Authorization", "Bearer "+testKey, "Origin", "https://evil.example"); res == nil || res.StatusCode != 403 {
		t.Errorf("a foreign page: %v", res)
	}
	conn, _, err := s.visitor().dial(path, "Authorization", "Bearer "+testKey)
	if err != nil {
		t.Fatal(err)
	}
	s.visitor().join("gala")
	for {
		var live queue.Live
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if err := conn.ReadJSON(&live); err != nil {
			t.Fatal(err)
		}
		if live.Waiting == 1 {
			return
		}
	}
}
