package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// stamp has the kernel tell with what is read when it had arrived (SO_TIMESTAMPNS, socket(7)).
func stamp(conn *net.TCPConn) (*stamped, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var refused error
	err = raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, fmt.Errorf("ask for times of arrival: %w", err)
	}
	return &stamped{TCPConn: conn, raw: raw}, nil
}

// read tells with what it read when the last of it had arrived.
func (c *stamped) read(p []byte) (n int, at time.Time, err error) {
	var control [64]byte
	var told int
	var failed error
	err = c.raw.Read(func(fd uintptr) bool {
		for {
			n, told, _, _, failed = unix.Recvmsg(int(fd), p, control[:], 0)
			if failed != unix.EINTR {
				return failed != unix.EAGAIN
			}
		}
	})
	switch {
	case err != nil:
		return 0, at, err
	case failed != nil:
		return 0, at, failed
	case n == 0 && len(p) > 0:
		return 0, at, io.EOF
	}
	return n, arrival(control[:told]), nil
}

// arrival reads the kernel's word; where there is none it is now.
func arrival(control []byte) time.Time {
	for len(control) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			break
		}
		var t unix.Timespec
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SO_TIMESTAMPNS {
			if _, err := binary.Decode(data, binary.NativeEndian, &t); err == nil {
				return time.Unix(t.Unix())
			}
		}
		control = rest
	}
	return time.Now()
}
