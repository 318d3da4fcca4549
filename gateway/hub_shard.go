package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"

	"usher/queue"
)

const (
	never = math.MaxInt64
	// goodbyeTime is how long a client may take to answer a close frame.
	goodbyeTime = 2 * time.Second
	// slowAnswer is what a pong may take on its way, however often pings are sent.
	slowAnswer = 3 * time.Second
)

// seat is a socket as its shard's goroutine sees it at each tick: what decides about
// it lies together, so that a tick over thousands reads no more than that. Times are
// Unix milliseconds.
type seat struct {
	*socket                 // nil: nobody sits here
	due, seen, heard int64  // next document; last marked present; last word of the client
	ping             int64  // next ping, or, when ended, the end of its time to answer
	rank             uint64 // by which it is called
	slow             bool   // its outbox is not empty
	ended            bool   // a close frame was sent
}

// show sends the document if it says anything new, and a ping with it where one would be
// due before the next.
func (k *seat) show(p *queue.Place, frontier uint64, now time.Time, presence time.Duration) error {
	pace, rank := outlook(*p, frontier, presence)
	k.state, k.rank, k.due = p.State, rank, now.Add(pace).UnixMilli()
	ping := k.ping <= k.due
	sent, err := k.tell(p, ping)
	switch {
	case err != nil:
		return err
	case sent && ping:
		k.pinged(now, presence)
	case !sent && k.ping <= now.UnixMilli():
		if err := k.sendPing(now, presence); err != nil {
			return err
		}
	}
	if p.State.Final() {
		k.end(websocket.CloseNormalClosure, "place-"+string(p.State), now)
	}
	k.slow = !k.out.empty()
	return nil
}

func (k *seat) pinged(now time.Time, presence time.Duration) {
	k.ping = now.Add(pingEvery(presence)).UnixMilli()
}

func (k *seat) sendPing(now time.Time, presence time.Duration) error {
	k.pinged(now, presence)
	err := k.out.control(websocket.PingMessage, nil)
	k.slow = !k.out.empty()
	return err
}

// end says goodbye; nothing follows.
func (k *seat) end(code int, reason string, now time.Time) {
	if k.ended {
		return
	}
	_ = k.out.control(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason)) // it is closed soon either way
	k.ended, k.slow = true, !k.out.empty()
	k.due, k.rank, k.ping = never, noRank, now.Add(goodbyeTime).UnixMilli()
}

// shard is all that happens to a part of a room's sockets.
type shard struct {
	hub  *hub
	line *queue.Line

	mu      sync.Mutex // guards the rest of this block, and gone of its sockets
	arrived []seat
	words   []words
	running bool

	// Below belongs to the goroutine.
	seats []seat
	free  []int // seats where nobody sits
	epoll *epoll
	scrap [receiveBuffer]byte
	// Of a tick; kept for the next.
	tokens []queue.Token
	places []queue.Place
	due    []int
}

// words are what a reader of its own read of a socket that epoll cannot watch.
type words struct {
	*socket
	text  []byte
	fault error
}

func (d *shard) add(k seat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrived = append(d.arrived, k)
	if !d.running {
		d.running = true
		d.hub.held.Go(d.run)
	}
}

// run lives while the shard has sockets.
func (d *shard) run() {
	// The room's ticks move everything; the ticker keeps sockets going without them.
	idle := time.NewTicker(time.Second)
	defer idle.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	quit, last := d.hub.quit, ""
	for {
		changed := d.line.Changed()
		if !d.settle() {
			return
		}
		last = d.tick(ctx, last)
		select {
		case <-changed:
		case <-idle.C:
		case <-quit:
			quit = nil
			d.goodbye()
			idle.Reset(50 * time.Millisecond) // whoever answers is gone
		case <-d.hub.cut:
			d.settle()
			for i := range d.seats {
				d.bury(&d.seats[i])
			}
		}
	}
}

// settle seats those who have arrived; false when nobody is left and the shard has stopped.
func (d *shard) settle() bool {
	d.mu.Lock() // to the end: the next goroutine may begin once running is false
	defer d.mu.Unlock()
	for _, k := range d.arrived {
		if n := len(d.free); n > 0 {
			k.at, d.free = d.free[n-1], d.free[:n-1]
			d.seats[k.at] = k
		} else {
			k.at = len(d.seats)
			d.seats = append(d.seats, k)
		}
		d.follow(&d.seats[k.at])
	}
	d.arrived = nil
	if d.running = len(d.free) < len(d.seats); !d.running {
		if d.epoll != nil {
			d.epoll.close()
		}
		d.seats, d.free, d.epoll, d.words, d.tokens, d.places, d.due = nil, nil, nil, nil, nil, nil, nil
	}
	return d.running
}

// follow sees to it that the shard hears of what the client sends. It is called with the
// lock held.
func (d *shard) follow(k *seat) {
	if k.out.fd < 0 {
		s := k.socket
		s.next = make(chan struct{}, 1)
		d.hub.held.Go(func() { d.listen(s) })
		return
	}
	var err error
	if d.epoll == nil {
		d.epoll, err = newEpoll()
	}
	if err == nil {
		err = d.epoll.add(k.out.fd, k.at)
	}
	if err != nil { // out of descriptors or memory: the visitor comes back, here or elsewhere
		k.end(websocket.CloseTryAgainLater, "too many connections", d.hub.now())
	}
}

// listen reads a socket that epoll cannot watch, one piece at a time, until it ends.
func (d *shard) listen(s *socket) {
	b := make([]byte, 512)
	for {
		n, err := s.out.conn.Read(b)
		d.mu.Lock()
		gone := s.gone
		if !gone {
			d.words = append(d.words, words{s, b[:n], err})
		}
		d.mu.Unlock()
		if gone || err != nil {
			return
		}
		if _, more := <-s.next; !more {
			return
		}
	}
}

// hear takes what clients have sent since the last tick, a piece of each.
func (d *shard) hear(now time.Time) {
	if d.epoll != nil {
		d.epoll.ready(len(d.seats), func(at int) { d.read(&d.seats[at], now) })
	}
	d.mu.Lock()
	said := d.words
	d.words = nil
	d.mu.Unlock()
	for _, w := range said {
		if w.gone { // only we set it
			continue
		}
		if d.heard(&d.seats[w.at], w.text, w.fault, now); !w.gone {
			w.next <- struct{}{}
		}
	}
}

func (d *shard) read(k *seat, now time.Time) {
	if k.socket == nil {
		return // its end had come in the same moment
	}
	n, err := receive(k.out.fd, d.scrap[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR: // the next tick asks again
		return
	case err == nil && n == 0:
		err = io.EOF
	}
	d.heard(k, d.scrap[:n], err, now)
}

// heard deals with what a client said, or that it is gone.
func (d *shard) heard(k *seat, text []byte, err error, now time.Time) {
	k.heard = now.UnixMilli()
	if err == nil && !k.deaf {
		err = k.receive(text)
	}
	var why *unwelcome
	switch {
	case errors.As(err, &why):
		k.deaf = true // but it may read why
		k.end(why.code, why.reason, now)
	case err != nil:
		d.bury(k)
	default:
		k.slow = !k.out.empty()
	}
}

// bury ends a socket for good.
func (d *shard) bury(k *seat) {
	s := k.socket
	if s == nil {
		return
	}
	s.out.close()
	d.hub.release(s)
	if s.next != nil {
		d.mu.Lock()
		s.gone = true
		d.mu.Unlock()
		close(s.next)
	}
	*k = seat{}
	d.free = append(d.free, s.at)
}

// goodbye asks everyone to come back.
func (d *shard) goodbye() {
	d.settle()
	now := d.hub.now()
	for i := range d.seats {
		if k := &d.seats[i]; k.socket != nil {
			d.line.Seen(k.token)
			k.end(websocket.CloseServiceRestart, fmt.Sprintf("reconnect=%.1fs", d.hub.comeBack(d.line).Seconds()), now)
		}
	}
}

// askedAtOnce is how many places are asked for together: what is known of them is still at
// hand when it is written, and costs little memory.
const askedAtOnce = 500

// tick hears everyone out, and tells everyone whose time it is; all of them when what the
// room says to all is not last any more. It returns what the room says now.
func (d *shard) tick(ctx context.Context, last string) string {
	now := d.hub.now()
	d.hear(now)
	live := d.line.View().Live()
	word := wordOf(live)
	d.collect(live, now, word != last)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for due := range slices.Chunk(d.due, askedAtOnce) {
		if !d.inform(ctx, due, live.Frontier, now) {
			word = last // the next tick asks again
		}
	}
	return word
}

// inform tells those who are due; false when nobody knows what.
func (d *shard) inform(ctx context.Context, due []int, frontier uint64, now time.Time) bool {
	ask := func() (err error) {
		d.tokens = d.tokens[:0]
		for _, at := range due {
			d.tokens = append(d.tokens, d.seats[at].token)
		}
		d.places, err = d.line.Places(ctx, d.tokens, d.places)
		return err
	}
	if ask() != nil {
		// The store is away. Those who wait behind the frontier need only the View.
		due = slices.DeleteFunc(due, func(at int) bool {
			k := &d.seats[at]
			near := k.state != queue.InLobby && (k.rank == noRank || k.rank < frontier)
			if near {
				k.due = 0
			}
			return near
		})
		if ask() != nil {
			return false
		}
	}
	present := presence(d.line)
	for i, at := range due {
		if k := &d.seats[at]; k.show(&d.places[i], frontier, now, present) != nil {
			d.bury(k)
		}
	}
	return true
}

// collect keeps everyone alive and present, and finds the seats of those who are due.
func (d *shard) collect(live queue.Live, now time.Time, all bool) {
	ms := now.UnixMilli()
	present := max(time.Second, time.Duration(live.PresenceTTL)*time.Second)
	seen, silence := (present / 3).Milliseconds(), (pingEvery(present)*7/4 + slowAnswer).Milliseconds()
	d.due = d.due[:0]
	for i := range d.seats {
		k := &d.seats[i]
		if k.slow {
			d.push(k, now)
		}
		switch {
		case k.socket == nil:
		case ms >= k.ping && (k.ended || !k.slow && ms-k.heard >= silence):
			d.bury(k)
		case k.ended:
		case !k.slow && (all || ms >= k.due || k.rank < live.Frontier):
			k.seen = ms // with the question
			d.due = append(d.due, i)
		default:
			if all {
				k.due = 0 // the newest document goes out when there is room for it
			}
			if ms-k.seen >= seen {
				k.seen = ms
				d.line.Seen(k.token)
			}
			if ms >= k.ping && !k.slow && k.sendPing(now, present) != nil {
				d.bury(k)
			}
		}
	}
}

// push gives the kernel what it did not take before. Who takes nothing for long is asked
// to come back later.
func (d *shard) push(k *seat, now time.Time) {
	err := k.out.flush()
	switch {
	case errors.Is(err, errStuck):
		k.end(websocket.CloseTryAgainLater, "too slow", now) // it may wake up and read why
	case err != nil:
		d.bury(k)
	default:
		k.slow = !k.out.empty()
	}
}
