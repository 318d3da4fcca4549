package http1

import (
	"sync"
	"time"
)

// lateness is by how much a deadline may be missed, so that most need not be told.
const lateness = 2 * time.Second

// way is one direction of a connection. The deadline wanted of it is told to the runtime only by what is read or
// written, and only when the one told before would come too early, or more than lateness too late.
type way struct {
	mu           sync.Mutex // guards all below
	wanted, told time.Time  // zero: none
	under        int        // reads or writes under way, which another deadline is for at once
}

// want says by when the next read or write has to end.
func (w *way) want(t time.Time) {
	w.mu.Lock()
	w.wanted = t
	w.mu.Unlock()
}

// begin must be followed by end when it returns nil.
func (w *way) begin(tell func(time.Time) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.good() {
		t := w.wanted
		if time.Until(t) > 0 {
			t = t.Add(lateness) // the next ones will be later
		}
		if err := tell(t); err != nil {
			return err
		}
		w.told = t
	}
	w.under++
	return nil
}

func (w *way) good() bool {
	if w.wanted.IsZero() || w.told.IsZero() {
		return w.wanted.IsZero() && w.told.IsZero()
	}
	late := w.told.Sub(w.wanted)
	return late >= 0 && late <= lateness
}

func (w *way) end() {
	w.mu.Lock()
	w.under--
	w.mu.Unlock()
}

func (w *way) set(t time.Time, tell func(time.Time) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = t
	if w.under == 0 {
		return nil
	}
	w.told = t
	return tell(t)
}

// tell sets another deadline than the one wanted, which the next read will tell again.
func (w *way) tell(t time.Time, tell func(time.Time) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = t
	_ = tell(t) // a closed connection needs none
}
