package gateway

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"usher/internal/problem"
	"usher/internal/telemetry"
	"usher/queue"
)

const (
	protocolName = "usher.v1"
	// maxPerPlace is how many tabs may watch one place on a gateway.
	maxPerPlace = 8
	// maxChatter is how many messages a client may send, though none is expected.
	maxChatter = 16
	// pingTime is the longest time between pings; a visitor whose pongs stay away for
	// twice that is gone. Rooms with a short presence time ping more often.
	pingTime = 25 * time.Second
	// drainRate is how many visitors a second are asked to come back after a drain.
	drainRate = 2000
)

type hubLimits struct{ sockets, perPrefix int }

// hub pushes Places over WebSockets. Each room's sockets are spread over a fixed
// number of shards; a shard has one goroutine, the only writer of documents to its
// sockets. Each socket has one more goroutine, which reads pongs.
type hub struct {
	limits   hubLimits
	shards   int
	now      func() time.Time
	upgrader websocket.Upgrader

	mu        sync.Mutex // guards all below
	rooms     map[*queue.Line][]*shard
	perPrefix map[netip.Prefix]int
	perPlace  map[holder]int
	open      int
	closed    bool

	quit chan struct{}  // closed at the end of drain
	wg   sync.WaitGroup // shards and readers
}

func newHub(limits hubLimits, shards int, now func() time.Time) *hub {
	return &hub{
		limits: limits, shards: shards, now: now,
		upgrader: websocket.Upgrader{
			HandshakeTimeout: 5 * time.Second,
			ReadBufferSize:   512,
			// Held only while a message is written: one document fits.
			WriteBufferSize: 1024,
			WriteBufferPool: &sync.Pool{},
			Subprotocols:    []string{protocolName},
			CheckOrigin:     func(*http.Request) bool { return true }, // checked before
			Error:           refuseUpgrade,
		},
		rooms:     map[*queue.Line][]*shard{},
		perPrefix: map[netip.Prefix]int{},
		perPlace:  map[holder]int{},
		quit:      make(chan struct{}),
	}
}

func refuseUpgrade(w http.ResponseWriter, r *http.Request, status int, _ error) {
	problem.Write(w, r, problem.New(status, "websocket-required", "This address speaks WebSocket, version 13."))
}

// socket is one visitor's connection.
type socket struct {
	conn   *websocket.Conn
	out    *outbox
	token  queue.Token
	holder holder
	prefix netip.Prefix
	gone   atomic.Bool // its reader has ended

	// Below belongs to its shard's goroutine. Times are Unix milliseconds.
	shown           uint64 // digest of the last document sent
	due, seen, ping int64
	state           queue.State // when last asked
	rank            uint64      // while it waits
}

// passed tells that the frontier has gone by since the socket was last told.
func (s *socket) passed(frontier uint64) bool {
	return s.state == queue.Waiting && s.rank < frontier
}

// accept upgrades r and keeps its socket until the client or the place goes. The
// HTTP handler returns at once, and with it goes the memory of the request.
func (h *hub) accept(w http.ResponseWriter, r *http.Request, line *queue.Line, t queue.Token) *problem.Problem {
	s := &socket{token: t, holder: placeHolder(t.Room, t.Number), prefix: visitOf(r).prefix}
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		return problem.New(http.StatusUpgradeRequired, "websocket-required", "This address speaks WebSocket.")
	}
	place, _, err := line.Place(r.Context(), t)
	if err != nil {
		return roomProblem(err)
	}
	if p := h.reserve(s); p != nil {
		return p
	}
	hj := &hijacker{ResponseWriter: w}
	if s.conn, err = h.upgrader.Upgrade(hj, r, nil); err != nil {
		h.release(s) // Upgrade has answered
		return nil
	}
	s.out = hj.out
	now := h.now()
	s.seen, s.ping = now.UnixMilli(), now.Add(pingEvery(line)).UnixMilli()
	sent := s.show(place, now)
	if sent {
		sent = h.keep(line, s)
	}
	if !sent {
		_ = s.conn.Close() // nobody is left to tell
		h.release(s)
	}
	return nil
}

func (h *hub) reserve(s *socket) *problem.Problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.open >= h.limits.sockets || h.perPrefix[s.prefix] >= h.limits.perPrefix {
		return problem.New(http.StatusServiceUnavailable, "too-many-connections", "No live connection is free here. Your place is safe: ask again instead.").In(5 * time.Second)
	}
	if h.perPlace[s.holder] >= maxPerPlace {
		return problem.New(http.StatusTooManyRequests, "too-many-connections", "This place is watched in too many windows.").In(5 * time.Second)
	}
	h.open++
	h.perPrefix[s.prefix]++
	h.perPlace[s.holder]++
	telemetry.WSConnections.WithLabelValues(s.token.Room).Inc()
	return nil
}

func (h *hub) release(s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
	if h.perPrefix[s.prefix]--; h.perPrefix[s.prefix] == 0 {
		delete(h.perPrefix, s.prefix)
	}
	if h.perPlace[s.holder]--; h.perPlace[s.holder] == 0 {
		delete(h.perPlace, s.holder)
	}
	telemetry.WSConnections.WithLabelValues(s.token.Room).Dec()
}

// keep gives the socket to a shard and starts its reader; false when draining.
func (h *hub) keep(line *queue.Line, s *socket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	shards, ok := h.rooms[line]
	if !ok {
		shards = make([]*shard, h.shards)
		for i := range shards {
			shards[i] = &shard{line: line, now: h.now, quit: h.quit}
		}
		h.rooms[line] = shards
	}
	shards[s.token.Number%uint64(len(shards))].add(s, &h.wg)
	h.wg.Go(func() {
		s.read(pingEvery(line))
		s.gone.Store(true)
		_ = s.conn.Close() // the reader's end is the connection's
		h.release(s)
	})
	return true
}

// read takes pongs until the connection ends.
func (s *socket) read(ping time.Duration) {
	alive := func(string) error { return s.conn.SetReadDeadline(time.Now().Add(2*ping + 5*time.Second)) }
	s.conn.SetReadLimit(512)
	s.conn.SetPongHandler(alive)
	if alive("") != nil {
		return
	}
	for range maxChatter {
		if _, _, err := s.conn.NextReader(); err != nil {
			return
		}
	}
	s.close(websocket.ClosePolicyViolation, "nothing is expected from you")
}

// close sends a close frame; the client's answer, or its silence, ends the reader.
func (s *socket) close(code int, reason string) {
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second))
	_ = s.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
}

// show sends the document if it says anything new; false when the socket is to be
// forgotten. Only one goroutine at a time may call it.
func (s *socket) show(p queue.Place, now time.Time) bool {
	if s.state = p.State; p.Rank != nil {
		s.rank = *p.Rank
	}
	s.due = now.Add(pace(p)).UnixMilli()
	if digest := digestOf(p); digest != s.shown {
		doc := documents.Get().(*[]byte)
		*doc = appendPlace((*doc)[:0], &p)
		err := s.conn.WriteMessage(websocket.TextMessage, *doc)
		documents.Put(doc)
		if err != nil {
			return false
		}
		s.shown = digest
		telemetry.WSMessages.Inc()
	}
	if p.State.Final() {
		s.close(websocket.CloseNormalClosure, "place-"+string(p.State))
		return false
	}
	return true
}

// documents lends buffers for one message at a time.
var documents = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// pace is how long a visitor may be left without news: nobody near the front, and
// longer the further back, with jitter so that those of one moment drift apart.
func pace(p queue.Place) time.Duration {
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

// shard is one writer of a room.
type shard struct {
	line *queue.Line
	now  func() time.Time
	quit <-chan struct{}

	mu      sync.Mutex // guards sockets and running
	sockets []*socket
	running bool
}

func (d *shard) add(s *socket, wg *sync.WaitGroup) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sockets = append(d.sockets, s)
	if !d.running {
		d.running = true
		wg.Go(d.run)
	}
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
		var more bool
		if last, more = d.tick(ctx, last); !more {
			return
		}
		select {
		case <-changed:
		case <-idle.C:
		case <-d.quit:
			return
		}
	}
}

// tick tells everyone whose time it is; all of them when what the room says to all
// is not last any more. It returns what the room says now.
func (d *shard) tick(ctx context.Context, last string) (word string, more bool) {
	view, now := d.line.View(), d.now()
	live := view.Live()
	word = wordOf(live)
	due, tokens := d.collect(live, now, word != last)
	if due == nil {
		return word, false
	}
	if len(tokens) == 0 {
		return word, true
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	places, err := d.line.Places(ctx, tokens)
	if err != nil {
		// The store is away. Those who wait behind the frontier need only the View.
		due, tokens = slices.DeleteFunc(due, func(s *socket) bool {
			near := s.state != queue.Waiting && s.state != queue.InLobby || s.passed(live.Frontier)
			if near {
				s.due = 0
			}
			return near
		}), tokens[:0]
		for _, s := range due {
			tokens = append(tokens, s.token)
		}
		if places, err = d.line.Places(ctx, tokens); err != nil {
			return last, true // the next tick asks again
		}
	}
	for i, s := range due {
		if !s.show(places[i], now) {
			s.gone.Store(true)
		}
	}
	return word, true
}

// wordOf is what a room says to everyone; when it changes everyone hears at once.
func wordOf(live queue.Live) string {
	word := string(live.Phase) + " " + live.Epoch
	if live.Message != nil {
		word += " " + *live.Message
	}
	return word
}

// collect forgets sockets that are gone, keeps the others alive and present, and
// returns those that are due; nil when the shard is empty and has stopped.
func (d *shard) collect(live queue.Live, now time.Time, all bool) ([]*socket, []queue.Token) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sockets = slices.DeleteFunc(d.sockets, func(s *socket) bool { return s.gone.Load() })
	if len(d.sockets) == 0 {
		d.running = false
		return nil, nil
	}
	ms := now.UnixMilli()
	present := max(time.Second, time.Duration(live.PresenceTTL)*time.Second)
	due, tokens := make([]*socket, 0, 64), make([]queue.Token, 0, 64)
	for _, s := range d.sockets {
		clear, err := s.out.flush()
		if err != nil {
			s.close(websocket.CloseTryAgainLater, "too slow")
			s.gone.Store(true)
			_ = s.conn.Close()
			continue
		}
		if ms-s.seen >= (present / 3).Milliseconds() {
			d.line.Seen(s.token)
			s.seen = ms
		}
		if !clear {
			continue // the newest document goes out when there is room for it
		}
		if ms >= s.ping {
			_ = s.conn.WriteControl(websocket.PingMessage, nil, now.Add(time.Second)) // its failure ends the reader
			s.ping = now.Add(min(pingTime, present/2)).UnixMilli()
		}
		if all || ms >= s.due || s.passed(live.Frontier) {
			due, tokens = append(due, s), append(tokens, s.token)
		}
	}
	return due, tokens
}

// drain asks every visitor to come back after a time of its own, and cuts those who
// have not gone when ctx ends.
func (h *hub) drain(ctx context.Context) {
	h.mu.Lock()
	already := h.closed
	h.closed = true
	var sockets []*socket
	for line, shards := range h.rooms {
		spread := time.Duration(h.open) * time.Second / drainRate
		spread = min(max(spread, time.Second), presence(line)/2)
		for _, d := range shards {
			d.mu.Lock()
			for _, s := range d.sockets {
				after := time.Duration(rand.Int64N(int64(spread)))
				s.close(websocket.CloseServiceRestart, fmt.Sprintf("reconnect=%.1fs", after.Seconds()))
				sockets = append(sockets, s)
			}
			d.mu.Unlock()
		}
	}
	h.mu.Unlock()
	if !already {
		close(h.quit)
	}
	gone := make(chan struct{})
	go func() { h.wg.Wait(); close(gone) }()
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	for _, s := range sockets {
		_ = s.conn.Close()
	}
	<-gone
}
