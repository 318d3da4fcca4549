package http1

import (
	"bytes"
	"cmp"
	"context"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a connection that a Server can serve. Others go to net/http's server as they come.
type Conn interface {
	net.Conn
	SyscallConn() (syscall.RawConn, error)
	CloseWrite() error
	// Unread makes b what is read next. It is called once at most, before the connection goes to net/http.
	Unread(b []byte)
}

const (
	inRoom    = 4 << 10
	fieldRoom = 16                     // how many fields of an answer there is room for from the beginning
	maxHead   = 16 << 10               // of a plain request
	maxRest   = 256 << 10              // of a body that nobody read are read so that the next request can be
	lingering = 500 * time.Millisecond // for an answer to arrive whose client sends on, as net/http
)

// The states of a connection.
const (
	idle   = int32(iota) // between two requests, and before the first
	active               // a request's head has come
	closed               // it is the server's no more
)

type conn struct {
	server *Server
	net    Conn
	base   context.Context
	from   string // the client's address
	state  atomic.Int32
	handed bool // it is net/http's

	in   []byte // what was read and is not used yet, a part of room
	room []byte
	now  time.Time // when the request's head was whole

	asked            bool // something was
	reading, writing way
	watch            watch
}

// serve answers plain requests until the connection ends or goes to net/http.
func (c *conn) serve() {
	defer c.close()
	defer func() {
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
			c.server.logf("http1: panic serving %v: %v\n%s", c.from, cause, debug.Stack())
		}
	}()
	for {
		head, plain := c.readHead()
		if head == 0 {
			return
		}
		ctx, leave := context.WithCancel(c.base)
		r := blank.WithContext(ctx)
		if !plain || !parse(c.in[:head], r) {
			leave()
			c.handOver()
			return
		}
		c.in = c.in[head:]
		// Idle before it looks whether the server closes, which looks for who is idle after it said so.
		if !c.answer(r, leave) || !c.state.CompareAndSwap(active, idle) || c.server.closing.Load() {
			return
		}
	}
}

// blank is what requests are made from: only WithContext gives one its context.
var blank = new(http.Request)

// readHead reads until a head is whole or no plain one can come of it, and returns the length of what belongs to it: 0
// when the connection has ended.
func (c *conn) readHead() (length int, plain bool) {
	settings := c.server.HTTP
	whole := cmp.Or(settings.ReadHeaderTimeout, settings.ReadTimeout)
	patience := cmp.Or(settings.IdleTimeout, settings.ReadTimeout)
	first := !c.asked
	if c.asked = true; first {
		patience = whole
	}
	now := time.Now()
	c.reading.want(deadline(now, patience))
	begun := false
	for line := 0; ; now = time.Now() {
		if line == 0 && !first { // some send a line's end behind a body (RFC 9112, section 2.2)
			c.in = bytes.TrimPrefix(c.in, []byte("\r\n"))
		}
		if len(c.in) > 0 {
			if !begun {
				begun = true
				c.reading.want(deadline(now, whole))
			}
			end, next := headEnd(c.in, line)
			if end != 0 || len(c.in) >= c.server.maxHead() {
				if !c.state.CompareAndSwap(idle, active) {
					return 0, false
				}
				if end <= 0 || end > c.server.maxHead() {
					return len(c.in), false
				}
				c.now = now
				return end, true
			}
			line = next
		}
		if c.more() != nil {
			return 0, false
		}
	}
}

// deadline is so long after began; no time is none.
func deadline(began time.Time, after time.Duration) time.Time {
	if after <= 0 {
		return time.Time{}
	}
	return began.Add(after)
}

// rooms are what is read into.
var rooms = sync.Pool{New: func() any { return new([inRoom]byte) }}

// more reads behind what is there.
func (c *conn) more() error {
	if free := cap(c.in) - len(c.in); len(c.in) == 0 || free == 0 {
		size := inRoom
		if len(c.in) >= inRoom/2 {
			size = 2 * len(c.in)
		}
		switch {
		case size == len(c.room):
		case size == inRoom:
			c.room = rooms.Get().(*[inRoom]byte)[:]
		default:
			c.room = make([]byte, size)
		}
		c.in = c.room[:copy(c.room, c.in)]
	}
	n, err := c.read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	if n > 0 {
		return nil
	}
	return err
}

func (c *conn) read(b []byte) (int, error) {
	if err := c.reading.begin(c.net.SetReadDeadline); err != nil {
		return 0, err
	}
	defer c.reading.end()
	return c.net.Read(b)
}

func (c *conn) write(b []byte) (int, error) {
	if err := c.writing.begin(c.net.SetWriteDeadline); err != nil {
		return 0, err
	}
	defer c.writing.end()
	return c.net.Write(b)
}

// answer lets the handler answer, and tells whether another request may follow. It ends the request's context by leave.
func (c *conn) answer(r *http.Request, leave context.CancelFunc) (goesOn bool) {
	defer c.watch.end(c)
	defer leave()
	r.RemoteAddr = c.from
	c.reading.want(deadline(c.now, c.server.HTTP.ReadTimeout))
	c.writing.want(deadline(c.now, c.server.HTTP.WriteTimeout))
	var b *body
	if r.ContentLength > 0 {
		b = &body{c: c, leave: leave}
		b.left.Store(r.ContentLength)
		r.Body = b
	} else {
		c.watch.begin(c, c.now, leave)
	}
	w := &response{c: c, head: r.Method == http.MethodHead, asked: b, header: make(http.Header, fieldRoom), length: -1, closes: r.Close}
	c.server.HTTP.Handler.ServeHTTP(w, r)
	leave()
	c.watch.end(c)
	if r.MultipartForm != nil {
		_ = r.MultipartForm.RemoveAll() // as net/http: what is left is the system's to clean up
	}
	whole := b == nil || b.end() // before the answer: a client may send all before it reads
	goesOn = w.finish(whole) && whole
	if !whole && w.err == nil {
		c.linger()
	}
	return goesOn
}

// linger says that nothing more is written, and gives the answer time to arrive: to close at once would reset the
// connection under it. What the client still sends is left to fill its window.
func (c *conn) linger() {
	if c.net.CloseWrite() == nil {
		time.Sleep(lingering)
	}
}

// handOver gives the connection to net/http, with what was read of it.
func (c *conn) handOver() {
	if !c.state.CompareAndSwap(active, closed) {
		return
	}
	_ = c.net.SetDeadline(time.Time{}) // a closed one shows at the first read
	c.net.Unread(bytes.Clone(c.in))
	if c.in = nil; len(c.room) == inRoom { // and no body reads from it: their requests have ended
		rooms.Put((*[inRoom]byte)(c.room))
	}
	c.room = nil
	c.handed = c.server.rest.hand(c.net)
}

// close ends the connection, if it is not net/http's.
func (c *conn) close() {
	if !c.handed {
		c.state.Store(closed)
		_ = c.net.Close()
	}
	c.server.forget(c)
}
