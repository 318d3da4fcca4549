//go:build !linux

package main

// stepBack does nothing: bots come only where clients can choose their address, which is on Linux.
func stepBack() error { return nil }
