package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const chunked = "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"

func TestShutdownClosesIdleConnections(t *testing.T) {
	t.Parallel()
	p := open(t, &http.Server{Handler: http.HandlerFunc(echo)})
	said := dial(t, p.address)
	said.send(knock)
	said.answer(http.MethodGet)
	plain, strange := dial(t, p.address), dial(t, p.address)
	for range 2 {
		plain.send(knock)
		plain.answer(http.MethodGet)
		strange.send(chunked)
		strange.answer(http.MethodPost)
	}
	silent, slow := dial(t, p.address), dial(t, p.address)
	slow.send("GET / HTTP/1.1\r\nHost: ") // who does not end a head makes nobody wait
	eventually(t, "all are accepted", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.conns) == 4 && p.handed.Load() == 1
	})
	if err := p.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	for _, c := range []*client{said, plain, strange, silent, slow} {
		c.ended()
	}
	if c, err := net.Dial("tcp", p.address); err == nil {
		_ = c.Close()
		t.Error("more is accepted")
	}
	if err := errors.Join(p.Shutdown(context.Background()), p.Close()); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestShutdownWaitsForRequestsUnderWay(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan bool), make(chan bool)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- true
		<-goOn
		if err := r.Context().Err(); err != nil {
			t.Errorf("%s ended: %v", r.URL, err)
		}
		echo(w, r)
	})})
	requests := []string{knock, chunked, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", knock + knock}
	var clients []*client
	for _, request := range requests {
		c := dial(t, p.address)
		c.send(request)
		within(t, "the request", begun)
		clients = append(clients, c)
	}
	over := make(chan error, 1)
	var left atomic.Int64
	left.Store(int64(len(requests)))
	go func() {
		err := p.Shutdown(context.Background())
		if n := left.Load(); n > 0 {
			t.Errorf("it ended before %d requests", n)
		}
		over <- err
	}()
	eventually(t, "the server closes", p.closing.Load)
	for range requests {
		left.Add(-1) // before it can be true
		goOn <- true
	}
	for i, c := range clients {
		res, body := c.answer(http.MethodPost)
		if strings.Contains(body, "ok") != strings.Contains(requests[i], "ok") || !res.Close {
			t.Errorf("answered %q, which closes: %v", body, res.Close)
		}
		c.ended()
	}
	if err := within(t, "the shutdown", over); err != nil {
		t.Error(err)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	t.Parallel()
	begun := make(chan bool)
	ended := make(chan error, 2)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- true
		<-r.Context().Done()
		ended <- r.Context().Err()
	})})
	plain, strange := dial(t, p.address), dial(t, p.address)
	plain.send(knock)
	within(t, "the request", begun)
	strange.send(chunked)
	within(t, "the request", begun)
	for range 2 {
		ctx, cancel := context.WithCancel(context.Background())
		over := make(chan error, 1)
		go func() { over <- p.Shutdown(ctx) }()
		eventually(t, "the server closes", p.closing.Load)
		cancel()
		if err := within(t, "the shutdown", over); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range []*client{plain, strange} {
		if err := within(t, "the request's end", ended); err != context.Canceled {
			t.Errorf("a request ended with %v", err)
		}
		c.ended()
	}
}

// endless is a connection by which one request comes after the other until there are enough, and then nothing until its close.
type endless struct {
	net.Conn
	enough atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (c *endless) Read(p []byte) (int, error) {
	if !c.enough.Load() {
		return copy(p, knock), nil
	}
	<-c.closed
	return 0, net.ErrClosed
}

func (c *endless) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *endless) Write(p []byte) (int, error)           { return len(p), nil }
func (c *endless) SetDeadline(time.Time) error           { return nil }
func (c *endless) SetReadDeadline(time.Time) error       { return nil }
func (c *endless) SetWriteDeadline(time.Time) error      { return nil }
func (c *endless) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }
func (c *endless) CloseWrite() error                     { return nil }
func (c *endless) Unread([]byte)                         {}

// A connection that becomes idle while the server begins to shut down is closed by one or the other.
func TestShutdownWhileRequestsEnd(t *testing.T) {
	t.Parallel()
	for i := range 2_000 {
		s := &Server{HTTP: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
		fake := &endless{closed: make(chan struct{})}
		c := &conn{server: s, net: fake, base: context.Background()}
		s.conns = map[*conn]struct{}{c: {}}
		s.serving.Add(1)
		go c.serve()
		for c.state.Load() == idle { // until it is under way, or nearly at the end of a request
			runtime.Gosched()
		}
		fake.enough.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), long)
		if err := s.Shutdown(ctx); err != nil {
			t.Fatal(i, err)
		}
		cancel()
	}
}

func TestShutdownBeforeServe(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Server) error{
		"Shutdown": func(s *Server) error { return s.Shutdown(context.Background()) },
		"Close":    (*Server).Close,
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{HTTP: &http.Server{Handler: http.HandlerFunc(echo)}}
		if err := end(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Serve(l); err != http.ErrServerClosed {
			t.Errorf("Serve after %s: %v", name, err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after %s the listener goes on: %v", name, err)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	begun := make(chan bool)
	ended := make(chan error, 3)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/idle":
			return
		case "/chunked", "/":
			_, _ = io.Copy(io.Discard, r.Body)
			begun <- true
			<-r.Context().Done()
			ended <- r.Context().Err()
		case "/upload":
			begun <- true
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
		}
	})})
	idle := dial(t, p.address)
	idle.send("GET /idle HTTP/1.1\r\nHost: a\r\n\r\n")
	idle.answer(http.MethodGet)
	clients := []*client{idle}
	for _, request := range []string{knock, chunked, "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\no"} {
		c := dial(t, p.address)
		c.send(request)
		within(t, "the request", begun)
		clients = append(clients, c)
	}
	begin := dial(t, p.address)
	begin.send("GET / HT")
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := within(t, "a request's end", ended); err == nil {
			t.Error("a request went on")
		}
	}
	for _, c := range append(clients, begin) {
		c.ended()
	}
}

// failing is a listener that fails as told before it accepts.
type failing struct {
	net.Listener
	faults chan error
}

func (l *failing) Accept() (net.Conn, error) {
	select {
	case err := <-l.faults:
		return nil, err
	default:
		return l.Listener.Accept()
	}
}

func TestFaultsOfAccept(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &failing{tcp, make(chan error, 5)}
	for range 3 {
		l.faults <- &net.OpError{Op: "accept", Err: syscall.EMFILE} // it passes
	}
	var said journal
	s := &Server{HTTP: &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: log.New(&said, "", 0)}}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	c := dial(t, tcp.Addr().String())
	c.send(knock)
	c.answer(http.MethodGet)
	if got := said.String(); strings.Count(got, syscall.EMFILE.Error()) != 3 {
		t.Errorf("logged %q", got)
	}

	fault := errors.New("for good")
	l.faults <- fault
	dial(t, tcp.Addr().String()) // the Accept under way returns
	if err := within(t, "the end of Serve", ended); err != fault {
		t.Errorf("Serve: %v", err)
	}
	c.send(knock) // who is there goes on
	c.answer(http.MethodGet)
	if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	c.ended()
}

// Nothing is left of a server that was shut down, or closed, once its handlers have returned. Not parallel: it counts.
func TestNothingIsLeftOfAServer(t *testing.T) {
	for name, end := range map[string]func(*place) error{
		"Shutdown": func(p *place) error { return p.Shutdown(context.Background()) },
		"Close":    func(p *place) error { return p.Close() },
		"Shutdown whose context is over, and Close": func(p *place) error {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := p.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return p.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			begun, goOn := make(chan bool), make(chan bool)
			p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					begun <- true
					<-goOn
				}
				if r.URL.Path == "/panic" {
					panic(http.ErrAbortHandler)
				}
				echo(w, r)
			})})
			const each = 4
			for _, text := range []string{"", "GET", knock, chunked, strings.Replace(knock, "/", "/panic", 1), strings.Replace(chunked, "/chunked", "/panic", 1)} {
				for range each {
					c := dial(t, p.address)
					c.send(text)
					if text != "" && text != "GET" && !strings.Contains(text, "panic") {
						c.answer(http.MethodGet)
					}
				}
			}
			slow := []string{strings.Replace(knock, "/", "/slow", 1), strings.Replace(chunked, "/chunked", "/slow", 1)}
			for i := range 2 * each {
				c := dial(t, p.address)
				c.send(slow[i%2])
				within(t, "the request", begun)
			}
			over := make(chan error, 1)
			go func() { over <- end(p) }()
			eventually(t, "the server closes", p.closing.Load)
			close(goOn)
			if err := within(t, "its end", over); err != nil {
				t.Error(err)
			}
			if !eventually(t, "nothing is left", func() bool { return runtime.NumGoroutine() <= before }) {
				all := make([]byte, 1<<20)
				t.Logf("%s", all[:runtime.Stack(all, true)])
			}
		})
	}
}

// An upgrade after plain requests takes over the connection they came by, with what was sent behind it.
func TestConnectionTakenOver(t *testing.T) {
	t.Parallel()
	p := open(t, &http.Server{ReadTimeout: never, WriteTimeout: never, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			echo(w, r)
			return
		}
		c, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, ok := c.(*accepted); !ok || c.RemoteAddr().String() != r.RemoteAddr {
			t.Errorf("it is a %T from %v", c, c.RemoteAddr())
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, both) // what was read with the head, and then the rest
	})})
	const upgrade = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	for _, pieces := range [][]string{
		{knock + upgrade + "first" + knock},
		{knock, upgrade, "first", knock},
		{knock + upgrade[:20], upgrade[20:] + "fir", "st" + knock},
	} {
		c := dial(t, p.address)
		for _, piece := range pieces {
			c.send(piece)
		}
		if _, body := c.answer(http.MethodGet); body != "GET / " {
			t.Errorf("answered %q", body)
		}
		res, err := http.ReadResponse(c.in, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("answered %v, %v", res, err)
		}
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c.in); err != nil || string(got) != "first"+knock {
			t.Errorf("%q came back, %v", got, err)
		}
	}
}

func TestWebSocketAfterPlainRequests(t *testing.T) {
	t.Parallel()
	var upgrader websocket.Upgrader
	p := open(t, &http.Server{ReadTimeout: never, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !websocket.IsWebSocketUpgrade(r) {
			echo(w, r)
			return
		}
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer socket.Close()
		for {
			kind, text, err := socket.ReadMessage()
			if err != nil {
				return
			}
			if err := socket.WriteMessage(kind, text); err != nil {
				return
			}
		}
	})})
	c := dial(t, p.address)
	for range 3 {
		c.send(knock)
		c.answer(http.MethodGet)
	}
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return c.TCPConn, nil }}
	socket, _, err := dialer.Dial("ws://"+p.address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.SetReadDeadline(time.Now().Add(long))
	for i := range 100 {
		want := strings.Repeat(fmt.Sprint(i, " "), 100*i)
		if err := socket.WriteMessage(websocket.TextMessage, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := socket.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("%q came back, %v", got, err)
		}
	}
	_ = socket.Close()
}
