//go:build unix

package origin

import "syscall"

// silent tells whether a kept connection is open and nothing has come over it unasked:
// what did would be taken for the answer to the next request.
func silent(raw syscall.RawConn) bool {
	quiet := false
	err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && quiet
}
