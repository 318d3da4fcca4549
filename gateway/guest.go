package gateway

import (
	"net"
	"net/netip"
	"sync/atomic"

	"usher/internal/http1"
)

// guest is a connection that counts until it is closed. Thousands of them wait: it is
// small, and leaves the descriptor in reach of those who write to it directly.
type guest struct {
	http1.TCP
	door   *door
	from   net.Addr
	prefix netip.Prefix // whose connection it is; zero for a trusted proxy's own
	left   atomic.Bool
}

func (g *guest) RemoteAddr() net.Addr { return g.from }

func (g *guest) Close() error {
	if g.left.CompareAndSwap(false, true) {
		g.door.leave(g.prefix)
	}
	return g.TCP.Close()
}

// handOver tells that somebody holds the connection's descriptor beyond Close, and
// counts until he calls leave, once.
func (g *guest) handOver() (leave func()) {
	if !g.left.CompareAndSwap(false, true) {
		return func() {} // it is closed, and counted out
	}
	return func() { g.door.leave(g.prefix) }
}
