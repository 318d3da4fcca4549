package http1

import (
	"context"
	"net"
	"net/http"
	"runtime/debug"
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
	maxHead   = 16 << 10
	maxRest   = 256 << 10              // of a body that nobody read are read so that the next request can be
	lingering = 500 * time.Millisecond // for the last answer to arrive before what the client still sends resets it
)

// The states of a connection.
const (
	idle   = int32(iota) // between two requests, and before the first
	active               // a request has begun
	closed               // it is the server's no more
)

type conn struct {
	server *Server
	net    Conn
	base   context.Context
	from   string // the client's address
	state  atomic.Int32

	in   []byte // what was read and is not used yet, a part of room
	room []byte
	now  time.Time // when the request's head was whole

	reading, writing way
	watch            watch
	response         response
}

// serve answers plain requests until the connection ends or goes to net/http.
func (c *conn) serve() {
	c.response.c, c.response.header = c, http.Header{}
	for {
		head := c.readHead()
		if head == 0 {
			break
		}
		ctx, cancel := context.WithCancel(c.base)
		r := blank.WithContext(ctx)
		if !parse(c.in[:head], r) {
			cancel()
			c.handOver()
			return
		}
		c.in = c.in[head:]
		goesOn := c.answer(r, cancel)
		cancel()
		if !goesOn || c.server.closing.Load() || !c.state.CompareAndSwap(active, idle) {
			break
		}
	}
	c.close()
}

// blank is what requests are made from: only WithContext gives one its context.
var blank = new(http.Request)

// readHead reads until a head is whole, and returns its length: 0 when the connection has ended, and for one that
// is too long some length at which no head ends.
func (c *conn) readHead() int {
	var began time.Time
	for scanned := 0; ; {
		now := time.Now()
		if len(c.in) > 0 {
			if c.state.Load() != active && !c.state.CompareAndSwap(idle, active) {
				return 0
			}
			from := max(0, scanned-len("\r\n\r"))
			if n := headLength(c.in[from:]); n > 0 {
				c.now = now
				return from + n
			}
			if scanned = len(c.in); scanned >= maxHead {
				return scanned
			}
			if began.IsZero() {
				began = now
			}
			c.reading.want(deadline(began, c.server.HTTP.ReadHeaderTimeout))
		} else {
			c.reading.want(deadline(now, c.server.HTTP.IdleTimeout))
		}
		if c.more() != nil {
			return 0
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

// more reads behind what is there.
func (c *conn) more() error {
	if free := cap(c.in) - len(c.in); len(c.in) == 0 || free == 0 {
		size := inRoom
		if len(c.in) >= inRoom/2 {
			size = 2 * len(c.in)
		}
		if size != len(c.room) {
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

// answer lets the handler answer, and tells whether another request may follow.
func (c *conn) answer(r *http.Request, leave context.CancelFunc) (goesOn bool) {
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
	c.response.begin(r, b)
	returned := false
	defer func() {
		if returned {
			return
		}
		if cause := recover(); cause != nil && cause != http.ErrAbortHandler {
			c.server.logf("http1: panic serving %v: %v\n%s", c.from, cause, debug.Stack())
		}
		c.watch.end(c) // and the connection, without another word
	}()
	c.server.HTTP.Handler.ServeHTTP(&c.response, r)
	returned = true
	goesOn = c.response.finish()
	if b != nil && !b.end() {
		if c.response.err == nil {
			c.linger()
		}
		goesOn = false
	}
	c.watch.end(c)
	return goesOn
}

// linger says that nothing more is read, and lets the answer arrive: to close at once would reset the connection
// under it.
func (c *conn) linger() {
	if c.net.CloseWrite() != nil {
		return
	}
	c.reading.want(time.Now().Add(lingering))
	for {
		if _, err := c.read(c.room); err != nil {
			return
		}
	}
}

// handOver gives the connection to net/http, with what was read of it.
func (c *conn) handOver() {
	if !c.state.CompareAndSwap(active, closed) {
		c.close()
		return
	}
	_ = c.net.SetDeadline(time.Time{}) // a closed one shows at the first read
	c.net.Unread(c.in)
	if !c.server.rest.hand(c.net) {
		_ = c.net.Close()
	}
	c.server.forget(c)
}

func (c *conn) close() {
	c.state.Store(closed)
	_ = c.net.Close()
	c.server.forget(c)
}
