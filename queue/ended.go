package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/redisx"
)

// Sessions that end before their passes expire: released by the visitor or the origin, or
// their order was paid. A pass verifies offline, so each gateway keeps the list of those
// that are refused all the same; it asks for the new ones at every look. An entry goes when
// its pass expires. A Redis that loses the list is told again by any gateway that knows it;
// with all gateways gone, too, these passes are good until they expire.
const (
	// maxEnded bounds the list, here and in Redis.
	maxEnded = 1 << 18
	// afterOrder is how long a pass is good after its order was paid, to look at the plan
	// once more or to buy again; its room in the shop is free at once.
	afterOrder = 5 * time.Minute
	// endedOverlap is how far back each look goes behind the last one: by so much the
	// clocks of a primary and its successor may differ.
	endedOverlap = 2000
	// endedAtOnce bounds what one call tells Redis again.
	endedAtOnce = 500
)

var (
	endScript   = alone("end")
	endedScript = alone("ended")
)

// alone is a script without lib.lua.
func alone(name string) *redisx.Script {
	src, err := luaFiles.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // embedded at build time
	}
	return redisx.NewScript(string(src))
}

// endSession has the session's pass refused everywhere within a second after the delay.
func endSession(ctx context.Context, rdb redis.UniversalClient, session string, expires time.Time, delay time.Duration) error {
	return endScript.Run(ctx, rdb, endedKeys, delay.Milliseconds(), maxEnded, session, expires.UnixMilli()).Err()
}

// End has the pass of a session, which expires then, refused: here at once, by every
// gateway within a second.
func (h *Hall) End(ctx context.Context, session string, expires time.Time) error {
	h.ended.add(session, expires.UnixMilli())
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	if err := endSession(ctx, h.cfg.Redis, session, expires, 0); err != nil {
		return &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	return nil
}

// Ended tells that a session is over though its pass has not expired.
func (h *Hall) Ended(session string) bool {
	h.ended.mu.RLock()
	defer h.ended.mu.RUnlock()
	_, over := h.ended.till[session]
	return over
}

// ended are the sessions that one gateway knows to be over.
type ended struct {
	since int64 // where the next look begins, in Redis TIME; of the looking goroutine

	mu    sync.RWMutex // guards the rest
	till  map[string]int64
	prune int // how many make it look for expired ones
}

func (e *ended) add(session string, till int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.till) >= e.prune {
		e.drop(time.Now().UnixMilli())
		e.prune = max(1024, 2*len(e.till)) // so that pruning costs little an entry
	}
	if len(e.till) < maxEnded {
		if e.till == nil {
			e.till = map[string]int64{}
		}
		e.till[session] = max(till, e.till[session])
	}
}

// drop forgets what has expired by now; with the lock held.
func (e *ended) drop(now int64) {
	for session, till := range e.till {
		if till <= now {
			delete(e.till, session)
		}
	}
}

// look reads what has ended since the last look, and tells a store that knows less than
// this gateway.
func (e *ended) look(ctx context.Context, rdb redis.UniversalClient) error {
	answer, err := endedScript.Run(ctx, rdb, endedKeys, max(0, e.since-endedOverlap)).Slice()
	if err != nil {
		return fmt.Errorf("read which sessions ended: %w", err)
	}
	word, _ := answer[0].(string)
	now, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		return fmt.Errorf("read which sessions ended: %w", err)
	}
	known, _ := answer[1].(int64)
	for _, entry := range answer[2:] {
		text, _ := entry.(string)
		session, expiry, _ := strings.Cut(text, ":")
		till, err := strconv.ParseInt(expiry, 10, 64)
		if err != nil {
			return fmt.Errorf("read which sessions ended: %w", err)
		}
		e.add(session, till)
	}
	if err := e.tell(ctx, rdb, now, int(known)); err != nil {
		return err
	}
	e.since = now
	return nil
}

// tell gives a store that lost entries those that this gateway has.
func (e *ended) tell(ctx context.Context, rdb redis.UniversalClient, now int64, known int) error {
	e.mu.Lock()
	var calls [][]any
	if len(e.till) > known {
		e.drop(now)
	}
	if len(e.till) > known {
		args := []any{0, maxEnded}
		for session, till := range e.till {
			if args = append(args, session, till); len(args) > 2*endedAtOnce {
				calls, args = append(calls, args), []any{0, maxEnded}
			}
		}
		calls = append(calls, args)
	}
	e.mu.Unlock()
	for _, args := range calls {
		if err := endScript.Run(ctx, rdb, endedKeys, args...).Err(); err != nil {
			return fmt.Errorf("tell which sessions ended: %w", err)
		}
	}
	return nil
}
