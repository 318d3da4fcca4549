package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
)

// take runs the advance script and reads the bits in the same transaction, so that they
// belong together. Where epoch or base turn out to be others than thought, it reads again.
func (l *Line) take(ctx context.Context, before *View, a admission) (*View, int, error) {
	v, right, made, err := l.round(ctx, before, l.toRead(before, false), a)
	for try := 0; err == nil && !right; try++ {
		if try == 3 {
			return nil, made, fmt.Errorf("advance %s: the room changes faster than it is read", l.room)
		}
		v, right, _, err = l.round(ctx, before, l.toRead(v, true), admission{})
	}
	return v, made, err
}

// round is one round trip of take. right tells that the bits fit the state.
func (l *Line) round(ctx context.Context, before *View, at reading, a admission) (v *View, right bool, made int, err error) {
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	var revision, seenEpoch string
	var seenFrontier, seenNext uint64
	if before != nil {
		revision, seenEpoch, seenFrontier, seenNext = before.revision, before.epoch, before.frontier, max(before.next, l.issuedOf(before.epoch))
	}
	share, why := before.word()
	sent := l.pendingMarks(before)
	var marked, advanced *redis.Cmd
	var counted, left []asked
	piped := func(p redis.Pipeliner) error {
		if sent != nil {
			l.bring(ctx, p, map[string][]byte{"tmp": sent.present, "tmp:3": sent.phones})
			marked = p.EvalSha(ctx, markScript.Hash(), l.keys, append([]any{l.now()}, sent.args...)...)
		}
		advanced = p.EvalSha(ctx, advanceScript.Hash(), l.keys, l.now(), revision, seenEpoch, seenFrontier, seenNext,
			a.count, a.id, a.by.Name, a.by.ID, a.by.RequestID, l.id, share, why)
		counted, left = l.askCounted(ctx, p, at), l.askLeft(ctx, p, at)
		return nil
	}
	_, err = l.rdb.TxPipelined(ctx, piped)
	if isNoScript(err) {
		if err = loadPiped(ctx, l.rdb, l.keys[0]); err == nil {
			_, err = l.rdb.TxPipelined(ctx, piped)
		}
	}
	if err != nil {
		l.marksKept(sent)
		return nil, false, 0, fmt.Errorf("advance %s: %w", l.room, err)
	}
	answer, err := advanced.Slice()
	if err != nil {
		return nil, false, 0, fmt.Errorf("advance %s: %w", l.room, err)
	}
	if len(answer) == 1 {
		l.marksKept(sent)
		return nil, false, 0, errNoRoom
	}
	if v, err = viewOf(l.room, answer, before); err != nil {
		return nil, false, 0, err
	}
	text, _ := answer[6].(string)
	made, _ = strconv.Atoi(text)
	if sent != nil {
		if n, err := marked.Int(); err == nil && n == 1 {
			l.marksSent(sent, v)
		} else {
			l.marksKept(sent)
		}
	}
	if v.lobbySize != nil {
		l.fillRanks(v)
	}
	right, err = l.attach(v, before, at, counted, left)
	if v.counted != nil {
		v.passed = v.counted.upTo(v.frontier)
	}
	return v, right, made, err
}

// bring sets temporary keys for the script that follows in the transaction and takes them.
func (l *Line) bring(ctx context.Context, p redis.Pipeliner, bitmaps map[string][]byte) {
	for name, bits := range bitmaps {
		if len(bits) > 0 {
			p.Set(ctx, keyOf(l.room, name), bits, 0)
		}
	}
}

func isNoScript(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") }

// rankTable remembers the ranks of the last draw, which cost a moment to compute.
type rankTable struct {
	epoch  string
	size   uint64
	beacon string
	ranks  []uint32
	draw   *Draw
}

// fillRanks gives v the ranks of its draw; the record becomes public only when the
// draw is in force.
func (l *Line) fillRanks(v *View) {
	if l.table.epoch != v.epoch || l.table.size != *v.lobbySize || l.table.beacon != v.beacon || l.table.draw == nil {
		draw, seed := drawOf(l.ring.DrawSecret(l.room, v.epoch), *v.lobbySize, v.beacon)
		l.table = rankTable{epoch: v.epoch, size: *v.lobbySize, beacon: v.beacon, ranks: ranks(seed, *v.lobbySize), draw: draw}
	}
	v.ranks = l.table.ranks
	if v.drawn {
		draw := *l.table.draw
		draw.BeaconSource = v.source
		v.draw = &draw
	}
}

// putDrawInForce merges the lobby's bits into the ranks. The record is durable.
func (l *Line) putDrawInForce(ctx context.Context, v *View) error {
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	ranked := map[string][]byte{}
	for i, name := range []string{"lobby:counted", "lobby:live", "lobby:left", "lobby:phones"} {
		raw, err := l.rdb.Get(ctx, keyOf(l.room, name)).Bytes()
		if err != nil && err != redis.Nil {
			return fmt.Errorf("read the lobby of %s: %w", l.room, err)
		}
		if len(raw) > 0 {
			ranked[[]string{"tmp", "tmp:2", "tmp:3", "tmp:4"}[i]] = permute(raw, v.ranks)
		}
	}
	merge := func(p redis.Pipeliner) error {
		l.bring(ctx, p, ranked)
		p.EvalSha(ctx, drawScript.Hash(), l.keys, l.now(), v.epoch, *v.lobbySize)
		return nil
	}
	_, err := l.rdb.TxPipelined(ctx, merge)
	if isNoScript(err) {
		if err = loadPiped(ctx, l.rdb, l.keys[0]); err == nil {
			_, err = l.rdb.TxPipelined(ctx, merge)
		}
	}
	if err != nil {
		return fmt.Errorf("put the draw of %s in force: %w", l.room, err)
	}
	return nil
}

// recover gives an emptied or outdated store back what this gateway remembers: the
// sessions that it gave (of those that are over, that they were given), who counts no
// longer, and everybody whom it saw within the presence time. The frontier went with the tick.
func (l *Line) recover(ctx context.Context, v *View) {
	if v.drawn && !v.inForce {
		return // the bits are by number still
	}
	l.mu.Lock()
	args := []any{l.now(), v.epoch}
	var batches [][]any
	for id, g := range l.given {
		rank := uint64(maxNumber) // of another epoch: no rank here
		if g.epoch == v.epoch {
			rank = v.rank(g.number)
		}
		till := g.till
		if g.ended {
			till = time.UnixMilli(0)
		}
		if args = append(args, rank, id, till.UnixMilli()); len(args) > 1500 {
			batches = append(batches, args)
			args = []any{l.now(), v.epoch}
		}
	}
	batches = append(batches, args)
	l.marks.again()
	l.mu.Unlock()
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	if first, gone := v.uncounted(); len(gone) > 0 {
		if err := uncountScript.Run(ctx, l.rdb, l.keys, l.now(), v.epoch, v.base, first, gone).Err(); err != nil {
			l.log.ErrorContext(ctx, "say who counts no longer", "error", err)
			return // the next tick tries again
		}
	}
	for _, args := range batches {
		if err := rememberScript.Run(ctx, l.rdb, l.keys, args...).Err(); err != nil {
			l.log.ErrorContext(ctx, "give back sessions", "error", err)
			return // the next tick tries again
		}
	}
	l.quiet = v.quietUntil
	l.log.WarnContext(ctx, "the store has lost writes; the room is quiet while it is put right", "until", v.quietUntil)
}
