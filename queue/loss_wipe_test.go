package queue

import (
	"context"
	"testing"
	"time"
)

// lose empties Redis as a restart without persistence does.
func (s *stage) lose() {
	s.t.Helper()
	if err := s.rdb.FlushAll(context.Background()).Err(); err != nil {
		s.t.Fatal(err)
	}
}

func TestWipedRedisLosesNobody(t *testing.T) { onEachRecord(t, wipedRedisLosesNobody) }

func wipedRedisLosesNobody(t *testing.T, recorder func(*stage) *Recorder) {
	s := newStage(t, 2)
	r := recorder(s)
	ctx := context.Background()
	s.configure(r, Patch{PacePerMin: opt(600), Capacity: opt(20), PresenceTTL: opt(30), CallTTL: opt(600)})
	fans := append(s.join(0, 100), s.join(1, 100)...)
	s.pass(time.Second, fans...)
	record(t, r)
	var admitted []Session
	for _, f := range fans[:4] {
		session, err := s.line(int(f.Number)%2).Claim(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		admitted = append(admitted, session)
	}
	s.pass(time.Second, fans...) // calls that no checkpoint knows
	frontier := s.line(0).View().frontier
	before := map[uint64]Place{}
	for _, f := range fans {
		before[f.Number] = s.place(0, f)
	}

	s.lose()
	for _, l := range s.lines() {
		if err := l.tick(ctx); err == nil {
			t.Fatal("a tick succeeds in an emptied store")
		}
	}
	p := s.place(0, fans[150])
	s.expect("shown as paused, position kept", []any{p.Phase, p.State, *p.Position}, []any{Paused, Waiting, *before[150].Position})
	record(t, r)
	record(t, r) // claims, moves and invitations come back

	s.tick()
	calls := s.live().CalledTotal
	for range 29 {
		s.pass(time.Second, fans...)
		for _, f := range fans[30:] {
			if p := s.place(int(f.Number)%2, f); *p.Position > *before[f.Number].Position || p.Phase != Paused {
				t.Fatalf("place %d in the quiet time: %+v, position was %d", f.Number, p, *before[f.Number].Position)
			}
		}
	}
	s.expect("nobody is called in the quiet time", s.live().CalledTotal, calls)
	newcomer := s.join(0, 1)[0]
	if newcomer.Number < 200 {
		t.Fatalf("number %d was given twice", newcomer.Number)
	}
	s.pass(2*time.Second, append(fans, newcomer)...)
	for i, f := range fans[:4] {
		p := s.place(i%2, f)
		s.expect("admitted stay admitted", []any{p.State, p.PassExpiresAt}, []any{Admitted, admitted[i].Expires})
	}
	if got := s.line(1).View().frontier; got < frontier {
		t.Errorf("the frontier fell from %d to %d", frontier, got)
	}
	for _, f := range fans[30:] {
		p := s.place(int(f.Number)%2, f)
		if p.State == Waiting && *p.Position > *before[f.Number].Position {
			t.Errorf("place %d: position %d, before the loss %d", f.Number, *p.Position, *before[f.Number].Position)
		}
	}
	// Everybody is called in the end, those whose calls were lost included.
	for range 120 {
		for _, f := range fans {
			if s.place(int(f.Number)%2, f).State == Called {
				session, err := s.line(0).Claim(ctx, f)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.line(1).Release(ctx, session.ID); err != nil {
					t.Fatal(err)
				}
				before[f.Number] = Place{State: Admitted}
			}
		}
		s.pass(time.Second, append(fans, newcomer)...)
		if v := s.line(0).View(); v.sessions+v.called > 20 {
			t.Fatalf("%d sessions and %d calls with capacity 20", v.sessions, v.called)
		}
	}
	for _, f := range fans[4:] {
		if before[f.Number].State != Admitted {
			t.Errorf("place %d was never called after the loss: now %s", f.Number, s.place(0, f).State)
		}
	}
}

func TestWipeKeepsTheDraw(t *testing.T) { onEachRecord(t, wipeKeepsTheDraw) }

func wipeKeepsTheDraw(t *testing.T, recorder func(*stage) *Recorder) {
	s := newStage(t, 1)
	r := recorder(s)
	patch := drawPatch(1)
	patch.PresenceTTL = opt(10)
	s.configure(r, patch)
	fans := s.join(0, 50)
	s.pass(61*time.Second, fans...)
	record(t, r)
	s.tick()
	ranks := map[uint64]uint64{}
	for _, f := range fans {
		ranks[f.Number] = *s.place(0, f).Rank
	}
	s.lose()
	record(t, r)
	s.gateway() // one that remembers nothing
	if err := s.halls[1].look(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, f := range fans {
		if got := *s.place(1, f).Rank; got != ranks[f.Number] {
			t.Errorf("rank of %d was %d and is %d", f.Number, ranks[f.Number], got)
		}
	}
}
