//go:build !linux

package devstack

import "syscall"

// Only Linux tells children of their parent's death. Elsewhere a killed owner
// leaves them running, and the next Lock says so.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}
