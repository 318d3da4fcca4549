package origin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

// bound is for every wait: no test depends on speed.
const bound = time.Minute

// backend is a server that counts what it was asked.
type backend struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func serve(t *testing.T, h http.HandlerFunc) *backend {
	t.Helper()
	b := &backend{}
	b.answer.Store(&h)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		(*b.answer.Load())(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// wind is an origin of these addresses; change works on its Config.
func wind(t *testing.T, change func(*Config), addresses ...string) *Origin {
	t.Helper()
	var cfg Config
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			t.Fatal(err)
		}
		cfg.URLs = append(cfg.URLs, u)
	}
	if change != nil {
		change(&cfg)
	}
	if faults := cfg.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	o := New("test", cfg, slog.New(slog.DiscardHandler))
	t.Cleanup(o.CloseIdle)
	return o
}

func ask(t *testing.T, o *Origin, method, path string, body io.Reader) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := o.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	return res.StatusCode, string(read), err
}

func watch(t *testing.T, o *Origin) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(bound); ; {
		if cond() {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it never came that %s", what)
		}
	}
}

func closedAddress(t *testing.T) string {
	t.Helper()
	return "http://127.0.0.1:" + devtest.Port(t)
}

func TestRequestsAreSpreadByWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	busy := serve(t, func(w http.ResponseWriter, r *http.Request) { <-hold })
	free := serve(t, ok)
	o := wind(t, nil, busy.URL+"/base/", free.URL+"/base")
	var stuck sync.WaitGroup
	for busy.asked.Load() < 3 {
		stuck.Go(func() { _, _, _ = ask(t, o, "GET", "/", nil) })
		eventually(t, "the request is under way", func() bool { return o.servers[0].inFlight.Load() == busy.asked.Load() })
		if free.asked.Load() > 10_000 {
			t.Fatal("one of two servers gets nothing")
		}
	}
	before := busy.asked.Load()
	for range 50 {
		if status, _, err := ask(t, o, "GET", "/", nil); err != nil || status != 200 {
			t.Fatal(status, err)
		}
	}
	if n := busy.asked.Load() - before; n != 0 {
		t.Errorf("%d of 50 requests went to the busy one of two", n)
	}
	close(hold)
	stuck.Wait()
	eventually(t, "nothing is under way", func() bool { return o.servers[0].inFlight.Load() == 0 && o.servers[1].inFlight.Load() == 0 })
}

func TestABaseIsPutInFront(t *testing.T) {
	t.Parallel()
	b := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) })
	o := wind(t, nil, b.URL+"/base/")
	if _, got, err := ask(t, o, "GET", "/a%20b/c%3Bd?x=%2F", nil); err != nil || got != "/base/a%20b/c%3Bd?x=%2F" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSafeRequestsAreRepeatedElsewhere(t *testing.T) {
	t.Parallel()
	cut := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	full := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	good := serve(t, ok)
	for name, bad := range map[string]string{"cut": cut.URL, "full": full.URL, "closed": closedAddress(t)} {
		t.Run(name, func(t *testing.T) {
			o := wind(t, func(c *Config) { c.RetryBudget = 1 }, bad, good.URL)
			for range 30 {
				if status, body, err := ask(t, o, "GET", "/", nil); err != nil || status != 200 || body != "ok" {
					t.Fatalf("%d %q %v", status, body, err)
				}
			}
		})
	}
	t.Run("never where it could be done twice", func(t *testing.T) {
		before := cut.asked.Load()
		o := wind(t, func(c *Config) { c.RetryBudget = 1 }, cut.URL, cut.URL+"/x")
		for _, send := range []struct {
			method string
			body   io.Reader
		}{{"POST", nil}, {"POST", strings.NewReader("pay")}, {"PUT", strings.NewReader("x")}, {"PATCH", nil}} {
			if _, _, err := ask(t, o, send.method, "/", send.body); err == nil {
				t.Errorf("%s was answered", send.method)
			}
		}
		if n := cut.asked.Load() - before; n != 4 {
			t.Errorf("4 requests were sent %d times", n)
		}
	})
	t.Run("what was not sent may be", func(t *testing.T) {
		o := wind(t, func(c *Config) { c.RetryBudget = 1 }, closedAddress(t), good.URL)
		for range 20 {
			if status, _, err := ask(t, o, "POST", "/", strings.NewReader("pay")); err != nil || status != 200 {
				t.Fatal(status, err)
			}
		}
	})
	t.Run("a refusal that nobody else can better stands", func(t *testing.T) {
		o := wind(t, nil, full.URL)
		if status, _, err := ask(t, o, "GET", "/", nil); err != nil || status != 503 {
			t.Error(status, err)
		}
	})
}

func TestRepetitionsAreFewBesideRequests(t *testing.T) {
	t.Parallel()
	full := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	o := wind(t, nil, full.URL, full.URL+"/x")
	const n = 300
	for range n {
		if status, _, err := ask(t, o, "GET", "/", nil); err != nil || status != 503 {
			t.Fatal(status, err)
		}
	}
	if asked := full.asked.Load(); asked > n*1.2+budgetFloor+1 || asked <= n {
		t.Errorf("%d requests were sent %d times", n, asked)
	}
}

func TestAServerThatFailsIsLeftOutAndTriedAgain(t *testing.T) {
	t.Parallel()
	bad, good := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }), serve(t, ok)
	o := wind(t, func(c *Config) { c.Retries = -1 }, bad.URL, good.URL)
	eventually(t, "the failing server is out", func() bool {
		_, _, _ = ask(t, o, "GET", "/", nil)
		return o.servers[0].breaker.IsOpen()
	})
	if s := o.Status(); s.Up != 1 || s.Servers != 2 {
		t.Errorf("%+v", s)
	}
	well := http.HandlerFunc(ok)
	bad.answer.Store(&well)
	eventually(t, "the server is in again", func() bool {
		_, _, _ = ask(t, o, "GET", "/", nil)
		return o.servers[0].breaker.IsClosed()
	})
	if o.servers[0].backAt.Load() == 0 {
		t.Error("it is given its whole share at once")
	}
}

func TestSlowStart(t *testing.T) {
	t.Parallel()
	s := newServer(&url.URL{Scheme: "http", Host: "x"}, Config{Timeout: time.Second, SlowStart: 10 * time.Second})
	s.back()
	back := time.Unix(0, s.backAt.Load())
	for after, want := range map[time.Duration]float64{0: 10, 5 * time.Second: 1 / 0.55, 10 * time.Second: 1, time.Hour: 1} {
		if got := s.load(back.Add(after)); got < want*0.99 || got > want*1.01 {
			t.Errorf("after %v it counts as %v requests busy, want %v", after, got, want)
		}
	}
}

func TestProbesFindWhatIsDown(t *testing.T) {
	t.Parallel()
	sick := atomic.Bool{}
	b := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/base/health" && r.URL.RawQuery == "deep=1" && !sick.Load() {
			w.WriteHeader(204)
			return
		}
		w.WriteHeader(500)
	})
	o := wind(t, func(c *Config) {
		c.Health = Health{Path: "/health?deep=1", Interval: 100 * time.Millisecond, FailAfter: 2, RecoverAfter: 2}
	}, b.URL+"/base")
	watch(t, o)
	eventually(t, "it is probed", func() bool { return b.asked.Load() > 1 })
	if o.Status().Up != 1 {
		t.Fatal("a healthy server is down")
	}
	sick.Store(true)
	eventually(t, "it is down", func() bool { s := o.Status(); return s.Up == 0 && s.Health == Down && s.Share == 0 && s.Known })
	if _, _, err := ask(t, o, "GET", "/", nil); !errors.Is(err, ErrDown) {
		t.Errorf("asked all the same: %v", err)
	}
	sick.Store(false)
	eventually(t, "it is up, and its share grows", func() bool { s := o.Status(); return s.Up == 1 && s.Share > 0 })
}

func TestProbesByConnection(t *testing.T) {
	t.Parallel()
	b := serve(t, ok)
	gone := closedAddress(t)
	o := wind(t, func(c *Config) { c.Health = Health{Interval: 100 * time.Millisecond} }, b.URL, gone)
	watch(t, o)
	eventually(t, "the closed one is down", func() bool { return o.servers[1].down.Load() })
	if o.servers[0].down.Load() || b.asked.Load() != 0 {
		t.Error("the open one is down, or was asked something")
	}
}

func TestTooMuchAtOnce(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := serve(t, func(http.ResponseWriter, *http.Request) { <-hold })
	o := wind(t, func(c *Config) { c.MaxInFlight = 10 }, b.URL)
	var under sync.WaitGroup
	for range 9 {
		under.Go(func() { _, _, _ = ask(t, o, "GET", "/", nil) })
	}
	eventually(t, "nine are under way", func() bool { return o.Status().InFlight == 9 })
	if _, _, err := ask(t, o, "GET", "/", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	close(hold)
	under.Wait()
	if _, _, err := ask(t, o, "GET", "/", nil); err != nil {
		t.Error(err)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2000)
	b := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/said":
			_, _ = io.WriteString(w, long)
		case "/unsaid":
			_, _ = io.WriteString(w, long[:900])
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, long)
		case "/header":
			w.Header().Set("X-Long", strings.Repeat("x", maxHeader))
		case "/silent":
			_, _ = io.WriteString(w, long[:10])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	o := wind(t, func(c *Config) { c.MaxAnswer, c.Timeout = 1000, 50*time.Millisecond }, b.URL)
	for _, path := range []string{"/said", "/unsaid", "/header", "/silent"} {
		if _, body, err := ask(t, o, "GET", path, nil); err == nil || len(body) > 1000 {
			t.Errorf("%s: %d bytes, %v", path, len(body), err)
		}
	}
}

func TestAClientsFaultIsNotTheOrigins(t *testing.T) {
	t.Parallel()
	b := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	o := wind(t, nil, b.URL)
	for range 2 * outRequests {
		if _, _, err := ask(t, o, "POST", "/", io.MultiReader(strings.NewReader("begun"), broken{})); err == nil {
			t.Fatal("half a body was answered")
		}
	}
	if s := o.Status(); s.Health != "unknown" || s.Up != 1 {
		t.Errorf("%+v", s)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the client hung up") }

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	u := func(s string) *url.URL {
		parsed, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	bad := Config{
		URLs: []*url.URL{u("ftp://x"), u("http://a:b@x"), u("http://x"), u("http://x")}, Health: Health{Path: "x", Interval: time.Nanosecond, Timeout: time.Hour, FailAfter: -1, RecoverAfter: 1000},
		MaxInFlight: -1, Timeout: -1, Slow: time.Hour, SlowStart: -1, Retries: 11, RetryBudget: 2, MaxAnswer: -1,
	}
	seen := map[string]bool{}
	for _, f := range bad.Validate() {
		seen[f.Field] = true
	}
	for _, field := range []string{"urls", "health.path", "health.interval_s", "health.timeout_s", "health.fail_after", "health.recover_after", "max_in_flight", "timeout_s", "slow_ms", "slow_start_s", "retries", "retry_budget", "max_answer_bytes"} {
		if !seen[field] {
			t.Errorf("nothing is said of %s", field)
		}
	}
	if faults := (Config{}).Validate(); len(faults) != 1 {
		t.Errorf("%v", faults)
	}
}
