package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
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
		if conn != nil {
			if p, err := readPlace(t, conn); err != nil || p.State != queue.Waiting {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
	}
	fan.want(426, "websocket-required", "GET", socketPath, "", "Origin", here)
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

// connecting makes a connection and returns both its ends.
type connecting func(*testing.T) (near, far net.Conn)

// bothWays runs a test on a connection that is watched by its descriptor, and on one
// under TLS.
func bothWays(t *testing.T, test func(*testing.T, connecting)) {
	t.Helper()
	for name, connect := range map[string]connecting{"plain": connected, "TLS": connectedTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, connect)
		})
	}
}

// fill writes documents until one has to wait, and tells how many there were.
func fill(t *testing.T, out *outbox, doc func(n int) []byte) int {
	t.Helper()
	for n := 0; ; n++ {
		if !out.empty() {
			return n
		}
		if err := out.write(doc(n)); err != nil {
			t.Fatalf("document %d: %v", n, err)
		}
	}
}

// A reader that stops must not hold up the others, and is given up in the end.
func TestASlowSocketBlocksNobody(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, connect connecting) {
		slow, fast := paired(t, connect), paired(t, connect)
		doc := make([]byte, 1<<10)
		fill(t, &slow.out, func(int) []byte { return doc })
		var err error
		for range 2 * maxRest / len(doc) {
			if err = slow.out.write(doc); err != nil {
				break
			}
		}
		if !errors.Is(err, errStuck) {
			t.Errorf("what waits for a slow socket grows without end: %v", err)
		}
		if err := fast.out.write([]byte("hello\n")); err != nil {
			t.Error(err)
		}
		if line, err := bufio.NewReader(fast.far).ReadString('\n'); err != nil || line != "hello\n" {
			t.Errorf("%q, %v", line, err)
		}
		slow.out.since = time.Now().Add(-2 * stuckTime)
		if err := slow.out.flush(); !errors.Is(err, errStuck) {
			t.Errorf("stuck for long: %v", err)
		}
	})
}

// What did not fit arrives whole and in order once the reader goes on.
func TestOutboxLosesNothing(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, connect connecting) {
		p := paired(t, connect)
		sent := fill(t, &p.out, func(n int) []byte { return []byte(strings.Repeat(string(rune('a'+n%26)), 999) + "\n") })
		done := make(chan int)
		go func() {
			got := 0
			lines := bufio.NewReader(p.far)
			for got < sent {
				line, err := lines.ReadString('\n')
				if err != nil || len(line) != 1000 || line[0] != byte('a'+got%26) {
					break
				}
				got++
			}
			done <- got
		}()
		deadline := time.After(patience)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case got := <-done:
				if got != sent {
					t.Errorf("%d of %d lines arrived whole", got, sent)
				}
				return
			case <-tick.C:
				if err := p.out.flush(); err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				t.Fatal("it never all arrived")
			}
		}
	})
}

type pair struct {
	out outbox
	far net.Conn
}

func connected(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func paired(t *testing.T, connect connecting) pair {
	t.Helper()
	near, far := connect(t)
	p := pair{newOutbox(near), far}
	t.Cleanup(p.out.close)
	return p
}

func connectedTLS(t *testing.T) (near, far net.Conn) {
	t.Helper()
	near, far = connected(t)
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	t.Cleanup(server.Close)
	over := tls.Server(near, server.TLS)
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := over.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return over, client
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

// stream opens the visitor's Server-Sent Events and returns their lines.
func (v *visitor) stream(room string) <-chan string {
	v.site.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v.site.t.Cleanup(cancel)
	res, err := (&http.Client{Jar: v.client.Jar}).Do(v.request("GET", "/api/v1/rooms/"+room+"/place/events", "").WithContext(ctx))
	if err != nil {
		v.site.t.Fatal(err)
	}
	if kind := res.Header.Get("Content-Type"); res.StatusCode != 200 || kind != "text/event-stream" {
		v.site.t.Fatalf("%d of type %s", res.StatusCode, kind)
	}
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		defer res.Body.Close()
		scanner := bufio.NewScanner(res.Body)
		for scanner.Scan() {
			select {
			case lines <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func TestOneClientCannotTakeAllStreams(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.MaxStreams = 8 })
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	for range 2 {
		<-fan.stream("gala") // it is open
	}
	fan.want(503, "too-many-connections", "GET", "/api/v1/rooms/gala/place/events", "")
	other := s.visitor()
	other.join("gala")
	<-other.stream("gala")
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

func TestEvents(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	lines := fan.stream("gala")
	next := func(what string, good func(queue.Place) bool) {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					t.Fatalf("the stream ended before %s", what)
				}
				data, found := strings.CutPrefix(line, "data: ")
				if !found {
					continue
				}
				var p queue.Place
				if err := json.Unmarshal([]byte(data), &p); err != nil {
					t.Fatal(err)
				}
				if good(p) {
					return
				}
			case <-deadline:
				t.Fatalf("no %s", what)
			}
		}
	}
	next("first document", func(p queue.Place) bool { return p.State == queue.Waiting })
	s.set("gala", `{"message":"Soon."}`)
	next("message", func(p queue.Place) bool { return p.Message != nil })
	// One call a second: this one comes when the server's own timeouts are over.
	for range 4 {
		s.visitor().join("gala")
	}
	late := s.visitor()
	late.join("gala")
	late.site = s.behind(0, 3*time.Second) // far below what any process sets
	lines = late.stream("gala")
	s.set("gala", `{"pace_per_min":60}`)
	next("call", func(p queue.Place) bool { return p.State == queue.Called })
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
