// Package deadline bounds calls to the servers that are our own: Redis and Postgres.
//
// The bounds are short, for a stranger's request waits behind each of them, and what comes
// after one is decided: a 503, a local limit, a place that is asked for again. On a machine
// that stands still for seconds now and then, as one that runs many tests may, every such
// bound ends calls that nothing is wrong with; package devtest therefore sets a floor for
// test processes. In production there is none.
package deadline

import (
	"context"
	"time"
)

// floor is set before anything runs, and by devtest alone.
var floor time.Duration

// SetFloor lets no call end before d.
func SetFloor(d time.Duration) { floor = d }

// Of is how long a call may take that ought to end within d.
func Of(d time.Duration) time.Duration { return max(d, floor) }

// In is a context for a call that ought to end within d.
func In(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, Of(d))
}
