package devtest

import (
	"context"
	"testing"
)

func TestServersAreTheTestsOwn(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			rdb := Redis(t)
			if n, err := rdb.Incr(ctx, "seen").Result(); err != nil || n != 1 {
				t.Errorf("INCR on a fresh redis = %d, %v; want 1", n, err)
			}
			if again := Redis(t); again.Get(ctx, "seen").Val() != "1" {
				t.Error("a second client of the same test reaches another redis")
			}
			db, url := Postgres(t)
			if _, err := db.Exec(ctx, `CREATE TABLE mine (n int)`); err != nil {
				t.Errorf("on %s: %v", url, err)
			}
			var lower string
			if err := db.QueryRow(ctx, `SELECT lower('ÄÉ')`).Scan(&lower); err != nil || lower != "äé" {
				t.Errorf("lower('ÄÉ') = %q, %v", lower, err)
			}
			var migrated bool
			if err := db.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&migrated); err != nil || !migrated {
				t.Errorf("the database is not migrated (%v)", err)
			}
		})
	}
}
