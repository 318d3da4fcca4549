//go:build unix

package http1

import "syscall"

const canPeek = true

// leaves waits until something comes over conn, it ends, or its read deadline, and tells
// whether it ended; what came stays there to be read.
func leaves(conn Conn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	var fault error
	waited := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, fault = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return fault != syscall.EAGAIN
	})
	return waited != nil || fault != nil || n == 0
}
