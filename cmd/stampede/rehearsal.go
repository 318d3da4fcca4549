package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A rehearsal is one run: what its fans share. Fans only read it, but for what its locks guard.
type rehearsal struct {
	room         string
	gateways     []*url.URL
	operatorKey  string
	seats        int
	local        bool // each fan gets a loopback address of its own
	firstAddress uint32

	event        *eventDoc // nil: nothing is sold, a pass is all
	performances []string
	presenceTTL  time.Duration
	keys         *keySet
	retries      *tally
	refused      *tally // what fans met of 429 and 5xx
	challenge    string // when the room asks for challenges by itself
	prover       *prover

	callTTLs atomic.Int64 // nanoseconds, of the latest sample

	mu      sync.Mutex // guards shelves
	shelves map[string]*Shelf
}

func (r *rehearsal) callTTL() time.Duration { return time.Duration(r.callTTLs.Load()) }

// shelfBefore keeps the first availability that any fan saw of a performance: nobody could hold a seat of it before.
func (r *rehearsal) shelfBefore(performance string, seats []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shelves[performance] == nil {
		r.shelves[performance] = &Shelf{Performance: performance, Before: seats}
	}
}

// address is a loopback address that no other fan of this run has, nil where there are none to choose from.
func (r *rehearsal) address(fan int) net.Addr {
	if !r.local {
		return nil
	}
	const first, size = 16 << 16, 234 << 16 // 127.16.0.0 to 127.249.255.255
	n := first + (r.firstAddress+uint32(fan))%size
	return &net.TCPAddr{IP: net.IPv4(127, byte(n>>16), byte(n>>8), byte(n))}
}

// onLoopback says whether all gateways are reached over loopback, and whether a client may choose its address there
// (Linux routes all of 127.0.0.0/8).
func onLoopback(ctx context.Context, gateways []*url.URL) bool {
	for _, g := range gateways {
		ips, err := net.DefaultResolver.LookupIPAddr(ctx, g.Hostname())
		if err != nil || !slices.ContainsFunc(ips, func(ip net.IPAddr) bool { return ip.IP.IsLoopback() && ip.IP.To4() != nil }) {
			return false
		}
	}
	return runtime.GOOS == "linux"
}

// cast gives a fan its part. Parts that need more time than the rehearsal has are played plainly.
func cast(rng *rand.Rand, presence, call, duration time.Duration) Part {
	part := Plain
	switch n := rng.IntN(100); {
	case n < 5:
		part = Leaver
	case n < 15:
		part = Closer
	case n < 20:
		part = Slow
	case n < 23:
		part = Windower
	case n < 24:
		part = Sleeper
	case n < 25:
		part = Blinker
	}
	if part == Sleeper && 3*presence > duration || part == Blinker && 3*call > duration {
		return Plain
	}
	return part
}

// crowd runs the fans and the observer to their end and returns what they recorded.
func (r *rehearsal) crowd(ctx context.Context, o options, progress io.Writer) (*History, error) {
	h := &History{Room: r.room, PresenceTTL: r.presenceTTL, Started: time.Now()}
	for _, g := range r.gateways {
		h.Gateways = append(h.Gateways, g.String())
	}
	if r.event != nil {
		h.Event = r.event.Slug
		h.Areas = map[string]int{}
		for _, a := range r.event.Areas {
			h.Areas[a.Name] += a.Capacity
		}
	}
	computing, stopComputing := context.WithCancel(ctx)
	var err error
	if r.prover, err = startProver(computing); err != nil {
		stopComputing()
		return h, err
	}
	defer r.prover.stop()
	defer stopComputing() // first
	all := o.Fans
	var besiegers *siege
	var early int           // fans come before the bots,
	var peace time.Duration // which come after this time
	if o.Bots {
		besiegers = newSiege(r, o.Fans)
		h.Siege = &besiegers.seen
		fmt.Fprintf(progress, "before the sale: %d fans from one address\n", besiegers.seen.Campus)
		if err := besiegers.before(ctx); err != nil {
			return h, err
		}
		early = o.Fans / earlyPer
		peace = o.Arrive*time.Duration(early)/time.Duration(o.Fans) + settling
		all += early
		fmt.Fprintf(progress, "%d fans come before the bots, to compare with, %d beside them\n", early, o.Fans)
		h.Started = time.Now()
	}
	line, stop := context.WithTimeout(ctx, o.Duration)
	defer stop()
	inside, stopInside := context.WithTimeout(ctx, o.Duration+paidWithin+30*time.Second)
	defer stopInside()

	// The observer outlives the crowd by one settling, so that the last figures are those of the end.
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	watch := &observer{rehearsal: r}
	var observing errgroup.Group
	observing.Go(func() error { return watch.run(watching) })

	raid, endRaid := context.WithCancel(line)
	defer endRaid()
	var raided errgroup.Group
	if besiegers != nil {
		raided.Go(func() error {
			if !pause(raid, peace) {
				return nil
			}
			return besiegers.run(raid, inside, o.Seed)
		})
	}

	var ended atomic.Int64
	var fans sync.WaitGroup
	for i := range all {
		rng := rand.New(rand.NewPCG(o.Seed, uint64(i)))
		fan := &Fan{ID: i, Part: cast(rng, r.presenceTTL, r.callTTL(), o.Duration)}
		h.Fans = append(h.Fans, fan)
		c := newClient(r.gateways, r.address(i), rng.IntN(5) == 0, r.retries)
		c.turn, c.refused = i, r.refused
		v := &visit{rehearsal: r, fan: fan, c: c, rng: rng, path: "/api/v1/rooms/" + r.room}
		from, over := peace, o.Arrive
		if i < early {
			from, over = 0, peace-settling
		}
		v.arrives = from + v.between(0, over)
		fans.Go(func() {
			v.live(inside, line)
			if ended.Add(1) == int64(float64(all)*saleOver) {
				endRaid()
			}
		})
	}
	crowdGone := make(chan struct{})
	go func() { fans.Wait(); close(crowdGone) }()
	tell := time.NewTicker(5 * time.Second)
	defer tell.Stop()
	for done := false; !done; {
		select {
		case <-crowdGone:
			done = true
		case <-tell.C:
			s := watch.latest()
			fmt.Fprintf(progress, "%s: %d of %d fans done; %d waiting, %d called, %d inside\n",
				time.Since(h.Started).Round(time.Second), ended.Load(), all, s.Waiting, s.Called, s.Sessions)
		}
	}
	h.Ended = time.Now()
	endRaid()
	if err := raided.Wait(); err != nil {
		return h, err
	}
	if besiegers != nil {
		h.Fans = append(h.Fans, besiegers.bots...)
		besiegers.seen.HonestRefusals = r.refused.n
		if err := besiegers.guard(ctx, r.challenge); err != nil {
			return h, err
		}
	}
	pause(ctx, settling)
	stopWatching()
	err = observing.Wait()
	h.Samples = watch.samples
	h.ClockAhead = clockAhead(h.Fans)
	h.Retries = r.retries.n
	if err := r.epilogue(ctx, h); err != nil {
		return h, err
	}
	return h, err
}

// clockAhead is the smallest difference between receiving a Place and its own time.
func clockAhead(fans []*Fan) time.Duration {
	least, seen := time.Duration(0), false
	for _, f := range fans {
		for _, s := range f.Sights {
			if d := s.At.Sub(s.Now); !seen || d < least {
				least, seen = d, true
			}
		}
	}
	return least
}

// epilogue reads what shows only at the end: the draw's secret, and each performance's seats by a pass still good.
func (r *rehearsal) epilogue(ctx context.Context, h *History) error {
	c := newClient(r.gateways, nil, true, r.retries)
	defer c.http.CloseIdleConnections()
	var d Draw
	_, _, err := c.insist(ctx, http.MethodGet, "/api/v1/rooms/"+r.room+"/draw", nil, &d)
	if ref, ok := asRefusal(err); err == nil {
		h.Draw = &d
	} else if !ok || ref.Code != "no-draw" {
		return fmt.Errorf("read the draw: %w", err)
	}
	c.pass = r.keys.lastPass()
	if r.event == nil || c.pass == "" {
		return nil
	}
	for _, shelf := range r.shelves {
		var a availabilityDoc
		_, _, err := c.insist(ctx, http.MethodGet, eventsPath+r.event.Slug+"/performances/"+shelf.Performance+"/availability", nil, &a)
		if ref, ok := asRefusal(err); ok && ref.Code == "pass-required" {
			return nil // the fan whose pass it was has given it back: the check says that it lacks these seats
		}
		if err != nil {
			return fmt.Errorf("read the seats at the end: %w", err)
		}
		shelf.After = a.Seats
		h.Shelves = append(h.Shelves, *shelf)
	}
	return nil
}

// An observer reads the operators' live figures ten times a second. Its connection stays, which has the kernel stamp
// what arrives for fans from their first answer on.
type observer struct {
	*rehearsal
	mu      sync.Mutex // guards samples while it runs
	samples []Sample
}

func (o *observer) latest() Sample {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.samples) == 0 {
		return Sample{}
	}
	return o.samples[len(o.samples)-1]
}

func (o *observer) run(ctx context.Context) error {
	c := newClient(o.gateways, nil, true, o.retries)
	defer c.http.CloseIdleConnections()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := o.look(ctx, c)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			o.callTTLs.Store(int64(s.CallTTL))
			o.mu.Lock()
			o.samples = append(o.samples, s)
			o.mu.Unlock()
		default:
			if r, ok := asRefusal(err); ok && !r.retryable() {
				return fmt.Errorf("read the live figures: %w", err)
			}
			o.retries.add("live figures", reason(err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look takes one sample. Its gateways take turns, so that the figures are held to be one room's.
func (o *observer) look(ctx context.Context, c *client) (Sample, error) {
	c.turn++
	var d liveDoc
	t, _, err := c.call(ctx, http.MethodGet, "/api/v1/operate/rooms/"+o.room, nil, &d, "Authorization", "Bearer "+o.operatorKey)
	if err != nil {
		return Sample{}, err
	}
	frontier := int64(-1)
	if d.Frontier != nil {
		frontier = *d.Frontier
	}
	return Sample{
		At: t.At.Add(t.Took), Took: t.Took, Now: d.Now, Frontier: frontier, Phase: d.Phase, State: d.State, Waiting: d.Waiting, Present: d.Present, Called: d.Called,
		Sessions: d.Sessions, AdmittedTotal: d.AdmittedTotal, Missed: d.Missed, LapsedTotal: d.Lapsed, Left: d.Left,
		PacePerMin: d.PacePerMin, Capacity: d.Capacity, CallTTL: seconds(d.CallTTL),
	}, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
