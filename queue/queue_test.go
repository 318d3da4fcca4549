package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

func repeat(state State, n int) []State { return slices.Repeat([]State{state}, n) }

func (s *stage) expect(what string, got, want any) {
	s.t.Helper()
	if a, b := sprint(got), sprint(want); a != b {
		s.t.Errorf("%s: got %s, want %s", what, a, b)
	}
}

func (s *stage) live() Live { return s.line(0).View().Live() }

// TestKnown: a gateway that has read nothing does not take an emptied store's word.
func TestKnown(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	h, ctx := s.halls[0], context.Background()
	if h.Known() || h.Ready() == nil {
		t.Error("known before it looked")
	}
	s.lose()
	if err := h.look(ctx); err != nil || h.Known() {
		t.Errorf("an empty store without a Recorder: known %v, %v", h.Known(), err)
	}
	if err := s.rdb.Set(ctx, recordedKey, 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := h.look(ctx); err != nil || !h.Known() || h.Ready() != nil {
		t.Errorf("a site without rooms: known %v, ready %v, %v", h.Known(), h.Ready(), err)
	}
}

func TestFIFOOrderAcrossGateways(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.room(Patch{PacePerMin: opt(60), Capacity: opt(3)})
	fans := append(s.join(0, 3), s.join(1, 3)...)
	for i, f := range fans {
		s.expect("number", f.Number, i)
	}
	s.pass(time.Second)
	s.expect("after a second", s.states(fans), append(repeat(Called, 1), repeat(Waiting, 5)...))
	s.pass(5*time.Second, fans...)
	s.expect("at capacity", s.states(fans), append(repeat(Called, 3), repeat(Waiting, 3)...))
	last := s.place(1, fans[5])
	s.expect("position", *last.Position, 3)
	s.expect("rank", *last.Rank, 5)
	s.expect("progress", last.Progress, 0.6)
	s.expect("waiting", last.Waiting, 3)
	if last.ETA == nil || last.ETA.Low > last.ETA.High {
		t.Errorf("eta %+v", last.ETA)
	}
}

func TestPaceBoundsCalls(t *testing.T) {
	t.Parallel()
	for _, pace := range []int{0, 1, 60, 600, 6000} {
		t.Run(sprint(pace), func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 2)
			s.room(Patch{PacePerMin: opt(pace), Capacity: opt(100_000)})
			s.join(0, 1500)
			for second := 1; second <= 10; second++ {
				s.pass(time.Second)
				bound := float64(pace)*float64(second)/60 + max(1, float64(pace)/60)
				if pace == 0 {
					bound = 0
				}
				if got := float64(s.live().CalledTotal); got > bound || got < float64(pace*second/60) && got < 1500 {
					t.Errorf("%v calls in %d s, bound %v", got, second, bound)
				}
			}
		})
	}
}

func TestPaceChangeDoesNotReachBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.room(Patch{PacePerMin: opt(60)})
	s.join(0, 500)
	s.pass(2 * time.Second)
	before := s.live().CalledTotal
	s.clock.Add(1000) // a second at the old pace, not ticked
	s.room(Patch{PacePerMin: opt(60_000)})
	if got := s.live().CalledTotal - before; got > 2 {
		t.Errorf("a second at 60 a minute gave %d calls", got)
	}
}

func TestAbsentAreSkippedWithoutSpendingPace(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.room(Patch{PacePerMin: opt(0), PresenceTTL: opt(10), ReturnWindow: opt(60)})
	fans := s.join(0, 300)
	present := fans[200:]
	s.pass(30*time.Second, present...)
	s.expect("present", s.live().Present, 100)
	s.expect("waiting", s.live().Waiting, 300)
	s.expect("absent are not ahead", *s.place(0, fans[200]).Position, 1)
	s.room(Patch{PacePerMin: opt(60)})
	s.pass(3*time.Second, present...)
	live := s.live()
	if live.CalledTotal < 3 || live.CalledTotal > 4 {
		t.Errorf("%d calls in 3 s at one a second", live.CalledTotal)
	}
	s.expect("first present", s.place(1, fans[200]).State, Called)
	s.expect("missed", live.Missed, 200)
}

func TestFrontierNeverPassesANewcomer(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.room(Patch{PacePerMin: opt(600)})
	s.pass(30 * time.Second)
	s.expect("idle frontier", s.line(0).View().frontier, 0)
	fan := s.join(0, 1)[0]
	s.tick()
	s.expect("called at once", s.place(0, fan).State, Called)
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	at := func(minutes int) Opt[time.Time] { return opt(start.Add(time.Duration(minutes) * time.Minute)) }
	s.room(Patch{LobbyAt: at(10), OpensAt: at(20), ClosesAt: at(30), PresenceTTL: opt(3600)})
	s.expect("phase", s.live().Phase, Scheduled)
	if _, err := s.line(0).Join(ctx); !errors.Is(err, ErrNotOpen) {
		t.Errorf("join before the lobby: %v", err)
	}
	s.clock.Add((10 * time.Minute).Milliseconds())
	s.tick()
	s.expect("phase", s.live().Phase, Lobby)
	fan := s.join(1, 1)[0]
	p := s.place(0, fan)
	s.expect("in the lobby", []any{p.State, p.Rank == nil, p.Position == nil, p.Progress}, []any{InLobby, true, true, 0.0})
	s.clock.Add((10 * time.Minute).Milliseconds())
	s.tick()
	s.expect("open", s.place(0, fan).State, Called)
	s.clock.Add((10 * time.Minute).Milliseconds())
	s.tick()
	s.expect("closed", s.live().Phase, Closed)
	if _, err := s.line(0).Join(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("join after closing: %v", err)
	}
}

func TestResetBeginsAnEpochAndKeepsSessions(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(600), Capacity: opt(2)})
	old := s.join(0, 5)
	s.tick()
	if _, err := s.line(0).Claim(ctx, old[0]); err != nil {
		t.Fatal(err)
	}
	s.renew()
	s.tick()
	s.expect("an old place", s.place(1, old[1]).State, Lapsed)
	if _, err := s.line(1).Claim(ctx, old[1]); !errors.Is(err, ErrLapsed) {
		t.Errorf("claim of an old epoch: %v", err)
	}
	fresh := s.join(0, 3)
	s.expect("numbers begin again", fresh[0].Number, 0)
	s.expect("the other gateway learns by the token", s.place(1, fresh[0]).State != Lapsed, true)
	s.pass(2*time.Second, fresh...)
	s.expect("the session still counts", []uint64{s.live().Sessions, s.live().Called}, []uint64{1, 1})
}

func TestPositionsNeverRise(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(120), PresenceTTL: opt(8), Capacity: opt(1000)})
	var fans []Token
	last := map[uint64]Place{}
	for step := range 60 {
		fans = append(fans, s.join(0, 5)...)
		if step%7 == 3 {
			if err := s.line(0).Leave(ctx, fans[step]); err != nil {
				t.Fatal(err)
			}
		}
		for i, f := range fans { // a third goes away after a while
			if i%3 != 0 || step < i/5+10 {
				s.line(0).Seen(f)
			}
		}
		s.pass(500 * time.Millisecond)
		fans = append(fans, s.join(0, 3)...) // unknown to the View yet
		for i, f := range fans {
			if i%3 == 0 && step >= i/5+10 {
				continue
			}
			p := s.place(0, f)
			if q, ok := last[f.Number]; ok && p.State == Waiting && q.State == Waiting {
				if *p.Position > *q.Position || p.Progress < q.Progress {
					t.Fatalf("place %d went back: %d → %d, %v → %v", f.Number, *q.Position, *p.Position, q.Progress, p.Progress)
				}
			}
			last[f.Number] = p
		}
	}
}

func TestAlwaysOnRoomStaysSmall(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(maxPace), Capacity: opt(maxCapacity), CallTTL: opt(1), ReturnWindow: opt(1), PresenceTTL: opt(2)})
	for range 12 {
		args := []any{s.line(0).now(), 40_000}
		if err := joinScript.Run(ctx, s.rdb, keysOf("r"), args...).Err(); err != nil {
			t.Fatal(err)
		}
		s.pass(5 * time.Second)
	}
	v := s.line(0).View()
	s.expect("all were called", v.frontier, 480_000)
	if v.base < 400_000 {
		t.Errorf("base %d of frontier %d", v.base, v.frontier)
	}
	for _, name := range keyNames[1:12] {
		if n := s.rdb.StrLen(ctx, keyOf("r", name)).Val(); n > 20_000 {
			t.Errorf("%s has %d bytes", name, n)
		}
	}
	fan := s.join(0, 1)[0]
	s.pass(time.Second, fan)
	s.expect("a newcomer", s.place(0, fan).State, Called)
	s.expect("an old place", s.place(0, Token{Room: "r", Epoch: fan.Epoch, Number: 3}).State, Lapsed)
}

// TestStorm holds invariants 4 to 6 while 200 goroutines join and claim on two gateways.
func TestStormOfJoinsAndClaims(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	const capacity = 150
	s.room(Patch{PacePerMin: opt(60_000), Capacity: opt(capacity)})
	var mu sync.Mutex
	numbers, sessions := map[uint64]bool{}, map[string]bool{}
	var storm sync.WaitGroup
	for i := range 200 {
		storm.Go(func() {
			for range 5 {
				l := s.line(i % 2)
				f, err := l.Join(ctx)
				if err != nil {
					t.Errorf("join: %v", err)
					return
				}
				mu.Lock()
				if numbers[f.Number] {
					t.Errorf("number %d was given twice", f.Number)
				}
				numbers[f.Number] = true
				mu.Unlock()
				s.clock.Add(1)
				if err := s.line((i + 1) % 2).tick(ctx); err != nil {
					t.Errorf("tick: %v", err)
				}
				var claims sync.WaitGroup
				ids := make([]string, 3)
				for c := range ids {
					claims.Go(func() {
						got, err := s.line(c%2).Claim(ctx, f)
						if err == nil {
							ids[c] = got.ID
						} else if !errors.Is(err, ErrNotCalled) {
							t.Errorf("claim: %v", err)
						}
					})
				}
				claims.Wait()
				mu.Lock()
				for _, id := range ids {
					if id != "" {
						sessions[id] = true
					}
				}
				mu.Unlock()
				if v := l.View(); v.sessions+v.called > capacity {
					t.Errorf("%d sessions and %d calls with capacity %d", v.sessions, v.called, capacity)
				}
			}
		})
	}
	storm.Wait()
	s.tick()
	v := s.line(0).View()
	s.expect("numbers", len(numbers), 1000)
	s.expect("sessions", v.sessions, len(sessions))
	s.expect("admitted", v.admittedTotal, len(sessions))
	s.expect("calls follow rank", v.frontier, v.calledTotal)
}
