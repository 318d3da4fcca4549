package http1

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// long bounds every wait: what takes this long hangs, whatever else the machine does.
const long = 2 * time.Minute

// place is where a Server listens.
type place struct {
	*Server
	address string
	handed  atomic.Int64 // connections that went to net/http
	cut     atomic.Int64 // where the first read of a connection ends, if that is not 0
}

// open runs a Server with these settings until the test ends, and then waits for its connections.
func open(t testing.TB, settings *http.Server) *place {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if settings.ErrorLog == nil {
		settings.ErrorLog = log.New(io.Discard, "", 0)
	}
	p := &place{Server: &Server{HTTP: settings}, address: l.Addr().String()}
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(peekable{l.(*net.TCPListener), p}) }()
	t.Cleanup(func() {
		_ = p.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
		p.serving.Wait()
	})
	return p
}

// peekable is a listener whose connections implement Conn.
type peekable struct {
	*net.TCPListener
	place *place
}

func (l peekable) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return &accepted{TCP: TCP{TCPConn: c}, place: l.place, cut: int(l.place.cut.Load())}, nil
}

type accepted struct {
	TCP
	place *place
	cut   int // bytes until there
}

func (c *accepted) Unread(b []byte) {
	c.place.handed.Add(1)
	c.TCP.Unread(b)
}

func (c *accepted) Read(p []byte) (int, error) {
	if c.cut > 0 {
		p = p[:min(c.cut, len(p))]
	}
	n, err := c.TCP.Read(p)
	c.cut = max(0, c.cut-n)
	return n, err
}

// client is the other end of a connection: it sends bytes and reads answers.
type client struct {
	*net.TCPConn
	t  testing.TB
	in *bufio.Reader
}

func dial(t testing.TB, address string) *client {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(long))
	return &client{c.(*net.TCPConn), t, bufio.NewReader(c)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.TCPConn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads the answer to a request of this method, and all its body.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("%v after %q", err, body)
	}
	return res, string(body)
}

// ended waits until the server has closed the connection, and fails if it sends anything.
func (c *client) ended() {
	c.t.Helper()
	if b, err := c.in.ReadByte(); err == nil {
		c.t.Fatalf("the connection goes on: %q", b)
	} else if late, ok := err.(net.Error); ok && late.Timeout() {
		c.t.Fatal("the connection was not closed")
	}
}
