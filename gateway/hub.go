package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
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
	// pingTime is the longest time between pings; a visitor of whom nothing is heard for
	// nearly twice that is gone. Rooms with a short presence time ping more often.
	pingTime = 25 * time.Second
)

// hubLimits are Config's of the same names.
type hubLimits struct{ sockets, perPrefix, drainRate int }

// watched is a place as the hub counts its windows.
type watched struct {
	room   string
	number uint64
}

// hub pushes Places over WebSockets. Each room's sockets are spread over a fixed
// number of shards; a shard has one goroutine, and all that happens to its sockets
// happens there. Only sockets that epoll cannot watch (TLS) have a goroutine each, which
// hands on what it reads.
type hub struct {
	limits   hubLimits
	shards   int
	now      func() time.Time
	upgrader websocket.Upgrader

	mu        sync.Mutex // guards all below
	rooms     map[*queue.Line][]*shard
	perPrefix map[netip.Prefix]int32
	perPlace  map[watched]int8
	open      int
	closed    bool
	leaving   int // open when it was closed

	quit, cut chan struct{}  // closed by drain: say goodbye; close what is left
	held      sync.WaitGroup // shards and readers
}

func newHub(limits hubLimits, shards int, now func() time.Time) *hub {
	return &hub{
		limits: limits, shards: shards, now: now,
		upgrader: websocket.Upgrader{
			HandshakeTimeout: 5 * time.Second,
			ReadBufferSize:   1, // its least, for it is thrown away after the handshake
			WriteBufferPool:  &sync.Pool{},
			Subprotocols:     []string{protocolName},
			CheckOrigin:      func(*http.Request) bool { return true }, // checked before
			Error:            refuseUpgrade,
		},
		rooms:     map[*queue.Line][]*shard{},
		perPrefix: map[netip.Prefix]int32{},
		perPlace:  map[watched]int8{},
		quit:      make(chan struct{}),
		cut:       make(chan struct{}),
	}
}

func refuseUpgrade(w http.ResponseWriter, r *http.Request, status int, _ error) {
	problem.Write(w, r, problem.New(status, "websocket-required", "This address speaks WebSocket, version 13."))
}

// accept upgrades r and keeps its socket until the client or the place goes. The
// HTTP handler returns at once, and with it goes the memory of the request, of
// gorilla's Conn and of Go's: what is left is a descriptor and a place (hub_socket.go).
func (h *hub) accept(w http.ResponseWriter, r *http.Request, line *queue.Line, t queue.Token) *problem.Problem {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		return problem.New(http.StatusUpgradeRequired, "websocket-required", "This address speaks WebSocket.")
	}
	place, _, err := line.Place(r.Context(), t)
	if err != nil {
		return roomProblem(err)
	}
	s := newSocket(t, visitOf(r).prefix)
	if p := h.reserve(s); p != nil {
		return p
	}
	conn, err := upgrade(&h.upgrader, w, r)
	if err != nil {
		h.release(s) // Upgrade has answered
		return nil
	}
	s.out = newOutbox(conn.NetConn())
	now := h.now()
	k := seat{socket: s, heard: now.UnixMilli(), seen: now.UnixMilli(), ping: now.Add(pingEvery(presence(line))).UnixMilli()}
	if err := k.show(&place, line.View().Live().Frontier, now, presence(line)); err != nil || !h.keep(line, k) {
		s.out.close() // nobody is left to tell
		h.release(s)
	}
	return nil
}

func (h *hub) reserve(s *socket) *problem.Problem {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.open >= h.limits.sockets || int(h.perPrefix[s.prefix]) >= h.limits.perPrefix {
		return problem.New(http.StatusServiceUnavailable, "too-many-connections", "No live connection is free here. Your place is safe: ask again instead.").In(5 * time.Second)
	}
	if h.perPlace[s.watched()] >= maxPerPlace {
		return problem.New(http.StatusTooManyRequests, "too-many-connections", "This place is watched in too many windows.").In(5 * time.Second)
	}
	h.open++
	h.perPrefix[s.prefix]++
	h.perPlace[s.watched()]++
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
	if h.perPlace[s.watched()]--; h.perPlace[s.watched()] == 0 {
		delete(h.perPlace, s.watched())
	}
	telemetry.WSConnections.WithLabelValues(s.token.Room).Dec()
}

// keep gives the socket to a shard; false when draining.
func (h *hub) keep(line *queue.Line, k seat) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	shards, ok := h.rooms[line]
	if !ok {
		shards = make([]*shard, h.shards)
		for i := range shards {
			shards[i] = &shard{hub: h, line: line}
		}
		h.rooms[line] = shards
	}
	shards[k.token.Number%uint64(len(shards))].add(k)
	return true
}

// drain asks every visitor to come back after a time of its own, and cuts those who
// have not gone when ctx ends.
func (h *hub) drain(ctx context.Context) {
	h.mu.Lock()
	already := h.closed
	h.closed, h.leaving = true, h.open
	h.mu.Unlock()
	if already {
		return
	}
	close(h.quit)
	gone := make(chan struct{})
	go func() { h.held.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-ctx.Done():
	}
	close(h.cut)
	<-gone
}

// comeBack is when one visitor of a draining gateway should come back: all of them
// come at the chosen rate, or within half the presence time where that is sooner.
func (h *hub) comeBack(line *queue.Line) time.Duration {
	h.mu.Lock()
	leaving := h.open
	if h.closed {
		leaving = h.leaving
	}
	h.mu.Unlock()
	spread := time.Duration(leaving) * time.Second / time.Duration(h.limits.drainRate)
	return time.Duration(rand.Int64N(int64(min(max(spread, time.Second), presence(line)/2))))
}
