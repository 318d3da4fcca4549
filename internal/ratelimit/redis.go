package ratelimit

import (
	"context"
	_ "embed"
	"fmt"
	"hash/fnv"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/redisx"
)

//go:embed gcra.lua
var gcraSource string

// batchLimit bounds the decisions of one round trip.
const batchLimit = 256

// flightTime bounds one round trip: whoever waits for it is a stranger's request.
const flightTime = 500 * time.Millisecond

// Redis is the store that all gateways share. It is safe for concurrent use.
type Redis struct {
	rdb    redis.UniversalClient
	script *redisx.Script
	slots  uint64 // over how many hash tags a policy's keys are spread

	mu      sync.Mutex
	queue   []*ask // guarded by mu; waiting for the next round trip
	flying  bool   // guarded by mu; one caller is running a round trip
	backlog int    // bound of queue
}

type ask struct {
	policy Policy
	key    string
	slot   uint64 // of slots
	cost   int64

	answer Decision
	err    error
	done   chan struct{} // closed when answer or err is set
	lead   chan struct{} // closed when this caller has to run the next round trip
}

// clusterSlots spreads a policy over a cluster; fewer make larger batches.
const clusterSlots = 16

// NewRedis returns a store on rdb.
func NewRedis(rdb redis.UniversalClient) *Redis {
	s := &Redis{rdb: rdb, script: redisx.NewScript(gcraSource), slots: 1, backlog: 16 * batchLimit}
	if _, cluster := rdb.(*redis.ClusterClient); cluster {
		s.slots = clusterSlots
	}
	return s
}

func (s *Redis) slotOf(key string) uint64 {
	if s.slots == 1 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(key)) // never fails
	return h.Sum64() % s.slots
}

// Take spends cost of the key's quota. On an error nothing was decided.
func (s *Redis) Take(ctx context.Context, p Policy, key string, cost int64) (Decision, error) {
	a := &ask{policy: p, key: key, slot: s.slotOf(key), cost: cost, done: make(chan struct{}), lead: make(chan struct{})}
	s.mu.Lock()
	if len(s.queue) >= s.backlog {
		s.mu.Unlock()
		return Decision{}, fmt.Errorf("rate limit %s: %d decisions already wait", p.Name, s.backlog)
	}
	s.queue = append(s.queue, a)
	if !s.flying {
		s.flying = true
		close(a.lead)
	}
	s.mu.Unlock()

	select {
	case <-a.done:
	case <-a.lead:
		s.fly(ctx)
	}
	// A caller whose context ends still waits for the round trip, which is
	// bounded: its request may have been counted.
	<-a.done
	return a.answer, a.err
}

// fly runs one round trip for everyone who waits, its caller among them, and
// hands the lead to the next who waits.
func (s *Redis) fly(ctx context.Context) {
	runtime.Gosched() // callers that are about to ask come along
	s.mu.Lock()
	n := min(len(s.queue), batchLimit)
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.mu.Unlock()

	// The leader's own request may be cancelled; the others' were not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTime)
	s.ask(ctx, batch)
	cancel()

	s.mu.Lock()
	if len(s.queue) > 0 {
		close(s.queue[0].lead)
	} else {
		s.flying, s.queue = false, nil
	}
	s.mu.Unlock()
	for _, a := range batch {
		close(a.done)
	}
}

// ask settles each of batch: one script call for each policy and slot in it.
func (s *Redis) ask(ctx context.Context, batch []*ask) {
	for len(batch) > 0 {
		first := batch[0]
		alike, rest := batch[:0:0], batch[:0:0]
		for _, a := range batch {
			if a.policy == first.policy && a.slot == first.slot {
				alike = append(alike, a)
			} else {
				rest = append(rest, a)
			}
		}
		s.call(ctx, alike)
		batch = rest
	}
}

func (s *Redis) call(ctx context.Context, alike []*ask) {
	p := alike[0].policy
	keys, args := make([]string, len(alike)), make([]any, 2, 2+len(alike))
	args[0], args[1] = p.interval(), p.tolerance()
	for i, a := range alike {
		keys[i] = a.name()
		args = append(args, a.cost)
	}
	answer, err := s.script.Run(ctx, s.rdb, keys, args...).Int64Slice()
	if err == nil && len(answer) != 1+len(alike) {
		err = fmt.Errorf("answer of %d numbers for %d keys", len(answer), len(alike))
	}
	for i, a := range alike {
		if err != nil {
			a.err = fmt.Errorf("rate limit %s: %w", p.Name, err)
			continue
		}
		_, a.answer = Decide(p.Quota, answer[1+i], answer[0], a.cost)
	}
}

// name is the Redis key: usher:limit:{policy.slot}:key.
func (a *ask) name() string {
	return "usher:limit:{" + a.policy.Name + "." + strconv.FormatUint(a.slot, 10) + "}:" + a.key
}
