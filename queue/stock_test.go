package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

// TestSoldOutClosesTheRoom: nobody joins or is called while nothing is left of any event of
// the room, places and positions stay, and the line goes on when something comes back.
func TestSoldOutClosesTheRoom(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	ctx := context.Background()
	stock := func(words ...string) {
		t.Helper()
		if err := s.rdb.HSet(ctx, stockKey, words).Err(); err != nil {
			t.Fatal(err)
		}
		r.stockAt = time.Time{}
		record(t, r)
		s.tick()
	}
	if err := s.rdb.HSet(ctx, eventRoomsKey, "matinee", "r", "evening", "r", "fair", "").Err(); err != nil {
		t.Fatal(err)
	}
	s.configure(r, Patch{PacePerMin: opt(60), Capacity: opt(100)})
	fans := s.join(0, 20)
	s.pass(2*time.Second, fans...)
	called, p := s.live().CalledTotal, s.place(1, fans[19])
	stock("fair", "gone")
	s.expect("of an event elsewhere", s.live().Phase, Open)
	stock("matinee", "gone", "evening", "left")
	s.expect("one of two is left", s.live().Phase, Open)
	stock("evening", "gone")
	s.expect("nothing is left", s.live().Phase, SoldOut)
	if _, err := s.line(1).Join(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("a newcomer: %v", err)
	}
	if _, err := s.line(0).Claim(ctx, fans[0]); err != nil {
		t.Errorf("who was called before: %v", err)
	}
	s.pass(30*time.Second, fans...)
	now := s.place(1, fans[19])
	s.expect("called, and the last one's place", []any{s.live().CalledTotal, now.State, *now.Position, now.Phase}, []any{called, p.State, *p.Position, SoldOut})
	record(t, r) // what a loss may take is younger
	s.lose()     // booking has not spoken yet
	record(t, r)
	record(t, r)
	s.tick()
	s.expect("after a loss", s.live().Phase, SoldOut)
	if err := s.rdb.HSet(ctx, eventRoomsKey, "matinee", "r", "evening", "r").Err(); err != nil {
		t.Fatal(err)
	}
	stock("matinee", "gone", "evening", "left")
	s.pass(70*time.Second, fans...) // the quiet time, too
	s.expect("it goes on", []any{s.live().Phase, s.live().CalledTotal > called}, []any{Open, true})
}
