package gateway

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

const (
	// sendBuffer bounds what the kernel keeps for one socket.
	sendBuffer = 16 << 10
	// maxRest bounds what we keep of messages that the kernel did not take whole.
	maxRest = 4 << 10
	// stuckTime is how long a socket may take nothing before it is given up.
	stuckTime = 15 * time.Second
	// impatience bounds a write where the kernel's buffer cannot be asked (TLS).
	impatience = 20 * time.Millisecond
)

var errStuck = errors.New("the client reads too slowly")

// outbox is a connection whose Write never waits: what the kernel does not take
// now is kept, up to maxRest bytes, and goes out with a later flush. So one slow
// reader cannot hold the writer that serves thousands.
type outbox struct {
	net.Conn
	raw syscall.RawConn // nil where there is none

	mu    sync.Mutex // guards all below
	shut  bool       // a close frame was written: nothing follows
	rest  []byte     // not taken yet; nil almost always
	since time.Time  // when rest began to wait
	chunk []byte     // the argument of attempt
	taken int        // its results
	fault error
	try   func(fd uintptr) bool // o.attempt, bound once
}

func newOutbox(conn net.Conn) *outbox {
	o := &outbox{Conn: conn}
	if tcp, ok := conn.(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // a larger one only costs memory
	}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			o.raw = raw
		}
	}
	o.try = o.attempt
	return o
}

var errShut = errors.New("a close frame was sent")

// control writes a control frame of at most 125 bytes; after a close frame nothing.
func (o *outbox) control(kind byte, payload []byte) error {
	frame := append(make([]byte, 0, 2+maxControl), finalBit|kind, byte(len(payload)))
	frame = append(frame, payload...)
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.write(frame)
	o.shut = o.shut || kind == websocket.CloseMessage
	return err
}

func (o *outbox) isShut() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.shut
}

// empty tells that the kernel has taken everything.
func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.rest) == 0
}

// SetWriteDeadline does nothing: no write waits.
func (o *outbox) SetWriteDeadline(time.Time) error { return nil }

// Write takes b whole, or fails for good.
func (o *outbox) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.write(b)
}

// write is Write with the lock held.
func (o *outbox) write(b []byte) (int, error) {
	if o.shut {
		return 0, errShut
	}
	if len(o.rest) > 0 {
		if len(o.rest)+len(b) > maxRest {
			return 0, errStuck
		}
		o.rest = append(o.rest, b...)
		return len(b), o.push()
	}
	n, err := o.send(b)
	if err != nil {
		return n, err
	}
	if n < len(b) {
		if len(b)-n > maxRest {
			return n, errStuck
		}
		o.rest, o.since = append([]byte(nil), b[n:]...), time.Now()
	}
	return len(b), nil
}

// flush sends what waits and tells whether nothing does any more. It fails with
// errStuck when the client has taken nothing for stuckTime.
func (o *outbox) flush() (clear bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.rest) == 0 {
		return true, nil
	}
	if err := o.push(); err != nil {
		return false, err
	}
	if len(o.rest) > 0 && time.Since(o.since) > stuckTime {
		return false, errStuck
	}
	return len(o.rest) == 0, nil
}

func (o *outbox) push() error {
	n, err := o.send(o.rest)
	if n > 0 {
		o.rest, o.since = o.rest[n:], time.Now()
	}
	if len(o.rest) == 0 {
		o.rest = nil
	}
	return err
}

// send gives b to the kernel without waiting and returns how much it took.
func (o *outbox) send(b []byte) (int, error) {
	if o.raw == nil {
		if err := o.Conn.SetWriteDeadline(time.Now().Add(impatience)); err != nil {
			return 0, err
		}
		return o.Conn.Write(b)
	}
	o.chunk, o.taken, o.fault = b, 0, nil
	err := o.raw.Write(o.try)
	o.chunk = nil
	if err == nil {
		err = o.fault
	}
	return o.taken, err
}

// attempt always returns true: RawConn would wait for the socket otherwise.
func (o *outbox) attempt(fd uintptr) bool {
	for o.taken < len(o.chunk) {
		n, err := unix.Write(int(fd), o.chunk[o.taken:])
		if n > 0 {
			o.taken += n
		}
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return true
		case err != nil:
			o.fault = err
			return true
		}
	}
	return true
}

// hijacker hands a connection over as an outbox.
type hijacker struct {
	http.ResponseWriter
	out *outbox // set by Hijack
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.out = newOutbox(conn)
	return h.out, rw, nil
}
