//go:build !linux

package main

import (
	"context"
	"time"
)

// drive is only leaner than run where there is epoll.
func (l load) drive(ctx context.Context, address string, d time.Duration) (pace, error) {
	l.lean = false
	return l.run(ctx, address, d, 0)
}
