package queue

import (
	"context"
	"testing"
	"time"
)

// TestPhonesMayBeAbsentForLonger: what a phone costs Redis is bits, too, and its screen
// may be dark for longer before its place is passed.
func TestPhonesMayBeAbsentForLonger(t *testing.T) {
	t.Parallel()
	for name, bulk := range map[string]bool{"few": false, "bulk": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 2)
			ctx := context.Background()
			s.room(Patch{PacePerMin: opt(0), PresenceTTL: opt(10), PhonePresenceTTL: opt(100)})
			n := 90
			if bulk {
				n = 3 * fewMarks
			}
			fans := s.join(0, n)
			for i := range fans {
				fans[i].Phone = i%3 == 0
				s.line(0).Seen(fans[i])
			}
			s.pass(90 * time.Second)
			s.expect("present", s.live().Present, n/3)
			if keys := s.rdb.DBSize(ctx).Val(); keys > int64(len(keyNames)+2) {
				t.Errorf("%d keys", keys)
			}
			if err := s.line(1).Leave(ctx, fans[3]); err != nil {
				t.Fatal(err)
			}
			s.pass(5 * time.Second)
			s.expect("present after one left", s.live().Present, n/3-1)
			s.room(Patch{PacePerMin: opt(600)})
			s.pass(time.Second)
			s.expect("called", s.live().CalledTotal >= 10, true)
			s.expect("the awake are called, others passed and back by asking", s.states(fans[:4]), []State{Called, Waiting, Waiting, Left})
			s.room(Patch{PacePerMin: opt(0)})
			s.pass(200 * time.Second)
			s.expect("present when the longer time is over, too", s.live().Present, 0)
		})
	}
}

// TestPhonesSleepThroughTheDraw: the longer time goes from numbers to ranks.
func TestPhonesSleepThroughTheDraw(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.room(Patch{
		Method: opt(Random), LobbyAt: opt(start.Add(-time.Minute)), OpensAt: opt(start.Add(30 * time.Second)),
		PacePerMin: opt(0), PresenceTTL: opt(10), PhonePresenceTTL: opt(300),
	})
	fans := s.join(1, 40)
	for i := range fans {
		fans[i].Phone = i%4 == 0
	}
	s.pass(time.Second, fans...)
	s.pass(30 * time.Second)
	s.durable("40")
	s.pass(60 * time.Second)
	s.expect("drawn", s.live().Phase, Open)
	s.expect("present", s.live().Present, 10)
	s.room(Patch{PacePerMin: opt(60_000)})
	s.pass(time.Second)
	s.expect("called", s.live().CalledTotal, 10)
	for i, f := range fans {
		if p := s.place(0, f); (p.State == Called) != f.Phone {
			t.Errorf("number %d, phone %v: %s", i, f.Phone, p.State)
		}
	}
}
