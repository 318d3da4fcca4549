package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/redisx"
)

// waitTime is how long a join waits for replicas to have its numbers.
const waitTime = 500 * time.Millisecond

// giveNumbers runs the join script. Where replicas have to know of the numbers, it waits
// for them on the connection that wrote: on another one WAIT would answer for other
// writes. Too few are an error, and the numbers are burnt.
func (l *Line) giveNumbers(ctx context.Context, n int) ([]any, error) {
	if l.replicas == 0 {
		return joinScript.Run(ctx, l.rdb, l.keys, l.now(), n).Slice()
	}
	node, err := redisx.Owner(ctx, l.rdb, l.keys[0])
	if err != nil {
		return nil, err
	}
	var joined, waited *redis.Cmd
	piped := func(p redis.Pipeliner) error {
		joined = p.EvalSha(ctx, joinScript.Hash(), l.keys, l.now(), n)
		waited = p.Do(ctx, "WAIT", l.replicas, waitTime.Milliseconds())
		return nil
	}
	_, err = node.Pipelined(ctx, piped)
	if isNoScript(err) {
		if err = joinScript.Load(ctx, node); err == nil {
			_, err = node.Pipelined(ctx, piped)
		}
	}
	if err != nil {
		return nil, err
	}
	if got, err := waited.Int(); err != nil || got < l.replicas {
		return nil, fmt.Errorf("only %d of %d replicas have the numbers", got, l.replicas)
	}
	return joined.Slice()
}

// issued is one past the highest number given in an epoch.
type issued struct {
	epoch string
	next  uint64
}

// noteIssued remembers numbers for a store that forgets them before the next tick.
func (l *Line) noteIssued(epoch string, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch == l.issued.epoch {
		next = max(next, l.issued.next)
	}
	l.issued = issued{epoch, next}
}

// issuedOf is one past the highest number that this gateway got in the epoch.
func (l *Line) issuedOf(epoch string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.issued.epoch != epoch {
		return 0
	}
	return l.issued.next
}
