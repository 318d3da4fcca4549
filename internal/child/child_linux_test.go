package child

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// All threads of a child behind others are.
func TestAChildBehindOthersIsSoAsAWhole(t *testing.T) {
	t.Parallel()
	c, err := StartBehind(t.Context(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	if err := c.Say("hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Hear(); err != nil { // by now its runtime has its threads
		t.Fatal(err)
	}
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(c.PID()) + "/task/*")
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(filepath.Base(thread))
		if err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(id, 0)
		if errors.Is(err, unix.ESRCH) { // it ended meanwhile
			continue
		}
		if err != nil || attr.Policy != unix.SCHED_IDLE {
			t.Errorf("thread %d: %+v, %v; want policy %d", id, attr, err, unix.SCHED_IDLE)
		}
	}
}
