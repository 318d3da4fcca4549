package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Change is an entry of the audit log.
type Change struct {
	// ID is a UUIDv7 made where the change was made.
	ID      uuid.UUID
	At      time.Time
	Actor   string // name, for people
	ActorID string // Principal.ID
	// Act is what was done, such as "event.update"; Subject to what, such as "event/arena-night".
	Act, Subject string
	// Before and After are JSON or nil. They hold no secret.
	Before, After json.RawMessage
	RequestID     string
}

// Record adds c to the audit log, in the transaction that makes the change. Recording
// the same id again does nothing.
func Record(ctx context.Context, db DB, c Change) error {
	_, err := db.Exec(ctx, `
		INSERT INTO audit (id, at, actor, actor_id, act, subject, before, after, request_id)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`,
		c.ID, c.At, c.Actor, c.ActorID, c.Act, c.Subject, c.Before, c.After, c.RequestID)
	if err != nil {
		return fmt.Errorf("record audit: %w", err)
	}
	return nil
}

// Changes lists the audit log from the newest, before (at, id) when at is not zero, of
// one subject unless it is empty.
func Changes(ctx context.Context, db DB, subject string, at time.Time, id uuid.UUID, limit int) ([]Change, error) {
	where, args := "true", []any{limit}
	if subject != "" {
		args = append(args, subject)
		where = fmt.Sprintf("subject = $%d", len(args))
	}
	if !at.IsZero() {
		args = append(args, at, id)
		where += fmt.Sprintf(" AND (at, id) < ($%d, $%d)", len(args)-1, len(args))
	}
	rows, err := db.Query(ctx, `
		SELECT id, at, actor, actor_id, act, subject, before, after, request_id
		FROM audit WHERE `+where+` ORDER BY at DESC, id DESC LIMIT $1`, args...)
	if err != nil {
		return nil, fmt.Errorf("read audit: %w", err)
	}
	changes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Change, err error) {
		return c, row.Scan(&c.ID, &c.At, &c.Actor, &c.ActorID, &c.Act, &c.Subject, &c.Before, &c.After, &c.RequestID)
	})
	if err != nil {
		return nil, fmt.Errorf("read audit: %w", err)
	}
	return changes, nil
}
