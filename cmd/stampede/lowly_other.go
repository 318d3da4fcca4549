//go:build !linux

package main

// lowly runs f. Bots come only where clients can choose their address, which is on Linux.
func lowly(f func() error) error { return f() }
