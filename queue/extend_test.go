package queue

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestExtend: a call can be lengthened once, counts against the capacity as long as it
// lasts, and is missed like any other when nobody claims it.
func TestExtend(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(6000), Capacity: opt(5), CallTTL: opt(10), ReturnWindow: opt(60), PresenceTTL: opt(3600)})
	fans := s.join(0, 12)
	s.pass(time.Second)
	s.expect("called", s.states(fans), append(repeat(Called, 5), repeat(Waiting, 7)...))
	if _, err := s.line(0).Extend(ctx, fans[5]); !errors.Is(err, ErrNotCalled) {
		t.Errorf("extend one that waits: %v", err)
	}
	before := s.place(0, fans[2])
	s.expect("may be extended", before.CallExtendable, true)
	after, err := s.line(1).Extend(ctx, fans[2])
	if err != nil {
		t.Fatal(err)
	}
	s.expect("longer by", after.CallExpiresAt.Sub(*before.CallExpiresAt), 10*time.Second)
	s.expect("may be extended again", after.CallExtendable, false)
	if _, err := s.line(0).Extend(ctx, fans[2]); !errors.Is(err, ErrExtended) {
		t.Errorf("extend again: %v", err)
	}
	if _, err := s.line(0).Extend(ctx, fans[4]); err != nil {
		t.Fatal(err)
	}
	s.expect("open calls", s.live().Called, 5)
	if _, err := s.line(0).Claim(ctx, fans[4]); err != nil {
		t.Fatal(err)
	}

	s.pass(10 * time.Second)
	s.expect("the others are missed", s.states(fans[:5]), []State{Missed, Missed, Called, Missed, Admitted})
	if live := s.live(); live.Called+live.Sessions != 5 || live.Missed != 3 {
		t.Errorf("%d calls, %d sessions, %d missed", live.Called, live.Sessions, live.Missed)
	}
	s.pass(10 * time.Second)
	s.expect("missed in the end", s.place(0, fans[2]).State, Missed)
	for _, f := range []Token{fans[1], fans[2], fans[3]} {
		if p, err := s.line(0).Return(ctx, f); err != nil || p.State == Missed || p.State == Lapsed {
			t.Errorf("number %d returns: %s, %v", f.Number, p.State, err)
		}
	}
	for range 40 {
		if s.pass(time.Second, fans...); s.place(0, fans[2]).State == Called {
			break
		}
	}
	if p, err := s.line(0).Extend(ctx, fans[2]); err != nil || p.State != Called {
		t.Errorf("the second call is extended: %s, %v", p.State, err)
	}
	s.pass(25*time.Second, fans...)
	s.expect("missed twice", s.place(0, fans[2]).State, Lapsed)
	if _, err := s.line(0).Extend(ctx, fans[2]); !errors.Is(err, ErrLapsed) {
		t.Errorf("extend one that lapsed: %v", err)
	}
}
