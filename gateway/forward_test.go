package gateway

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"usher/gateway/origin"
	"usher/gateway/origin/origintest"
)

// ways are a request that the gateway carries itself, and one that it leaves to the standard
// library's transport.
var ways = []string{"GET", "PROPFIND"}

// inFront is a gateway that passes all of site.example on to an origin.
func inFront(t *testing.T, address string, changes ...func(*origin.Config)) *site {
	t.Helper()
	s := open(t, func(c *Config) {
		cfg := origin.Config{URLs: []*url.URL{{Scheme: "http", Host: address}}}
		for _, change := range changes {
			change(&cfg)
		}
		c.Origins = map[string]origin.Config{"site": cfg}
		c.Routes = []Route{{Host: "site.example", Origin: "site"}}
	})
	s.set("gala", `{}`)
	return s
}

// scripted is an origin that answers each request by the bytes that script gives.
func scripted(t *testing.T, script func(r *http.Request) string) (address string) {
	t.Helper()
	address, _ = origintest.Scripted(t, script)
	return address
}

func page(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// ask sends a request to the origin behind the gateway.
func (w *wire) ask(method, path string, header ...string) {
	w.t.Helper()
	w.send(method + " " + path + " HTTP/1.1\r\nHost: site.example\r\n" + strings.Join(header, "\r\n") + strings.Repeat("\r\n", min(1, len(header))) + "\r\n")
}

// Whatever an origin answers, its client gets as it is, less what is between two hops alone
// and more what the edge says.
func TestAnswersArePassedOnAsTheyAre(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/plain":        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nok",
		"/hops":         "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
		"/edges":        "HTTP/1.1 200 OK\r\nX-Request-Id: forged\r\nX-Frame-Options: SAMEORIGIN\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
		"/chunked":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\n\r\n",
		"/trailers":     "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
		"/unannounced":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
		"/until-close":  "HTTP/1.1 200 OK\r\n\r\nall of it" + origintest.HangUp,
		"/http-1.0":     "HTTP/1.0 200 OK\r\n\r\nold" + origintest.HangUp,
		"/no-content":   "HTTP/1.1 204 No Content\r\n\r\n",
		"/not-modified": "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n",
		"/teapot":       "HTTP/1.1 418 Short and stout\r\nContent-Length: 0\r\n\r\n",
		"/hints":        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X-Private\r\nX-Private: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"/both-lengths": "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"/large":        page(strings.Repeat("x", 1<<20)),
	}
	s := inFront(t, scripted(t, func(r *http.Request) string { return answers[r.URL.Path] }))
	for path := range answers {
		said := make([]string, len(ways))
		for i, method := range ways {
			w := s.wireFrom("127.0.0.1")
			w.ask(method, path, "X-Forwarded-For: "+s.visitor().from)
			res, body := w.answer()
			if path == "/hints" {
				if res == nil || res.StatusCode != 103 || res.Header.Get("Link") != "</a.css>" || len(res.Header) != 1 {
					t.Fatalf("%s %s: %+v", method, path, res)
				}
				res, body = w.answer()
			}
			if res == nil {
				t.Fatalf("%s %s: no answer", method, path)
			}
			if id := res.Header["X-Request-Id"]; len(id) != 1 || id[0] == "forged" || len(res.Header["Ratelimit"]) == 0 {
				t.Errorf("%s %s: the edge's own fields are gone: %v", method, path, res.Header)
			}
			for _, name := range []string{"X-Request-Id", "Ratelimit", "Ratelimit-Policy", "Date"} {
				res.Header.Del(name)
			}
			if strings.Contains(answers[path], "chunked") {
				res.Header.Del("Content-Length") // a body that is short, and here, need not go on in chunks
			}
			said[i] = fmt.Sprint(res.StatusCode, " ", res.Header, res.Trailer, len(body), " ", body[:min(len(body), 20)])
			if path != "/until-close" && path != "/http-1.0" && !w.served() {
				t.Errorf("%s %s: the client's connection is not kept", method, path)
			}
		}
		if said[0] != said[1] {
			t.Errorf("%s: %s\nby the standard library: %s", path, said[0], said[1])
		}
		for part, want := range map[string]string{
			"/hops": "200 map[Content-Length:[2]] map[] 2 ok", "/edges": "map[Content-Length:[2] Set-Cookie:[a=1 b=2] X-Frame-Options:[SAMEORIGIN]]",
			"/trailers": "map[X-Sum:[7]] 2 ok", "/unannounced": "map[X-Sum:[7]] 2 ok", "/plain": "X-A:[1 2]]", "/both-lengths": "200 map[] map[] 2 ok",
		} {
			if part == path && !strings.Contains(said[0], want) {
				t.Errorf("%s: %s", path, said[0])
			}
		}
	}
}

// Who streams is heard at once, header first; and hears when the client is gone.
func TestStreamsArePassedOnAsTheyCome(t *testing.T) {
	t.Parallel()
	next, gone := make(chan struct{}), make(chan struct{})
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		out := http.NewResponseController(w)
		for i := range 3 {
			_ = out.Flush()
			<-next
			fmt.Fprintf(w, "data: %d\n\n", i)
		}
		_ = out.Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	t.Cleanup(behind.Close)
	s := inFront(t, behind.Listener.Addr().String())
	for _, method := range ways {
		w := s.wireFrom("127.0.0.1")
		w.ask(method, "/events")
		res, err := http.ReadResponse(w.in, nil)
		if err != nil {
			t.Fatalf("%s: no header before the first event: %v", method, err)
		}
		body := bufio.NewReader(res.Body)
		for i := range 3 {
			next <- struct{}{}
			line, err := body.ReadString('\n')
			if blank, _ := body.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) || blank != "\n" {
				t.Fatalf("%s: %q, %v", method, line, err)
			}
		}
		_ = w.Close()
		<-gone
	}
}

// A client that goes away before there is an answer takes its request along, and leaves
// nothing that another is answered with.
func TestAClientThatLeavesEndsItsRequest(t *testing.T) {
	t.Parallel()
	asked, gone := make(chan struct{}), make(chan struct{})
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			asked <- struct{}{}
			<-r.Context().Done()
			gone <- struct{}{}
		}
		fmt.Fprint(w, r.URL.Path)
	}))
	t.Cleanup(behind.Close)
	s := inFront(t, behind.Listener.Addr().String())
	for _, method := range ways {
		w := s.wireFrom("127.0.0.1")
		w.ask(method, "/first")
		if _, body := w.answer(); body != "/first" { // over a connection that is kept
			t.Fatalf("%s: %s", method, body)
		}
		w.ask(method, "/slow")
		<-asked
		_ = w.Close()
		<-gone
		w = s.wireFrom("127.0.0.1")
		w.ask(method, "/next")
		if _, body := w.answer(); body != "/next" {
			t.Errorf("%s: answered with %s", method, body)
		}
	}
}

// What changes something is sent once, whatever becomes of it; what reads is sent again
// where a kept connection turns out to be closed.
func TestOnlyWhatReadsIsSentAgain(t *testing.T) {
	t.Parallel()
	var posts, gets atomic.Int64
	s := inFront(t, scripted(t, func(r *http.Request) string {
		if r.Method == "POST" {
			posts.Add(1)
			return "" // after it was read: what was done nobody knows
		}
		if r.URL.Path == "/again" && gets.Add(1) == 1 {
			return ""
		}
		return page(r.URL.Path)
	}))
	for _, body := range []string{"", "one seat", strings.Repeat("x", 100<<10)} {
		v := s.visitor()
		v.host = "site.example"
		v.want(200, "", "GET", "/", "") // a connection is kept
		posts.Store(0)
		v.want(502, "origin-unavailable", "POST", "/order", body)
		if n := posts.Load(); n != 1 {
			t.Errorf("a POST of %d bytes was sent %d times", len(body), n)
		}
	}
	v := s.visitor()
	v.host = "site.example"
	v.want(200, "", "GET", "/", "")
	if a := v.want(200, "", "GET", "/again", ""); a.body != "/again" || gets.Load() != 2 {
		t.Errorf("%s after %d times", a.body, gets.Load())
	}
}

// An origin that sends more than it was asked for answers no other visitor with it.
func TestAnOriginThatAnswersTwice(t *testing.T) {
	t.Parallel()
	s := inFront(t, scripted(t, func(r *http.Request) string { return page(r.URL.Path) + page("forged") }),
		func(c *origin.Config) { c.Retries = -1 })
	var visitors sync.WaitGroup
	for n := range 8 {
		visitors.Go(func() {
			v := s.visitor()
			v.host = "site.example"
			for i := range 20 {
				path := fmt.Sprintf("/%d-%d", n, i)
				for _, method := range []string{"GET", "POST"} {
					if a := v.do(method, path, ""); a.status == 200 && a.body != path {
						t.Errorf("%s %s was answered %s", method, path, a.body)
					}
				}
			}
		})
	}
	visitors.Wait()
}

// What a client says is between it and the edge alone goes no further, but for what the edge says itself.
func TestRequestsArePassedOnWithoutWhatIsBetweenHops(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	s := inFront(t, scripted(t, func(r *http.Request) string {
		seen <- r.Header
		return page("ok")
	}))
	for _, method := range ways {
		w := s.wireFrom("127.0.0.1")
		w.ask(method, "/", "Connection: keep-alive, X-Private, X-Request-Id, X-Forwarded-For, X-Forwarded-Host", "X-Private: 1", "Keep-Alive: timeout=5",
			"TE: gzip, trailers", "Proxy-Authorization: Basic x", "Proxy-Connection: keep-alive", "Upgrade: h2c", "Trailer: X", "X-Plain: 1", "X-Plain: 2")
		res, _ := w.answer()
		if res == nil {
			t.Fatalf("%s: no answer", method)
		}
		got := <-seen
		for name, want := range map[string]string{"X-Request-Id": res.Header.Get("X-Request-Id"), "X-Forwarded-Host": "site.example", "X-Forwarded-Proto": "http", "X-Forwarded-For": "127.0.0.1", "Te": "trailers", "X-Plain": "1,2"} {
			if strings.Join(got[name], ",") != want {
				t.Errorf("%s: %s is %q, want %q", method, name, got[name], want)
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("%s: the origin sees %v as well", method, got)
		}
	}
}

// A query that programs read in two ways has one reading left.
func TestQueriesThatCanBeReadInTwoWays(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"": "", "a=1&b=%20x+y": "a=1&b=%20x+y", "seat=1;seat=2": "", "a=1&b;c": "a=1", "a=1&b=%zz": "a=1", "a=%": "", "a=1 HTTP/1.1": "a=1+HTTP%2F1.1", "a=\x7f": "a=%7F", "&&": "&&",
	} {
		if got := plainQuery(query); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
}
