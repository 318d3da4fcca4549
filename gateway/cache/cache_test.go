package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// bound is for every wait: no test depends on speed.
const bound = time.Minute

// shop is an origin behind a cache, with a clock that stands still.
type shop struct {
	t     *testing.T
	clock atomic.Int64
	asked atomic.Int64
	serve func(r *http.Request) (*http.Response, error)
	*Transport
}

func (s *shop) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked.Add(1)
	return s.serve(r)
}

func openShop(t *testing.T, serve func(r *http.Request) (*http.Response, error)) *shop {
	s := &shop{t: t, serve: serve}
	s.clock.Store(time.Now().UnixNano())
	s.Transport = &Transport{
		Cache: New(1<<20, func() time.Time { return time.Unix(0, s.clock.Load()) }), Name: "shop", Next: s,
		Public: func(r *http.Request) bool { return r.Header.Get("Usher-Pass") == "" }, Purges: func(r *http.Request) bool { return r.URL.Path == "/operate" },
	}
	return s
}

func (s *shop) later(d time.Duration) { s.clock.Add(int64(d)) }

// page is an answer with a body and header fields by name and value.
func page(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

type got struct {
	status int
	body   string
	header http.Header
	err    error
}

func (s *shop) get(path string, header ...string) got { return s.do("GET", path, header...) }

func (s *shop) do(method, path string, header ...string) got {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	return s.doIn(ctx, method, path, header...)
}

func (s *shop) doIn(ctx context.Context, method, path string, header ...string) got {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://shop.example"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := s.Transport.RoundTrip(r)
	if err != nil {
		return got{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return got{res.StatusCode, string(body), res.Header, err}
}

// want checks an answer and how often the origin was asked in all.
func (s *shop) want(g got, status int, body string, asked int64) got {
	s.t.Helper()
	if g.err != nil || g.status != status || g.body != body || s.asked.Load() != asked {
		s.t.Errorf("%d %q %v, asked %d times; want %d %q, %d (%s)", g.status, g.body, g.err, s.asked.Load(), status, body, asked, g.header.Get("Cache-Status"))
	}
	return g
}

func TestAnAnswerIsKeptForAsLongAsItSays(t *testing.T) {
	t.Parallel()
	n := 0
	s := openShop(t, func(r *http.Request) (*http.Response, error) {
		n++
		return page(200, strconv.Itoa(n), "Cache-Control", "public, max-age=10", "Age", "3"), nil
	})
	s.want(s.get("/"), 200, "1", 1)
	s.later(5 * time.Second)
	g := s.want(s.get("/"), 200, "1", 1)
	if g.header.Get("Age") != "8" || g.header.Get("Cache-Status") != "usher; hit; ttl=2" || g.header.Get("Content-Length") != "1" {
		t.Errorf("%v", g.header)
	}
	if g := s.do("HEAD", "/"); g.status != 200 || g.body != "" || g.header.Get("Content-Length") != "1" || s.asked.Load() != 1 {
		t.Errorf("HEAD: %+v", g)
	}
	s.want(s.get("/?x=1"), 200, "2", 2)
	s.later(3 * time.Second)
	s.want(s.get("/"), 200, "3", 3)
	s.MaxFresh = 4 * time.Second
	s.want(s.get("/capped"), 200, "4", 4)
	s.later(2 * time.Second)
	s.want(s.get("/capped"), 200, "5", 5)
}

func TestWhatIsNeverKept(t *testing.T) {
	t.Parallel()
	const good = "max-age=60"
	for name, answer := range map[string][]string{
		"nothing said": {}, "no-store": {"Cache-Control", good + ", No-Store"}, "private": {"Cache-Control", good + `, private="x"`}, "no-cache": {"Cache-Control", "no-cache, " + good},
		"a cookie": {"Cache-Control", good, "Set-Cookie", "a=1"}, "varies by all": {"Cache-Control", good, "Vary", "Accept, *"}, "varies by cookie": {"Cache-Control", good, "Vary", "cookie"},
		"a part": {"Cache-Control", good, "Content-Range", "bytes 0-1/2"}, "no time": {"Cache-Control", "max-age=0"}, "nonsense": {"Cache-Control", "max-age=soon"}, "long past": {"Expires", "0"},
		"a shared lifetime of none": {"Cache-Control", good + ", s-maxage=0"}, "twice, the first counts": {"Cache-Control", "max-age=0", "Cache-Control", good},
	} {
		t.Run(name, func(t *testing.T) {
			s := openShop(t, func(*http.Request) (*http.Response, error) { return page(200, "x", answer...), nil })
			s.want(s.get("/"), 200, "x", 1)
			s.want(s.get("/"), 200, "x", 2)
			s.want(s.get("/"), 200, "x", 3)
		})
	}
	for _, status := range []int{206, 302, 401, 403, 500, 503} {
		s := openShop(t, func(*http.Request) (*http.Response, error) { return page(status, "x", "Cache-Control", good), nil })
		s.want(s.get("/"), status, "x", 1)
		s.want(s.get("/"), status, "x", 2)
	}
	s := openShop(t, func(r *http.Request) (*http.Response, error) { return page(200, "x", "Cache-Control", good), nil })
	s.want(s.get("/"), 200, "x", 1)
	for i, header := range [][]string{{"Authorization", "Bearer x"}, {"Range", "bytes=0-1"}, {"Usher-Pass", "x"}} {
		s.want(s.get("/", header...), 200, "x", int64(i+2))
	}
	s.want(s.do("POST", "/"), 200, "x", 5)
}

func TestNothingOfOneVisitorIsAskedFor(t *testing.T) {
	t.Parallel()
	s := openShop(t, func(r *http.Request) (*http.Response, error) {
		for _, name := range []string{"Cookie", "If-None-Match", "If-Modified-Since", "If-Range"} {
			if r.Header.Get(name) != "" {
				t.Errorf("%s went to the origin", name)
			}
		}
		return page(200, "x", "Cache-Control", "max-age=60", "Etag", `"1"`), nil
	})
	s.want(s.get("/", "Cookie", "me=1", "If-None-Match", `"0"`, "If-Modified-Since", "Tue, 24 Nov 2026 10:00:00 GMT"), 200, "x", 1)
	s.want(s.get("/", "Cookie", "me=2"), 200, "x", 1)
}

func TestVariants(t *testing.T) {
	t.Parallel()
	s := openShop(t, func(r *http.Request) (*http.Response, error) {
		return page(200, r.Header.Get("Accept-Encoding")+r.Header.Get("Accept-Language"), "Cache-Control", "max-age=60", "Vary", "accept-encoding, Accept-Language"), nil
	})
	s.want(s.get("/", "Accept-Encoding", "gzip, deflate, br;q=0"), 200, "gzip", 1)
	s.want(s.get("/", "Accept-Encoding", "x, GZIP;q=0.5"), 200, "gzip", 1)
	s.want(s.get("/"), 200, "identity", 2)
	s.want(s.get("/", "Accept-Language", "de"), 200, "identityde", 3)
	s.want(s.get("/"), 200, "identity", 3)
	for i := range 3 * maxVariants {
		s.get("/", "Accept-Language", fmt.Sprint(i))
	}
	if found, _ := s.Cache.entries.GetIfPresent(s.key(&http.Request{Host: "shop.example", URL: &url.URL{Path: "/"}})); len(found.variants) != maxVariants {
		t.Errorf("%d variants are kept", len(found.variants))
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	changed := false
	s := openShop(t, func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") == `W/"1"` && !changed {
			return page(304, "", "Etag", `W/"1"`, "Cache-Control", "max-age=20", "X-News", "1"), nil
		}
		return page(200, "x", "Cache-Control", "max-age=10", "Etag", `W/"1"`, "Last-Modified", "Tue, 24 Nov 2026 10:00:00 GMT", "Content-Type", "text/plain"), nil
	})
	s.want(s.get("/"), 200, "x", 1)
	for _, tag := range []string{`"1"`, `W/"1"`, `"0", "1"`, "*"} {
		if g := s.want(s.get("/", "If-None-Match", tag), 304, "", 1); g.header.Get("Etag") == "" || g.header.Get("Content-Type") != "" {
			t.Errorf("%v", g.header)
		}
	}
	s.want(s.get("/", "If-None-Match", `"2"`, "If-Modified-Since", "Tue, 24 Nov 2026 10:00:00 GMT"), 200, "x", 1)
	s.want(s.get("/", "If-Modified-Since", "Tue, 24 Nov 2026 10:00:00 GMT"), 304, "", 1)
	s.want(s.get("/", "If-Modified-Since", "Tue, 24 Nov 2026 09:59:59 GMT"), 200, "x", 1)
	s.later(11 * time.Second)
	if g := s.want(s.get("/"), 200, "x", 2); g.header.Get("X-News") != "1" || g.header.Get("Content-Type") != "text/plain" {
		t.Errorf("%v", g.header)
	}
	s.later(15 * time.Second) // of the 304's twenty
	s.want(s.get("/"), 200, "x", 2)
	changed = true
	s.later(10 * time.Second)
	s.want(s.get("/", "If-None-Match", `"2"`), 200, "x", 3)
}

func TestWhileTheOriginIsAway(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, c := range map[string]struct {
		control string
		fail    func() (*http.Response, error)
		after   time.Duration
		kept    bool
	}{
		"no word of it":        {"max-age=10", func() (*http.Response, error) { return nil, away }, 10*time.Second + staleOnError - 2*time.Second, true},
		"for too long":         {"max-age=10", func() (*http.Response, error) { return nil, away }, 12*time.Second + staleOnError, false},
		"it fails":             {"max-age=10", func() (*http.Response, error) { return page(503, "no"), nil }, time.Minute, true},
		"as long as it says":   {"max-age=10, stale-if-error=20", func() (*http.Response, error) { return nil, away }, 29 * time.Second, true},
		"longer than it says":  {"max-age=10, stale-if-error=20", func() (*http.Response, error) { return nil, away }, 31 * time.Second, false},
		"must be revalidated":  {"max-age=10, must-revalidate", func() (*http.Response, error) { return nil, away }, 11 * time.Second, false},
		"shared, and for this": {"s-maxage=10", func() (*http.Response, error) { return nil, away }, 11 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			first := true
			s := openShop(t, func(*http.Request) (*http.Response, error) {
				if first {
					first = false
					return page(200, "x", "Cache-Control", c.control), nil
				}
				return c.fail()
			})
			s.want(s.get("/"), 200, "x", 1)
			s.later(c.after)
			if g := s.get("/"); (g.body == "x") != c.kept {
				t.Errorf("%+v", g)
			} else if c.kept {
				s.want(s.get("/"), 200, "x", 2) // an origin that is away is not asked for each
				s.later(2 * restTime)
				s.get("/")
				s.want(got{status: 200, body: "x"}, 200, "x", 3)
			}
		})
	}
}

func TestACrowdFetchesOnce(t *testing.T) {
	t.Parallel()
	const crowd = 200
	begun, release := make(chan struct{}), make(chan struct{})
	s := openShop(t, func(r *http.Request) (*http.Response, error) {
		close(begun) // a second time panics
		<-release
		if r.Context().Err() != nil {
			t.Error("who went away took the others' answer along")
		}
		return page(200, "x", "Cache-Control", "max-age=10"), nil
	})
	ctx, leave := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.doIn(ctx, "GET", "/") })
	<-begun
	for range crowd {
		wg.Go(func() {
			if g := s.get("/"); g.status != 200 || g.body != "x" {
				t.Errorf("%+v", g)
			}
		})
	}
	leave()
	close(release)
	wg.Wait()
	if len(s.Cache.flights) != 0 {
		t.Error("a flight never ends")
	}
}

func TestACrowdSharesAFailureToo(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}, 100), make(chan struct{})
	s := openShop(t, func(*http.Request) (*http.Response, error) {
		begun <- struct{}{}
		<-release
		return nil, errors.New("away")
	})
	var wg sync.WaitGroup
	ask := func() {
		if g := s.get("/"); g.err == nil {
			t.Errorf("%+v", g)
		}
	}
	wg.Go(ask)
	<-begun
	waiting, stop := context.WithCancel(context.Background())
	stop()
	if g := s.doIn(waiting, "GET", "/"); !errors.Is(g.err, context.Canceled) { // who goes away waits no longer
		t.Errorf("%+v", g)
	}
	close(release)
	wg.Wait()
	ask() // the next one tries again
	if n := s.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestACrowdDoesNotWaitForWhatCannotBeKept(t *testing.T) {
	t.Parallel()
	body := io.NopCloser(strings.NewReader("mine"))
	s := openShop(t, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Set-Cookie": {"a=1"}, "Cache-Control": {"max-age=9"}}, Body: body, ContentLength: -1}, nil
	})
	r, err := http.NewRequest("GET", "http://shop.example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Transport.RoundTrip(r) // its body is not read yet
	if err != nil || res.Header.Get("Set-Cookie") == "" {
		t.Fatal(res, err)
	}
	s.want(s.get("/"), 200, "mine", 2)
	_ = res.Body.Close()
}

func TestTooLargeToKeep(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxEntry+10)
	for _, said := range []int64{-1, maxEntry + 10} {
		s := openShop(t, func(*http.Request) (*http.Response, error) {
			res := page(200, long, "Cache-Control", "max-age=60")
			res.ContentLength = said
			return res, nil
		})
		s.want(s.get("/"), 200, long, 1)
		s.want(s.get("/"), 200, long, 2)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("x", 10_000)
	s := openShop(t, func(*http.Request) (*http.Response, error) {
		return page(200, body, "Cache-Control", "max-age=60"), nil
	})
	for i := range 1000 {
		s.get("/" + strconv.Itoa(i))
	}
	s.Cache.entries.CleanUp()
	if w := s.Cache.entries.WeightedSize(); w > 1<<20 {
		t.Errorf("%d bytes are kept", w)
	}
}

func TestFewBodiesAreReadAtOnce(t *testing.T) {
	t.Parallel()
	s := openShop(t, func(*http.Request) (*http.Response, error) { return page(200, "x", "Cache-Control", "max-age=60"), nil })
	s.Cache.reading.Store(maxReading) // others take all of it
	s.want(s.get("/"), 200, "x", 1)
	s.want(s.get("/"), 200, "x", 2)
	s.Cache.reading.Store(0)
	s.want(s.get("/"), 200, "x", 3)
	s.want(s.get("/"), 200, "x", 3)
	if n := s.Cache.reading.Load(); n != 0 {
		t.Errorf("%d bytes are never given back", n)
	}
}

func TestAChangeForgetsAll(t *testing.T) {
	t.Parallel()
	status := 200
	s := openShop(t, func(r *http.Request) (*http.Response, error) {
		return page(status, "x", "Cache-Control", "max-age=60"), nil
	})
	s.want(s.get("/"), 200, "x", 1)
	status = 409
	s.do("PUT", "/operate")
	s.want(s.get("/"), 200, "x", 2)
	status = 200
	s.do("PUT", "/operate")
	s.want(s.get("/"), 200, "x", 4)
}

func TestAnAnswerThatBreaksOffIsNobodys(t *testing.T) {
	t.Parallel()
	s := openShop(t, func(*http.Request) (*http.Response, error) {
		res := page(200, "", "Cache-Control", "max-age=60")
		res.Body, res.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader("half"), broken{})), 100
		return res, nil
	})
	if g := s.get("/"); g.err == nil {
		t.Errorf("%+v", g)
	}
	if g := s.get("/"); g.err == nil || s.asked.Load() != 2 {
		t.Errorf("%+v", g)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func FuzzDirectives(f *testing.F) {
	for _, s := range []string{"max-age=1", `private="a,b"`, ",,=,", "s-maxage=99999999999999999999"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, control, expires string) {
		h := http.Header{"Cache-Control": {control}, "Expires": {expires}, "Date": {expires}, "Vary": {control}}
		if n := lifetime(h, directivesOf(h)); n < 0 {
			t.Fatalf("%q %q: %v", control, expires, n)
		}
		storable(&http.Response{StatusCode: 200, Header: h}, maxEntry)
		plainEncoding(http.Header{"Accept-Encoding": {control}})
	})
}
