package queue

import (
	"context"
	"errors"
	"strconv"
	"time"

	"usher/internal/deadline"
)

// inForce says that an epoch and a revision of the settings were in force at a moment of
// room time.
type inForce struct {
	epoch, revision string
	at              time.Time
}

// current is the View by which the token may be answered: one of its epoch, whose settings
// were in force when it was issued. An older one would know it under a method and schedule
// that are over, and show a rank that is no more. After a reset or a change elsewhere the
// next tick is brought forward.
func (l *Line) current(ctx context.Context, t Token) (*View, error) {
	v := l.View()
	for range sharedTwice {
		var err error
		switch {
		case v == nil || t.Epoch > v.epoch: // UUIDv7: a later epoch is greater
			err = l.tickNow(ctx)
		case t.Epoch == v.epoch && !l.heldAt(v, t.IssuedAt):
			// Another gateway gave this place since our last tick. Those who come with
			// such places share one question.
			_, err, _ = l.early.Do("in force", func() (any, error) { return nil, l.askInForce(context.WithoutCancel(ctx)) })
		default:
			return v, nil
		}
		if err != nil {
			return nil, &Unavailable{RetryAfter: retryAfter, Cause: err}
		}
		v = l.View()
	}
	return v, nil
}

// sharedTwice is how often to ask together with others: what was under way already may
// have been read too early, the next one was not.
const sharedTwice = 2

// heldAt tells that the settings of v are known to have been in force at a moment.
func (l *Line) heldAt(v *View, at time.Time) bool {
	if v.lost || !at.After(v.now) { // nothing new can be learnt of a store that is away
		return true
	}
	k := l.until.Load()
	return k != nil && k.epoch == v.epoch && k.revision == v.revision && !at.After(k.at)
}

// keepUp takes what the store says to be in force: a View of anything else is replaced at
// once.
func (l *Line) keepUp(ctx context.Context, epoch, revision string, at time.Time) error {
	for range sharedTwice {
		if v := l.View(); v != nil && v.epoch == epoch && v.revision == revision {
			if k := l.until.Load(); k == nil || at.After(k.at) || k.epoch != epoch || k.revision != revision {
				l.until.Store(&inForce{epoch, revision, at})
			}
			return nil
		}
		if err := l.tickNow(ctx); err != nil {
			return err
		}
	}
	return nil // it changes faster than we look; the View is of later than at
}

func (l *Line) askInForce(ctx context.Context) error {
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	state, err := l.rdb.HMGet(ctx, keyOf(l.room, "state"), "epoch", "rev", "time").Result()
	if err != nil {
		return err
	}
	epoch, _ := state[0].(string)
	revision, _ := state[1].(string)
	text, _ := state[2].(string)
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return errors.Join(errNoRoom, err)
	}
	return l.keepUp(ctx, epoch, revision, time.UnixMilli(ms))
}

// tickNow is a tick brought forward, shared by all who want one.
func (l *Line) tickNow(ctx context.Context) error {
	_, err, _ := l.early.Do("tick", func() (any, error) { return nil, l.tick(context.WithoutCancel(ctx)) })
	return err
}
