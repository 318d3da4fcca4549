package main

import (
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
	"time"
)

// A stamped connection notes when it was written to first, since it was told to, and when what was read from it last
// had arrived. Where the kernel tells that (Linux), a rehearsal measures what the gateway took to answer, and not what
// its own processes waited for a processor that the gateway was using.
type stamped struct {
	*net.TCPConn
	raw            syscall.RawConn
	wrote, arrived atomic.Int64 // Unix nanoseconds; 0: not yet
}

func (c *stamped) Write(p []byte) (int, error) {
	c.wrote.CompareAndSwap(0, time.Now().UnixNano())
	return c.TCPConn.Write(p)
}

func (c *stamped) Read(p []byte) (int, error) {
	n, at, err := c.read(p)
	if n > 0 {
		c.arrived.Store(at.UnixNano())
	}
	return n, err
}

// took is the time from the first byte written to the last that arrived; 0 where either is missing.
func (c *stamped) took() time.Duration {
	wrote, arrived := c.wrote.Load(), c.arrived.Load()
	if wrote == 0 || arrived == 0 {
		return 0
	}
	return time.Duration(max(0, arrived-wrote))
}

// watched has the connection of one request noted in *conn, and its stamps begun anew. It stays nil where the
// connection is none of ours.
func watched(conn **stamped) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		inner := got.Conn
		if secured, ok := inner.(*tls.Conn); ok {
			inner = secured.NetConn()
		}
		if c, ok := inner.(*stamped); ok {
			c.wrote.Store(0)
			c.arrived.Store(0)
			*conn = c
		}
	}}
}
