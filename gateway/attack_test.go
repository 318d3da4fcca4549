package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/gateway/origin"
)

// target is an origin that remembers what reached it.
type target struct {
	mu   sync.Mutex // guards all below
	seen []string   // "METHOD /path"
	last *http.Request
}

func (o *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // trailers come after it
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen, o.last = append(o.seen, r.Method+" "+r.URL.Path), r
	fmt.Fprint(w, "the origin's page")
}

// since is what came since the last call.
func (o *target) since() (seen []string, last *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen, last, o.seen, o.last = o.seen, o.last, nil, nil
	return seen, last
}

// besieged is a site whose /tickets on theatre.example are behind a room, and its origin.
func besieged(t *testing.T) (*site, *target) {
	t.Helper()
	o := &target{}
	behind := httptest.NewServer(o)
	t.Cleanup(behind.Close)
	at, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, func(c *Config) {
		c.Origins = map[string]origin.Config{"theatre": {URLs: []*url.URL{at}}}
		c.Routes = []Route{{Host: "theatre.example", PathPrefix: "/", Origin: "theatre"}}
	})
	line := s.set("gala", `{"origin":"theatre","protect":[{"host":"theatre.example","path_prefix":"/tickets"}]}`)
	until(t, line, "the protection holds", func() bool { _, _, ok := s.hall.Protects("theatre.example", "/tickets"); return ok })
	return s, o
}

const inside = "GET /tickets/1 HTTP/1.1\r\nHost: theatre.example\r\n\r\n" // what must not get through

// Two programs that disagree about where a request ends let one through unseen. The edge
// refuses what can be read in two ways, or passes on one reading of it; what it takes for
// a second request needs a pass like any other.
func TestRequestSmuggling(t *testing.T) {
	t.Parallel()
	s, o := besieged(t)
	s = s.behind(time.Second, 0)
	post := func(head, body string) string {
		return "POST /about HTTP/1.1\r\nHost: theatre.example\r\n" + head + "\r\n" + body
	}
	length := fmt.Sprint("Content-Length: ", len(inside), "\r\n")
	for name, c := range map[string]struct {
		sent string
		want []int // the first answer is one of these; 0: the edge hangs up
	}{
		"a length and chunks":              {post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+inside), []int{200, 400}},
		"chunks and a length":              {post("Transfer-Encoding: chunked\r\n"+length, "0\r\n\r\n"+inside), []int{200, 400}},
		"two lengths":                      {post("Content-Length: 0\r\n"+length, inside), []int{400}},
		"two lengths in one":               {post(fmt.Sprintf("Content-Length: 0, %d\r\n", len(inside)), inside), []int{400}},
		"a length with a sign":             {post("Content-Length: +0\r\n", inside), []int{400}},
		"a negative length":                {post("Content-Length: -1\r\n", inside), []int{400}},
		"a length in hexadecimal":          {post("Content-Length: 0x0\r\n", inside), []int{400}},
		"a length beyond 64 bits":          {post("Content-Length: 18446744073709551616\r\n", inside), []int{400}},
		"chunked twice":                    {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+inside), []int{400, 501}},
		"chunked and identity":             {post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"+inside), []int{400, 501}},
		"an unknown coding":                {post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+inside), []int{400, 501}},
		"a tab before chunked":             {post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"+inside), []int{400, 501}},
		"a space before the colon":         {post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"+inside), []int{400}},
		"a space before the field":         {"POST /about HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: theatre.example\r\n\r\n0\r\n\r\n" + inside, []int{400}},
		"a folded field":                   {post("X-Fold: a\r\n Transfer-Encoding: chunked\r\n"+length, inside), []int{200, 400}},
		"chunks in HTTP/1.0":               {"POST /about HTTP/1.0\r\nHost: theatre.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inside, []int{200, 400, 501}},
		"a chunk of 2^64":                  {post("Transfer-Encoding: chunked\r\n", "10000000000000000\r\n"+inside), []int{400}},
		"a chunk of no size":               {post("Transfer-Encoding: chunked\r\n", "\r\n"+inside), []int{400}},
		"a chunk of a negative size":       {post("Transfer-Encoding: chunked\r\n", "-1\r\n"+inside), []int{400}},
		"a chunk longer than it says":      {post("Transfer-Encoding: chunked\r\n", "1\r\nxx\r\n0\r\n\r\n"+inside), []int{400}},
		"a bare line feed after a size":    {post("Transfer-Encoding: chunked\r\n", "1\nx\r\n0\r\n\r\n"+inside), []int{200, 400}},
		"a bare line feed in an extension": {post("Transfer-Encoding: chunked\r\n", "0;x\n\r\n"+inside), []int{200, 400}},
		"64 KiB of extensions":             {post("Transfer-Encoding: chunked\r\n", "1;"+strings.Repeat("x", 64<<10)+"\r\nx\r\n0\r\n\r\n"+inside), []int{400}},
		"bare line feeds":                  {"POST /about HTTP/1.1\nHost: theatre.example\nContent-Length: 0\n\n" + inside, []int{200, 400}},
		"a bare return in a field":         {post("X-A: b\rTransfer-Encoding: chunked\r\n"+length, inside), []int{400}},
		"a zero byte in a field":           {post("X-A: b\x00c\r\n"+length, inside), []int{400}},
		"a field without a name":           {post(": b\r\n"+length, inside), []int{400}},
		"a field without a colon":          {post("GET /tickets/1 HTTP/1.1\r\n"+length, inside), []int{400}},
		"two requests in one go":           {"GET /about HTTP/1.1\r\nHost: theatre.example\r\n\r\n" + inside, []int{200}},
		"a body in a GET":                  {"GET /about HTTP/1.1\r\nHost: theatre.example\r\n" + length + "\r\n" + inside, []int{200, 400}},
		"HTTP/0.9":                         {"GET /tickets/1\r\n\r\n", []int{400}},
		"HTTP/2 in clear":                  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + inside, []int{400, 505}},
		"HTTP/3.1":                         {"GET /about HTTP/3.1\r\nHost: theatre.example\r\n\r\n" + inside, []int{400, 505}},
		"an upgrade to HTTP/2":             {"GET /about HTTP/1.1\r\nHost: theatre.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + inside, []int{200}},
		"another expectation":              {post("Expect: 200-ok\r\n"+length, inside), []int{417}},
		"two hosts":                        {"GET /about HTTP/1.1\r\nHost: theatre.example\r\nHost: other.example\r\n\r\n" + inside, []int{400}},
		"no host":                          {"GET /about HTTP/1.1\r\n\r\n" + inside, []int{400}},
		"a tunnel":                         {"CONNECT theatre.example:80 HTTP/1.1\r\nHost: theatre.example:80\r\n\r\n" + inside, []int{400, 405}},
		"a trace":                          {"TRACE /tickets HTTP/1.1\r\nHost: theatre.example\r\n\r\n", []int{405}},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.wireFrom("127.0.0.1")
			w.send(c.sent)
			res, body := w.answer()
			status := 0
			if res != nil {
				status = res.StatusCode
			}
			if !slices.Contains(c.want, status) {
				t.Errorf("answered %d %s, want one of %v", status, body, c.want)
			}
			if status == 200 { // the rest is a request of its own, or nothing
				if next, body := w.answer(); next != nil && next.StatusCode == 200 {
					t.Errorf("a second request was served: %s", body)
				}
			}
			seen, _ := o.since()
			if slices.ContainsFunc(seen, func(asked string) bool { return !strings.HasSuffix(asked, " /about") }) {
				t.Errorf("the origin was asked %q", seen)
			}
		})
	}
}

// Every way to write the address of what is behind a room is refused or guarded.
func TestNoWayAroundTheRoom(t *testing.T) {
	t.Parallel()
	s, o := besieged(t)
	for _, target := range []string{
		"http://theatre.example/tickets", "http://THEATRE.example./tickets", "https://theatre.example/tickets", "http://user@theatre.example/tickets",
		"gopher://theatre.example/tickets", "http://theatre.example:80/tickets", "http:/tickets", "theatre.example/tickets",
		"/%c0%ae%c0%ae/tickets", "/x/%c0%ae%c0%ae/tickets", "/x/%2e%2e%2ftickets", "/x/..%5ctickets", "/%u0074ickets", "/tickets%20", "/tickets.", "/tickets%2e", "/...%2ftickets",
		"/.../tickets", "/tickets%09", "/tickets%00.css", "/tickets%23x", "/tickets?/../about", "/tickets/../about", "/about/../tickets", "/about/..;/tickets", "/;/tickets",
		"/Tickets", "/tic%E2%84%AAets", "/tickets;jsessionid=1", "/tickets/.", "/./tickets", "//tickets", "///tickets", "/\\tickets", "/about/%2e%2e/tickets", "/%2574ickets", "/%%37%34ickets",
		"*", "/about\\..\\tickets", "/about%5c..%5ctickets", "/tickets\x7f", "/tickets HTTP/1.1", "/about%0d%0aGET%20/tickets",
	} {
		w := s.wireFrom("127.0.0.1")
		w.send("GET " + target + " HTTP/1.1\r\nHost: theatre.example\r\nConnection: close\r\n\r\n")
		res, _ := w.answer()
		seen, _ := o.since()
		for _, path := range seen {
			if path = strings.TrimPrefix(path, "GET "); strings.Contains(strings.ToLower(path), "tic") && path != "/tickets#x" {
				t.Errorf("%q reached the origin as %q", target, path)
			}
		}
		if res != nil && res.StatusCode == 200 && len(seen) == 0 && !strings.Contains(target, "*") {
			t.Errorf("%q was answered 200 by the edge", target)
		}
	}
	for _, host := range []string{"theatre.example:80:80", "theatre.example ", "theatre.example/tickets", "theatre.example#", "[theatre.example]", "theatre..example", ".theatre.example", "theatre.example,x", "user@theatre.example", "theatre.example:0x50", "théatre.example"} {
		w := s.wireFrom("127.0.0.1")
		w.send("GET /tickets HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		res, _ := w.answer()
		if res != nil && res.StatusCode == 200 {
			t.Errorf("Host %q was served", host)
		}
		if seen, _ := o.since(); len(seen) > 0 {
			t.Errorf("Host %q reached the origin: %q", host, seen)
		}
	}
}

// No header leads an origin to another path, to a forged client or to a proxy of the
// attacker's; none takes the edge's own word away.
func TestHeadersThatOriginsBelieve(t *testing.T) {
	t.Parallel()
	s, o := besieged(t)
	forged := []string{"X-Original-URL", "X-Rewrite-Url", "X_Original_URL", "X-Original-Host", "X-Host", "Client-IP", "True-Client-Ip", "X-Client-Ip", "Cf-Connecting-Ip", "Proxy", "X-Usher-Room", "X-Usher-Session"}
	var fields strings.Builder
	for _, name := range forged {
		fields.WriteString(name + ": /tickets\r\n")
	}
	w := s.wireFrom("127.0.0.1")
	w.send("POST /about HTTP/1.1\r\nHost: theatre.example\r\nX-Forwarded-For: 198.18.99.9\r\n" + fields.String() +
		"Connection: X-Forwarded-For, X-Forwarded-Proto, Host\r\nTransfer-Encoding: chunked\r\nTrailer: X-Usher-Room, X-Usher-Session\r\n\r\n" +
		"1\r\nx\r\n0\r\nX-Usher-Room: gala\r\nX-Usher-Session: forged\r\nCookie: a=b\r\n\r\n")
	if res, body := w.answer(); res == nil || res.StatusCode != 200 {
		t.Fatalf("%v %s", res, body)
	}
	_, last := o.since()
	for _, name := range forged {
		if last.Header[http.CanonicalHeaderKey(name)] != nil || last.Header[name] != nil || last.Trailer.Get(name) != "" {
			t.Errorf("%s reached the origin: %v, %v", name, last.Header, last.Trailer)
		}
	}
	if last.Header.Get("X-Forwarded-For") != "198.18.99.9" || last.Header.Get("X-Forwarded-Proto") != "http" || last.Host != "theatre.example" {
		t.Errorf("the edge's own word: %v on %s", last.Header, last.Host)
	}
}

// An answer that breaks off in the middle is seen to break off.
func TestAnOriginThatDiesMidway(t *testing.T) {
	t.Parallel()
	for name, half := range map[string]string{
		"of a length":     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
		"of chunks":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"of the header":   "HTTP/1.1 200 OK\r\nContent-Le",
		"two lengths":     "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhalf!",
		"not HTTP":        "hello\r\n\r\n",
		"a header of 1MB": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			t.Cleanup(served.Wait)
			t.Cleanup(func() { l.Close() })
			served.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_ = conn.SetDeadline(time.Now().Add(patience))
					if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
						_, _ = io.WriteString(conn, half)
					}
					_ = conn.Close()
				}
			})
			at := &url.URL{Scheme: "http", Host: l.Addr().String()}
			s := open(t, func(c *Config) {
				c.Origins = map[string]origin.Config{"theatre": {URLs: []*url.URL{at}}}
				c.Routes = []Route{{Host: "theatre.example", PathPrefix: "/", Origin: "theatre"}}
			})
			s.set("gala", `{}`)
			w := s.wireFrom("127.0.0.1")
			w.send("GET /about HTTP/1.1\r\nHost: theatre.example\r\n\r\n")
			res, err := http.ReadResponse(w.in, nil)
			if err != nil {
				return // hung up on: seen to break off
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if res.StatusCode == 200 && err == nil {
				t.Errorf("half an answer passes for whole: %q", body)
			}
		})
	}
}

// What an operator's browser is made to send by another site changes nothing.
func TestAnotherSitesPageChangesNothing(t *testing.T) {
	t.Parallel()
	s, _ := besieged(t)
	for name, header := range map[string][]string{
		"a form":                   {"Origin", "https://evil.example", "Content-Type", "application/x-www-form-urlencoded"},
		"a page in a sandbox":      {"Origin", "null"},
		"no origin, but a browser": {"Sec-Fetch-Site", "cross-site"},
		"a sibling domain":         {"Sec-Fetch-Site", "same-site"},
		"a port next door":         {"Origin", strings.Replace(s.url.String(), "127.0.0.1", "127.0.0.1.evil.example", 1)},
		"an origin with a user":    {"Origin", "http://" + s.url.Host + "@evil.example"},
	} {
		for _, call := range []string{"POST /api/v1/rooms/gala/places", "POST /rooms/gala/join", "DELETE /api/v1/rooms/gala/pass", "PUT /api/v1/operate/rooms/gala", "POST /api/v1/operate/session", "POST /api/v1/events/gala/orders/o1/cancel"} {
			method, path, _ := strings.Cut(call, " ")
			a := s.visitor().do(method, path, "", header...)
			if a.status != 403 || a.code() != "origin-refused" {
				t.Errorf("%s: %s: %d %s", name, call, a.status, a.body)
			}
		}
	}
}
