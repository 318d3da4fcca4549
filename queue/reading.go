package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

const (
	// shortLine is up to where all bits of a line are read with every tick.
	shortLine = 1_000_000
	// pieceMillis is the room time of a turn, in which one piece of a longer line is read: a
	// gateway reads no more in a second however many wait.
	pieceMillis = 256
	// readAhead is how many joins since the last tick are read with those before them.
	readAhead = 4096
)

// reading is what a tick reads of the bits of who counts and of who left. A short line it
// reads whole; of a long one the piece whose turn it is, the same at all gateways. So who
// left or was absent too long elsewhere goes on counting for a turn a piece: 2.6 s at ten
// million. The frontier and who has joined are of every tick.
type reading struct {
	epoch         string
	base          uint64 // of the bitmaps
	from, to      uint64 // ranks; multiples of 64
	turn          uint64
	whole         bool
	counted, left []uint64 // numbers of pieces
}

// toRead is what the tick after v reads; with all it is everything. v may be nil.
func (l *Line) toRead(v *View, all bool) reading {
	if v == nil {
		return reading{} // fits no room: the tick tells where to begin
	}
	next := max(v.next, v.frontier) // a store that fell behind knows fewer places than were called
	at := reading{
		epoch: v.epoch, base: v.base, from: max(v.base, v.frontier) / 64 * 64, to: (next + readAhead + 63) / 64 * 64,
		turn: uint64(v.now.UnixMilli()) / pieceMillis, whole: all || v.next <= v.frontier+shortLine,
	}
	first := at.from / pieceRanks
	n := next/pieceRanks - first + 1
	turn := at.turn + 1 - min(n, at.turn+1) // of all pieces the first
	if !at.whole {
		turn = max(turn, l.readAt+1)
	}
	for ; turn <= at.turn; turn++ {
		piece := first + turn%n
		if all || v.ranked() {
			at.counted = append(at.counted, piece)
		}
		if s := v.left.piece(piece); at.whole || s == nil || s.outOfLine != v.outOfLine {
			at.left = append(at.left, piece)
		}
	}
	return at
}

// asked is a piece that Redis was asked for; read gives its bits, whole words.
type asked struct {
	from uint64
	read func() ([]byte, error)
}

// askCounted asks for pieces of who counts, which are read straight into memory of their own.
func (l *Line) askCounted(ctx context.Context, p redis.Pipeliner, at reading) (list []asked) {
	for _, n := range at.counted {
		from, to := max(n*pieceRanks, at.from), min((n+1)*pieceRanks, at.to)
		room := make([]byte, (to-from)/8)
		bits := redis.NewZeroCopyStringCmd(ctx, room, "getrange", keyOf(l.room, "counted"), (from-at.base)/8, (to-at.base)/8-1)
		_ = p.Process(ctx, bits) // in a pipeline it is only queued
		list = append(list, asked{from, func() ([]byte, error) { return room, bits.Err() }})
	}
	return list
}

// askLeft asks for pieces of who left, which are mostly short or empty.
func (l *Line) askLeft(ctx context.Context, p redis.Pipeliner, at reading) (list []asked) {
	for _, n := range at.left {
		from, to := max(n*pieceRanks, at.from), min((n+1)*pieceRanks, at.to)
		bits := p.GetRange(ctx, keyOf(l.room, "left"), int64(from-at.base)/8, int64(to-at.base)/8-1)
		list = append(list, asked{from, func() ([]byte, error) {
			raw, err := bits.Bytes()
			return append(raw, make([]byte, -len(raw)&7)...), err
		}})
	}
	return list
}

// piecesOf are the pieces that came. Ranks from next on are set.
func (v *View) piecesOf(list []asked, next uint64) (news []*sums, err error) {
	for _, a := range list {
		raw, err := a.read()
		if err != nil {
			return nil, fmt.Errorf("read the bits of %s: %w", v.room, err)
		}
		s := sumsOf(a.from, raw, next)
		s.outOfLine = v.outOfLine
		news = append(news, s)
	}
	return news, nil
}

// attach gives v its bits: those just read, and those of before where they still hold.
// It is false when they have to be read again.
func (l *Line) attach(v, before *View, at reading, counted, left []asked) (bool, error) {
	same := before != nil && before.epoch == v.epoch
	if same && v.quiet() {
		// What the store holds is being rebuilt: what was shown stays.
		v.counted, v.countedNext, v.left = before.counted, before.countedNext, before.left
		v.frontier = max(v.frontier, before.frontier)
		return true, nil
	}
	if v.epoch != at.epoch || v.base != at.base {
		return false, nil
	}
	countedNews, err := v.piecesOf(counted, v.next)
	if err != nil {
		return false, err
	}
	leftNews, err := v.piecesOf(left, at.to)
	if err != nil {
		return false, err
	}
	switch {
	case v.quiet():
	case at.whole && len(counted) > 0:
		v.counted, v.countedNext = (*pieces)(nil).with(countedNews, at.from), v.next
	case same && before.counted != nil && before.ranked() && !before.quiet():
		v.counted, v.countedNext = before.counted.with(countedNews, at.from), v.next
	case v.ranked():
		return false, nil
	}
	switch {
	case at.whole:
		v.left = (*pieces)(nil).with(leftNews, at.from)
	case same && before.left != nil && v.drawn == before.drawn && v.numbers() == before.numbers():
		v.left = before.left.with(leftNews, at.from)
	default:
		return false, nil
	}
	l.readAt = at.turn
	return true, nil
}
