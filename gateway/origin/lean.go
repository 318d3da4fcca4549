package origin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// lean sends requests that have no body, or a small one, over plain connections of its own,
// and reads the answer in the caller's goroutine. http.Transport keeps two goroutines a
// connection, which is most of what a hop costs; whatever is not plain and simple is left to it.
//
// A connection is owned by one request from get to release; nobody else touches it, not
// even to cancel: who waits for an answer looks now and then whether the request still
// counts. It is kept for the next only when the answer ended where its framing says, nothing
// came after it and nobody asked to close.
type lean struct {
	address string
	host    string        // of requests that name none
	base    string        // put in front of paths, escaped
	timeout time.Duration // until the answer's header
	silence time.Duration // within its body
	interim func(*http.Request, int, http.Header)

	mu   sync.Mutex // guards idle
	idle []*wire    // the last used is last
}

const (
	maxIdle    = 512
	maxInterim = 5        // answers of 1xx before the real one
	maxSent    = 16 << 10 // bytes of a body that are written before an answer is read

	// Who waits looks after firstLook whether the request was cancelled, and then twice as
	// late each time, up to lastLook.
	firstLook = 50 * time.Millisecond
	lastLook  = time.Second
)

// wire is one connection.
type wire struct {
	conn   net.Conn
	silent func() bool // see silentOf
	in     *bufio.Reader
	out    []byte // what requests are written in
	keptAt time.Time
	reused bool
	sendBy time.Time // the deadline of writes that is set

	// All below is of the request under way.
	ctx     context.Context // who reads waits on its behalf
	heard   bool            // anything, since the request was sent
	allowed int64           // bytes that may still be read; of a header
	by      time.Time       // when the header must be here; zero once it is
	silence time.Duration   // for each read, then
	idling  func()          // called before a read that may wait; may be nil
}

var (
	errHeaderTooLarge = errors.New("the header of the answer is too large")
	errSwitches       = errors.New("the server switches to a protocol that nobody asked for")
	errNoStatus       = errors.New("the status of the answer is none")
)

// Read reads for in.
func (w *wire) Read(p []byte) (int, error) {
	if w.allowed <= 0 {
		return 0, errHeaderTooLarge
	}
	if w.idling != nil {
		w.idling()
	}
	p = p[:min(int64(len(p)), w.allowed)]
	now, by := time.Now(), w.by
	if by.IsZero() {
		by = now.Add(w.silence)
	}
	for look := firstLook; ; look = min(2*look, lastLook) {
		if err := w.ctx.Err(); err != nil {
			return 0, err
		}
		until := now.Add(look)
		if until.After(by) {
			until = by
		}
		if err := w.conn.SetReadDeadline(until); err != nil {
			return 0, err
		}
		n, err := w.conn.Read(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			if now = time.Now(); now.Before(by) {
				continue
			}
		}
		w.allowed -= int64(n)
		w.heard = w.heard || n > 0
		return n, err
	}
}

// RoundTrip sends r, which is simple, once more on a new connection where a kept one turns
// out to be closed and that is safe.
func (l *lean) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	for again := false; ; again = true {
		w, err := l.get(ctx, again)
		if err != nil {
			return nil, err
		}
		res, err := l.exchange(w, r)
		if err == nil {
			l.attach(res, w)
			return res, nil
		}
		_ = w.conn.Close()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case w.reused && !w.heard && !isTimeout(err) && reads(r.Method) && r.ContentLength == 0:
			continue
		}
		return nil, fmt.Errorf("ask %s: %w", l.address, err)
	}
}

func reads(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// simple tells what needs nobody to read or write beside it: its body is small, of a length
// that is known, and comes without being asked for.
func simple(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return false
	}
	bodiless := r.Body == nil || r.Body == http.NoBody
	return bodiless == (r.ContentLength == 0) && r.ContentLength >= 0 && r.ContentLength <= maxSent &&
		len(r.TransferEncoding) == 0 && len(r.Trailer) == 0 && len(r.Header["Expect"]) == 0 && len(r.Header["Upgrade"]) == 0 &&
		strings.IndexByte(r.Host, '%') < 0 // an IPv6 zone is nobody else's
}

// exchange writes a request and reads the header of its answer.
func (l *lean) exchange(w *wire, r *http.Request) (*http.Response, error) {
	w.ctx, w.heard, w.by = r.Context(), false, time.Now().Add(l.timeout)
	if w.sendBy.Before(w.by) { // not for every request
		w.sendBy = w.by.Add(l.timeout)
		if err := w.conn.SetWriteDeadline(w.sendBy); err != nil {
			return nil, err
		}
	}
	out, err := appendHead(w.out[:0], r, l.host, l.base)
	if err != nil {
		return nil, err
	}
	if r.ContentLength > 0 {
		head := len(out)
		out = append(out, make([]byte, r.ContentLength)...)
		if _, err := io.ReadFull(r.Body, out[head:]); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnsendable, err)
		}
	}
	if cap(out) <= maxSent {
		w.out = out
	}
	if _, err := w.conn.Write(out); err != nil {
		return nil, err
	}
	for interim := 0; ; interim++ {
		w.allowed = maxHeader
		res, err := w.answer(r)
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode >= http.StatusOK:
			w.allowed, w.by, w.silence = 1<<62, time.Time{}, l.silence
			return res, nil
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitches
		case res.StatusCode < http.StatusContinue:
			return nil, errNoStatus
		case interim == maxInterim:
			return nil, errors.New("too many interim answers")
		}
		l.interim(r, res.StatusCode, res.Header)
	}
}

// answer reads the header of one answer; a final one's Body is nil where ContentLength
// bytes follow.
func (w *wire) answer(r *http.Request) (*http.Response, error) {
	if _, err := w.in.Peek(1); err != nil {
		return nil, err
	}
	here, _ := w.in.Peek(w.in.Buffered()) // never fails
	if res, size := readHead(here, r.Method); res != nil {
		_, err := w.in.Discard(size)
		res.Request = r
		return res, err
	}
	return http.ReadResponse(w.in, r)
}

// attach makes the end of res' body the end of the request.
func (l *lean) attach(res *http.Response, w *wire) {
	if res.Body == http.NoBody {
		l.release(w, !res.Close)
		return
	}
	res.Body = &leanBody{lean: l, wire: w, body: res.Body, left: res.ContentLength, keep: !res.Close}
}

// release gives the connection back, if it can be used again.
func (l *lean) release(w *wire, keep bool) {
	if keep && w.in.Buffered() == 0 {
		l.put(w)
		return
	}
	_ = w.conn.Close()
}

// leanBody reads an answer's body in the caller's goroutine.
type leanBody struct {
	lean *lean
	wire *wire
	body io.Reader // never closed: that would read the rest of it; nil is left bytes of the wire
	left int64
	keep bool
	over bool
}

func (b *leanBody) Read(p []byte) (n int, err error) {
	switch {
	case b.over:
		return 0, io.EOF
	case b.body != nil:
		n, err = b.body.Read(p)
	default:
		n, err = b.wire.in.Read(p[:min(int64(len(p)), b.left)])
		if b.left -= int64(n); b.left == 0 {
			err = io.EOF
		} else if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == nil {
		return n, nil
	}
	b.over = true
	b.lean.release(b.wire, b.keep && err == io.EOF)
	return n, err
}

func (b *leanBody) BeforeWait(f func()) bool {
	if !b.over {
		b.wire.idling = f
	}
	return true
}

func (b *leanBody) Close() error {
	if !b.over {
		b.over = true
		b.lean.release(b.wire, false)
	}
	return nil
}

// get takes the connection that was used last, or opens one.
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
		if time.Since(w.keptAt) < idleTime && w.silent() {
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
	w := &wire{conn: conn, silent: silentOf(raw)}
	w.in = bufio.NewReader(w)
	return w, nil
}

func (l *lean) put(w *wire) {
	w.ctx, w.idling = nil, nil
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
