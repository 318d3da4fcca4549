package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"usher/internal/devstack/devtest"
	"usher/internal/postgres"
)

// Every process migrates at start; several may start at once, and again later.
func TestMigrateTogetherAndAgain(t *testing.T) {
	t.Parallel()
	pool, url := devtest.Postgres(t)
	if _, err := pool.Exec(t.Context(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for range 3 {
		g.Go(func() error { return postgres.Migrate(t.Context(), url) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	var applied, distinct int
	if err := pool.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT version_id) FROM goose_db_version`).Scan(&applied, &distinct); err != nil {
		t.Fatal(err)
	}
	if applied < 2 || applied != distinct {
		t.Errorf("%d migrations recorded, %d distinct", applied, distinct)
	}
}

// Two transactions that lock the same two rows crosswise deadlock: both must end well.
func TestRetryEndsDeadlocks(t *testing.T) {
	t.Parallel()
	pool, _ := devtest.Postgres(t)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE pair (id int PRIMARY KEY, n int NOT NULL); INSERT INTO pair VALUES (1, 0), (2, 0)`); err != nil {
		t.Fatal(err)
	}
	var bothLocked sync.WaitGroup
	bothLocked.Add(2)
	runs := make([]int, 2)
	add := func(who, first, second int) error {
		return postgres.Retry(t.Context(), pool, func(tx pgx.Tx) error {
			runs[who]++
			const sql = `UPDATE pair SET n = n + 1 WHERE id = $1`
			if _, err := tx.Exec(t.Context(), sql, first); err != nil {
				return err
			}
			if runs[who] == 1 {
				bothLocked.Done()
				bothLocked.Wait()
			}
			_, err := tx.Exec(t.Context(), sql, second)
			return err
		})
	}
	var g errgroup.Group
	g.Go(func() error { return add(0, 1, 2) })
	g.Go(func() error { return add(1, 2, 1) })
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if err := pool.QueryRow(t.Context(), `SELECT sum(n) FILTER (WHERE id=1), sum(n) FILTER (WHERE id=2) FROM pair`).Scan(&a, &b); err != nil {
		t.Fatal(err)
	}
	if a != 2 || b != 2 || runs[0]+runs[1] < 3 {
		t.Errorf("counts %d and %d after %v runs; want 2 and 2 after a retry", a, b, runs)
	}
}

func TestRetryRollsBackOnTheClosuresError(t *testing.T) {
	t.Parallel()
	pool, _ := devtest.Postgres(t)
	if _, err := pool.Exec(t.Context(), `CREATE TABLE one (id int)`); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	err := postgres.Retry(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `INSERT INTO one VALUES (1)`); err != nil {
			return err
		}
		return no
	})
	var n int
	if scanErr := pool.QueryRow(t.Context(), `SELECT count(*) FROM one`).Scan(&n); scanErr != nil || !errors.Is(err, no) || n != 0 {
		t.Errorf("err %v, %d rows, %v", err, n, scanErr)
	}
}

func TestBadURLKeepsItsPassword(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(context.Background(), "postgres://u:s3cret@[bad")
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Error(err)
	}
}
