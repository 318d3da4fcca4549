package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/internal/devstack/devtest"
)

// The invariants of DESIGN.md that are the queue's, each tried by one test of its name. A
// drill (loss_test.go) watches every fan from outside and fails at the first one broken.

// wiped is a drill on a Redis of its own, and what wipes that.
func wiped(t *testing.T, p Patch, fans int) (d *drill, wipe func()) {
	t.Helper()
	url := devtest.RedisURL(t)
	d = newDrill(t, func() redis.UniversalClient { return client(t, url) }, p, fans)
	return d, d.lose
}

// TestInvariant3FrontierNeverGoesBack: nor do positions and progress, while fans change the
// gateway, more come, gateways are replaced, the room is paused, slowed and resumed, and
// Redis is wiped twice.
func TestInvariant3FrontierNeverGoesBack(t *testing.T) {
	t.Parallel()
	d, wipe := wiped(t, drillPatch(), 500)
	for i, change := range []Patch{{PacePerMin: opt(1200)}, {State: opt(ModePaused)}, {State: opt(ModeAuto), PacePerMin: opt(9000)}} {
		d.sell(time.Second)
		d.configure(d.record, change)
		d.join(20)
		d.sell(time.Second)
		fresh := d.gateway()
		if err := fresh.look(context.Background()); err != nil {
			t.Fatal(err)
		}
		d.halls = append(slices.Delete(d.halls, i, i+1), fresh)[:3]
		if i > 0 {
			d.cut(wipe)
		}
	}
	d.finish("paused, slowed, resumed, wiped twice")
}

// TestInvariant4CallsFollowRank: a third of a drawn lobby comes and goes; of those who are
// always there none is passed by, though gateways advance the room at the same time and
// Redis is wiped.
func TestInvariant4CallsFollowRank(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	patch := drawPatch(1)
	patch.PacePerMin, patch.PresenceTTL, patch.CallTTL, patch.ReturnWindow = opt(1200), opt(4), opt(600), opt(600)
	s.configure(r, patch)
	var fans []Token
	for g := range s.halls {
		fans = append(fans, s.join(g, 100)...)
	}
	s.pass(60*time.Second, fans...)
	record(t, r)
	s.tick()
	random := rand.New(rand.NewPCG(3, 5))
	step := func() {
		t.Helper()
		s.clock.Add(250)
		for i, f := range fans {
			if i%3 > 0 || random.IntN(20) == 0 {
				s.line(i % 3).Seen(f)
			}
		}
		var advancing errgroup.Group // the same moment, at all gateways at once
		for _, l := range s.lines() {
			advancing.Go(func() error { return l.tick(context.Background()) })
		}
		if err := advancing.Wait(); err != nil {
			t.Fatal(err)
		}
		s.tick()
	}
	called := map[uint64]bool{}
	for i := range 120 {
		step()
		if i%8 == 0 {
			record(t, r)
		}
		v := s.line(0).View()
		if v.quiet() {
			continue
		}
		for i, f := range fans {
			if i%3 == 0 {
				continue
			}
			p := s.place(i%3, f)
			switch {
			case p.State == Waiting && *p.Rank < v.frontier && !called[f.Number] && v.returning == 0:
				t.Fatalf("rank %d waits, is present, and %d were called", *p.Rank, v.frontier)
			case p.State == Called && *p.Rank >= s.line(i%3).View().frontier:
				t.Fatalf("rank %d is called before its turn", *p.Rank)
			case p.State == Missed || p.State == Lapsed:
				t.Fatalf("rank %d, always present, is %s", *p.Rank, p.State)
			}
			called[f.Number] = called[f.Number] || p.State == Called
		}
		if i == 40 {
			s.lose()
			record(t, r)
			record(t, r)
			s.tick()
		}
	}
	if s.line(0).View().frontier < 150 {
		t.Errorf("only %d were called", s.line(0).View().frontier)
	}
}

// TestInvariant5CapacityAndPace: whatever operators change and however many gateways tick,
// join, claim and release at once, no call is made beyond the capacity, nor, in any stretch
// of time, beyond the pace and one second's worth.
func TestInvariant5CapacityAndPace(t *testing.T) {
	t.Parallel()
	s := newStage(t, 3)
	ctx := context.Background()
	const pace = 1200
	s.room(Patch{PacePerMin: opt(pace), Capacity: opt(40), CallTTL: opt(3), SessionTTL: opt(4), ReturnWindow: opt(2), PresenceTTL: opt(60)})
	fans := s.join(0, 2000)
	type moment struct{ at, called, inside int64 }
	var lock sync.Mutex // guards seen
	var seen []moment
	admitted, capacity := int64(0), int64(40)
	for step := range 160 {
		s.clock.Add(250)
		var at errgroup.Group
		for g, l := range s.lines() {
			at.Go(func() error {
				if err := l.tick(ctx); err != nil {
					return err
				}
				v := l.View()
				lock.Lock()
				seen = append(seen, moment{v.now.UnixMilli(), int64(v.calledTotal), int64(v.sessions + v.called)})
				lock.Unlock()
				for i := g; i < len(fans); i += 7 {
					if rank := fans[i].Number; rank+60 > v.frontier && rank < v.frontier && i%5 > 0 {
						if _, err := l.Claim(ctx, fans[i]); err != nil && !errors.Is(err, ErrNotCalled) && !errors.Is(err, ErrLapsed) {
							return err
						}
						if i%2 == 0 {
							if err := l.Release(ctx, s.ring.SessionID("r", fans[i].Epoch, fans[i].Number)); err != nil {
								return err
							}
						}
					}
				}
				return nil
			})
		}
		if err := at.Wait(); err != nil {
			t.Fatal(err)
		}
		switch {
		case step%40 == 20:
			n, err := s.halls[0].Admit(ctx, "r", 5, Actor{})
			if err != nil {
				t.Fatal(err)
			}
			admitted += int64(n)
		case step == 70:
			capacity = 10
			s.room(Patch{Capacity: opt(10)})
		}
		before := int64(0)
		for i, m := range seen {
			if i > 0 && m.called > before && m.inside > capacity && step > 70 {
				t.Fatalf("%d sessions and open calls with capacity %d, and a call was made", m.inside, capacity)
			}
			if m.inside > 40 {
				t.Fatalf("%d sessions and open calls with capacity 40", m.inside)
			}
			before = max(before, m.called)
		}
		if step == 70 { // what was called before had the old capacity
			seen = seen[:0]
			admitted = 0
		}
		for _, a := range seen {
			for _, b := range seen {
				if made, may := b.called-a.called, (b.at-a.at)*pace/60_000+pace/60+admitted; b.at >= a.at && made > may {
					t.Fatalf("%d calls in %d ms at %d a minute", made, b.at-a.at, pace)
				}
			}
		}
	}
	if v := s.line(0).View(); v.calledTotal < 300 {
		t.Errorf("only %d calls were made", v.calledTotal)
	}
}

// TestInvariant6OneSessionAPlace: many tabs and replayed tokens at several gateways, a moved
// place, and a wipe between: each place has one session and one end.
func TestInvariant6OneSessionAPlace(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	ctx := context.Background()
	s.configure(r, Patch{PacePerMin: opt(60_000), Capacity: opt(500), PresenceTTL: opt(5), SessionTTL: opt(600), CallTTL: opt(600)})
	fans := s.join(0, 60)
	s.pass(2*time.Second, fans...)
	var lock sync.Mutex // guards ends
	ends := map[uint64]map[Session]bool{}
	storm := func(fans []Token) {
		t.Helper()
		var tabs errgroup.Group
		for _, f := range fans {
			for tab := range 6 {
				tabs.Go(func() error {
					session, err := s.line(tab%2).Claim(ctx, f)
					if err != nil {
						return fmt.Errorf("place %d: %w", f.Number, err)
					}
					session.Issued = time.Time{} // of this claim
					lock.Lock()
					defer lock.Unlock()
					if ends[f.Number] == nil {
						ends[f.Number] = map[Session]bool{}
					}
					ends[f.Number][session] = true
					return nil
				})
			}
		}
		if err := tabs.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	storm(fans[:40])
	code, _, err := s.line(0).ResumeCode(ctx, fans[50])
	if err != nil {
		t.Fatal(err)
	}
	moved, err := s.line(1).Resume(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	record(t, r)
	s.tick()
	s.lose()
	record(t, r)
	record(t, r)
	s.pass(7*time.Second, fans...)
	storm(fans[:40])
	rest := append(slices.Clone(fans[40:50]), fans[51:]...)
	s.states(append(rest, moved)) // called in what was lost: back by asking
	s.pass(10*time.Second, append(rest, moved)...)
	if _, err := s.line(0).Claim(ctx, fans[50]); !errors.Is(err, ErrMoved) {
		t.Errorf("the device that gave its place away: %v", err)
	}
	storm(append(rest, moved))
	ids := map[string]bool{}
	for number, sessions := range ends {
		if len(sessions) != 1 {
			t.Errorf("place %d has %v", number, sessions)
		}
		for session := range sessions {
			ids[session.ID] = true
		}
	}
	inShop := s.rdb.ZCard(ctx, keyOf("r", "sessions")).Val()
	s.expect("places, sessions, in the shop", []any{len(ends), len(ids), inShop}, []any{60, 60, int64(60)})
}

// TestInvariant7AWaitingVisitorCostsBits: a hundred and a hundred thousand who wait cost the
// same keys and the same commands a tick, and less than a byte each.
func TestInvariant7AWaitingVisitorCostsBits(t *testing.T) {
	t.Parallel()
	cost := func(waiting int) (keys, commands int64, memory int64) {
		s := newStage(t, 2)
		ctx := context.Background()
		s.room(Patch{PacePerMin: opt(0)})
		for range waiting / 100 {
			if err := joinScript.Run(ctx, s.rdb, keysOf("r"), s.line(0).now(), 100).Err(); err != nil {
				t.Fatal(err)
			}
		}
		s.pass(5 * time.Second)
		before := commandsOf(t, s.rdb)
		for range 20 { // within one second, as if each of them were polling here
			for _, l := range s.lines() {
				for number := range uint64(100) {
					l.Seen(Token{Room: "r", Epoch: l.View().epoch, Number: number})
				}
			}
			s.clock.Add(50)
			s.tick()
		}
		commands = commandsOf(t, s.rdb) - before
		for _, key := range keysOf("r") {
			n, err := s.rdb.MemoryUsage(ctx, key).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			memory += n
		}
		return s.rdb.DBSize(ctx).Val(), commands, memory
	}
	keysFew, few, bytesFew := cost(100)
	keysMany, many, bytesMany := cost(100_000)
	t.Logf("100 waiting: %d keys, %d commands in 20 ticks of 2 gateways, %d bytes; 100,000: %d, %d, %d", keysFew, few, bytesFew, keysMany, many, bytesMany)
	if keysMany != keysFew || many > few+few/10 {
		t.Errorf("the crowd costs %d keys and %d commands, a few cost %d and %d", keysMany, many, keysFew, few)
	}
	if each := float64(bytesMany-bytesFew) / (100_000 - 100); each > 1 {
		t.Errorf("%.2f bytes a visitor", each)
	}
}

// commandsOf is how many commands the server has run, those of scripts included.
func commandsOf(t *testing.T, rdb redis.UniversalClient) (n int64) {
	t.Helper()
	info, err := rdb.Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		var calls int64
		if _, rest, found := strings.Cut(line, "calls="); found && !strings.HasPrefix(line, "cmdstat_info") {
			if _, err := fmt.Sscanf(rest, "%d", &calls); err != nil {
				t.Fatal(err)
			}
			n += calls
		}
	}
	return n
}

// TestInvariant8LossLosesNobody: a drawn room is wiped before its draw is in force, while
// it calls, and once more while it is being put right: no number is given twice, no rank
// that was shown changes, nobody in the shop is thrown out, and everybody gets in.
func TestInvariant8LossLosesNobody(t *testing.T) {
	t.Parallel()
	p := drillPatch()
	p.Method, p.LobbyAt, p.OpensAt = opt(Random), opt(start.Add(-time.Minute)), opt(start.Add(10*time.Second))
	d, wipe := wiped(t, p, 500)
	d.sell(2 * time.Second)
	d.cut(wipe) // in the lobby
	d.sell(12 * time.Second)
	if v := d.line(0).View(); !v.drawn || v.frontier == 0 {
		t.Fatalf("not drawn, or nobody called: %+v", v.Live())
	}
	d.sell(2 * time.Second)
	d.cut(wipe)
	d.sell(time.Second)
	d.cut(wipe)
	d.finish("a drawn room, wiped three times")
}
