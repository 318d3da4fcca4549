package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// lowly runs f when no other thread of this machine has anything to do: what bots compute on machines of their own
// must not slow those who share this one. It returns f's error.
func lowly(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0); err != nil {
			done <- fmt.Errorf("compute behind others: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
