package booking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

const (
	// stockKey is a hash for the waiting rooms: slug of an event on sale → whether anything
	// of it can be had. An event without an entry says nothing about its room.
	stockKey  = "usher:stock"
	stockLeft = "left"
	stockGone = "gone"
	// stockEvery is how soon a room hears that its events are sold out, or have seats again.
	stockEvery = 2 * time.Second
)

// tellStock tells the waiting rooms which events have anything left: a seat that is free, or
// held, or in an order that is not paid and may come back. An event that cannot be looked at
// says nothing, and holds up no other.
func (s *Server) tellStock(ctx context.Context) error {
	rows, err := s.db.Query(ctx, `
		SELECT e.slug, p.performance_id FROM events e JOIN performances p ON p.event_id = e.event_id
		WHERE e.status = 'on_sale' AND e.room <> '' AND p.starts_at > $1`, s.now().UTC())
	if err != nil {
		return fmt.Errorf("list performances on sale: %w", err)
	}
	type listed struct {
		Slug        string
		Performance uuid.UUID
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[listed])
	if err != nil {
		return fmt.Errorf("list performances on sale: %w", err)
	}
	want, unknown := map[string]string{}, map[string]bool{}
	for _, p := range all {
		if want[p.Slug] == stockLeft || unknown[p.Slug] {
			continue
		}
		left, err := s.hasStock(ctx, p.Slug, p.Performance)
		switch {
		case errors.Is(err, errRedis) || ctx.Err() != nil:
			return err
		case err != nil:
			s.log.WarnContext(ctx, "look at the stock", "error", err, "event", p.Slug, "performance", p.Performance)
			unknown[p.Slug] = true
		case left:
			want[p.Slug] = stockLeft
		default:
			want[p.Slug] = stockGone
		}
	}
	for slug := range unknown {
		delete(want, slug)
	}
	return publishStock(ctx, s.rdb, want)
}

// publishStock makes the hash in Redis so.
func publishStock(ctx context.Context, rdb redis.UniversalClient, want map[string]string) error {
	have, err := rdb.HGetAll(ctx, stockKey).Result()
	if err != nil {
		return fmt.Errorf("publish stock: %w", err)
	}
	_, err = rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for slug, word := range want {
			if have[slug] != word {
				pipe.HSet(ctx, stockKey, slug, word)
			}
		}
		for slug := range have {
			if want[slug] == "" {
				pipe.HDel(ctx, stockKey, slug)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("publish stock: %w", err)
	}
	return nil
}

// hasStock looks at the seat map first: as long as a seat is free or held there, Postgres is
// not asked to count.
func (s *Server) hasStock(ctx context.Context, slug string, performance uuid.UUID) (bool, error) {
	l, err := s.orderLayout(ctx, slug, performance)
	if err != nil {
		return false, err
	}
	outcome, reply, err := s.scriptOnce(ctx, l.EventID, l.PerformanceID, l.Units(), changesScript, "", keptVersions)
	if err != nil {
		return false, err
	}
	states := make([]byte, l.Units()) // without a map: all may be free
	if outcome != "missing" {
		m, _, err := parseChanges(l.Units(), outcome, reply)
		if err != nil {
			return false, err
		}
		states = m.states
	}
	sellable, sold := 0, 0
	for unit, state := range states {
		if _, offered := l.Price(unit); !offered {
			continue
		}
		if (state == unitFree || state == unitHeld) && outcome != "missing" {
			return true, nil
		}
		if state <= unitSold {
			sellable++
		}
	}
	err = s.db.QueryRow(ctx, `SELECT count(*) FROM order_seats WHERE event_id = $1 AND performance_id = $2 AND state = 'sold'`,
		l.EventID, l.PerformanceID).Scan(&sold)
	if err != nil {
		return false, fmt.Errorf("count what is sold: %w", err)
	}
	return sold < sellable, nil
}
