//go:build !linux

package site

import "syscall"

// Only Linux tells children of their parent's death.
func dieWithParent(*syscall.SysProcAttr) {}
