package queue

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/telemetry"
)

// placesAtOnce is how many places one script call looks up.
const placesAtOnce = 500

// Place tells where a place stands and when to ask again. One that waits is answered
// from the View; only one that the frontier has passed is looked up. A final state is
// a value: the document says it.
func (l *Line) Place(ctx context.Context, t Token) (Place, time.Duration, error) {
	v, err := l.current(ctx, t)
	if err != nil {
		return Place{}, 0, err
	}
	l.Seen(t)
	p, known := l.fromView(v, t)
	if !known {
		found, err := l.lookUp(ctx, v, []Token{t})
		if err != nil {
			return Place{}, 0, err
		}
		p = found[0]
	}
	return p, v.askAgain(p), nil
}

// Places tells where many places stand, in at most one round trip, in the memory of into,
// which may be nil. All of them count as seen.
func (l *Line) Places(ctx context.Context, ts []Token, into []Place) ([]Place, error) {
	v := l.View()
	if v == nil {
		return nil, &Unavailable{RetryAfter: retryAfter}
	}
	l.mu.Lock()
	for _, t := range ts {
		l.seen(v, t)
	}
	l.mu.Unlock()
	out := slices.Grow(into[:0], len(ts))[:len(ts)]
	var unknown []Token
	var at []int
	for i, t := range ts {
		p, known := l.fromView(v, t)
		if !known {
			unknown, at = append(unknown, t), append(at, i)
			continue
		}
		out[i] = p
	}
	if len(unknown) == 0 {
		return out, nil
	}
	found, err := l.lookUp(ctx, v, unknown)
	if err != nil {
		return nil, err
	}
	for i, p := range found {
		out[at[i]] = p
	}
	return out, nil
}

// fromView answers what the View knows by itself.
func (l *Line) fromView(v *View, t Token) (Place, bool) {
	if t.Epoch < v.epoch {
		return v.place(t, Lapsed, time.Time{}), true
	}
	if v.hasMoved(t) {
		return v.place(t, Moved, time.Time{}), true
	}
	if v.Bypass() {
		return Place{}, false
	}
	if !v.ranked() || t.Epoch > v.epoch {
		if v.lobbySize == nil && v.left.has(t.Number) || l.isLeaving(t) {
			return v.place(t, Left, time.Time{}), true
		}
		return v.place(t, InLobby, time.Time{}), true
	}
	rank := v.rank(t.Number)
	switch {
	case l.isLeaving(t):
		return v.place(t, Left, time.Time{}), true
	case rank < v.frontier || v.left.has(rank): // left, or took a session in bypass
		return Place{}, false
	}
	return v.place(t, Waiting, time.Time{}), true
}

// lookUp asks the store about places that the frontier has passed.
func (l *Line) lookUp(ctx context.Context, v *View, ts []Token) ([]Place, error) {
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	var chunks [][]any
	for i := 0; i < len(ts); i += placesAtOnce {
		args := []any{l.now(), v.epoch}
		for _, t := range ts[i:min(i+placesAtOnce, len(ts))] {
			args = append(args, v.rank(t.Number), l.ring.SessionID(l.room, t.Epoch, t.Number))
		}
		chunks = append(chunks, args)
	}
	var answers []*redis.Cmd
	run := func(p redis.Pipeliner) error {
		answers = answers[:0]
		for _, args := range chunks {
			answers = append(answers, p.EvalSha(ctx, placesScript.Hash(), l.keys, args...))
		}
		return nil
	}
	_, err := l.rdb.Pipelined(ctx, run)
	if isNoScript(err) {
		if err = loadPiped(ctx, l.rdb, l.keys[0]); err == nil {
			_, err = l.rdb.Pipelined(ctx, run)
		}
	}
	if err != nil {
		return nil, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	out := make([]Place, 0, len(ts))
	for _, answer := range answers {
		list, err := answer.StringSlice()
		if err != nil {
			return nil, &Unavailable{RetryAfter: retryAfter, Cause: err}
		}
		rest := ts[len(out):]
		rest = rest[:min(len(rest), placesAtOnce)]
		if list[0] == "none" {
			return nil, &Unavailable{RetryAfter: retryAfter, Cause: errNoRoom}
		}
		for i, t := range rest {
			if list[0] == "epoch" {
				out = append(out, v.place(t, Lapsed, time.Time{}))
				continue
			}
			ms, _ := strconv.ParseInt(list[2+2*i], 10, 64)
			out = append(out, v.standing(t, list[1+2*i], time.UnixMilli(ms).UTC()))
		}
	}
	return out, nil
}

// standing turns a word of lib.lua into the place's document.
func (v *View) standing(t Token, word string, until time.Time) Place {
	switch word {
	case "admitted":
		return v.place(t, Admitted, until)
	case "left":
		return v.place(t, Left, until)
	case "lapsed":
		return v.place(t, Lapsed, until)
	}
	if v.Bypass() { // everyone is admitted: whoever has no session yet may claim one
		return v.place(t, Called, time.Time{})
	}
	switch word {
	case "called", "extended":
		p := v.place(t, Called, until)
		p.CallExtendable = word == "called"
		return p
	case "missed", "absent":
		return v.place(t, Missed, until)
	}
	return v.place(t, Waiting, until)
}

// Claim gives the session of a called place; repeated, the same session with the same
// end. In bypass every place may claim. Errors: ErrNotCalled, ErrLapsed, *Unavailable.
func (l *Line) Claim(ctx context.Context, t Token) (Session, error) {
	v, err := l.current(ctx, t)
	if err != nil {
		return Session{}, err
	}
	switch {
	case t.Epoch < v.epoch:
		return Session{}, ErrLapsed
	case v.hasMoved(t):
		return Session{}, ErrMoved
	case !v.ranked() && !v.Bypass():
		return Session{}, ErrNotCalled
	}
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	id := l.ring.SessionID(l.room, t.Epoch, t.Number)
	answer, err := claimScript.Run(ctx, l.rdb, l.keys, l.now(), t.Epoch, v.rank(t.Number), id, t.Number, t.Generation).Slice()
	if err != nil {
		return Session{}, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	switch answer[0] {
	case "ok":
	case "not-called":
		return Session{}, ErrNotCalled
	case "lapsed", "epoch":
		return Session{}, ErrLapsed
	case "moved":
		return Session{}, ErrMoved
	case "busy":
		return Session{}, &Unavailable{RetryAfter: time.Second}
	default:
		return Session{}, &Unavailable{RetryAfter: retryAfter, Cause: errNoRoom}
	}
	at := func(i int) time.Time {
		s, _ := answer[i].(string)
		ms, _ := strconv.ParseInt(s, 10, 64)
		return time.UnixMilli(ms).UTC()
	}
	s := Session{ID: id, Issued: at(2), Expires: at(1)}
	if n, _ := answer[3].(int64); n == 1 {
		telemetry.RoomAdmitted.WithLabelValues(l.room).Inc()
	}
	l.remember(t, s)
	return s, nil
}

// remember keeps the session for a store that loses it; expired ones make room.
func (l *Line) remember(t Token, s Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.given) >= l.prune {
		for id, g := range l.given {
			if !g.till.After(s.Issued) {
				delete(l.given, id)
			}
		}
		l.prune = max(1024, 2*len(l.given)) // so that pruning costs little a session
	}
	if len(l.given) < maxGiven {
		l.given[s.ID] = given{epoch: t.Epoch, number: t.Number, till: s.Expires}
	}
}

// Release ends a session; one that has ended already is no error.
func (l *Line) Release(ctx context.Context, session string) error {
	l.mu.Lock()
	if g, ok := l.given[session]; ok {
		g.ended = true // but the place has given it
		l.given[session] = g
	}
	l.mu.Unlock()
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	if err := releaseScript.Run(ctx, l.rdb, l.keys, l.now(), session).Err(); err != nil {
		return &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	return nil
}

// Leave takes a place out of the line for good. Whoever was admitted keeps the session.
func (l *Line) Leave(ctx context.Context, t Token) error {
	v, err := l.current(ctx, t)
	if err != nil || t.Epoch < v.epoch {
		return err
	}
	if v.hasMoved(t) {
		return ErrMoved
	}
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	space := "rank"
	if v.numbers() {
		space = "number"
	}
	word, err := leaveScript.Run(ctx, l.rdb, l.keys, l.now(), t.Epoch, v.rank(t.Number), l.ring.SessionID(l.room, t.Epoch, t.Number), space).Text()
	switch {
	case err != nil:
		return &Unavailable{RetryAfter: retryAfter, Cause: err}
	case word == "busy" || word == "none":
		return &Unavailable{RetryAfter: time.Second}
	case word == "admitted":
		return nil
	}
	l.mu.Lock()
	if len(l.leaving) < maxLeaving { // beyond it a leaver reads of it one tick later
		l.leaving[t] = true
		l.leavers.Store(int32(len(l.leaving)))
	}
	l.mu.Unlock()
	return nil
}

// maxLeaving bounds whom one tick remembers to have left.
const maxLeaving = 10_000

// isLeaving tells that t left here since the View was taken.
func (l *Line) isLeaving(t Token) bool {
	if l.leavers.Load() == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaving[t]
}

// Return brings a missed place back, once and within the return window. For a place
// that is not missed it changes nothing.
func (l *Line) Return(ctx context.Context, t Token) (Place, error) {
	v, err := l.current(ctx, t)
	if err != nil {
		return Place{}, err
	}
	if v.hasMoved(t) {
		return Place{}, ErrMoved
	}
	if t.Epoch == v.epoch && v.ranked() {
		ctx, cancel := deadline.In(ctx, callTime)
		defer cancel()
		err := returnScript.Run(ctx, l.rdb, l.keys, l.now(), t.Epoch, v.rank(t.Number), l.ring.SessionID(l.room, t.Epoch, t.Number)).Err()
		if err != nil {
			return Place{}, &Unavailable{RetryAfter: retryAfter, Cause: err}
		}
	}
	p, _, err := l.Place(ctx, t)
	return p, err
}

// Extend gives a called place as much time again to claim, once a call. Errors:
// ErrExtended, ErrNotCalled, ErrLapsed, *Unavailable.
func (l *Line) Extend(ctx context.Context, t Token) (Place, error) {
	v, err := l.current(ctx, t)
	if err != nil {
		return Place{}, err
	}
	switch {
	case t.Epoch < v.epoch:
		return Place{}, ErrLapsed
	case v.hasMoved(t):
		return Place{}, ErrMoved
	case !v.ranked():
		return Place{}, ErrNotCalled
	}
	asking, cancel := deadline.In(ctx, callTime)
	defer cancel()
	word, err := extendScript.Run(asking, l.rdb, l.keys, l.now(), t.Epoch, v.rank(t.Number), l.ring.SessionID(l.room, t.Epoch, t.Number)).Text()
	if err != nil {
		return Place{}, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	switch word {
	case "ok":
		p, _, err := l.Place(ctx, t)
		return p, err
	case "again":
		return Place{}, ErrExtended
	case "not-called":
		return Place{}, ErrNotCalled
	case "lapsed", "epoch":
		return Place{}, ErrLapsed
	}
	return Place{}, &Unavailable{RetryAfter: retryAfter, Cause: errNoRoom}
}

// Receipt is SignReceipt with this room's keys.
func (l *Line) Receipt(t Token) (string, error) { return SignReceipt(l.ring, t) }

// DrawRecord is the public record of the draw, once it is in force.
func (l *Line) DrawRecord() (Draw, bool) {
	if v := l.View(); v != nil && v.draw != nil {
		return *v.draw, true
	}
	return Draw{}, false
}
