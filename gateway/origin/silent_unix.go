//go:build unix

package origin

import "syscall"

// silentOf tells whether a kept connection is open and nothing has come over it unasked:
// what did would be taken for the answer to the next request.
func silentOf(raw syscall.RawConn) func() bool {
	quiet := false
	look := func(fd uintptr) {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	}
	return func() bool {
		quiet = false
		return raw.Control(look) == nil && quiet
	}
}
