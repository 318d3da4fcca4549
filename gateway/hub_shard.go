package gateway

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"usher/internal/telemetry"
	"usher/queue"
)

// pace is how long a visitor may be left without news: nobody near the front, and
// longer the further back, with jitter so that those of one moment drift apart. It is
// at most half the presence time.
func pace(p queue.Place, most time.Duration) time.Duration {
	var d time.Duration
	switch {
	case p.State == queue.InLobby, p.State == queue.Admitted:
		d = 5 * time.Second
	case p.State != queue.Waiting || p.Ahead == nil || *p.Ahead < 200:
		return 0
	case *p.Ahead < 2_000:
		d = 2 * time.Second
	case *p.Ahead < 20_000:
		d = 5 * time.Second
	default:
		d = 10 * time.Second
	}
	d = min(d, most*4/5)
	return d + time.Duration(rand.Int64N(int64(d/4)))
}

var digestSeed = maphash.MakeSeed()

// digestOf is equal for documents that tell a visitor the same.
func digestOf(p queue.Place) uint64 {
	type content struct {
		phase                           queue.Phase
		state                           queue.State
		rank, position, waiting         uint64
		ranked, extendable              bool
		progress                        float64
		eta                             queue.Band
		message                         string
		callExpires, passExpires, opens int64
	}
	c := content{phase: p.Phase, state: p.State, waiting: p.Waiting, progress: p.Progress, extendable: p.CallExtendable}
	if p.Rank != nil {
		c.rank, c.ranked = *p.Rank, true
	}
	if p.Position != nil {
		c.position = *p.Position
	}
	if p.ETA != nil {
		c.eta = *p.ETA
	}
	if p.Message != nil {
		c.message = *p.Message
	}
	for to, t := range map[*int64]*time.Time{&c.callExpires: p.CallExpiresAt, &c.passExpires: p.PassExpiresAt, &c.opens: p.OpensAt} {
		if t != nil {
			*to = t.UnixMilli()
		}
	}
	return maphash.Comparable(digestSeed, c) | 1 // never 0, which stands for nothing sent
}

func presence(line *queue.Line) time.Duration {
	return max(time.Second, time.Duration(line.View().Settings().PresenceTTL)*time.Second)
}

func pingEvery(line *queue.Line) time.Duration { return min(pingTime, presence(line)/2) }

// seat is a socket as its shard's goroutine sees it at each tick: what decides about
// it lies together, so that a tick over thousands reads no more than that. Times are
// Unix milliseconds.
type seat struct {
	*socket
	due, seen, ping int64
	rank            uint64 // while it waits; else noRank
	slow            bool   // its outbox is not empty
}

const (
	noRank = math.MaxUint64
	never  = math.MaxInt64
)

// show sends the document if it says anything new. most is the longest time to the next.
func (k *seat) show(p queue.Place, now time.Time, most time.Duration) {
	k.state, k.rank = p.State, noRank
	if p.State == queue.Waiting && p.Rank != nil {
		k.rank = *p.Rank
	}
	k.due = now.Add(pace(p, most)).UnixMilli()
	if digest := digestOf(p); digest != k.shown {
		if k.socket.document(&p) != nil {
			return // its reader notices that the client is gone, or flush that it is stuck
		}
		k.shown = digest
		telemetry.WSMessages.Inc()
	}
	if p.State.Final() {
		k.end(websocket.CloseNormalClosure, "place-"+string(p.State))
	}
}

// end says goodbye; nothing follows.
func (k *seat) end(code int, reason string) {
	k.close(code, reason)
	k.due, k.seen, k.ping, k.rank = never, never, never, noRank
}

// shard is one writer of a room.
type shard struct {
	hub  *hub
	line *queue.Line

	mu      sync.Mutex // guards the next three
	arrived []seat
	ended   []*socket // whose readers have ended
	running bool

	// Below belongs to the goroutine.
	seats []seat
	slow  []*socket
}

func (d *shard) add(k seat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrived = append(d.arrived, k)
	if !d.running {
		d.running = true
		d.hub.writers.Go(d.run)
	}
}

func (d *shard) remove(s *socket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = append(d.ended, s)
}

// run lives while the shard has sockets.
func (d *shard) run() {
	// The room's ticks move everything; the ticker only keeps pings going without them.
	idle := time.NewTicker(time.Second)
	defer idle.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	last := ""
	for {
		changed := d.line.Changed()
		if !d.settle() {
			return
		}
		last = d.tick(ctx, last)
		select {
		case <-changed:
		case <-idle.C:
		case <-d.hub.quit:
			d.goodbye()
			return
		}
	}
}

// settle seats those who have arrived and forgets those who have ended; false when
// nobody is left and the shard has stopped.
func (d *shard) settle() bool {
	d.mu.Lock() // to the end: the next goroutine may begin once running is false
	defer d.mu.Unlock()
	for _, k := range d.arrived {
		k.at = len(d.seats)
		d.seats = append(d.seats, k)
	}
	for _, s := range d.ended {
		last := len(d.seats) - 1
		d.seats[s.at] = d.seats[last]
		d.seats[s.at].at = s.at
		d.seats[last] = seat{}
		d.seats = d.seats[:last]
		s.at = -1
	}
	d.arrived, d.ended = nil, nil
	if d.running = len(d.seats) > 0; !d.running {
		d.seats, d.slow = nil, nil
	}
	return d.running
}

// goodbye asks everyone to come back, and closes what is left when it must.
func (d *shard) goodbye() {
	d.settle()
	for i := range d.seats {
		k := &d.seats[i]
		d.line.Seen(k.token)
		k.end(websocket.CloseServiceRestart, fmt.Sprintf("reconnect=%.1fs", d.hub.comeBack(d.line).Seconds()))
	}
	<-d.hub.cut
	for i := range d.seats {
		_ = d.seats[i].out.Close() // it may be closed already
	}
}

// tick tells everyone whose time it is; all of them when what the room says to all
// is not last any more. It returns what the room says now.
func (d *shard) tick(ctx context.Context, last string) string {
	view, now := d.line.View(), d.hub.now()
	live := view.Live()
	word := wordOf(live)
	d.flush()
	due, tokens := d.collect(live, now, word != last)
	if len(due) == 0 {
		return word
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	places, err := d.line.Places(ctx, tokens)
	if err != nil {
		// The store is away. Those who wait behind the frontier need only the View.
		due, tokens = slices.DeleteFunc(due, func(at int) bool {
			k := &d.seats[at]
			near := k.state != queue.Waiting && k.state != queue.InLobby || k.rank < live.Frontier
			if near {
				k.due = 0
			}
			return near
		}), tokens[:0]
		for _, at := range due {
			tokens = append(tokens, d.seats[at].token)
		}
		if places, err = d.line.Places(ctx, tokens); err != nil {
			return last // the next tick asks again
		}
	}
	most := presence(d.line) / 2
	for i, at := range due {
		d.seats[at].show(places[i], now, most)
		d.watch(&d.seats[at])
	}
	return word
}

// watch looks after a seat whose outbox is not empty.
func (d *shard) watch(k *seat) {
	if !k.slow && !k.out.empty() {
		k.slow = true
		d.slow = append(d.slow, k.socket)
	}
}

// flush gives the kernel what it did not take before. Who takes nothing for long is
// asked to come back later.
func (d *shard) flush() {
	d.slow = slices.DeleteFunc(d.slow, func(s *socket) bool {
		if s.at < 0 {
			return true
		}
		k := &d.seats[s.at]
		empty, err := s.out.flush()
		if errors.Is(err, errStuck) {
			k.end(websocket.CloseTryAgainLater, "too slow")
			return false // it may wake up and read why
		}
		k.slow = !empty && err == nil
		return !k.slow
	})
}

// wordOf is what a room says to everyone; when it changes everyone hears at once.
func wordOf(live queue.Live) string {
	word := string(live.Phase) + " " + live.Epoch
	if live.Message != nil {
		word += " " + *live.Message
	}
	return word
}

// collect keeps everyone alive and present, and returns those who are due: their
// seats and tokens.
func (d *shard) collect(live queue.Live, now time.Time, all bool) (due []int, tokens []queue.Token) {
	ms := now.UnixMilli()
	present := max(time.Second, time.Duration(live.PresenceTTL)*time.Second)
	for i := range d.seats {
		k := &d.seats[i]
		if ms-k.seen >= (present / 3).Milliseconds() {
			d.line.Seen(k.token)
			k.seen = ms
		}
		if k.slow || k.due == never {
			continue // the newest document goes out when there is room for it
		}
		if ms >= k.ping {
			_ = k.out.control(websocket.PingMessage, nil) // its failure ends the reader
			k.ping = now.Add(min(pingTime, present/2)).UnixMilli()
			if d.watch(k); k.slow {
				continue
			}
		}
		if all || ms >= k.due || k.rank < live.Frontier {
			due, tokens = append(due, i), append(tokens, k.token)
		}
	}
	return due, tokens
}
