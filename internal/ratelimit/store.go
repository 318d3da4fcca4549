package ratelimit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/internal/deadline"
	"usher/internal/redisx"
)

//go:embed store.lua
var storeSource string

const (
	// batchLimit bounds the questions of one round trip.
	batchLimit = 512
	// backlogLimit bounds the requests that wait for one.
	backlogLimit = 4096
	// flightTime bounds one round trip: whoever waits for it is a stranger's request.
	flightTime = 500 * time.Millisecond
	// clusterSlots spreads the keys over a cluster; fewer make larger batches.
	clusterSlots = 16
)

// Store is what all processes share: the arrival times in Redis, by its clock. Requests
// that arrive while a round trip is under way share the next one. It is safe for
// concurrent use.
type Store struct {
	rdb    redis.UniversalClient
	script *redisx.Script
	slots  uint64 // over how many hash tags keys are spread

	mu     sync.Mutex
	queue  []*asking // guarded by mu; waiting for the next round trip
	flying bool      // guarded by mu; one caller is running a round trip
}

// asking is one request with all its questions.
type asking struct {
	questions []question
	err       error
	// wake says true when this caller has to run the next round trip, and false when its
	// questions are answered.
	wake chan bool
}

type question struct {
	key                             string
	interval, tolerance, debt, cost int64
	before, now                     int64 // the answer
}

// NewStore returns a store on rdb.
func NewStore(rdb redis.UniversalClient) *Store {
	s := &Store{rdb: rdb, script: redisx.NewScript(storeSource), slots: 1}
	if _, cluster := rdb.(*redis.ClusterClient); cluster {
		s.slots = clusterSlots
	}
	return s
}

// Ask decides those of turns that are open, in one round trip. On an error they stay open.
func (s *Store) Ask(ctx context.Context, turns []Turn) error {
	a := &asking{questions: make([]question, 0, len(turns)), wake: make(chan bool, 1)}
	for i := range turns {
		if t := &turns[i]; t.open {
			a.questions = append(a.questions, question{
				key:      s.key(t.key),
				interval: t.quota.interval(), tolerance: t.quota.tolerance(), debt: t.debt + t.own, cost: t.cost,
			})
		}
	}
	if err := s.run(ctx, a); err != nil {
		return err
	}
	next := 0
	for i := range turns {
		if turns[i].open {
			turns[i].settle(a.questions[next].before, a.questions[next].now)
			next++
		}
	}
	return nil
}

// key is the Redis key: usher:limit:{slot}:policy and key.
func (s *Store) key(name string) string {
	slot := uint64(0)
	if s.slots > 1 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(name)) // never fails
		slot = h.Sum64() % s.slots
	}
	return "usher:limit:{" + strconv.FormatUint(slot, 10) + "}:" + name
}

var errBacklog = errors.New("rate limits: too many requests wait for Redis")

// run waits until a's questions are answered. A caller whose context ends waits all the
// same: a round trip is bounded, and its request may have been counted.
func (s *Store) run(ctx context.Context, a *asking) error {
	s.mu.Lock()
	if len(s.queue) >= backlogLimit {
		s.mu.Unlock()
		return errBacklog
	}
	s.queue = append(s.queue, a)
	lead := !s.flying
	s.flying = true
	s.mu.Unlock()
	if lead || <-a.wake {
		s.fly(ctx)
		<-a.wake
	}
	return a.err
}

// fly runs one round trip for those who wait, its caller among them, and hands the lead to
// the next who waits.
func (s *Store) fly(ctx context.Context) {
	runtime.Gosched() // callers that are about to ask come along
	s.mu.Lock()
	n := 0
	for questions := 0; n < len(s.queue) && (n == 0 || questions+len(s.queue[n].questions) <= batchLimit); n++ {
		questions += len(s.queue[n].questions)
	}
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.mu.Unlock()

	// The leader's own request may be cancelled; the others' were not.
	ctx, cancel := deadline.In(context.WithoutCancel(ctx), flightTime)
	err := s.answer(ctx, batch)
	cancel()

	s.mu.Lock()
	if len(s.queue) > 0 {
		s.queue[0].wake <- true
	} else {
		s.flying, s.queue = false, nil
	}
	s.mu.Unlock()
	for _, a := range batch {
		a.err = err
		a.wake <- false
	}
}

// answer asks all questions of batch: one script call for each slot.
func (s *Store) answer(ctx context.Context, batch []*asking) error {
	bySlot := map[string][]*question{}
	for _, a := range batch {
		for i := range a.questions {
			q := &a.questions[i]
			slot := "" // the only one
			if s.slots > 1 {
				slot = q.key[:len("usher:limit:{00")]
			}
			bySlot[slot] = append(bySlot[slot], q)
		}
	}
	var calls errgroup.Group
	for _, questions := range bySlot {
		if len(bySlot) == 1 {
			return s.call(ctx, questions)
		}
		calls.Go(func() error { return s.call(ctx, questions) })
	}
	return calls.Wait()
}

func (s *Store) call(ctx context.Context, questions []*question) error {
	keys, args := make([]string, len(questions)), make([]any, 0, 4*len(questions))
	for i, q := range questions {
		keys[i] = q.key
		args = append(args, q.interval, q.tolerance, q.debt, q.cost)
	}
	answer, err := s.script.Run(ctx, s.rdb, keys, args...).Int64Slice()
	if err == nil && len(answer) != 1+len(questions) {
		err = fmt.Errorf("answer of %d numbers for %d keys", len(answer), len(questions))
	}
	if err != nil {
		return fmt.Errorf("rate limits: %w", err)
	}
	for i, q := range questions {
		q.before, q.now = answer[1+i], answer[0]
	}
	return nil
}
