package queue

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"usher/internal/problem"
)

func TestClaimIsOneSession(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(60), Capacity: opt(1), SessionTTL: opt(100), CallTTL: opt(30)})
	fans := s.join(0, 2)
	s.tick()
	if _, err := s.line(0).Claim(ctx, fans[1]); !errors.Is(err, ErrNotCalled) {
		t.Errorf("claim of one who waits: %v", err)
	}
	first, err := s.line(0).Claim(ctx, fans[0])
	if err != nil {
		t.Fatal(err)
	}
	s.expect("expiry", first.Expires, start.Add(100*time.Second))
	s.pass(40*time.Second, fans...)
	again, err := s.line(1).Claim(ctx, fans[0])
	if err != nil || again.ID != first.ID || !again.Expires.Equal(first.Expires) {
		t.Errorf("claimed again: %+v, %v; first %+v", again, err, first)
	}
	s.expect("admitted", s.live().AdmittedTotal, 1)
	s.expect("state", s.place(1, fans[0]).State, Admitted)
	s.expect("capacity", s.place(1, fans[1]).State, Waiting)
	s.pass(61*time.Second, fans...)
	s.expect("after its time", s.states(fans), []State{Lapsed, Called})
	if _, err := s.line(0).Claim(ctx, fans[0]); !errors.Is(err, ErrLapsed) {
		t.Errorf("claim after the session: %v", err)
	}
}

func TestReleaseFreesCapacity(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(600), Capacity: opt(1)})
	fans := s.join(0, 2)
	s.tick()
	session, err := s.line(0).Claim(ctx, fans[0])
	if err != nil {
		t.Fatal(err)
	}
	s.pass(2 * time.Second)
	s.expect("full", s.place(0, fans[1]).State, Waiting)
	if err := s.line(0).Release(ctx, session.ID); err != nil {
		t.Fatal(err)
	}
	s.pass(time.Second)
	s.expect("free", s.place(0, fans[1]).State, Called)
	s.expect("released", s.place(0, fans[0]).State, Lapsed)
}

func TestMissedMayReturnOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(60), Capacity: opt(1), CallTTL: opt(5), ReturnWindow: opt(30)})
	fans := s.join(0, 8)
	s.pass(time.Second, fans...)
	s.expect("called", s.place(0, fans[0]).State, Called)
	s.pass(5*time.Second, fans...)
	p := s.place(0, fans[0])
	s.expect("missed", p.State, Missed)
	if _, err := s.line(0).Claim(ctx, fans[0]); !errors.Is(err, ErrNotCalled) {
		t.Errorf("claim of a missed place: %v", err)
	}
	back, err := s.line(1).Return(ctx, fans[0])
	if err != nil {
		t.Fatal(err)
	}
	s.expect("returned", back.State, Waiting)
	s.expect("before those who wait", *back.Position, 1)
	// One call at a time expires unclaimed; at the latest the fourth is the returner's.
	called := func() bool { return s.place(0, fans[0]).State == Called }
	for range 30 {
		if called() {
			break
		}
		s.pass(time.Second, fans...)
	}
	if !called() {
		t.Fatalf("the returner was not called: %v", s.states(fans))
	}
	if n := s.live().CalledTotal; n > 5 {
		t.Errorf("the returner waited for %d calls of others", n-2)
	}
	s.pass(6*time.Second, fans...)
	s.expect("missed twice", s.place(0, fans[0]).State, Lapsed)
	if p, _ := s.line(0).Return(ctx, fans[0]); p.State != Lapsed {
		t.Errorf("returned twice: %v", p.State)
	}
}

func TestMissedLapsesAfterTheWindow(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.room(Patch{PacePerMin: opt(600), CallTTL: opt(5), ReturnWindow: opt(10), PresenceTTL: opt(600)})
	fan := s.join(0, 1)[0]
	s.pass(14 * time.Second)
	s.expect("in the window", s.place(0, fan).State, Missed)
	s.expect("figure", s.live().Missed, 1)
	s.pass(2 * time.Second)
	s.expect("after it", s.place(0, fan).State, Lapsed)
	s.expect("figures", []uint64{s.live().Missed, s.live().Lapsed, s.live().Called}, []uint64{0, 1, 0})
}

func TestPassedWhileAbsentIsBackByBeingPresent(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.room(Patch{PacePerMin: opt(0), PresenceTTL: opt(4), Capacity: opt(100)})
	fans := s.join(0, 2)
	s.pass(10*time.Second, fans[1])
	s.room(Patch{PacePerMin: opt(60)})
	s.pass(time.Second, fans[1])
	s.expect("second is called", s.place(0, fans[1]).State, Called)
	s.expect("first is back", s.place(1, fans[0]).State, Waiting)
	s.pass(time.Second, fans...)
	s.expect("and called, as nobody else waits", s.place(0, fans[0]).State, Called)
}

// TestInvariant4AndTheQuarter: a crowd that parked its places comes back as a trickle.
func TestReturningAreAtMostAQuarterWhileOthersWait(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.room(Patch{PacePerMin: opt(0), PresenceTTL: opt(4), Capacity: opt(100_000), ReturnWindow: opt(600), CallTTL: opt(600)})
	parked := s.join(0, 400)
	others := s.join(1, 400)
	s.pass(10*time.Second, others...)
	s.room(Patch{PacePerMin: opt(600)})
	s.pass(time.Second, others...) // the frontier passes the parked
	for _, f := range parked {
		s.place(0, f)
	}
	count := func(fans []Token) (n int) {
		places, err := s.line(1).Places(context.Background(), fans, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range places {
			if p.State == Called {
				n++
			}
		}
		return n
	}
	all, before := append(slices.Clone(parked), others...), s.live().CalledTotal
	for second := 1; second <= 20; second++ {
		s.pass(time.Second, all...)
		returned, calls := count(parked), int(s.live().CalledTotal-before)
		if returned > calls/4+1 {
			t.Errorf("second %d: %d of %d calls went to the returning", second, returned, calls)
		}
		if second == 20 && returned < calls/5 {
			t.Errorf("the returning got only %d of %d", returned, calls)
		}
	}
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(0)})
	fans := s.join(0, 5)
	s.tick()
	for _, i := range []int{0, 2} {
		if err := s.line(1).Leave(ctx, fans[i]); err != nil {
			t.Fatal(err)
		}
		s.expect("seen at once", s.place(1, fans[i]).State, Left)
		if err := s.line(0).Leave(ctx, fans[i]); err != nil {
			t.Fatalf("left twice: %v", err)
		}
	}
	s.pass(time.Second, fans...) // their sockets are still open somewhere
	s.tick()
	s.expect("states", s.states(fans), []State{Left, Waiting, Left, Waiting, Waiting})
	s.expect("position", *s.place(0, fans[3]).Position, 2)
	s.expect("waiting and left", []uint64{s.live().Waiting, s.live().Left}, []uint64{3, 2})
	s.room(Patch{PacePerMin: opt(600)})
	s.pass(time.Second, fans...)
	s.expect("called", s.states(fans), []State{Left, Called, Left, Called, Called})
	if err := s.line(0).Leave(ctx, fans[1]); err != nil {
		t.Fatal(err)
	}
	s.tick()
	s.expect("an open call is given up", s.live().Called, 2)
	s.expect("nobody missed", s.live().Missed, 0)
	if _, err := s.line(0).Claim(ctx, fans[1]); !errors.Is(err, ErrLapsed) {
		t.Errorf("claim after leaving: %v", err)
	}
}

func TestPauseFreezesClocksAndClaimsWork(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(60), CallTTL: opt(10), ReturnWindow: opt(10)})
	fans := s.join(0, 20)
	s.tick()
	s.room(Patch{State: opt(ModePaused)})
	calls := s.live().CalledTotal
	s.pass(5*time.Minute, fans...)
	s.expect("no calls in a pause", s.live().CalledTotal, calls)
	p := s.place(0, fans[0])
	s.expect("still called", p.State, Called)
	s.expect("phase", p.Phase, Paused)
	if _, err := s.line(1).Claim(ctx, fans[0]); err != nil {
		t.Errorf("claim in a pause: %v", err)
	}
	s.room(Patch{State: opt(ModeAuto)})
	if got := s.live().CalledTotal - calls; got > 1 {
		t.Errorf("pace built up in a pause: %d calls at once", got)
	}
}

func TestAdmitIgnoresPaceNeverCapacity(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(0), Capacity: opt(10)})
	s.join(0, 50)
	n, err := s.halls[0].Admit(ctx, "r", 4, Actor{Name: "Ada"})
	s.expect("admitted", []any{n, err}, []any{4, nil})
	n, err = s.halls[0].Admit(ctx, "r", 40, Actor{Name: "Ada"})
	s.expect("to capacity", []any{n, err}, []any{6, nil})
	s.room(Patch{Capacity: opt(3)})
	s.pass(10 * time.Second)
	s.expect("lowered capacity ends nothing", s.live().Called, 10)
	s.room(Patch{State: opt(ModeClosed)})
	_, err = s.halls[0].Admit(ctx, "r", 1, Actor{})
	if p, ok := problem.From(err); !ok || p.Code != "room-not-open" {
		t.Errorf("admit to a closed room: %v", err)
	}
}

func TestBypassAdmitsEveryone(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(0), Capacity: opt(1)})
	fans := s.join(0, 10)
	s.room(Patch{State: opt(ModeBypass)})
	s.expect("phase", s.live().Phase, Open)
	for i, f := range fans[:5] {
		s.expect("may claim", s.place(i%2, f).State, Called)
		if _, err := s.line(i%2).Claim(ctx, f); err != nil {
			t.Fatal(err)
		}
		s.expect("admitted", s.place(i%2, f).State, Admitted)
	}
	s.room(Patch{State: opt(ModeAuto), PacePerMin: opt(600), Capacity: opt(100)})
	s.expect("still in line", s.live().Waiting+s.live().Called, 5)
	s.pass(2*time.Second, fans...)
	s.expect("the rest is called", s.states(fans), append(repeat(Admitted, 5), repeat(Called, 5)...))
	s.expect("open calls", s.live().Called, 5)
}

// TestBypassInTheLobbyOfADraw: who was let in then is out of the draw's line, and takes
// nobody's rank away.
func TestBypassInTheLobbyOfADraw(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(drawPatch(1))
	fans := s.join(0, 40)
	s.room(Patch{State: opt(ModeBypass)})
	for _, f := range fans[:10] {
		if _, err := s.line(1).Claim(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	s.room(Patch{State: opt(ModeAuto)})
	s.expect("the lobby goes on", s.place(0, fans[20]).State, InLobby)
	s.clock.Add(time.Minute.Milliseconds())
	s.tick()
	s.durable("40")
	s.pass(10*time.Second, fans...)
	s.expect("states", s.states(fans), append(repeat(Admitted, 10), repeat(Called, 30)...))
	for _, f := range fans[10:] {
		if _, err := s.line(0).Claim(ctx, f); err != nil {
			t.Errorf("place %d: %v", f.Number, err)
		}
	}
	s.tick()
	s.expect("sessions", s.live().Sessions, 40)
}
