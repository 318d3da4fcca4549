package child

import "golang.org/x/sys/unix"

// stepBack sets the calling thread, and whatever it starts, behind all others.
func stepBack() error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}
