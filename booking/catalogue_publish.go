package booking

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/operator"
)

// eventRoomsKey is a hash: slug of each event that the public sees → its room ("" = none).
const eventRoomsKey = "usher:event-rooms"

// publishEvery is how soon a Redis that lost everything knows the events and keys again.
const publishEvery = time.Second

// publish keeps Redis told which room stands before which event and which API keys are
// in force. A failure is logged once and tried again.
func (s *Server) publish(ctx context.Context) error {
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	failing := false
	for {
		err := s.publishOnce(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			s.log.ErrorContext(ctx, "publish catalogue to redis", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Server) publishOnce(ctx context.Context) error {
	ctx, cancel := deadline.In(ctx, 5*time.Second)
	defer cancel()
	if err := publishRooms(ctx, s.db, s.rdb); err != nil {
		return err
	}
	return operator.Publish(ctx, s.db, s.rdb)
}

// publishRooms makes the hash in Redis what Postgres says. Redis is read first: what
// another process published meanwhile is then in Postgres too, and not taken for stale.
func publishRooms(ctx context.Context, db operator.DB, rdb redis.UniversalClient) error {
	have, err := rdb.HGetAll(ctx, eventRoomsKey).Result()
	if err != nil {
		return fmt.Errorf("publish rooms of events: %w", err)
	}
	rows, err := db.Query(ctx, `SELECT slug, room FROM events WHERE status <> 'draft'`)
	if err != nil {
		return fmt.Errorf("read rooms of events: %w", err)
	}
	want := map[string]string{}
	var slug, room string
	if _, err := pgx.ForEachRow(rows, []any{&slug, &room}, func() error { want[slug] = room; return nil }); err != nil {
		return fmt.Errorf("read rooms of events: %w", err)
	}
	var set []any
	var gone []string
	for slug, room := range want {
		if old, ok := have[slug]; !ok || old != room {
			set = append(set, slug, room)
		}
	}
	for slug := range have {
		if _, ok := want[slug]; !ok {
			gone = append(gone, slug)
		}
	}
	if len(set) == 0 && len(gone) == 0 {
		return nil
	}
	_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		if len(set) > 0 {
			pipe.HSet(ctx, eventRoomsKey, set...)
		}
		if len(gone) > 0 {
			pipe.HDel(ctx, eventRoomsKey, gone...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish rooms of events: %w", err)
	}
	return nil
}
