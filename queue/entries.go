package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// entries puts moves and invitations on record: that a place has moved, no loss of Redis
// may take back, nor give an identity a second place.
func (r *Recorder) entries(ctx context.Context, name string, state map[string]string, found []redis.XMessage) error {
	list, taken := make([]entry, 0, len(found)), found[:0]
	for _, e := range found {
		text := func(field string) string { s, _ := e.Values[field].(string); return s }
		if text("epoch") == state["epoch"] { // those after a reset come with the next step
			list, taken = append(list, entry{text("kind"), text("field"), text("value")}), append(taken, e)
		}
	}
	if len(list) == 0 {
		return nil
	}
	if err := r.record.entries(ctx, name, state["epoch"], list); err != nil {
		return err
	}
	return r.dropped(ctx, keyOf(name, "entries"), taken)
}

// entriesAtOnce bounds what one script call merges.
const entriesAtOnce = 500

// bringEntriesBack tells a store that has lost moves and invitations of all on record.
func (r *Recorder) bringEntriesBack(ctx context.Context, name string, state map[string]string) error {
	args := []any{r.now(), state["epoch"]}
	merge := func() error {
		defer func() { args = args[:2] }()
		return entriesScript.Run(ctx, r.cfg.Redis, keysOf(name), args...).Err()
	}
	err := r.record.eachEntry(ctx, name, state["epoch"], func(e entry) error {
		if args = append(args, e.Kind, e.Field, e.Value); len(args) > 3*entriesAtOnce {
			return merge()
		}
		return nil
	})
	if err == nil && len(args) > 2 {
		err = merge()
	}
	if err != nil {
		return fmt.Errorf("bring moves and invitations back: %w", err)
	}
	return nil
}
