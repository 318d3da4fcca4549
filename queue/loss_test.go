package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
	"usher/internal/redisx"
)

// A drill loses a store or a gateway in the middle of a sale with thousands waiting, and
// watches every fan from outside: invariants 3, 4, 5, 6 and 8.
type drill struct {
	*stage
	record *Recorder
	fans   []*fan
	shop   []*fan          // admitted, in this order
	lock   sync.Mutex      // guards given, and fans while they join
	given  map[uint64]bool // numbers
	// frontier is the furthest seen, lost that of the last loss: whoever was called before it
	// may be called again, once for each loss, for the call may be what was lost.
	frontier, lost uint64
	cuts, ticks    int
}

// fan is what one visitor remembers.
type fan struct {
	token    Token
	rank     *uint64
	position uint64 // the last one shown; 0 before the first
	progress float64
	state    State
	calls    int // how often it was called
	session  *Session
	released bool
}

// drillPatch is a sale that calls 100 a second and has room for 300 at once.
func drillPatch() Patch {
	return Patch{
		PacePerMin: opt(6000), Capacity: opt(300), PresenceTTL: opt(8), CallTTL: opt(60), SessionTTL: opt(120), ReturnWindow: opt(300),
	}
}

// newDrill opens a sale at the Redis that connect reaches: three gateways, each with a
// client of its own, a Recorder, and n fans.
func newDrill(t *testing.T, connect func() redis.UniversalClient, p Patch, n int) *drill {
	t.Helper()
	s := &stage{t: t, rdb: connect(), ring: keyring.Generate(start), clock: &atomic.Int64{}}
	s.clock.Store(start.UnixMilli())
	db, _ := devtest.Postgres(t)
	d := &drill{stage: s, record: s.newRecorder(db), given: map[uint64]bool{}}
	for range 3 {
		s.rdb = connect()
		s.gateway()
	}
	s.rdb = d.record.cfg.Redis
	s.configure(d.record, p)
	d.join(n)
	return d
}

// client connects to url, and to nothing else while the test runs.
func client(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rdb, err := redisx.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// join brings n fans in at all gateways. No number may be given twice.
func (d *drill) join(n int) {
	d.t.Helper()
	if got, err := d.tryJoin(n, d.lines()); err != nil || got != n {
		d.t.Fatalf("%d of %d could join: %v", got, n, err)
	}
}

func (d *drill) tryJoin(n int, lines []*Line) (got int, err error) {
	var coming errgroup.Group
	coming.SetLimit(200)
	for i := range n {
		coming.Go(func() error {
			token, err := lines[i%len(lines)].Join(context.Background())
			if unavailable := (*Unavailable)(nil); errors.As(err, &unavailable) {
				return nil
			}
			if err != nil {
				return err
			}
			d.lock.Lock()
			defer d.lock.Unlock()
			if d.given[token.Number] {
				return fmt.Errorf("number %d was given twice", token.Number)
			}
			d.given[token.Number] = true
			d.fans = append(d.fans, &fan{token: token})
			got++
			return nil
		})
	}
	return got, coming.Wait()
}

// sell lets the sale run for a time: everybody looks each second, the called come in, and
// the shop lets go whoever came in first.
func (d *drill) sell(t time.Duration) {
	d.t.Helper()
	for end := d.clock.Load() + t.Milliseconds(); d.clock.Load() < end; {
		d.clock.Add(250)
		d.tick()
		if d.ticks++; d.ticks%4 == 0 {
			d.look(true)
			record(d.t, d.record)
		}
	}
}

// look asks all gateways for all places and compares them with what was shown before.
func (d *drill) look(claim bool) {
	d.t.Helper()
	ctx := context.Background()
	groups := make([][]*fan, len(d.halls))
	for i, f := range d.fans {
		if f.released && (i+d.ticks/4)%8 > 0 {
			continue // who has been inside looks seldom
		}
		g := (i + d.ticks/16) % len(d.halls) // now and then they change the gateway
		groups[g] = append(groups[g], f)
	}
	for g, fans := range groups {
		l := d.line(g)
		tokens := make([]Token, len(fans))
		for i, f := range fans {
			tokens[i] = f.token
		}
		places, err := l.Places(ctx, tokens, nil)
		if err != nil {
			d.t.Fatalf("look: %v", err)
		}
		for i, f := range fans {
			d.see(f, places[i])
		}
		if !claim {
			continue
		}
		for _, f := range fans {
			if f.state == Called {
				d.claim(l, f)
			}
		}
	}
	d.judge()
	if !claim {
		return
	}
	for _, f := range d.shop[:min(len(d.shop), 90)] {
		if err := d.line(0).Release(ctx, f.session.ID); err != nil {
			d.t.Fatal(err)
		}
		f.released = true
	}
	d.shop = d.shop[min(len(d.shop), 90):]
}

// judge holds what is true of all fans together: the capacity, and that calls follow rank.
func (d *drill) judge() {
	d.t.Helper()
	inside, last := 0, uint64(0)
	for _, f := range d.fans {
		switch {
		case f.state == Called:
			inside++
		case f.session != nil && !f.released && f.session.Expires.UnixMilli() > d.clock.Load():
			inside++
		}
		if f.calls > 0 {
			last = max(last, *f.rank)
		}
	}
	if v := d.line(0).View(); inside > v.settings.Capacity {
		d.t.Fatalf("%d sessions and open calls with capacity %d", inside, v.settings.Capacity)
	}
	for _, f := range d.fans {
		if f.rank != nil && f.calls == 0 && *f.rank >= d.lost && *f.rank < last {
			d.t.Fatalf("rank %d was called before %d, which is %s", last, *f.rank, f.state)
		}
	}
}

func (d *drill) see(f *fan, p Place) {
	d.t.Helper()
	n := f.token.Number
	if f.rank != nil && (p.Rank == nil || *p.Rank != *f.rank) {
		d.t.Fatalf("place %d: rank %d is taken back: %+v", n, *f.rank, p)
	}
	if p.Position != nil && p.State == Waiting {
		if f.position > 0 && *p.Position > f.position {
			d.t.Fatalf("place %d: position %d after %d (%s, quiet %v)", n, *p.Position, f.position, p.Phase, d.line(0).View().quiet())
		}
		f.position = *p.Position
	}
	if p.Progress < f.progress {
		d.t.Fatalf("place %d: progress %g after %g", n, p.Progress, f.progress)
	}
	switch {
	case f.session != nil && !f.released && p.State != Admitted && f.session.Expires.UnixMilli() > d.clock.Load() && p.Phase == Open:
		d.t.Fatalf("place %d was admitted until %s and is %s", n, f.session.Expires, p.State)
	case f.session != nil && p.State == Called:
		d.t.Fatalf("place %d was admitted and is called again", n)
	case p.State == Called && f.state != Called:
		if f.calls++; f.calls > 1+d.cuts {
			d.t.Fatalf("place %d is called for the %dth time", n, f.calls)
		}
	case p.State == Lapsed && f.session == nil, p.State == Left:
		d.t.Fatalf("place %d is lost: %s", n, p.State)
	}
	f.rank, f.progress, f.state = p.Rank, p.Progress, p.State
}

func (d *drill) claim(l *Line, f *fan) {
	d.t.Helper()
	session, err := l.Claim(context.Background(), f.token)
	if err != nil {
		d.t.Fatalf("place %d was called and cannot claim: %v", f.token.Number, err)
	}
	f.session, f.state = &session, Admitted
	d.shop = append(d.shop, f)
}

// tick is stage.tick, with the frontier watched.
func (d *drill) tick() {
	d.t.Helper()
	d.stage.tick()
	for _, l := range d.lines() {
		v := l.View()
		if v.frontier < d.frontier {
			d.t.Fatalf("the frontier fell from %d to %d", d.frontier, v.frontier)
		}
		d.frontier = v.frontier
	}
}

// cut is a loss: from lose on, until a tick of each gateway and the Recorder succeed
// again. Meanwhile fans look, and more come. It returns for how long nothing went.
func (d *drill) cut(lose func()) time.Duration {
	d.t.Helper()
	d.look(true)
	d.cuts++
	var coming errgroup.Group
	lines := d.lines()
	coming.Go(func() error {
		_, err := d.tryJoin(400, lines)
		return err
	})
	began := time.Now()
	lose()
	if err := coming.Wait(); err != nil {
		d.t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Minute)
	back := func(what string, try func(context.Context) error) {
		retry := time.NewTicker(20 * time.Millisecond)
		defer retry.Stop()
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			err := try(ctx)
			cancel()
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				d.t.Fatalf("%s does not come back: %v", what, err)
			}
			<-retry.C
		}
	}
	back("the recorder", d.record.step)
	for _, h := range d.halls {
		back("a gateway", h.look)
	}
	for _, l := range d.lines() {
		back("a gateway", l.tick)
	}
	record(d.t, d.record)
	d.tick()
	d.lost = d.frontier
	d.look(false)
	return time.Since(began)
}

// finish lets everybody in, in the end, and tells what was lost.
func (d *drill) finish(what string) {
	d.t.Helper()
	d.join(100) // whoever comes after the loss gets a place at once
	for d.admitted() < len(d.fans) {
		if d.ticks > 4*1200 {
			counts := map[State]int{}
			for _, f := range d.fans {
				counts[f.state]++
			}
			d.t.Fatalf("%d of %d were never called: %v, the room %+v", len(d.fans)-d.admitted(), len(d.fans), counts, d.line(0).View().Live())
		}
		d.sell(time.Second)
	}
	d.t.Logf("%s; %d fans, all admitted once; lost: nothing", what, len(d.fans))
}

func (d *drill) admitted() (n int) {
	for _, f := range d.fans {
		if f.session != nil {
			n++
		}
	}
	return n
}
