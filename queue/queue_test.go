package queue

import (
	"testing"
	"time"
)

func TestFirstComeFirstCalled(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	s.room(Patch{PacePerMin: opt(60), Capacity: opt(3)})
	fans := append(s.join(0, 3), s.join(1, 3)...)
	s.pass(time.Second)
	t.Log(s.states(fans))
	s.pass(5*time.Second, fans...)
	t.Log(s.states(fans))
	t.Logf("%+v", s.line(0).View().Live())
	p := s.place(1, fans[5])
	t.Logf("%+v %v", p, *p.Position)
}
