package ratelimit

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
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

	mu      sync.Mutex
	queue   []*ask // guarded by mu; waiting for the next round trip
	flying  bool   // guarded by mu; one caller is running a round trip
	backlog int    // bound of queue
}

type ask struct {
	policy Policy
	key    string
	cost   int64

	answer Decision
	err    error
	done   chan struct{} // closed when answer or err is set
	lead   chan struct{} // closed when this caller has to run the next round trip
}

// NewRedis returns a store on rdb.
func NewRedis(rdb redis.UniversalClient) *Redis {
	return &Redis{rdb: rdb, script: redisx.NewScript(gcraSource), backlog: 16 * batchLimit}
}

// Take spends cost of the key's quota. On an error nothing was decided.
func (s *Redis) Take(ctx context.Context, p Policy, key string, cost int64) (Decision, error) {
	a := &ask{policy: p, key: key, cost: cost, done: make(chan struct{}), lead: make(chan struct{})}
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

func (s *Redis) ask(ctx context.Context, batch []*ask) {
	if len(batch) == 1 {
		a := batch[0]
		a.settle(s.script.Run(ctx, s.rdb, []string{a.name()}, a.args()...))
		return
	}
	lost := s.pipeline(ctx, batch)
	if len(lost) == 0 {
		return
	}
	// Redis forgot the script: a pipeline of EVALSHA cannot fall back by itself.
	if err := s.script.Load(ctx, s.rdb); err != nil {
		for _, a := range lost {
			a.err = fmt.Errorf("rate limit %s: %w", a.policy.Name, err)
		}
		return
	}
	s.pipeline(ctx, lost)
}

// pipeline returns those whose script Redis did not know.
func (s *Redis) pipeline(ctx context.Context, batch []*ask) (lost []*ask) {
	pipe := s.rdb.Pipeline()
	for _, a := range batch {
		pipe.EvalSha(ctx, s.script.Hash(), []string{a.name()}, a.args()...)
	}
	answers, _ := pipe.Exec(ctx) // each command carries its own error
	for i, a := range batch {
		cmd := answers[i].(*redis.Cmd)
		if err := cmd.Err(); err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
			lost = append(lost, a)
		}
		a.settle(cmd)
	}
	return lost
}

func (a *ask) settle(cmd *redis.Cmd) {
	a.err = nil
	pair, err := cmd.Int64Slice()
	if err != nil || len(pair) != 2 {
		a.err = fmt.Errorf("rate limit %s: answer of %d numbers: %w", a.policy.Name, len(pair), err)
		return
	}
	_, a.answer = Decide(a.policy.Quota, pair[0], pair[1], a.cost)
}

// name is the Redis key: usher:limit:{policy:key}. The whole of it is the hash
// tag, so that keys spread over a cluster.
func (a *ask) name() string {
	return "usher:limit:{" + a.policy.Name + ":" + strings.NewReplacer("{", "", "}", "").Replace(a.key) + "}"
}

func (a *ask) args() []any {
	return []any{a.policy.interval(), a.policy.tolerance(), a.cost}
}
