package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// A time that is short, for what has to end; and one that never comes while a test lasts.
const (
	short = 50 * time.Millisecond
	never = 24 * time.Hour
)

// echo answers with the method, the target and the body of a request.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, body)
}

func TestDeadlinesEndSlowClients(t *testing.T) {
	t.Parallel()
	// A machine that stalls may end each of them too soon: that is not looked at.
	say := func(c *client, text string) { _, _ = io.WriteString(c, text) }
	answered := func(c *client) {
		say(c, knock)
		if res, err := http.ReadResponse(c.in, nil); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
		}
	}
	trickle := func(c *client) { // a field after the other, until the connection is closed
		say(c, "GET / HTTP/1.1\r\nHost: a\r\n")
		go func() {
			for {
				if _, err := io.WriteString(c, "A: b\r\n"); err != nil {
					return
				}
				time.Sleep(short / 4)
			}
		}()
	}
	tests := []struct {
		name     string
		settings *http.Server
		act      func(*client)
	}{
		{"who says nothing", &http.Server{ReadHeaderTimeout: short, IdleTimeout: never}, func(*client) {}},
		{"who says nothing, of all that is read", &http.Server{ReadTimeout: short}, func(*client) {}},
		{"a slow head", &http.Server{ReadHeaderTimeout: short, IdleTimeout: never}, trickle},
		{"a slow head, of all that is read", &http.Server{ReadTimeout: short}, trickle},
		{"a slow second head", &http.Server{ReadHeaderTimeout: short, IdleTimeout: never}, func(c *client) { answered(c); trickle(c) }},
		{"a head without an end", &http.Server{ReadHeaderTimeout: short, IdleTimeout: never}, func(c *client) { say(c, knock+"GET ") }},
		{"an idle client", &http.Server{IdleTimeout: short}, answered},
		{"an idle client, of all that is read", &http.Server{ReadTimeout: short}, answered},
		{"an idle client, of two that are long", &http.Server{ReadTimeout: never, ReadHeaderTimeout: never, IdleTimeout: short}, answered},
		{"a slow body", &http.Server{ReadTimeout: short}, func(c *client) {
			say(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\no")
		}},
	}
	clients := make([]*client, len(tests))
	for i, test := range tests { // all wait at the same time
		test.settings.Handler = http.HandlerFunc(echo)
		clients[i] = dial(t, open(t, test.settings).address)
		test.act(clients[i])
	}
	for i, test := range tests {
		if _, err := io.Copy(io.Discard, clients[i].in); errors.Is(err, os.ErrDeadlineExceeded) { // what was asked for may come
			t.Errorf("%s: the connection was not closed", test.name)
		}
	}
}

func TestSlowBodyEnds(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	p := open(t, &http.Server{ReadHeaderTimeout: never, ReadTimeout: short, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		failed <- err
		http.Error(w, "slow", http.StatusRequestTimeout)
	})})
	c := dial(t, p.address)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nok")
	if err := within(t, "the body's end", failed); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	if res, _ := c.answer(http.MethodPost); res.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answered %s", res.Status)
	}
	c.ended()
}

// A body that nobody reads and does not come holds the connection until ReadTimeout, not longer.
func TestSlowBodyThatIsLeftEnds(t *testing.T) {
	t.Parallel()
	p := open(t, &http.Server{ReadHeaderTimeout: never, ReadTimeout: short, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "not read")
	})})
	c := dial(t, p.address)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nok")
	if _, body := c.answer(http.MethodPost); body != "not read" {
		t.Errorf("answered %q", body)
	}
	c.ended()
}

func TestUnreadAnswerEnds(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	p := open(t, &http.Server{WriteTimeout: short, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 64<<10)
		for {
			if _, err := w.Write(piece); err != nil {
				failed <- err
				return
			}
		}
	})})
	c := dial(t, p.address)
	c.send(knock)
	if err := within(t, "the answer's end", failed); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection was not closed")
	}
}

// A handler may take more time than the server's settings give it, or less, for one request.
func TestHandlersOwnDeadlines(t *testing.T) {
	t.Parallel()
	settings := &http.Server{ReadHeaderTimeout: never, ReadTimeout: short, WriteTimeout: short}
	settings.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.URL.Path == "/long" {
			if err := errors.Join(control.EnableFullDuplex(), control.SetWriteDeadline(time.Time{}), control.SetReadDeadline(time.Time{})); err != nil {
				t.Error(err)
			}
			for range 5 {
				time.Sleep(lateness / 4) // until no lateness explains that it goes on
				_, _ = io.WriteString(w, "more ")
				if err := control.Flush(); err != nil {
					t.Errorf("after its time: %v", err)
				}
			}
			echo(w, r)
			return
		}
		if err := control.SetWriteDeadline(past); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "too late")
		if err := control.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the time it gave itself: %v", err)
		}
	})
	p := open(t, settings)
	c := dial(t, p.address)
	c.send("POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\no")
	if _, err := c.in.Peek(1); err != nil { // the answer begins before the body ends
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(c, "k") }()
	if _, body := c.answer(http.MethodPost); body != "more more more more more POST /long ok" {
		t.Errorf("answered %q", body)
	}
	c = dial(t, p.address)
	c.send(knock)
	c.ended()
}

// A request that is not plain goes to net/http with all that came with it, and nothing is lost or doubled.
func TestHandingOverLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxHead)
	requests := []struct{ text, method, want string }{
		{"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "GET /1 "},
		{"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /", "POST", "POST /2 GET /"},
		{"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nGET\r\n0\r\n\r\n", "POST", "POST /3 okGET"},
		{"POST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n0\r\n\r\n.", "POST", "POST /4 0\r\n\r\n."},
		{"GET /5 HTTP/1.1\r\nHost: a\r\nA: " + long + "\r\n\r\n", "GET", "GET /5 "},
		{"DELETE /6 HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE", "DELETE /6 "},
	}
	for _, order := range [][]int{{0, 2, 0}, {0, 1, 2, 3, 4, 5}, {4, 0}, {0, 4, 1}, {1, 3, 5, 1, 2, 1}, {2, 2}, {5, 0, 1, 4, 2}} {
		text := ""
		for _, i := range order {
			text += requests[i].text
		}
		for _, piece := range []int{len(text), 1, 7, 100, inRoom, inRoom - 1} {
			if piece < 7 && len(text) > 1000 {
				continue // a packet a byte is slow
			}
			t.Run(fmt.Sprintf("%v by %d", order, piece), func(t *testing.T) {
				t.Parallel()
				p := open(t, &http.Server{Handler: http.HandlerFunc(echo)})
				c := dial(t, p.address)
				for rest := text; rest != ""; {
					n := min(piece, len(rest))
					c.send(rest[:n])
					rest = rest[n:]
				}
				for _, i := range order {
					if _, got := c.answer(requests[i].method); got != requests[i].want {
						t.Fatalf("answered %q, want %q", got, requests[i].want)
					}
				}
				_ = c.CloseWrite()
				c.ended()
				if n := p.handed.Load(); n != 1 {
					t.Errorf("it went to net/http %d times", n)
				}
			})
		}
	}
}

// What reads the body when the request is over gets an error, and never what the client sends next.
func TestBodyReadAfterTheRequest(t *testing.T) {
	t.Parallel()
	next := make(chan bool)
	late := make(chan string, 1)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			go func() {
				within(t, "the next request", next)
				n, err := r.Body.Read(make([]byte, 10))
				late <- fmt.Sprint(n, err)
			}()
			return
		}
		if r.URL.Path == "/next" {
			next <- true
			if got := within(t, "the end of the late read", late); got != fmt.Sprint(0, http.ErrBodyReadAfterClose) {
				t.Errorf("a late read brought %s", got)
			}
		}
		echo(w, r)
	})})
	for _, length := range []int{2, maxRest} {
		c := dial(t, p.address)
		body := strings.Repeat("x", length)
		c.send(fmt.Sprintf("POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", length, body))
		c.send("POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
		c.answer(http.MethodPost)
		if _, got := c.answer(http.MethodPost); got != "POST /next ok" {
			t.Errorf("answered %q", got)
		}
	}
}

// A read of the body that is under way when the handler returns ends, and so does the connection, of which nobody
// knows how much was read.
func TestBodyReadBeyondTheHandler(t *testing.T) {
	t.Parallel()
	for _, begins := range []string{"when it has returned", "before it is read", "while it is read"} { // the answer
		read := make(chan string, 1)
		p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/late" {
				t.Errorf("%s came", r.URL)
				return
			}
			if begins == "before it is read" {
				_ = http.NewResponseController(w).EnableFullDuplex()
				_ = http.NewResponseController(w).Flush()
			}
			go func() {
				body, err := io.ReadAll(r.Body)
				read <- fmt.Sprint(string(body), ", ", err)
			}()
			reads(t, w)
			if begins == "while it is read" {
				_ = http.NewResponseController(w).Flush()
			}
		})})
		c := dial(t, p.address)
		c.send("POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nits")
		if res, _ := c.answer(http.MethodPost); res.Close != (begins != "before it is read") {
			t.Errorf("an answer that begins %s says that the connection ends: %v", begins, res.Close)
		}
		if got, want := within(t, "the end of the read", read), fmt.Sprint("its, ", http.ErrBodyReadAfterClose); got != want {
			t.Errorf("read %q, want %q", got, want)
		}
		_, _ = io.WriteString(c, " bodyGET /next HTTP/1.1\r\nHost: a\r\n\r\n") // may fail
		c.ended()
	}
}

// An answer arrives although the client goes on sending a body that nobody reads: at the close of the connection what
// was not read resets it, and what is under way to the client is lost.
func TestAnswerToUnreadBodyArrives(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	returned := make(chan bool, 1)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer func() { returned <- true }()
		_ = w.(*response).c.net.(*accepted).SetWriteBuffer(2 * size) // it waits there, not in Write
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = w.Write(make([]byte, size))
	})})
	try := func() error {
		c := dial(t, p.address)
		defer c.Close()
		var sending sync.WaitGroup
		sending.Go(func() {
			_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", int64(1)<<40)
			for piece := make([]byte, 16<<10); ; {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		})
		within(t, "the handler's end", returned)
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return err
		}
		if !res.Close {
			t.Error("the connection is said to go on")
		}
		n, err := io.Copy(io.Discard, res.Body)
		_ = c.Close()
		sending.Wait()
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes came", n)
		}
		return err
	}
	var err error
	for range 20 { // the time given to an answer may be over on a machine that stalls
		if err = try(); err == nil {
			return
		}
	}
	t.Error(err)
}

// A handler that panics, or ends its goroutine, ends its connection and nothing else.
func TestHandlersThatDoNotReturn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		act    func()
		logged string
	}{
		"by a panic":           {func() { panic("oh no") }, "oh no"},
		"by a panic with nil":  {func() { panic(error(nil)) }, "nil"},
		"by an abort":          {func() { panic(http.ErrAbortHandler) }, ""},
		"by ending its thread": {runtime.Goexit, ""},
	} {
		for _, request := range []string{
			knock,
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
			"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\no", // half of it is missing
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var out journal
				contexts := make(chan context.Context, 1)
				p := open(t, &http.Server{ErrorLog: log.New(&out, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					contexts <- r.Context()
					_, _ = io.WriteString(w, "begun")
					test.act()
				})})
				c := dial(t, p.address)
				c.send(request)
				if got, err := io.ReadAll(c); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("answered %q, %v", got, err)
				}
				within(t, "the end of its context", (<-contexts).Done())
				eventually(t, "the connection is forgotten", func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return len(p.conns) == 0
				})
				if got := out.String(); !strings.Contains(got, test.logged) || test.logged == "" && got != "" {
					t.Errorf("logged %q", got)
				}
			})
		}
	}
}

// journal is a log that goroutines write.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *journal) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *journal) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Handlers find in a request's context what net/http's put there.
func TestContextOfARequest(t *testing.T) {
	t.Parallel()
	settings := &http.Server{}
	var p *place
	settings.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		_, _ = fmt.Fprintln(w, server == settings, local, r.RemoteAddr)
	})
	p = open(t, settings)
	c := dial(t, p.address)
	want := fmt.Sprintln(true, c.RemoteAddr(), c.LocalAddr())
	for _, request := range []string{knock, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
		c.send(request)
		if _, got := c.answer(http.MethodGet); got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}
