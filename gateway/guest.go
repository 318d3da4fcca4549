package gateway

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
)

// guest is a connection that counts until it is closed. Thousands of them wait: it is
// small, and leaves the descriptor in reach of those who write to it directly.
type guest struct {
	*net.TCPConn
	door   *door
	from   net.Addr
	prefix netip.Prefix // whose connection it is; zero for a trusted proxy's own
	left   atomic.Bool
	unread []byte // what Read returns before anything else
}

func (g *guest) RemoteAddr() net.Addr { return g.from }

func (g *guest) Close() error {
	if g.left.CompareAndSwap(false, true) {
		g.door.leave(g.prefix)
	}
	return g.TCPConn.Close()
}

// handOver tells that somebody holds the connection's descriptor beyond Close, and
// counts until he calls leave, once.
func (g *guest) handOver() (leave func()) {
	if !g.left.CompareAndSwap(false, true) {
		return func() {} // it is closed, and counted out
	}
	return func() { g.door.leave(g.prefix) }
}

// Unread makes b what is read next; see http1.Conn.
func (g *guest) Unread(b []byte) { g.unread = b }

func (g *guest) Read(p []byte) (int, error) {
	if len(g.unread) == 0 {
		return g.TCPConn.Read(p)
	}
	n := copy(p, g.unread)
	if g.unread = g.unread[n:]; len(g.unread) == 0 {
		g.unread = nil // and its memory
	}
	return n, nil
}

// WriteTo is Read and Write, not what the kernel can do without them.
func (g *guest) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{g}) }
