//go:build !linux

package main

import (
	"errors"
	"io"
)

// flood is for Linux alone, as each bot's address on loopback is (onLoopback).
func flood(io.Reader, io.Writer) error { return errors.New("floods need Linux") }
