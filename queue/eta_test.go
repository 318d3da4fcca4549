package queue

import (
	"testing"
	"time"
)

// TestETA: the band follows the pace while the pace binds, the shop's own speed while the
// capacity does, and says why it is unknown or later.
func TestETA(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.room(Patch{PacePerMin: opt(60), Capacity: opt(1000), CallTTL: opt(30), PresenceTTL: opt(3600)})
	fans := s.join(0, 121)
	s.tick()
	last := fans[120]
	reason := func(p Place) string {
		if p.ETAReason == nil {
			return ""
		}
		return *p.ETAReason
	}
	p := s.place(0, last)
	if p.ETA == nil || p.ETA.Low < 110 || p.ETA.Low > 121 || p.ETA.High < p.ETA.Low || p.ETA.High > 150 || reason(p) != "" {
		t.Errorf("at pace: %+v %q", p.ETA, reason(p))
	}
	s.room(Patch{State: opt(ModePaused)})
	p = s.place(0, last)
	s.expect("paused", []any{p.ETA == nil, reason(p)}, []any{true, "paused"})
	s.room(Patch{State: opt(ModeAuto), Capacity: opt(10)})
	s.pass(70 * time.Second) // ten calls each time that those before have expired
	p = s.place(0, last)
	if p.ETA == nil || reason(p) != "slowed" || p.ETA.Low < int(*p.Ahead)*2 || p.ETA.High < p.ETA.Low {
		t.Errorf("at capacity, %d ahead: %+v %q", *p.Ahead, p.ETA, reason(p))
	}
	s.room(Patch{Capacity: opt(1000)})
	s.pass(2 * time.Second)
	p = s.place(0, last)
	if p.ETA == nil || reason(p) != "" || p.ETA.Low > int(*p.Ahead)+1 {
		t.Errorf("at pace again, %d ahead: %+v %q", *p.Ahead, p.ETA, reason(p))
	}
	s.room(Patch{Capacity: opt(0)})
	s.pass(30 * time.Second)
	p = s.place(0, last)
	s.expect("closed to all", []any{p.ETA == nil, reason(p)}, []any{true, "slowed"})
}
