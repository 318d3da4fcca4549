package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/operator"
	"usher/internal/postgres"
)

// RecorderConfig is what a Recorder needs.
type RecorderConfig struct {
	Redis redis.UniversalClient
	DB    *pgxpool.Pool
	Log   *slog.Logger
}

// Recorder keeps Postgres' record of the policies and of who changed them, and brings them
// back where Redis has lost them. Several may run: each step is one conditional statement.
type Recorder struct {
	cfg   RecorderConfig
	known int64 // the version that is on record
}

const (
	recordEvery   = 500 * time.Millisecond
	recordTime    = 5 * time.Second
	changesAtOnce = 10
)

// NewRecorder makes a Recorder; Run does its work.
func NewRecorder(cfg RecorderConfig) *Recorder { return &Recorder{cfg: cfg} }

// Run records until ctx ends. A store that does not answer is no reason to stop.
func (r *Recorder) Run(ctx context.Context) error {
	ticker := time.NewTicker(recordEvery)
	defer ticker.Stop()
	for failing := false; ; {
		err := r.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			r.cfg.Log.ErrorContext(ctx, "record policies", "error", err)
		case err == nil && failing:
			r.cfg.Log.InfoContext(ctx, "policies are recorded again")
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// kept is a version with all that is kept of it.
type kept struct {
	version          int64
	document, at, by string
}

func (r *Recorder) step(ctx context.Context) error {
	ctx, cancel := deadline.In(ctx, recordTime)
	defer cancel()
	pipe := r.cfg.Redis.Pipeline()
	setCmd := pipe.HMGet(ctx, setKey, "version", "document", "at", "by")
	changesCmd := pipe.XRangeN(ctx, changesKey, "-", "+", changesAtOnce)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := r.changes(ctx, changesCmd.Val()); err != nil {
		return err
	}
	text := func(i int) string { s, _ := setCmd.Val()[i].(string); return s }
	inRedis := kept{document: text(1), at: text(2), by: text(3)}
	inRedis.version, _ = strconv.ParseInt(text(0), 10, 64) // ours; absent is 0
	if inRedis.version == r.known && r.known != 0 {
		return nil
	}
	if inRedis.version > r.known {
		if err := r.record(ctx, inRedis); err != nil {
			return err
		}
	}
	return r.restore(ctx, inRedis.version)
}

func millis(text string) time.Time {
	ms, _ := strconv.ParseInt(text, 10, 64) // ours: written by put.lua
	return time.UnixMilli(ms).UTC()
}

func (r *Recorder) record(ctx context.Context, k kept) error {
	err := postgres.Retry(ctx, r.cfg.DB, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO policy_sets AS s (name, version, document, set_at, set_by) VALUES ('edge', $1, $2, $3, $4)
			ON CONFLICT (name) DO UPDATE SET version = EXCLUDED.version, document = EXCLUDED.document,
				set_at = EXCLUDED.set_at, set_by = EXCLUDED.set_by
			WHERE EXCLUDED.version > s.version`, k.version, json.RawMessage(k.document), millis(k.at), k.by)
		return err
	})
	if err != nil {
		return fmt.Errorf("record policies: %w", err)
	}
	return nil
}

// restore brings back what is on record of later than Redis knows.
func (r *Recorder) restore(ctx context.Context, inRedis int64) error {
	var k kept
	var at time.Time
	err := postgres.Retry(ctx, r.cfg.DB, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `SELECT version, document::text, set_at, set_by FROM policy_sets WHERE name = 'edge'`).
			Scan(&k.version, &k.document, &at, &k.by)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was recorded: %w", err)
	}
	if k.version > inRedis {
		n, err := restoreScript.Run(ctx, r.cfg.Redis, []string{setKey}, k.version, k.document, at.UnixMilli(), k.by).Int()
		if err != nil {
			return fmt.Errorf("restore policies: %w", err)
		}
		if n == 1 {
			r.cfg.Log.WarnContext(ctx, "policies that Redis lost are restored", "version", k.version)
		}
	}
	r.known = k.version
	return nil
}

// changes moves operators' changes to the audit log. Their ids make a second time harmless.
func (r *Recorder) changes(ctx context.Context, entries []redis.XMessage) error {
	if len(entries) == 0 {
		return nil
	}
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	err := postgres.Retry(ctx, r.cfg.DB, func(tx pgx.Tx) error {
		for _, e := range entries {
			text := func(field string) string { s, _ := e.Values[field].(string); return s }
			id, err := uuid.Parse(text("id"))
			if err != nil {
				r.cfg.Log.ErrorContext(ctx, "a change of policies without an id is dropped", "entry", e.ID)
				continue
			}
			err = operator.Record(ctx, tx, operator.Change{
				ID: id, At: millis(text("at")), Actor: text("actor"), ActorID: text("actor_id"), Act: "policies.change", Subject: "policies",
				Before: json.RawMessage(text("before")), After: json.RawMessage(text("after")), RequestID: text("request_id"),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record who changed policies: %w", err)
	}
	if err := r.cfg.Redis.XDel(ctx, changesKey, ids...).Err(); err != nil {
		return fmt.Errorf("drop recorded changes: %w", err)
	}
	return nil
}
