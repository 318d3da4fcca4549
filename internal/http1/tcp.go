package http1

import (
	"io"
	"net"
)

// TCP is a Conn of a connection over TCP.
type TCP struct {
	*net.TCPConn
	unread []byte
}

// Unread implements Conn.
func (c *TCP) Unread(b []byte) { c.unread = b }

func (c *TCP) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.TCPConn.Read(p)
	}
	n := copy(p, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.unread = nil // and its memory
	}
	return n, nil
}

// WriteTo is Read and Write, not what the kernel can do without them.
func (c *TCP) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }
