package booking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// sweepEvery is how often unpaid orders past their time are looked for.
	sweepEvery = 2 * time.Second
	// sweepOrders bounds what a sweep reads at once.
	sweepOrders = 200
	// endTime bounds the end of one order: a provider that hangs holds up the others so long.
	endTime = 10 * time.Second
	// reconcileEvery is how often the seat maps are compared with Postgres.
	reconcileEvery = 15 * time.Second
)

// sweep runs act every so often until ctx ends. What fails is tried again at the next
// turn: nothing is forgotten, since what there is to do is a query.
func (w *Worker) sweep(ctx context.Context, every time.Duration, act func(context.Context) error, name string) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := act(ctx); err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, name, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// expireOverdue ends the orders whose time to pay is over, event by event.
func (s *Server) expireOverdue(ctx context.Context) error {
	events, err := s.eventIDs(ctx)
	if err != nil {
		return err
	}
	for _, event := range events {
		if err := s.expireOverdueOf(ctx, event); err != nil {
			return err
		}
	}
	return nil
}

// expireOverdueOf goes past orders that cannot end now: they hold up no others.
func (s *Server) expireOverdueOf(ctx context.Context, event uuid.UUID) error {
	now := s.now().UTC()
	var after orderRecord // the last one of the page before
	for {
		rows, err := s.db.Query(ctx, `
			SELECT `+orderColumns+` FROM orders
			WHERE event_id = $1 AND state = 'pending' AND expires_at <= $2 AND (expires_at, order_id) > ($3, $4)
			ORDER BY expires_at, order_id LIMIT $5`,
			event, now, after.ExpiresAt, after.ID, sweepOrders)
		if err != nil {
			return fmt.Errorf("find overdue orders: %w", err)
		}
		overdue, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (orderRecord, error) { return scanOrder(row) })
		if err != nil {
			return fmt.Errorf("find overdue orders: %w", err)
		}
		for _, o := range overdue {
			if err := s.expire(ctx, o); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				s.log.WarnContext(ctx, "expire order", "error", err, "order", o.ID)
			}
		}
		if len(overdue) < sweepOrders {
			return nil
		}
		after = overdue[sweepOrders-1]
	}
}

func (s *Server) expire(ctx context.Context, o orderRecord) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return s.end(ctx, o, orderExpired)
}

// eventIDs are all events: also one that went back to draft may have orders.
func (s *Server) eventIDs(ctx context.Context) ([]uuid.UUID, error) {
	rows, err := s.db.Query(ctx, `SELECT event_id FROM events`)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return ids, nil
}

// reconcileAll compares each seat map that exists with Postgres.
func (s *Server) reconcileAll(ctx context.Context) error {
	rows, err := s.db.Query(ctx, `
		SELECT e.slug, e.event_id, p.performance_id FROM events e JOIN performances p ON p.event_id = e.event_id
		WHERE e.status <> 'draft' AND p.starts_at > $1`, s.now().UTC().Add(-24*time.Hour))
	if err != nil {
		return fmt.Errorf("list performances: %w", err)
	}
	type listed struct {
		Slug               string
		Event, Performance uuid.UUID
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[listed])
	if err != nil {
		return fmt.Errorf("list performances: %w", err)
	}
	for _, p := range all {
		exists, err := s.rdb.Exists(ctx, seatKeys(p.Event, p.Performance)[0]).Result()
		if err != nil {
			return fmt.Errorf("%w: %w", errRedis, err)
		}
		if exists == 0 {
			continue
		}
		mended, err := s.reconcilePerformance(ctx, p.Slug, p.Performance)
		if errors.Is(err, errRedis) || ctx.Err() != nil {
			return err
		}
		if err != nil { // no reason to leave the others alone
			s.log.WarnContext(ctx, "compare seat map", "error", err, "event", p.Slug, "performance", p.Performance)
		}
		if mended > 0 {
			s.log.InfoContext(ctx, "mended seat map", "event", p.Slug, "performance", p.Performance, "units", mended)
		}
	}
	return nil
}

func (s *Server) reconcilePerformance(ctx context.Context, slug string, performance uuid.UUID) (int64, error) {
	l, err := s.orderLayout(ctx, slug, performance)
	if err != nil {
		return 0, err
	}
	return s.reconcile(ctx, l)
}
