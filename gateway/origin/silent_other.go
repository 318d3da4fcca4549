//go:build !unix

package origin

import "syscall"

// silentOf cannot tell here: connections are used once.
func silentOf(syscall.RawConn) func() bool { return func() bool { return false } }
