package origin

import (
	"context"
	"errors"
	"testing"
	"time"
)

// answers are n answers of a latency, some of them faults.
func answers(n int, each time.Duration, faults int) sample {
	return sample{looks: 1, answers: n, latency: time.Duration(n) * each, faults: faults, overload: faults, peak: n}
}

func TestShareFallsBeforeTheOriginHurtsAndComesBack(t *testing.T) {
	t.Parallel()
	const most = 1000
	j := judgement{limit: most, share: 1}
	judge := func(s sample, times int) {
		for range times {
			j = j.next(s, most, time.Second)
		}
	}
	judge(answers(100, 20*time.Millisecond, 0), 5)
	if j.share != 1 || j.limit != most || j.reason != "" {
		t.Fatalf("a fast origin: %+v", j)
	}
	judge(answers(100, 900*time.Millisecond, 0), 5)
	if j.share != 1 {
		t.Fatalf("slower than usual, but not slow: %+v", j)
	}
	judge(answers(100, 4*time.Second, 0), 10)
	if j.share > 0.3 || j.share < leastShare || j.reason != Slow || j.limit > 100 || j.limit < most/50 {
		t.Fatalf("a slow origin: %+v", j)
	}
	judge(answers(100, 20*time.Millisecond, 0), 1)
	if j.share >= 0.5 || j.reason != Slow {
		t.Fatalf("recovers with a jerk: %+v", j)
	}
	judge(answers(100, 20*time.Millisecond, 0), 200)
	if j.share != 1 || j.limit != most || j.reason != "" {
		t.Fatalf("does not recover: %+v", j)
	}
	judge(answers(100, 20*time.Millisecond, 60), 10)
	if j.share > 0.1 || j.reason != Failing {
		t.Fatalf("a failing origin: %+v", j)
	}
	judge(sample{looks: 10}, 30) // nobody comes any more
	if j.share != 1 {
		t.Fatalf("without requests it never recovers: %+v", j)
	}
	judge(sample{looks: 1, answers: 50, latency: time.Second, refused: 50, peak: 50}, 3)
	if j.reason != Busy || j.share > 0.7 {
		t.Fatalf("requests were refused: %+v", j)
	}
	judge(sample{looks: 1, down: true}, 1)
	if j.share != 0 || j.reason != Down {
		t.Fatalf("no server: %+v", j)
	}
}

func TestAnOriginThatAlwaysWasSlowIsNotThrottled(t *testing.T) {
	t.Parallel()
	j := judgement{limit: 100, share: 1}
	for range 100 {
		j = j.next(answers(10, 2500*time.Millisecond, 0), 100, time.Second)
	}
	if j.share != 1 || j.limit != 100 {
		t.Errorf("%+v", j)
	}
}

func TestAStartIsNoRecovery(t *testing.T) {
	t.Parallel()
	j := (judgement{limit: 100, share: 1}).next(sample{looks: 1, down: true}, 100, time.Second)
	if j = j.next(sample{looks: maxLooks}, 100, time.Second); j.share != 1 || j.reason != "" {
		t.Errorf("%+v", j)
	}
}

func TestFewAnswersSayNothing(t *testing.T) {
	t.Parallel()
	s := answers(minAnswers-1, time.Minute, minAnswers-1)
	if s.enough() {
		t.Error("judged at once")
	}
	if s.looks = maxLooks; !s.enough() {
		t.Error("never judged")
	}
	if j := (judgement{limit: 10, share: 1}).next(s, 10, time.Second); j.share != 1 {
		t.Errorf("%+v", j)
	}
}

func TestTheGateServesFirstWhoGoesFirst(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	g := &gate{limit: 10}
	for range 9 {
		if err := g.enter(ctx, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.enter(ctx, false); !errors.Is(err, ErrBusy) {
		t.Fatalf("the last tenth was given to anyone: %v", err)
	}
	if err := g.enter(ctx, true); err != nil {
		t.Fatal(err)
	}
	entered := make(chan error, 1)
	go func() { entered <- g.enter(ctx, true) }()
	for n := 0; n == 0; {
		g.mu.Lock()
		n = len(g.waiting)
		g.mu.Unlock()
	}
	g.leave()
	if err := <-entered; err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := g.enter(gone, true); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that is gone: %v", err)
	}
	if inside, _ := g.figures(); inside != 10 || len(g.waiting) != 0 {
		t.Errorf("%d inside, %d wait", inside, len(g.waiting))
	}
	for range 10 {
		g.leave()
	}
	if _, refused := g.look(); refused != 1 {
		t.Errorf("%d refused", refused)
	}
}

func TestRetryBudget(t *testing.T) {
	t.Parallel()
	b := newBudget(0.2)
	for b.spend() {
	}
	spent := 0
	for range 1000 {
		b.earn()
		if b.spend() {
			spent++
		}
	}
	if spent < 199 || spent > 201 {
		t.Errorf("%d repetitions of 1000 requests", spent)
	}
}
