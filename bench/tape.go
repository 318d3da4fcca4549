package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A tape is the database work of one paid order, statement by statement with its arguments, as its connection was told
// it: begin and commit are statements too.
type tape struct {
	mu  sync.Mutex // guards ops: a call may use the database from several goroutines
	ops []op
}

// An op is one round trip: a statement, or several sent together.
type op []statement

type statement struct {
	sql  string
	args []any
}

type tapeKey struct{}

// onTape has the database work done under the context recorded.
func onTape(ctx context.Context, t *tape) context.Context {
	return context.WithValue(ctx, tapeKey{}, t)
}

func (t *tape) add(o op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ops = append(t.ops, o)
}

func (t *tape) statements() int {
	n := 0
	for _, o := range t.ops {
		n += len(o)
	}
	return n
}

// recorder is a pgx tracer that writes to the tape of the context.
type recorder struct{}

func (recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if t, ok := ctx.Value(tapeKey{}).(*tape); ok {
		t.add(op{{q.SQL, q.Args}})
	}
	return ctx
}

func (recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	if t, ok := ctx.Value(tapeKey{}).(*tape); ok {
		var o op
		for _, q := range b.Batch.QueuedQueries {
			o = append(o, statement{q.SQL, q.Arguments})
		}
		t.add(o)
	}
	return ctx
}

func (recorder) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// replay does the tape's work on one connection.
func (t *tape) replay(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for _, o := range t.ops {
		if len(o) > 1 {
			b := &pgx.Batch{}
			for _, s := range o {
				b.Queue(s.sql, s.args...)
			}
			if err := conn.SendBatch(ctx, b).Close(); err != nil {
				return fmt.Errorf("replay %.60q and %d more: %w", o[0].sql, len(o)-1, err)
			}
			continue
		}
		if _, err := conn.Exec(ctx, o[0].sql, o[0].args...); err != nil {
			return fmt.Errorf("replay %.60q: %w", o[0].sql, err)
		}
	}
	return nil
}
