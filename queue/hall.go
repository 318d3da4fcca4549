package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/internal/deadline"
	"usher/internal/keyring"
)

// Config is what a Hall needs.
type Config struct {
	Redis redis.UniversalClient
	Ring  *keyring.Ring
	// Log is slog.Default() when nil.
	Log *slog.Logger
	// Tick is how often each room advances and is read: 250 ms when 0; from 50 ms to 1 s.
	// It bounds how old a position may be.
	Tick time.Duration
	// WaitReplicas is how many replicas must have the numbers of a join before it is
	// answered; with fewer in half a second the visitor is told to come back, and the
	// numbers are burnt. 0 asks for none. Up to 16.
	WaitReplicas int
	// BeaconHosts are the hosts that rooms may have their beacon from; the Recorder's are to
	// be the same.
	BeaconHosts []string
	// OriginStatus tells how a named origin does ("" is the box office), for operators.
	// Health is "unknown" when nil.
	OriginStatus func(name string) OriginStatus

	clock func() int64 // room time in milliseconds, in tests
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var faults []error
	if c.Redis == nil {
		faults = append(faults, errors.New("no Redis is given"))
	}
	if c.Ring == nil {
		faults = append(faults, errors.New("no key ring is given"))
	}
	if c.WaitReplicas < 0 || c.WaitReplicas > 16 {
		faults = append(faults, errors.New("from 0 to 16 replicas can be waited for"))
	}
	if c.Tick != 0 && (c.Tick < 50*time.Millisecond || c.Tick > time.Second) {
		faults = append(faults, errors.New("a tick must be from 50 ms to 1 s"))
	}
	return errors.Join(faults...)
}

// lookEvery is how often the Hall looks for new rooms and events: well under the
// second within which a change is in force everywhere.
const lookEvery = 500 * time.Millisecond

// maxRooms bounds the rooms that one process watches.
const maxRooms = 10_000

// Hall is one gateway's view of all rooms.
type Hall struct {
	cfg     Config
	adopted chan struct{} // holds one word when there are lines that Run may not have started
	rules   atomic.Pointer[[]rule]
	ended   ended

	mu         sync.RWMutex // guards the rest
	byName     map[string]*Line
	eventRooms map[string]string
	looked     error // of the last look; nil when it succeeded
	known      bool
}

// NewHall makes a Hall that knows no room yet; Run finds them.
func NewHall(cfg Config) (*Hall, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Tick == 0 {
		cfg.Tick = 250 * time.Millisecond
	}
	return &Hall{
		cfg: cfg, adopted: make(chan struct{}, 1), byName: map[string]*Line{}, looked: errors.New("not looked for rooms yet"),
	}, nil
}

// Run watches the rooms until ctx ends. A store that does not answer is no reason to stop.
func (h *Hall) Run(ctx context.Context) error {
	var lines errgroup.Group
	started := map[*Line]bool{}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for look := true; ; {
		if look {
			if err := h.look(ctx); err != nil && ctx.Err() == nil {
				h.cfg.Log.DebugContext(ctx, "look for rooms", "error", err)
			}
		}
		for _, l := range h.all() {
			if !started[l] {
				started[l] = true
				lines.Go(func() error { return l.run(ctx, h.cfg.Tick) })
			}
		}
		select {
		case <-ctx.Done():
			return lines.Wait()
		case <-ticker.C:
			look = true
		case <-h.adopted:
			look = false
		}
	}
}

// look finds new rooms and reads which event has which room.
func (h *Hall) look(ctx context.Context) error {
	defer h.protect()
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	var named *redis.StringSliceCmd
	var rooms *redis.MapStringStringCmd
	var noted *redis.IntCmd
	_, err := h.cfg.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		named, rooms, noted = p.SMembers(ctx, roomsKey), p.HGetAll(ctx, eventRoomsKey), p.Exists(ctx, recordedKey)
		return nil
	})
	names, events, recorded := named.Val(), rooms.Val(), noted.Val()
	if err == nil {
		err = h.ended.look(ctx, h.cfg.Redis)
	}
	h.mu.Lock()
	h.looked = err
	h.known = h.known || err == nil && (len(names) > 0 || recorded > 0)
	if err == nil && (len(events) > 0 || h.eventRooms == nil) { // an emptied store forgets; we do not
		h.eventRooms = events
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	var faults []error
	for _, name := range names {
		if _, err := h.adopt(ctx, name); err != nil && !errors.Is(err, errNoRoom) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// adopt returns the room's Line, making it if need be. A name without a room behind it
// (one that is just being made) gets none.
func (h *Hall) adopt(ctx context.Context, name string) (*Line, error) {
	if l, ok := h.Line(name); ok {
		return l, nil
	}
	l := newLine(h.cfg, name)
	if err := l.tick(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if known, ok := h.byName[name]; ok {
		return known, nil
	}
	if len(h.byName) >= maxRooms {
		return nil, fmt.Errorf("more than %d rooms", maxRooms)
	}
	h.byName[name] = l
	select {
	case h.adopted <- struct{}{}:
	default: // Run has been told already
	}
	return l, nil
}

// Line is the room's line; false when this process knows no such room.
func (h *Hall) Line(room string) (*Line, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	l, ok := h.byName[room]
	return l, ok
}

func (h *Hall) all() []*Line {
	h.mu.RLock()
	defer h.mu.RUnlock()
	out := make([]*Line, 0, len(h.byName))
	for _, name := range slices.Sorted(maps.Keys(h.byName)) {
		out = append(out, h.byName[name])
	}
	return out
}

// rule is one Protect entry of one room.
type rule struct{ host, prefix, room, origin string }

// protect makes the rules of Protects ready: entries with a host first, then the longest
// prefix first, so that the first match is the one.
func (h *Hall) protect() {
	var rules []rule
	for _, l := range h.all() {
		s := l.View().settings
		for _, p := range s.Protect {
			rules = append(rules, rule{strings.ToLower(p.Host), loosest(p.PathPrefix), l.room, deref(s.Origin)})
		}
	}
	slices.SortStableFunc(rules, func(a, b rule) int {
		if (a.host == "") != (b.host == "") {
			return strings.Compare(b.host, a.host)
		}
		return len(b.prefix) - len(a.prefix)
	})
	h.rules.Store(&rules)
}

// Protects tells which room a path of a host is behind: of all entries that match, one
// with a host before one without, then the longest prefix. host has no port; path is
// normalised, and matched as the loosest program behind the edge would read it. origin is
// the name in the room's settings, or "".
func (h *Hall) Protects(host, path string) (room, origin string, ok bool) {
	rules := h.rules.Load()
	if rules == nil {
		return "", "", false
	}
	path = loosest(path)
	for _, r := range *rules {
		if strings.HasPrefix(path, r.prefix) && (r.host == "" || strings.EqualFold(r.host, host)) {
			return r.room, r.origin, true
		}
	}
	return "", "", false
}

// loosest is a path as a program reads it that folds case, drops what follows a semicolon
// in a segment, and, as Windows does with names, dots and spaces at a segment's end, with
// the slashes that this leaves doubled: "/Box.;v=1/;/office " is "/box/office".
func loosest(path string) string {
	path = strings.ToLower(path)
	if last := path[max(0, len(path)-1):]; !strings.Contains(path, ";") && !strings.Contains(path, "./") && !strings.Contains(path, " /") && last != "." && last != " " {
		return path
	}
	var b strings.Builder
	for i, segment := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		kept, _, cut := strings.Cut(segment, ";")
		if bare := strings.TrimRight(kept, ". "); bare != kept {
			kept, cut = bare, true
		}
		if kept == "" && (cut || i == 0) {
			continue
		}
		b.WriteString("/" + kept)
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// Known tells that the rooms of this site have been read: before that, a path that
// Protects says nothing of may be protected all the same. An empty store is believed to
// have no rooms only once the Recorder has looked for those that it lost.
func (h *Hall) Known() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.known
}

// RoomOfEvent tells the room of an event ("" for none), and whether the event is known.
func (h *Hall) RoomOfEvent(slug string) (room string, known bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	room, known = h.eventRooms[slug]
	return room, known
}

// Ready is nil when rooms are known and the store answers for each of them.
func (h *Hall) Ready() error {
	h.mu.RLock()
	err := h.looked
	h.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("the queue's store does not answer: %w", err)
	}
	for _, l := range h.all() {
		if l.View().lost {
			return fmt.Errorf("the line of room %s stands still", l.room)
		}
	}
	return nil
}
