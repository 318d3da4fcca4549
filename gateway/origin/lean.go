package origin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"
)

// lean sends requests that have no body over plain connections of its own, and reads the
// answer in the caller's goroutine. http.Transport keeps two goroutines a connection, which
// is most of what a hop costs; whatever is not plain and simple is left to it.
//
// A connection is owned by one request from get to release. It is kept for the next only
// when the answer ended where its framing says, nothing came after it, nobody asked to
// close, and the request was not cancelled meanwhile: a cancellation closes the connection,
// and one that is late finds it not among the kept.
type lean struct {
	address string
	timeout time.Duration // until the answer's header
	silence time.Duration // within its body
	rest    http.RoundTripper

	mu   sync.Mutex // guards idle
	idle []*wire    // the last used is last
}

const (
	maxIdle    = 512
	maxInterim = 5 // answers of 1xx before the real one
)

// wire is one connection.
type wire struct {
	conn    net.Conn
	raw     syscall.RawConn
	in      *bufio.Reader
	out     *bufio.Writer
	keptAt  time.Time
	reused  bool
	heard   bool          // anything, since the request was sent
	allowed int64         // bytes that may still be read; of a header
	silence time.Duration // for each read; 0 leaves the deadline as it is
}

var errHeaderTooLarge = errors.New("the header of the answer is too large")

// Read reads for in.
func (w *wire) Read(p []byte) (int, error) {
	if w.allowed <= 0 {
		return 0, errHeaderTooLarge
	}
	if w.silence > 0 {
		if err := w.conn.SetReadDeadline(time.Now().Add(w.silence)); err != nil {
			return 0, err
		}
	}
	n, err := w.conn.Read(p[:min(int64(len(p)), w.allowed)])
	w.allowed -= int64(n)
	w.heard = w.heard || n > 0
	return n, err
}

// RoundTrip sends r, once more on a new connection where a kept one turns out to be closed.
func (l *lean) RoundTrip(r *http.Request) (*http.Response, error) {
	if !simple(r) {
		return l.rest.RoundTrip(r)
	}
	ctx := r.Context()
	for again := false; ; again = true {
		w, err := l.get(ctx, again)
		if err != nil {
			return nil, err
		}
		// Closing is final: whatever uses the connection fails, now or later.
		stop := context.AfterFunc(ctx, func() { _ = w.conn.Close() })
		res, err := l.exchange(w, r)
		if err == nil {
			l.attach(res, w, stop, r)
			return res, nil
		}
		stop()
		_ = w.conn.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case w.reused && !w.heard && !isTimeout(err):
			continue
		}
		return nil, fmt.Errorf("ask %s: %w", l.address, err)
	}
}

// simple tells what may be sent twice and needs nobody to read or write beside it.
func simple(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return (r.Body == nil || r.Body == http.NoBody) && r.ContentLength == 0 && len(r.TransferEncoding) == 0 && len(r.Trailer) == 0 &&
			len(r.Header["Expect"]) == 0 && len(r.Header["Upgrade"]) == 0 && !r.Close
	}
	return false
}

// exchange writes a request and reads the header of its answer.
func (l *lean) exchange(w *wire, r *http.Request) (*http.Response, error) {
	w.heard, w.silence = false, 0
	if err := r.Write(w.out); err != nil {
		return nil, err
	}
	if err := w.out.Flush(); err != nil {
		return nil, err
	}
	for interim := 0; ; interim++ {
		w.allowed = maxHeader
		res, err := http.ReadResponse(w.in, r)
		if errors.Is(err, io.ErrUnexpectedEOF) && !w.heard {
			err = io.EOF
		}
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode >= http.StatusOK:
			w.allowed, w.silence = 1<<62, l.silence
			return res, nil
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("the server switches to a protocol that nobody asked for")
		case interim == maxInterim:
			return nil, errors.New("too many interim answers")
		}
		if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(res.StatusCode, map[string][]string(res.Header)); err != nil {
				return nil, err
			}
		}
	}
}

// attach makes the end of res' body the end of the request.
func (l *lean) attach(res *http.Response, w *wire, stop func() bool, r *http.Request) {
	if res.Body == http.NoBody {
		l.release(w, stop, !res.Close)
		return
	}
	res.Body = &leanBody{lean: l, wire: w, stop: stop, body: res.Body, keep: !res.Close, ctx: r.Context()}
}

// release gives the connection back, if it can be used again.
func (l *lean) release(w *wire, stop func() bool, keep bool) {
	if stop() && keep && w.in.Buffered() == 0 {
		l.put(w)
		return
	}
	_ = w.conn.Close()
}

// leanBody reads an answer's body in the caller's goroutine.
type leanBody struct {
	lean *lean
	wire *wire
	stop func() bool
	body io.Reader // never closed: that would read the rest of it
	keep bool
	ctx  context.Context // the request's, as the body's own
	over bool
}

func (b *leanBody) Read(p []byte) (int, error) {
	if b.over {
		return 0, io.EOF
	}
	n, err := b.body.Read(p)
	if err == nil {
		return n, nil
	}
	b.over = true
	b.lean.release(b.wire, b.stop, b.keep && err == io.EOF)
	if err != io.EOF && b.ctx.Err() != nil {
		err = b.ctx.Err()
	}
	return n, err
}

func (b *leanBody) Close() error {
	if !b.over {
		b.over = true
		b.lean.release(b.wire, b.stop, false)
	}
	return nil
}

// get takes the connection that was used last, or opens one, and sets the deadline of the
// answer's header.
func (l *lean) get(ctx context.Context, fresh bool) (*wire, error) {
	for !fresh {
		l.mu.Lock()
		n := len(l.idle)
		if n == 0 {
			l.mu.Unlock()
			break
		}
		w := l.idle[n-1]
		l.idle[n-1] = nil
		l.idle = l.idle[:n-1]
		l.mu.Unlock()
		if time.Since(w.keptAt) < idleTime && w.conn.SetDeadline(time.Now().Add(l.timeout)) == nil && silent(w.raw) {
			w.reused = true
			return w, nil
		}
		_ = w.conn.Close()
	}
	conn, err := (&net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	w := &wire{conn: conn, raw: raw, out: bufio.NewWriter(conn)}
	w.in = bufio.NewReader(w)
	return w, conn.SetDeadline(time.Now().Add(l.timeout))
}

func (l *lean) put(w *wire) {
	w.keptAt = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.idle) >= maxIdle {
		_ = w.conn.Close()
		return
	}
	l.idle = append(l.idle, w)
}

// prune closes the connections that nobody used for so long.
func (l *lean) prune(unused time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.idle) && time.Since(l.idle[n].keptAt) >= unused {
		_ = l.idle[n].conn.Close()
		n++
	}
	l.idle = append(l.idle[:0:0], l.idle[n:]...)
}
