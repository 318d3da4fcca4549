package queue

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"time"

	"usher/internal/deadline"
	"usher/internal/telemetry"
)

const (
	// maxBatch is how many joins share a script call, maxQueued how many may wait for one.
	maxBatch  = 4096
	maxQueued = 1 << 16
)

// joins gathers joins: those that arrive while a script call is under way share the next.
type joins struct {
	mu      sync.Mutex // guards the two below
	queue   []*join
	running bool
	runs    sync.WaitGroup
}

func (j *joins) wait() { j.runs.Wait() }

type join struct {
	done   chan struct{} // is told once token or err is there
	token  Token
	err    error
	asking context.Context
}

// Join gives the visitor a place: the next number. Errors: ErrNotOpen, ErrClosed,
// *Unavailable. A visitor who goes away meanwhile leaves a place that nobody holds.
func (l *Line) Join(ctx context.Context) (Token, error) {
	call := joinSpace.Get().(*join)
	call.asking = ctx
	l.joins.mu.Lock()
	if len(l.joins.queue) >= maxQueued {
		l.joins.mu.Unlock()
		return Token{}, &Unavailable{RetryAfter: retryAfter}
	}
	l.joins.queue = append(l.joins.queue, call)
	if !l.joins.running {
		l.joins.running = true
		l.joins.runs.Go(func() { l.serveJoins(context.WithoutCancel(ctx)) })
	}
	l.joins.mu.Unlock()
	<-call.done // soon: each script call has its time
	t, err := call.token, call.err
	*call = join{done: call.done}
	joinSpace.Put(call)
	return t, err
}

// joinSpace is memory for joins under way.
var joinSpace = sync.Pool{New: func() any { return &join{done: make(chan struct{}, 1)} }}

// serveJoins runs script calls until nobody waits for one.
func (l *Line) serveJoins(ctx context.Context) {
	for {
		runtime.Gosched() // let those who are about to join take part
		l.joins.mu.Lock()
		n := min(len(l.joins.queue), maxBatch)
		if n == 0 {
			l.joins.running, l.joins.queue = false, nil
			l.joins.mu.Unlock()
			return
		}
		taken := l.joins.queue[:n]
		l.joins.queue = l.joins.queue[n:]
		l.joins.mu.Unlock()
		calls := taken[:0:0]
		for _, c := range taken {
			if c.err = c.asking.Err(); c.err != nil {
				c.done <- struct{}{}
				continue
			}
			calls = append(calls, c)
		}
		if len(calls) > 0 {
			l.joinAll(ctx, calls)
		}
	}
}

// joinAll takes numbers for all calls in one script call.
func (l *Line) joinAll(ctx context.Context, calls []*join) {
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	refuse := func(calls []*join, err error) {
		for _, c := range calls {
			c.err = err
			c.done <- struct{}{}
		}
	}
	answer, err := l.giveNumbers(ctx, len(calls))
	if err != nil {
		refuse(calls, &Unavailable{RetryAfter: retryAfter, Cause: err})
		return
	}
	switch answer[0] {
	case "ok":
	case "not-open":
		refuse(calls, ErrNotOpen)
		return
	case "closed":
		refuse(calls, ErrClosed)
		return
	case "ceiling":
		refuse(calls, &Unavailable{RetryAfter: time.Second, Cause: errors.New("no number is free below the ceiling")})
		return
	default:
		refuse(calls, &Unavailable{RetryAfter: retryAfter, Cause: errNoRoom})
		return
	}
	text := func(i int) string { s, _ := answer[i].(string); return s }
	first, _ := strconv.ParseUint(text(1), 10, 64)
	granted, _ := answer[2].(int64)
	at, _ := strconv.ParseInt(text(3), 10, 64)
	frontier, _ := strconv.ParseUint(text(4), 10, 64)
	l.noteIssued(text(5), first+uint64(granted))
	if err := l.keepUp(ctx, text(5), text(7), time.UnixMilli(at)); err != nil {
		refuse(calls, &Unavailable{RetryAfter: retryAfter, Cause: err}) // and the numbers are burnt
		return
	}
	telemetry.RoomJoins.WithLabelValues(l.room).Add(float64(granted))
	for i, c := range calls[:granted] {
		c.token = Token{
			Room: l.room, Epoch: text(5), Number: first + uint64(i), IssuedAt: time.UnixMilli(at).UTC(),
			Frontier: frontier, Visitor: newVisitor(), Commitment: text(6),
		}
		c.done <- struct{}{}
	}
	refuse(calls[granted:], &Unavailable{RetryAfter: time.Second})
}
