package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestMoveToAnotherDevice: the place goes with its number, once a code, and the device
// that had it has nothing any more, on any gateway.
func TestMoveToAnotherDevice(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(0), Capacity: opt(10)})
	fans := s.join(0, 5)
	s.tick()
	keys := s.rdb.DBSize(ctx).Val()
	old := fans[3]
	code, till, err := s.line(0).ResumeCode(ctx, old)
	if err != nil || till.Sub(s.line(0).View().now) != codeTime {
		t.Fatalf("code until %v: %v", till, err)
	}
	s.expect("a code costs nothing", s.rdb.DBSize(ctx).Val(), keys)
	for name, bad := range map[string]string{"none": "", "a token": SealToken(s.ring, old), "cut": code[:len(code)-2], "altered": strings.Replace(code, ".", ".A", 1)} {
		if _, err := s.line(1).Resume(ctx, bad); !errors.Is(err, ErrCode) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenToken(s.ring, code); err == nil {
		t.Error("a code is taken for a place")
	}
	fresh, err := s.line(1).Resume(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	s.expect("same place", []any{fresh.Number, fresh.Epoch, fresh.IssuedAt, fresh.Commitment}, []any{old.Number, old.Epoch, old.IssuedAt, old.Commitment})
	if fresh.Visitor == old.Visitor || fresh.Generation != 1 {
		t.Errorf("resumed as %+v", fresh)
	}
	if _, err := s.line(0).Resume(ctx, code); !errors.Is(err, ErrMoved) {
		t.Errorf("the code again: %v", err)
	}
	s.room(Patch{PacePerMin: opt(6000)})
	s.pass(time.Second, append(fans[:3:3], fresh)...)
	s.expect("on the old device", s.states([]Token{old, old}), repeat(Moved, 2))
	s.expect("on the new one", s.states([]Token{fresh, fresh}), repeat(Called, 2))
	for i := range s.halls {
		if _, err := s.line(i).Claim(ctx, old); !errors.Is(err, ErrMoved) {
			t.Errorf("claim on the old device: %v", err)
		}
		if err := s.line(i).Leave(ctx, old); !errors.Is(err, ErrMoved) {
			t.Errorf("leave on the old device: %v", err)
		}
		if _, _, err := s.line(i).ResumeCode(ctx, old); !errors.Is(err, ErrMoved) {
			t.Errorf("a code on the old device: %v", err)
		}
	}
	back, _, err := s.line(0).ResumeCode(ctx, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.line(0).Claim(ctx, fresh); err != nil {
		t.Errorf("claim on the new device: %v", err)
	}
	if _, err := s.line(0).Resume(ctx, back); !errors.Is(err, ErrInShop) {
		t.Errorf("move one who is in: %v", err)
	}

	late, _, err := s.line(0).ResumeCode(ctx, fans[4])
	if err != nil {
		t.Fatal(err)
	}
	newcomer := s.gateway()
	if err := newcomer.look(ctx); err != nil {
		t.Fatal(err)
	}
	s.expect("a gateway that comes later knows", s.place(2, old).State, Moved)
	s.pass(codeTime)
	if _, err := s.line(0).Resume(ctx, late); !errors.Is(err, ErrCode) {
		t.Errorf("an old code: %v", err)
	}
}

// TestMoveAgainstAStaleGateway: what a gateway knows of moves outlives the store's loss, and a
// claim at a gateway that has not heard of the move is refused by the store.
func TestMoveAgainstAStaleGateway(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(6000), Capacity: opt(10)})
	fan := s.join(0, 1)[0]
	s.pass(time.Second, fan)
	code, _, err := s.line(0).ResumeCode(ctx, fan)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := s.line(1).Resume(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.line(0).Claim(ctx, fan); !errors.Is(err, ErrMoved) {
		t.Errorf("claim before the next tick: %v", err)
	}
	s.tick()
	if err := s.rdb.Del(ctx, keyOf("r", "moved"), keyOf("r", "moves")).Err(); err != nil {
		t.Fatal(err)
	}
	if err := s.rdb.HSet(ctx, keyOf("r", "state"), "moves", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.tick()
	s.expect("after a loss", s.states([]Token{fan, fresh}), []State{Moved, Called})
}
