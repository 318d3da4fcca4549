package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"usher/internal/keyring"
	"usher/internal/telemetry"
)

const (
	// callTime bounds every round trip to Redis.
	callTime = 3 * time.Second
	// retryAfter is when to come back after a failure.
	retryAfter = 2 * time.Second
	// paceSamples bounds the memory of calls made, one a second.
	paceSamples = 64
)

// Line is one gateway's hold on one room.
type Line struct {
	room string
	id   string // of this gateway's hold on it, among all gateways'
	keys []string
	rdb  redis.UniversalClient
	ring *keyring.Ring
	log  *slog.Logger
	// replicas is how many must have the numbers of a join.
	replicas int
	// origin tells how a named origin does; may be nil.
	origin func(name string) OriginStatus
	// clock is room time in milliseconds in tests; nil: Redis TIME.
	clock func() int64

	view     atomic.Pointer[View]
	document atomic.Pointer[document]
	// until is how long after it was taken the View's settings were still in force.
	until atomic.Pointer[inForce]
	// leavers is the size of leaving, so that nobody else needs the lock to see that it is empty.
	leavers atomic.Int32

	ticking sync.Mutex // held while a tick is under way; guards the rest of this block
	readAt  uint64     // the turn of the bits last read
	quiet   time.Time  // end of the quiet time that this gateway has answered already
	samples []sample
	table   rankTable

	mu      sync.Mutex // guards the rest
	changed chan struct{}
	marks   marks
	// leaving holds who left here and whom the View does not know to have left yet.
	leaving map[Token]bool
	issued  issued           // what this gateway got itself
	given   map[string]given // sessions that this gateway gave and that last
	prune   int              // how many make it look for ended ones

	joins joins
	early singleflight.Group // ticks brought forward, and questions that many have
}

type sample struct {
	at     time.Time
	called uint64
}

// given is a session that this gateway gave.
type given struct {
	epoch  string
	number uint64
	till   time.Time
	ended  bool // released before that
}

// maxGiven bounds the sessions remembered for a restore.
const maxGiven = 1 << 18

func newLine(cfg Config, room string) *Line {
	return &Line{
		room: room, id: fmt.Sprintf("%016x", rand.Uint64()), keys: keysOf(room), rdb: cfg.Redis, replicas: cfg.WaitReplicas, ring: cfg.Ring, log: cfg.Log.With("room", room), origin: cfg.OriginStatus,
		clock: cfg.clock, changed: make(chan struct{}), given: map[string]given{}, leaving: map[Token]bool{},
	}
}

// errNoRoom says that Redis does not know the room.
var errNoRoom = errors.New("no such room in the store")

// now is the first argument of every script.
func (l *Line) now() string {
	if l.clock == nil {
		return "0"
	}
	return strconv.FormatInt(l.clock(), 10)
}

// View is the room as of the last tick; nil before the first.
func (l *Line) View() *View { return l.view.Load() }

// Changed is closed at the next tick.
func (l *Line) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *Line) publish(v *View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.view.Store(v)
	for t := range l.leaving {
		if rank := v.rank(t.Number); t.Epoch != v.epoch || rank < v.frontier || v.left.has(rank) {
			delete(l.leaving, t)
		}
	}
	l.leavers.Store(int32(len(l.leaving)))
	close(l.changed)
	l.changed = make(chan struct{})
}

// run ticks until ctx ends. A store that does not answer is no reason to stop. All
// gateways tick at the same moments of room time, so that a visitor who goes from one
// to another finds Views of the same moment.
func (l *Line) run(ctx context.Context, every time.Duration) error {
	timer := time.NewTimer(every) // reset after each tick
	defer timer.Stop()
	defer l.joins.wait()
	for failing := false; ; {
		err := l.tick(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			l.log.WarnContext(ctx, "the line stands still", "error", err)
		case err == nil && failing:
			l.log.InfoContext(ctx, "the line goes on")
		}
		failing = err != nil
		timer.Reset(l.untilNext(every))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// untilNext is the time to the next moment of room time that every divides.
func (l *Line) untilNext(every time.Duration) time.Duration {
	room := time.Now()
	if v := l.View(); v != nil {
		room = v.now.Add(time.Since(v.taken))
	}
	return every - time.Duration(room.UnixNano())%every
}

// tick marks who was seen, advances the room and takes a new View.
func (l *Line) tick(ctx context.Context) error {
	_, err := l.advance(ctx, admission{})
	return err
}

// admission is an operator's wish to call beyond the pace.
type admission struct {
	count int
	id    string
	by    Actor
}

// advance is a tick that may carry an admission. It returns how many calls were made.
func (l *Line) advance(ctx context.Context, a admission) (made int, err error) {
	l.ticking.Lock()
	defer l.ticking.Unlock()
	before := l.View()
	v, made, err := l.take(ctx, before, a)
	if err != nil {
		if before != nil && !before.lost && ctx.Err() == nil { // one who goes away says nothing about the store
			lost := *before
			lost.lost = true
			l.publish(&lost)
		}
		return 0, err
	}
	if v.drawDurable && !v.inForce {
		if err := l.putDrawInForce(ctx, v); err != nil {
			return made, err
		}
		if v, _, err = l.take(ctx, v, admission{}); err != nil {
			return made, err
		}
	}
	if err := l.followMoves(ctx, v, before); err != nil {
		return made, err
	}
	l.measure(v)
	if l.origin != nil {
		v.origin = l.origin(deref(v.settings.Origin))
	} else {
		v.origin.Health = "unknown"
	}
	l.publish(v)
	telemetry.RoomWaiting.WithLabelValues(l.room).Set(float64(v.waiting))
	telemetry.RoomPresent.WithLabelValues(l.room).Set(float64(v.present))
	telemetry.RoomSessions.WithLabelValues(l.room).Set(float64(v.sessions))
	if v.quiet() && !v.quietUntil.Equal(l.quiet) {
		l.recover(ctx, v)
	}
	return made, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
