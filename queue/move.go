package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"usher/internal/deadline"
	"usher/internal/keyring"
)

// A place moves to another device by a code: signed, good for minutes, and used once.
// Only places that have moved cost Redis anything: an entry in `moved`, which decides,
// and one in `moves`, of which gateways read the end. Both end with the epoch.
const (
	codeVersion = "r1"
	codeTime    = 5 * time.Minute
	maxCode     = 400
	// maxMoves bounds the moves of an epoch.
	maxMoves = 100_000
)

// Codes that bring nothing.
var (
	ErrCode    = errors.New("not a resume code of this room, or too old")
	ErrInShop  = errors.New("the place has given a session already")
	errTooMany = errors.New("too many places have moved")
)

// ResumeCode is what lets another device take t over, and until when.
func (l *Line) ResumeCode(ctx context.Context, t Token) (string, time.Time, error) {
	v, err := l.current(ctx, t)
	switch {
	case err != nil:
		return "", time.Time{}, err
	case v.hasMoved(t):
		return "", time.Time{}, ErrMoved
	case t.Epoch < v.epoch:
		return "", time.Time{}, ErrLapsed
	}
	till := v.now.Add(codeTime)
	payload := binary.BigEndian.AppendUint64(nil, uint64(till.UnixMilli()))
	payload = t.appendPayload(payload)
	kid, mac := l.ring.Sign(keyring.Place, codeMessage(payload))
	return codeVersion + "." + kid + "." + raw64.EncodeToString(payload) + "." + raw64.EncodeToString(mac), till, nil
}

// codeMessage can be no token's payload: that begins with the length of a room's name.
func codeMessage(payload []byte) []byte { return append([]byte("resume\x00"), payload...) }

// openCode reads a resume code of this room.
func (l *Line) openCode(code string, now time.Time) (Token, error) {
	parts := strings.Split(code, ".")
	if len(code) > maxCode || len(parts) != 4 || parts[0] != codeVersion {
		return Token{}, ErrCode
	}
	payload, err := raw64.DecodeString(parts[2])
	if err != nil || len(payload) < 8 {
		return Token{}, ErrCode
	}
	mac, err := raw64.DecodeString(parts[3])
	if err != nil || !l.ring.Check(keyring.Place, parts[1], codeMessage(payload), mac) {
		return Token{}, ErrCode
	}
	t, err := parsePayload(payload[8:])
	if err != nil || t.Room != l.room || !now.Before(time.UnixMilli(int64(binary.BigEndian.Uint64(payload)))) {
		return Token{}, ErrCode
	}
	return t, nil
}

// Resume gives the place of a code to whoever shows it, and takes it from whoever had
// it. Errors: ErrCode, ErrMoved, ErrInShop, ErrLapsed, *Unavailable.
func (l *Line) Resume(ctx context.Context, code string) (Token, error) {
	v := l.View()
	if v == nil {
		return Token{}, &Unavailable{RetryAfter: retryAfter}
	}
	t, err := l.openCode(code, v.now.Add(time.Since(v.taken)))
	if err != nil {
		return Token{}, err
	}
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	word, err := moveScript.Run(ctx, l.rdb, l.keys, l.now(), t.Epoch, t.Number, t.Generation,
		l.ring.SessionID(l.room, t.Epoch, t.Number), maxMoves).Text()
	if err != nil {
		return Token{}, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	switch word {
	case "ok":
		t.Generation++
		t.Visitor, t.Phone = newVisitor(), false
		return t, nil
	case "moved":
		return Token{}, ErrMoved
	case "admitted":
		return Token{}, ErrInShop
	case "epoch":
		return Token{}, ErrLapsed
	case "busy":
		return Token{}, &Unavailable{RetryAfter: time.Second}
	case "full":
		return Token{}, &Unavailable{RetryAfter: time.Minute, Cause: errTooMany}
	}
	return Token{}, &Unavailable{RetryAfter: retryAfter, Cause: errNoRoom}
}

// hasMoved tells that another device has t's place.
func (v *View) hasMoved(t Token) bool {
	return len(v.moved) > 0 && t.Epoch == v.epoch && t.Generation < v.moved[t.Number]
}

// followMoves gives v the generations of the places that have moved. What this gateway
// remembers of the epoch stays, whatever the store forgets.
func (l *Line) followMoves(ctx context.Context, v, before *View) error {
	from := uint64(0)
	if before != nil && before.epoch == v.epoch {
		v.moved = before.moved
		from = before.moves
	}
	if v.moves == from {
		return nil
	}
	if v.moves < from {
		from = 0
	}
	entries, err := l.rdb.LRange(ctx, keyOf(l.room, "moves"), int64(from), int64(v.moves)-1).Result()
	if err != nil {
		return fmt.Errorf("read the moves of %s: %w", l.room, err)
	}
	moved := make(map[uint64]uint64, len(v.moved)+len(entries))
	maps.Copy(moved, v.moved)
	for _, entry := range entries {
		number, generation, _ := strings.Cut(entry, ":")
		n, err := strconv.ParseUint(number, 10, 64)
		g, err2 := strconv.ParseUint(generation, 10, 64)
		if err := errors.Join(err, err2); err != nil {
			return fmt.Errorf("read the moves of %s: %w", l.room, err)
		}
		moved[n] = max(moved[n], g)
	}
	v.moved = moved
	return nil
}
