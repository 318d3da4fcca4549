//go:build !linux

package main

import (
	"net"
	"time"
)

// stamp notes times of arrival as this process sees them.
func stamp(conn *net.TCPConn) (*stamped, error) { return &stamped{TCPConn: conn}, nil }

func (c *stamped) read(p []byte) (int, time.Time, error) {
	n, err := c.TCPConn.Read(p)
	return n, time.Now(), err
}
