package redisx

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"
)

// chatter takes what go-redis prints of its own pools. Every caller hears of a failure
// by its own error; these lines are for whoever looks into the client itself, so they are
// debug lines, and few of them while Redis is away.
type chatter struct{ lines *rate.Limiter }

// chatterPerSecond is how many lines are let through, and how many at once.
const chatterPerSecond = 5

// Printf is called by go-redis, from any goroutine.
func (c *chatter) Printf(ctx context.Context, format string, args ...any) {
	if c.lines.Allow() {
		slog.DebugContext(ctx, "redis client", "said", fmt.Sprintf(format, args...))
	}
}

// takeChatter makes go-redis, whose logger is one a process, speak to ours.
var takeChatter = sync.OnceFunc(func() {
	redis.SetLogger(&chatter{lines: rate.NewLimiter(chatterPerSecond, chatterPerSecond)})
})
