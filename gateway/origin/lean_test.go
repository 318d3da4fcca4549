package origin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/gateway/origin/origintest"
)

func thin(t *testing.T, address string) *lean {
	t.Helper()
	l := &lean{address: address, host: address, timeout: bound, silence: bound, interim: heard1xx}
	t.Cleanup(func() { l.prune(0) })
	return l
}

// standard is what lean is compared with.
func standard(t *testing.T) http.RoundTripper {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: maxHeader}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// heard1xx tells the request's own trace of an interim answer, as http.Transport does.
func heard1xx(r *http.Request, status int, header http.Header) {
	_ = httptrace.ContextClientTrace(r.Context()).Got1xxResponse(status, textproto.MIMEHeader(header)) // outcome's, which never fails
}

// outcome is all that a client sees of an answer.
func outcome(t *testing.T, transport http.RoundTripper, method, address, path string) string {
	t.Helper()
	interim := ""
	ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			interim += fmt.Sprint(code, h, " ")
			return nil
		},
	}), bound)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return "no answer"
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return fmt.Sprintf("%s%d broken off after %q", interim, res.StatusCode, body)
	}
	return fmt.Sprintf("%s%d %d %v %q %v", interim, res.StatusCode, res.ContentLength, res.Header, body, res.Trailer)
}

// odd are answers, good and bad, by name.
var odd = map[string]string{
	"plain":               "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"empty":               "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	"no-content":          "HTTP/1.1 204 No Content\r\n\r\n",
	"not-modified":        "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\nEtag: \"x\"\r\n\r\n",
	"chunked":             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\n\r\n",
	"trailers":            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
	"interim":             "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"until-close":         "HTTP/1.1 200 OK\r\n\r\nall of it<close>",
	"http-1.0":            "HTTP/1.0 200 OK\r\n\r\nold<close>",
	"close":               "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok<close>",
	"both-lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	"two-lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!<close>",
	"same-length-twice":   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
	"length-list":         "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok<close>",
	"negative-length":     "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok<close>",
	"signed-length":       "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok<close>",
	"short":               "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok<close>",
	"bad-chunk":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n<close>",
	"chunk-too-long":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nok\r\n0\r\n\r\n<close>",
	"chunk-cut":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok<close>",
	"chunk-no-end":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n<close>",
	"unknown-coding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n<close>",
	"two-codings":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n<close>",
	"folded":              "HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 2\r\n\r\nok",
	"space-before-colon":  "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok<close>",
	"no-colon":            "HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nok<close>",
	"bare-newlines":       "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
	"http-0.9":            "just text<close>",
	"no-status":           "HTTP/1.1 \r\n\r\n<close>",
	"status-of-two":       "HTTP/1.1 20 OK\r\n\r\n<close>",
	"switches":            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n<close>",
	"interim-without-end": strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50) + "<close>",
	"header-without-end":  "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n<close>",
	"many-header-fields":  "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", maxHeader/4) + "\r\n<close>",
	"nothing":             "",
}

// TestLeanReadsAsTheStandardLibrary: whatever a server answers, clients see the same of it.
func TestLeanReadsAsTheStandardLibrary(t *testing.T) {
	t.Parallel()
	address, _ := origintest.Scripted(t, func(r *http.Request) string { return odd[strings.TrimPrefix(r.URL.Path, "/")] })
	for name := range odd {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				if method == "HEAD" && name != "plain" && name != "empty" {
					continue // the script sends a body all the same; TestNothingUnaskedIsTakenForAnAnswer
				}
				l := thin(t, address)
				got, want := outcome(t, l, method, address, "/"+name), outcome(t, standard(t), method, address, "/"+name)
				if strings.Contains(name, "without-end") || name == "switches" {
					want = "no answer"
				}
				if got != want {
					t.Errorf("%s %s: got %s\nwant %s", method, name, got, want)
				}
			}
		})
	}
}

func TestConnectionsAreKeptWhereTheAnswerEnds(t *testing.T) {
	t.Parallel()
	for name, kept := range map[string]bool{
		"plain": true, "empty": true, "no-content": true, "not-modified": true, "chunked": true, "trailers": true, "interim": true, "same-length-twice": true,
		"until-close": false, "http-1.0": false, "close": false, "short": false, "bad-chunk": false, "two-lengths": false,
	} {
		address, connections := origintest.Scripted(t, func(r *http.Request) string { return odd[strings.TrimPrefix(r.URL.Path, "/")] })
		l := thin(t, address)
		outcome(t, l, "GET", address, "/"+name)
		if kept != (len(l.idle) == 1) {
			t.Errorf("%s: %d connections are kept", name, len(l.idle))
		}
		if got := outcome(t, l, "GET", address, "/plain"); !strings.Contains(got, `"ok"`) || kept != (connections.Load() == 1) {
			t.Errorf("after %s: %s over %d connections", name, got, connections.Load())
		}
	}
}

// TestNothingUnaskedIsTakenForAnAnswer: what a server sends beyond its answer does not reach
// the next visitor.
func TestNothingUnaskedIsTakenForAnAnswer(t *testing.T) {
	t.Parallel()
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	late := make(chan struct{})
	address, _ := origintest.Scripted(t, func(r *http.Request) string {
		switch r.URL.Path {
		case "/with":
			return odd["plain"] + forged
		case "/chunks":
			return odd["chunked"] + forged
		case "/nothing":
			return odd["no-content"] + forged
		}
		return odd["plain"]
	})
	for _, path := range []string{"/with", "/chunks", "/nothing"} {
		for _, method := range []string{"GET", "HEAD"} {
			l := thin(t, address)
			outcome(t, l, method, address, path)
			if got := outcome(t, l, "GET", address, "/next"); !strings.Contains(got, `"ok"`) {
				t.Errorf("after %s %s: %s", method, path, got)
			}
		}
	}
	// The same, some time after the answer.
	s, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sent := make(chan struct{}, 1) // nobody may be waiting yet
	go func() {
		for {
			conn, err := s.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				_, _ = io.WriteString(conn, odd["plain"])
				<-late
				_, _ = io.WriteString(conn, forged)
				select {
				case sent <- struct{}{}:
				default:
				}
			}()
		}
	}()
	l := thin(t, s.Addr().String())
	outcome(t, l, "GET", s.Addr().String(), "/")
	if len(l.idle) != 1 {
		t.Fatal("the connection is not kept")
	}
	kept := l.idle[0]
	close(late)
	<-sent
	eventually(t, "what is unasked arrives", func() bool { return !kept.silent() })
	if got := outcome(t, l, "GET", s.Addr().String(), "/"); strings.Contains(got, "forged") {
		t.Errorf("%s", got)
	}
}

func TestAKeptConnectionThatIsClosedIsReplaced(t *testing.T) {
	t.Parallel()
	address, connections := origintest.Scripted(t, func(*http.Request) string { return odd["plain"] + "<close>" }) // without a word of it
	l := thin(t, address)
	for i := range 20 {
		if got := outcome(t, l, "GET", address, "/"); !strings.Contains(got, `"ok"`) {
			t.Fatalf("request %d: %s", i, got)
		}
	}
	if n := connections.Load(); n != 20 {
		t.Errorf("%d connections", n)
	}
}

// TestACancelledRequestPoisonsNothing: requests are cancelled around the moment that they
// end; every answer is that of its own request.
func TestACancelledRequestPoisonsNothing(t *testing.T) {
	t.Parallel()
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path)
		if len(r.URL.Path)%2 == 0 {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, r.URL.Path)
		}
	}))
	t.Cleanup(b.Close)
	l := thin(t, b.Listener.Addr().String())
	var visitors sync.WaitGroup
	for v := range 8 {
		visitors.Go(func() {
			for i := range 200 {
				path := fmt.Sprintf("/%d-%d", v, i)
				ctx, cancel := context.WithCancel(context.Background())
				r, err := http.NewRequestWithContext(ctx, "GET", b.URL+path, nil)
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				res, err := l.RoundTrip(r)
				if i%3 == 0 {
					go cancel() // while the body is read
				}
				if err == nil {
					var body []byte
					body, err = io.ReadAll(res.Body)
					if want := strings.Repeat(path, 2-len(path)%2); err == nil && string(body) != want {
						t.Errorf("%s was answered %s", path, body)
					}
					_ = res.Body.Close()
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", path, err)
				}
				cancel()
			}
		})
	}
	visitors.Wait()
}

func TestLeanStreams(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	gone := make(chan struct{})
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
		<-r.Context().Done()
		close(gone)
	}))
	t.Cleanup(b.Close)
	l := thin(t, b.Listener.Addr().String())
	l.silence = bound
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", b.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := in.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = in.ReadString('\n')
		next <- struct{}{}
	}
	cancel()
	if _, err := in.ReadString('\n'); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
	_ = res.Body.Close()
	<-gone // the server hears of it
	if len(l.idle) != 0 {
		t.Error("the connection of a cancelled request is kept")
	}
}

// A server that drips holds nobody who has gone: neither within a header nor within a body.
func TestACancelledRequestEndsThoughItsServerDrips(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"a header":         "HTTP/1.1 200 OK\r\nX-Drips: ",
		"a body":           "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
		"chunks":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
		"all that is left": "HTTP/1.1 200 OK\r\n\r\n",
	} {
		s, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dripped, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			conn, err := s.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			_, err = io.WriteString(conn, head)
			for n := 0; err == nil; n++ {
				if n == 20 {
					close(dripped)
				}
				select {
				case <-t.Context().Done():
					return
				case <-time.After(time.Millisecond):
					_, err = io.WriteString(conn, "x")
				}
			}
		}()
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() { <-dripped; cancel() }()
		res, err := thin(t, s.Addr().String()).RoundTrip(r)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		<-stopped // the server is hung up on
		_ = s.Close()
	}
}

func TestABodyThatIsNotReadEndsItsConnection(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		close(gone)
	}))
	t.Cleanup(b.Close)
	l := thin(t, b.Listener.Addr().String())
	r, err := http.NewRequest("GET", b.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close() // at once, though there is no end to it
	<-gone
}

func TestWhatIsNotSimpleIsLeftToTheStandardLibrary(t *testing.T) {
	t.Parallel()
	body := func(r *http.Request, length int64) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), length
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		simple bool
	}{
		"nothing":        {func(*http.Request) {}, true},
		"a small body":   {func(r *http.Request) { r.Method = "POST"; body(r, maxSent) }, true},
		"no body":        {func(r *http.Request) { r.Method, r.Body = "POST", http.NoBody }, true},
		"a large body":   {func(r *http.Request) { r.Method = "POST"; body(r, maxSent+1) }, false},
		"unknown body":   {func(r *http.Request) { body(r, -1) }, false},
		"chunks of none": {func(r *http.Request) { body(r, 0) }, false},
		"another verb":   {func(r *http.Request) { r.Method = "PROPFIND" }, false},
		"a tunnel":       {func(r *http.Request) { r.Method = "CONNECT" }, false},
		"an upgrade":     {func(r *http.Request) { r.Header.Set("Upgrade", "x") }, false},
		"expectations":   {func(r *http.Request) { r.Header.Set("Expect", "100-continue") }, false},
		"sent trailers":  {func(r *http.Request) { r.Trailer = http.Header{"X": nil} }, false},
		"an IPv6 zone":   {func(r *http.Request) { r.Host = "[fe80::1%eth0]" }, false},
	} {
		r, err := http.NewRequest("GET", "http://x/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.change(r); simple(r) != c.simple {
			t.Errorf("%s: simple is %v", name, simple(r))
		}
	}
}

func TestUnusedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	b := serve(t, ok)
	l := thin(t, b.Listener.Addr().String())
	outcome(t, l, "GET", b.Listener.Addr().String(), "/")
	if l.prune(time.Hour); len(l.idle) != 1 {
		t.Fatal("a connection in use is closed")
	}
	if l.prune(0); len(l.idle) != 0 {
		t.Error("it is kept")
	}
}
