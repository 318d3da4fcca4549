package gateway

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

const (
	// sendBuffer and receiveBuffer bound what the kernel keeps for one socket.
	sendBuffer    = 16 << 10
	receiveBuffer = 4 << 10
	// maxRest bounds what we keep of messages that the kernel did not take whole; a
	// goodbye may come on top of it.
	maxRest = 4 << 10
	// stuckTime is how long something may wait before the socket is given up.
	stuckTime = 15 * time.Second
	// impatience bounds a write where nothing tells how much the kernel would take.
	impatience = 20 * time.Millisecond
)

var (
	errStuck = errors.New("the client reads too slowly")
	errShut  = errors.New("a close frame was sent")
)

// outbox is a connection whose writes never wait: what the kernel does not take now is
// kept, up to maxRest bytes, and goes out with a later flush. So one slow reader cannot
// hold the writer that serves thousands. It belongs to one goroutine at a time.
type outbox struct {
	fd    int       // of a connection that is watched by epoll; -1 where conn is
	shut  bool      // a close frame was written: nothing follows
	rest  []byte    // not taken yet; nil almost always
	since time.Time // when rest began to wait

	conn  net.Conn // of all others: TLS, and systems without epoll
	leave func()   // tells who counts connections that this one has ended; may be nil
}

// newOutbox takes conn over.
func newOutbox(conn net.Conn) outbox {
	if tcp, ok := beneath(conn).(interface {
		SetWriteBuffer(int) error
		SetReadBuffer(int) error
	}); ok { // larger ones only cost memory; a kernel that keeps its own is no harm
		_ = tcp.SetWriteBuffer(sendBuffer)
		_ = tcp.SetReadBuffer(receiveBuffer)
	}
	o := outbox{fd: descriptor(conn), conn: conn}
	if o.fd < 0 {
		return o
	}
	if counted, ok := conn.(interface{ handOver() (leave func()) }); ok {
		o.leave = counted.handOver()
	}
	_ = conn.Close() // the descriptor is another one of the same connection
	o.conn = nil
	return o
}

// beneath is the connection under TLS, or conn itself.
func beneath(conn net.Conn) net.Conn {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return over.NetConn()
	}
	return conn
}

// close ends the connection. What a client that took nothing has not read yet is lost:
// thousands of those would keep the kernel's memory for minutes.
func (o *outbox) close() {
	if o.fd >= 0 {
		if len(o.rest) > 0 {
			_ = unix.SetsockoptLinger(o.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
		_ = unix.Close(o.fd)
	} else {
		_ = beneath(o.conn).Close() // TLS would wait to say goodbye; a close frame has said it
	}
	if o.leave != nil {
		o.leave()
	}
}

// control writes a control frame of at most 125 bytes; after a close frame nothing.
func (o *outbox) control(kind byte, payload []byte) error {
	frame := append(make([]byte, 0, 2+maxControl), finalBit|kind, byte(len(payload)))
	frame = append(frame, payload...)
	room := maxRest
	if kind == websocket.CloseMessage {
		room += len(frame)
	}
	err := o.put(frame, room)
	o.shut = o.shut || kind == websocket.CloseMessage
	return err
}

// empty tells that the kernel has taken everything.
func (o *outbox) empty() bool { return len(o.rest) == 0 }

// write takes b whole, or fails for good.
func (o *outbox) write(b []byte) error { return o.put(b, maxRest) }

func (o *outbox) put(b []byte, room int) error {
	if o.shut {
		return errShut
	}
	n := 0
	if len(o.rest) == 0 {
		var err error
		if n, err = o.give(b); err != nil || n == len(b) {
			return err
		}
		o.since = time.Now()
	}
	if len(o.rest)+len(b)-n > room {
		return errStuck
	}
	o.rest = append(o.rest, b[n:]...)
	return nil
}

// flush sends what waits. It fails with errStuck when that waits for longer than stuckTime.
func (o *outbox) flush() error {
	if len(o.rest) == 0 {
		return nil
	}
	n, err := o.give(o.rest)
	switch o.rest = o.rest[n:]; {
	case err != nil:
		return err
	case len(o.rest) == 0:
		o.rest = nil
	case time.Since(o.since) > stuckTime:
		return errStuck
	}
	return nil
}

// give hands b to the kernel without waiting and returns how much it took.
func (o *outbox) give(b []byte) (int, error) {
	if o.fd < 0 {
		return o.giveConn(b)
	}
	for {
		n, err := send(o.fd, b)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, err
		}
	}
}

// giveConn asks the kernel for room first, since TLS cannot take back a write that was
// cut short. A kernel that has any has enough for what is sent here.
func (o *outbox) giveConn(b []byte) (int, error) {
	if c, ok := beneath(o.conn).(syscall.Conn); ok {
		raw, err := c.SyscallConn()
		if err != nil {
			return 0, err
		}
		ready := []unix.PollFd{{Events: unix.POLLOUT}}
		err = raw.Control(func(fd uintptr) {
			ready[0].Fd = int32(fd)
			_, _ = unix.Poll(ready, 0) // a fault is as good as no room: flush asks again
		})
		if err != nil {
			return 0, err
		}
		if ready[0].Revents == 0 {
			return 0, nil
		}
	}
	if err := o.conn.SetWriteDeadline(time.Now().Add(impatience)); err != nil {
		return 0, err
	}
	return o.conn.Write(b)
}
