package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"

	"usher/gateway/origin"
	"usher/gateway/policy"
	"usher/internal/devstack/devtest"
	"usher/internal/http1"
	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/pass"
	"usher/internal/problem"
	"usher/queue"
)

const testKey = "usher_test_key"

// patience bounds every wait of these tests.
const patience = 60 * time.Second

// site is one gateway with everything behind it: real Redis and Postgres, and an
// origin that tells what it was sent.
type site struct {
	t      testing.TB
	rdb    redis.UniversalClient
	ring   *keyring.Ring
	hall   *queue.Hall
	server *Server
	url    *url.URL
}

// open starts a site; each change works on its Config.
func open(t testing.TB, changes ...func(*Config)) *site {
	t.Helper()
	return openWith(t, keyring.Generate(time.Now()), changes...)
}

// openWith is open with given keys.
func openWith(t testing.TB, ring *keyring.Ring, changes ...func(*Config)) *site {
	t.Helper()
	s := &site{t: t, rdb: devtest.Redis(t), ring: ring}
	if err := operator.AddKey(context.Background(), s.rdb, testKey, operator.Principal{ID: "test", Name: "test", Role: operator.Admin}); err != nil {
		t.Fatal(err)
	}
	rooms := map[string]string{"gala": "gala", "free": "", "lost": "no-such-room"}
	if err := s.rdb.HSet(context.Background(), "usher:event-rooms", rooms).Err(); err != nil {
		t.Fatal(err)
	}
	db, _ := devtest.Postgres(t)
	recorder := queue.NewRecorder(queue.RecorderConfig{Redis: s.rdb, DB: db, Ring: s.ring, Log: slog.New(slog.DiscardHandler)})
	keepRunning(t, recorder.Run)
	s.start(changes...)
	return s
}

// setLimit changes one policy of the defaults.
func setLimit(c *Config, name string, quota, window, burst int64) {
	if c.Policies == nil {
		defaults := policy.Defaults()
		c.Policies = &defaults
	}
	for i := range c.Policies.Policies {
		if p := &c.Policies.Policies[i]; p.Name == name {
			p.Quota, p.Window, p.Burst = quota, window, burst
		}
	}
}

// another is a second gateway on the same Redis.
func (s *site) another(changes ...func(*Config)) *site {
	s.t.Helper()
	b := &site{t: s.t, rdb: s.rdb, ring: s.ring}
	b.start(changes...)
	return b
}

func (s *site) start(changes ...func(*Config)) {
	s.t.Helper()
	log := slog.New(slog.DiscardHandler)
	hall, err := queue.NewHall(queue.Config{Redis: s.rdb, Ring: s.ring, Log: log, Tick: 100 * time.Millisecond})
	if err != nil {
		s.t.Fatal(err)
	}
	s.hall = hall
	keepRunning(s.t, hall.Run)
	for deadline := time.Now().Add(patience); hall.Ready() != nil || !hall.Known(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the gateway never looked for its rooms: %v", hall.Ready())
		}
	}
	behind := httptest.NewServer(http.HandlerFunc(echo))
	s.t.Cleanup(behind.Close)
	at, err := url.Parse(behind.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := Config{
		Redis: s.rdb, Ring: s.ring, Hall: hall, Auth: operator.NewAuthenticator(s.rdb, s.ring), Log: log,
		Booking: origin.Config{URLs: []*url.URL{at}}, Origins: map[string]origin.Config{"theatre": {URLs: []*url.URL{at}}},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Assets:         http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "asset ", r.URL.Path) }),
		Waiting: func(w http.ResponseWriter, _ *http.Request, status int, page WaitingPage) {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(page)
		},
	}
	for _, change := range changes {
		change(&cfg)
	}
	if s.server, err = New(cfg); err != nil {
		s.t.Fatal(err)
	}
	keepRunning(s.t, s.server.Run)
	s.url = s.front(&http.Server{})
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.server.Drain(ctx)
	})
}

// front serves the gateway as a process of it does, with these settings, until the test ends.
func (s *site) front(settings *http.Server) *url.URL {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	settings.Handler = s.server.Handler()
	front := &http1.Server{HTTP: settings}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = front.Serve(s.server.Guard(l)) // until Close
	}()
	s.t.Cleanup(func() {
		_ = front.Close()
		<-ended
	})
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// behind is the same gateway in a server that keeps an idle connection for so long, and gives
// a busy one so long to be read and answered (0: any time).
func (s *site) behind(idle, busy time.Duration) *site {
	s.t.Helper()
	b := *s
	b.url = s.front(&http.Server{IdleTimeout: idle, ReadTimeout: busy, WriteTimeout: busy})
	return &b
}

// keepRunning runs f until the test ends and waits for it.
func keepRunning(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
}

// set makes or changes a room through the operators' call, and waits until this
// gateway has it.
func (s *site) set(room, settings string) *queue.Line {
	s.t.Helper()
	a := s.visitor().do("PUT", "/api/v1/operate/rooms/"+room, settings, "Authorization", "Bearer "+testKey)
	if a.status != 200 && a.status != 201 {
		s.t.Fatalf("set %s %s: %d %s", room, settings, a.status, a.body)
	}
	line := s.line(room)
	until(s.t, line, "the gateway knows all rooms", s.hall.Known)
	return line
}

// line waits until this gateway knows the room.
func (s *site) line(room string) *queue.Line {
	s.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if line, ok := s.hall.Line(room); ok {
			return line
		}
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("the gateway does not find room %s", room)
		}
	}
}

// until waits for the room's ticks until cond holds.
func until(t testing.TB, line *queue.Line, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := line.Changed()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("it never came that %s: %+v", what, line.View().Live())
		}
	}
}

var addresses atomic.Int64

// visitor is a browser at an address of its own.
type visitor struct {
	site   *site
	from   string
	client *http.Client
	host   string // Host to ask for; "" is the site's own
}

func (s *site) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	n := addresses.Add(1)
	return &visitor{site: s, from: fmt.Sprintf("198.18.%d.%d", n/250, n%250+1), client: &http.Client{
		Jar: jar, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal([]byte(a.body), &p)
	return p.Code
}

func decode[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
	return v
}

func (v *visitor) do(method, path, body string, header ...string) answer {
	v.site.t.Helper()
	return v.send(v.request(method, path, body, header...))
}

func (v *visitor) request(method, path, body string, header ...string) *http.Request {
	v.site.t.Helper()
	r, err := http.NewRequest(method, v.site.url.String()+path, strings.NewReader(body))
	if err != nil {
		v.site.t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-For", v.from)
	r.Host = v.host
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func (v *visitor) send(r *http.Request) answer {
	v.site.t.Helper()
	res, err := v.client.Do(r)
	if err != nil {
		v.site.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.site.t.Fatal(err)
	}
	a := answer{res.StatusCode, res.Header, string(body)}
	if a.header.Get("X-Request-Id") == "" {
		v.site.t.Errorf("%s %s: no X-Request-Id", r.Method, r.URL)
	}
	if a.status >= 400 && a.header.Get("Content-Type") == problem.ContentType && a.code() == "" {
		v.site.t.Errorf("%s %s: a problem without a code: %s", r.Method, r.URL, a.body)
	}
	return a
}

// want sends a request and checks status and code ("" for none).
func (v *visitor) want(status int, code, method, path, body string, header ...string) answer {
	v.site.t.Helper()
	a := v.do(method, path, body, header...)
	if a.status != status || a.code() != code {
		v.site.t.Errorf("%s %s: %d %s, want %d %s: %s", method, path, a.status, a.code(), status, code, a.body)
	}
	if code != "" && a.header.Get("Content-Type") != problem.ContentType {
		v.site.t.Errorf("%s %s: a refusal of type %q", method, path, a.header.Get("Content-Type"))
	}
	return a
}

func (v *visitor) join(room string) joined {
	v.site.t.Helper()
	return decode[joined](v.site.t, v.want(201, "", "POST", "/api/v1/rooms/"+room+"/places", ""))
}

// admitted joins, waits to be called and claims.
func (v *visitor) admitted(room string) admitted {
	v.site.t.Helper()
	v.join(room)
	v.called(room)
	return decode[admitted](v.site.t, v.want(200, "", "POST", "/api/v1/rooms/"+room+"/pass", ""))
}

func (v *visitor) called(room string) {
	v.site.t.Helper()
	until(v.site.t, v.site.line(room), "the visitor is called", func() bool {
		return decode[queue.Place](v.site.t, v.do("GET", "/api/v1/rooms/"+room+"/place", "")).State == queue.Called
	})
}

// pass signs a pass as the ring would, with any claims.
func (s *site) pass(room, session string, from, to time.Time) string {
	s.t.Helper()
	token, err := pass.Issue(s.ring, room, session, from, to)
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// dial opens a WebSocket with the visitor's cookies.
func (v *visitor) dial(path string, header ...string) (*websocket.Conn, *http.Response, error) {
	v.site.t.Helper()
	h := http.Header{"X-Forwarded-For": {v.from}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	d := websocket.Dialer{Jar: v.client.Jar, HandshakeTimeout: patience}
	conn, res, err := d.Dial("ws://"+v.site.url.Host+path, h)
	if conn != nil {
		v.site.t.Cleanup(func() { conn.Close() })
	}
	return conn, res, err
}

// watch opens the visitor's own socket, as a browser would.
func (v *visitor) watch(room string) *websocket.Conn {
	v.site.t.Helper()
	conn, _, err := v.dial("/api/v1/rooms/"+room+"/place/ws", "Origin", v.site.url.String(), "Sec-WebSocket-Protocol", "usher.v1")
	if err != nil {
		v.site.t.Fatal(err)
	}
	return conn
}

func readPlace(t testing.TB, conn *websocket.Conn) (p queue.Place, err error) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	err = conn.ReadJSON(&p)
	return p, err
}

// seen is what the origin was sent.
type seen struct {
	Method, Path, Query, Host string
	Header                    http.Header
	Body                      string
}

// echo is an origin that answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/ws") {
		echoSocket(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the edge cut the body
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/cacheable"):
		w.Header().Set("Cache-Control", "public, max-age=60")
	case strings.HasSuffix(r.URL.Path, "/cut"):
		panic(http.ErrAbortHandler)
	case strings.HasSuffix(r.URL.Path, "/teapot"):
		w.Header().Set("Content-Type", problem.ContentType)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, `{"code":"teapot"}`)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'self'")
	w.Header().Set("X-Request-Id", "the origin's own")
	_ = json.NewEncoder(w).Encode(seen{r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.Header, string(body)})
}

func echoSocket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	if conn.WriteJSON(seen{r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.Header, ""}) != nil {
		return
	}
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}
