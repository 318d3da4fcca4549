package booking

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"usher/internal/deadline"
	"usher/internal/redisx"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// The scripts of lua/; each runs in one hash slot.
var (
	holdScript      = seatScript("hold")
	keepScript      = seatScript("keep")
	releaseScript   = seatScript("release")
	settleScript    = seatScript("settle")
	changesScript   = seatScript("changes")
	reconcileScript = seatScript("reconcile")
)

func seatScript(name string) *redisx.Script {
	src := ""
	for _, file := range []string{"prelude", name} {
		text, err := luaFiles.ReadFile("lua/" + file + ".lua")
		if err != nil {
			panic(err) // embedded: a name mistyped above
		}
		src += string(text)
	}
	return redisx.NewScript(src)
}

// eventPrefix begins every key of an event: one hash slot for all of them.
func eventPrefix(event uuid.UUID) string { return "usher:{event:" + event.String() + "}:" }

// seatKeys are the KEYS of every script, in the order that lua/prelude.lua states.
func seatKeys(event, performance uuid.UUID) []string {
	prefix, of := eventPrefix(event), ":"+performance.String()
	keys := []string{"map", "own", "due", "dirty", "meta", "log"}
	for i, k := range keys {
		keys[i] = prefix + k + of
	}
	return keys
}

// redisTime bounds one script call.
const redisTime = 3 * time.Second

// errRedis wraps whatever kept Redis from answering.
var errRedis = errors.New("redis does not answer")

// script runs a seat script, making the performance's map from Postgres where Redis
// has none. The first word of the reply is its outcome.
func (s *Server) script(ctx context.Context, l *Layout, script *redisx.Script, args ...any) (outcome string, reply []any, err error) {
	for range 4 {
		outcome, reply, err = s.scriptOnce(ctx, l.EventID, l.PerformanceID, l.Units(), script, args...)
		if err != nil || outcome != "missing" {
			return outcome, reply, err
		}
		if _, err := s.reconcile(ctx, l); err != nil {
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("%w: the seat map vanishes as soon as it is made", errRedis)
}

func (s *Server) scriptOnce(ctx context.Context, event, performance uuid.UUID, units int, script *redisx.Script, args ...any) (string, []any, error) {
	ctx, cancel := deadline.In(ctx, redisTime)
	defer cancel()
	argv := append([]any{eventPrefix(event), units}, args...)
	reply, err := script.Run(ctx, s.rdb, seatKeys(event, performance), argv...).Slice()
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", errRedis, err)
	}
	outcome, ok := reply[0].(string)
	if !ok {
		return "", nil, fmt.Errorf("seat script answered %T", reply[0])
	}
	return outcome, reply[1:], nil
}
