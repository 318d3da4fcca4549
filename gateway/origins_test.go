package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/gateway/origin"
)

// counted is an origin whose answers may be kept, and say how many it gave.
func counted(t *testing.T, n *atomic.Int64) origin.Config {
	t.Helper()
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		fmt.Fprint(w, n.Add(1), len(r.Header["Cookie"]))
	}))
	t.Cleanup(behind.Close)
	at, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	return origin.Config{URLs: []*url.URL{at}}
}

func TestTheCatalogueIsFetchedOnceForAll(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	clock := atomic.Int64{}
	clock.Store(time.Now().UnixNano())
	s := open(t, func(c *Config) {
		c.Booking = counted(t, &n)
		c.Now = func() time.Time { return time.Unix(0, clock.Load()) }
	})
	s.set("gala", `{}`)
	const plan = "/api/v1/events/gala/performances/p/plan"
	for _, path := range []string{"/api/v1/events", "/api/v1/events/gala", plan} {
		first := s.visitor().want(200, "", "GET", path, "", "Cookie", "theirs=1")
		if first.header.Get("Cache-Status") == "" || first.header.Get("Age") == "" {
			t.Errorf("%s: %v", path, first.header)
		}
		if again := s.visitor().want(200, "", "GET", path, ""); again.body != first.body {
			t.Errorf("%s was asked again: %s, %s", path, first.body, again.body)
		}
		now := time.Unix(0, clock.Load())
		shown := s.pass("gala", "session-1", now, now.Add(time.Hour))
		if mine := s.visitor().want(200, "", "GET", path, "", "Usher-Pass", shown); path != "/api/v1/events" && mine.body == first.body {
			t.Errorf("%s: a request with a pass was answered as anyone's", path)
		}
		if theirs := s.visitor().want(200, "", "GET", path, "", "Authorization", "Bearer usher_x"); theirs.body == first.body {
			t.Errorf("%s: a request with credentials was answered as anyone's", path)
		}
	}
	before := s.visitor().want(200, "", "GET", plan, "").body
	s.visitor().want(200, "", "PUT", "/api/v1/operate/events/gala", "{}", "Authorization", "Bearer "+testKey)
	if after := s.visitor().want(200, "", "GET", plan, "").body; after == before {
		t.Error("an operator's change does not show at once")
	}
	before = s.visitor().want(200, "", "GET", plan, "").body
	clock.Add(int64(catalogueFresh))
	if after := s.visitor().want(200, "", "GET", plan, "").body; after == before {
		t.Error("a change by way of another gateway does not show after a second")
	}
	held := s.visitor().do("GET", availability, "").body
	if held == s.visitor().do("GET", availability, "").body && n.Load() == 0 {
		t.Error("availability is kept")
	}
}

func TestRoutesAreCachedWhereTheySaySo(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := open(t, func(c *Config) {
		c.Origins["counted"] = counted(t, &n)
		c.Routes = []Route{{Host: "kept.example", Origin: "counted", Cache: true}, {Host: "plain.example", Origin: "counted"}}
	})
	s.set("gala", `{"protect":[{"host":"kept.example","path_prefix":"/box"}],"origin":"counted"}`)
	get := func(host, path string, header ...string) string {
		t.Helper()
		v := s.visitor()
		v.host = host
		return v.want(200, "", "GET", path, "", header...).body
	}
	fetchedAgain := func(host, path string, header ...string) bool {
		t.Helper()
		first := get(host, path, header...)
		return get(host, path, header...) != first
	}
	if fetchedAgain("kept.example", "/a") || get("kept.example", "/a", "Cookie", "usher-place-gala=x") != get("kept.example", "/a") {
		t.Error("a public page was fetched again")
	}
	if !fetchedAgain("kept.example", "/a", "Cookie", "session=1") {
		t.Error("a request with the site's cookie was answered as anyone's")
	}
	if !fetchedAgain("plain.example", "/a") {
		t.Error("a route is cached unasked")
	}
	now := time.Now()
	pass := s.pass("gala", "session-1", now, now.Add(time.Hour))
	if !fetchedAgain("kept.example", "/box/a", "Usher-Pass", pass) {
		t.Error("what a room protects is cached")
	}
}

func TestAnOriginWithTooMuchToDo(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	var under atomic.Int64
	behind := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { under.Add(1); <-hold }))
	t.Cleanup(behind.Close)
	at, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, func(c *Config) {
		c.Origins["full"] = origin.Config{URLs: []*url.URL{at}, MaxInFlight: 2}
		c.Routes = []Route{{Host: "full.example", Origin: "full"}}
	})
	s.set("gala", `{}`)
	done := make(chan answer, 2)
	for range 2 {
		v := s.visitor()
		v.host = "full.example"
		go func() { done <- v.do("GET", "/", "") }()
	}
	until(t, s.line("gala"), "both requests are under way", func() bool { return under.Load() == 2 })
	v := s.visitor()
	v.host = "full.example"
	a := v.want(503, "temporary-reduced-capacity", "GET", "/", "")
	if a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
	close(hold)
	for range 2 {
		if a := <-done; a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

func TestSlowSendersTakeNobodysRoom(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := open(t, func(c *Config) {
		few := counted(t, &n)
		few.MaxInFlight = 2
		c.Origins["few"] = few
		c.Routes = []Route{{Host: "few.example", Origin: "few"}}
	})
	s.set("gala", `{}`)
	for range 5 {
		conn, err := net.Dial("tcp", s.url.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: few.example\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") { // it waits for the body
			t.Fatalf("%q, %v", line, err)
		}
	}
	v := s.visitor()
	v.host = "few.example"
	v.want(200, "", "GET", "/", "")
	v.want(200, "", "POST", "/", "short")
}
