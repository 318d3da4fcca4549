package queue

import (
	"context"
	"strconv"
	"testing"
	"time"
)

// endedAt tells at which gateways the session is over, each having looked just now.
func (s *stage) endedAt(session string) (out []bool) {
	s.t.Helper()
	for _, h := range s.halls {
		if err := h.look(context.Background()); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, h.Ended(session))
	}
	return out
}

func TestEndedSessionsAreKnownEverywhere(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	hour := time.Now().Add(time.Hour)
	for _, session := range []string{"one", "two", "one"} {
		if err := s.halls[0].End(t.Context(), session, hour); err != nil {
			t.Fatal(err)
		}
	}
	if !s.halls[0].Ended("one") {
		t.Error("the gateway that was told does not know at once")
	}
	if n := s.rdb.ZCard(t.Context(), endedKeys[0]).Val(); n != 2 {
		t.Errorf("%d entries of two sessions", n)
	}
	s.gateway() // a restart
	s.expect("two is over at", s.endedAt("two"), []bool{true, true, true})
	s.expect("three is over at", s.endedAt("three"), []bool{false, false, false})

	if err := s.rdb.Del(t.Context(), endedKeys...).Err(); err != nil { // as a wipe does
		t.Fatal(err)
	}
	s.gateway()
	s.endedAt("one") // those who know tell the store
	s.expect("after a loss one is over at", s.endedAt("one"), []bool{true, true, true, true})
	s.gateway()
	s.expect("two, at a gateway that came after the loss too", s.endedAt("two"), []bool{true, true, true, true, true})
}

func TestEndedSessionsAreBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	hour := time.Now().Add(time.Hour)
	if err := s.halls[0].End(t.Context(), "over", time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	args := []any{0, 10} // a store that holds ten at most
	for i := range 15 {
		args = append(args, "s"+strconv.Itoa(i), hour.Add(time.Duration(i)*time.Second).UnixMilli())
	}
	if err := endScript.Run(t.Context(), s.rdb, endedKeys, args...).Err(); err != nil {
		t.Fatal(err)
	}
	for _, key := range endedKeys {
		if n := s.rdb.ZCard(t.Context(), key).Val(); n != 10 {
			t.Errorf("%s has %d entries", key, n)
		}
		if ttl := s.rdb.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 2*time.Hour {
			t.Errorf("%s stays for %v", key, ttl)
		}
	}
	s.expect("the one that ends last is over at", s.endedAt("s14"), []bool{true})

	short := time.Now().Add(20 * time.Millisecond)
	if err := s.halls[0].End(t.Context(), "short", short); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	for s.rdb.ZCard(t.Context(), endedKeys[1]).Val() != 10 {
		select {
		case <-deadline:
			t.Fatal("an entry outlives its pass")
		case <-time.After(5 * time.Millisecond):
			if err := s.halls[0].End(t.Context(), "s14", hour.Add(14*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
	}
	e := &s.halls[0].ended
	e.mu.Lock()
	e.drop(time.Now().UnixMilli())
	n := len(e.till)
	e.mu.Unlock()
	if n != 10 {
		t.Errorf("the gateway remembers %d", n)
	}
}

// A paid order frees the room in the shop at once, and ends the pass after a while; who
// says that the session is over ends it now.
func TestPaidOrderEndsTheSession(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.room(Patch{})
	place := s.join(0, 1)[0]
	s.pass(time.Second, place)
	session, err := s.line(0).Claim(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRecorder(RecorderConfig{Redis: s.rdb, Ring: s.ring, Log: quietLog(), clock: s.clock.Load})
	if err := s.rdb.XAdd(t.Context(), releaseOf("r", session.ID)).Err(); err != nil {
		t.Fatal(err)
	}
	before := s.rdb.Time(t.Context()).Val().UnixMilli()
	if err := r.releases(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.tick()
	s.expect("sessions", s.line(0).View().Live().Sessions, 0)
	s.expect("a buyer who looks at the plan again is out at", s.endedAt(session.ID), []bool{false})
	member := session.ID + ":" + strconv.FormatInt(session.Expires.UnixMilli(), 10)
	if from := int64(s.rdb.ZScore(t.Context(), endedKeys[0], member).Val()); from < before+afterOrder.Milliseconds() {
		t.Errorf("the pass is refused %d ms after the payment", from-before)
	}
	if err := s.halls[0].End(t.Context(), session.ID, session.Expires); err != nil {
		t.Fatal(err)
	}
	s.gateway()
	s.expect("after DELETE the pass is refused at", s.endedAt(session.ID), []bool{true, true})
}
