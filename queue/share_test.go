package queue

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestTheOriginSlowsCalls: calls follow the mean of what gateways say that the origin can
// take, operators and visitors are told why, and it ends by itself.
func TestTheOriginSlowsCalls(t *testing.T) {
	t.Parallel()
	s := newStage(t, 0)
	said := [2]atomic.Pointer[OriginStatus]{}
	for i := range said {
		said[i].Store(&OriginStatus{Health: "ok", Known: true, Share: 1})
		s.gateway()
		s.halls[i].cfg.OriginStatus = func(string) OriginStatus { return *said[i].Load() }
	}
	s.room(Patch{PacePerMin: opt(600), Capacity: opt(100_000), CallTTL: opt(3600), PresenceTTL: opt(3600)})
	fans := s.join(0, 1000)
	s.tick()
	last := fans[len(fans)-1]
	calls := func(d time.Duration) uint64 {
		t.Helper()
		before := s.live().CalledTotal
		s.pass(d)
		return s.live().CalledTotal - before
	}
	s.pass(2 * time.Second)
	s.expect("at pace", calls(10*time.Second), uint64(100))
	s.expect("nothing to say", s.live().PaceLimitedBy == nil, true)

	said[0].Store(&OriginStatus{Health: "slow", Known: true, Share: 0.2, Reason: "slow"})
	s.pass(2 * time.Second)
	s.expect("the mean of 0.2 and 1", calls(10*time.Second), uint64(60))
	limit := s.live().PaceLimitedBy
	if limit == nil || limit.Reason != "slow" || limit.Share != 0.6 || limit.PacePerMin != 360 || limit.Origin != "" {
		t.Errorf("operators are told %+v", limit)
	}
	if p := s.place(1, last); p.ETAReason == nil || *p.ETAReason != "slowed" || p.ETA == nil || p.ETA.Low < int(*p.Ahead)/6-1 {
		t.Errorf("visitors are told %+v %v", p.ETA, p.ETAReason)
	}

	said[1].Store(&OriginStatus{Health: "unknown", Share: 1}) // it sees nothing of the origin any more
	s.pass(6 * time.Second)
	s.expect("the only word", calls(10*time.Second), uint64(20))

	said[0].Store(&OriginStatus{Health: "down", Known: true, Share: 0, Reason: "down"})
	s.pass(time.Second)
	s.expect("nobody", calls(10*time.Second), uint64(0))
	if p := s.place(0, last); p.ETA != nil || p.ETAReason == nil || *p.ETAReason != "slowed" {
		t.Errorf("visitors are told %+v %v", p.ETA, p.ETAReason)
	}

	said[0].Store(&OriginStatus{Health: "ok", Known: true, Share: 1})
	s.pass(2 * time.Second)
	s.expect("at pace again", calls(10*time.Second), uint64(100))
	s.expect("nothing to say again", s.live().PaceLimitedBy == nil, true)
	shares, err := s.rdb.HGet(t.Context(), keyOf("r", "state"), "shares").Result()
	if err != nil || shares != "" {
		t.Errorf("%q is kept of it, %v", shares, err)
	}

	said[0].Store(&OriginStatus{Health: "down", Known: true, Share: 0, Reason: "down"})
	s.pass(time.Second)
	said[0].Store(&OriginStatus{Health: "unknown", Share: 1}) // the gateway that said so is gone
	s.pass(6 * time.Second)
	s.expect("an old word counts no longer", s.live().PaceLimitedBy == nil, true)
}
