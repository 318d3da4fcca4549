package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// stockKey is booking's hash: event on sale → "left" or "gone".
	stockKey  = "usher:stock"
	stockGone = "gone"
	// stockEvery is how often the Recorder looks.
	stockEvery = time.Second
)

// lookAtStock learns of each room whether all events behind it that booking speaks of are
// sold out. Where booking is silent, what was said of the room stays.
func (r *Recorder) lookAtStock(ctx context.Context) error {
	if time.Since(r.stockAt) < stockEvery {
		return nil
	}
	var events, stock *redis.MapStringStringCmd
	_, err := r.cfg.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		events, stock = p.HGetAll(ctx, eventRoomsKey), p.HGetAll(ctx, stockKey)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the stock: %w", err)
	}
	r.soldOut, r.stockAt = map[string]bool{}, time.Now()
	for event, room := range events.Val() {
		word, told := stock.Val()[event]
		if room == "" || !told {
			continue
		}
		gone, known := r.soldOut[room]
		r.soldOut[room] = word == stockGone && (gone || !known)
	}
	return nil
}

// stock closes a room before which nothing is left, and opens it when something comes back.
func (r *Recorder) stock(ctx context.Context, name string, state map[string]string) error {
	gone, known := r.soldOut[name]
	if !known || gone == (state["sold_out"] == "1") {
		return nil
	}
	word := "0"
	if gone {
		word = "1"
	}
	if err := stockScript.Run(ctx, r.cfg.Redis, keysOf(name), r.now(), word).Err(); err != nil {
		return fmt.Errorf("say whether anything is left: %w", err)
	}
	r.cfg.Log.InfoContext(ctx, "the stock of a room changed", "room", name, "sold_out", gone)
	return nil
}
