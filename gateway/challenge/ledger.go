package challenge

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/redisx"
)

var (
	//go:embed lua/look.lua
	lookSource string
	//go:embed lua/spend.lua
	spendSource string
	//go:embed lua/wait.lua
	waitSource string
)

var (
	lookScript  = redisx.NewScript(lookSource)
	spendScript = redisx.NewScript(spendSource)
	waitScript  = redisx.NewScript(waitSource)
)

// flightTime bounds one question: a stranger's request waits for it.
const flightTime = time.Second

// The keys of a room share its slot: usher:{room}:…. The names differ from those of
// queue's own keys.
func proofsKey(room string, minute int64, part byte) string {
	return fmt.Sprintf("usher:{%s}:proofs:%d:%d", room, minute, part)
}

func debtKey(room string, steepOne bool, digest string) string {
	if steepOne {
		return "usher:{" + room + "}:debt:steep:" + digest
	}
	return "usher:{" + room + "}:debt:" + digest
}

func wideKey(room, digest string) string { return "usher:{" + room + "}:debt:wide:" + digest }
func crowdKey(room string) string        { return "usher:{" + room + "}:debt:crowd" }
func waitKey(room, digest string) string { return "usher:{" + room + "}:waits:" + digest }

// bucket is a debt, and how much of it an answer covers.
type bucket struct {
	key    string
	slope  slope
	allows int
}

// ticket names an answer among those that were spent: the sets of a minute are parts of
// at most some hundred, so that Redis keeps them as plain integers.
type ticket struct {
	room   string
	minute int64 // of what the answer itself says of its time, so that a copy names the same set
	serial uint64
}

func (t ticket) key() string { return proofsKey(t.room, t.minute, byte(t.serial)) }

// look returns how many units each bucket owes.
func look(ctx context.Context, rdb redis.UniversalClient, buckets []bucket) ([]int, error) {
	ctx, cancel := deadline.In(ctx, flightTime)
	defer cancel()
	keys := make([]string, len(buckets))
	for i, b := range buckets {
		keys[i] = b.key
	}
	ahead, err := lookScript.Run(ctx, rdb, keys).Int64Slice()
	if err != nil {
		return nil, fmt.Errorf("look what is owed: %w", err)
	}
	units := make([]int, len(buckets))
	for i, b := range buckets {
		unit := b.slope.unit.Microseconds()
		units[i] = int((ahead[i] + unit - 1) / unit)
	}
	return units, nil
}

var (
	errSpent = errors.New("the answer was used before")
	errCheap = errors.New("the answer is too cheap for what is owed by now")
)

// spend settles an answer; errSpent or errCheap where it is worth nothing.
func spend(ctx context.Context, rdb redis.UniversalClient, t ticket, life time.Duration, buckets []bucket) error {
	ctx, cancel := deadline.In(ctx, flightTime)
	defer cancel()
	keys := []string{t.key()}
	args := []any{strconv.FormatUint(t.serial>>1, 10), life.Milliseconds()} // signed integers alone are kept small
	for _, b := range buckets {
		keys = append(keys, b.key)
		args = append(args, b.slope.unit.Microseconds(), b.slope.most, b.allows)
	}
	switch word, err := spendScript.Run(ctx, rdb, keys, args...).Text(); {
	case err != nil:
		return fmt.Errorf("spend an answer: %w", err)
	case word == "spent":
		return errSpent
	case word == "cheap":
		return errCheap
	}
	return nil
}

// takeTurn returns how long the next one who waits behind the prefix has to; false when
// too many do.
func takeTurn(ctx context.Context, rdb redis.UniversalClient, room, digest string, step time.Duration) (time.Duration, bool, error) {
	ctx, cancel := deadline.In(ctx, flightTime)
	defer cancel()
	ms, err := waitScript.Run(ctx, rdb, []string{waitKey(room, digest)}, step.Microseconds(), maxWaits).Int64()
	if err != nil {
		return 0, false, fmt.Errorf("take a turn: %w", err)
	}
	return time.Duration(ms) * time.Millisecond, ms >= 0, nil
}
