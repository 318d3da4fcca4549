package booking

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"usher/internal/devstack/devtest"
)

// exempt tables are no sale tables: the directory that is the same on every shard, what
// belongs to no event, and what belongs to others.
var exempt = []string{
	"events", "venues", "plans", // reference tables
	"operators", "operator_keys", "audit",
	"rooms", "room_epochs", "room_draws", "room_checkpoints", "room_claims", "room_lobbies", "room_entries", "policy_sets",
	"sandbox_payments", // the far side of the payment wire
	"goose_db_version",
}

func isExempt(table string) bool {
	return slices.Contains(exempt, table) || strings.HasPrefix(table, "river_")
}

// schemaFaults reads the database's catalogue and returns what breaks the rules that let
// the same SQL run on one Postgres or on Citus.
func schemaFaults(ctx context.Context, db *pgxpool.Pool) ([]string, error) {
	var faults []string
	for _, rule := range []struct{ name, sql string }{
		{"table without event_id uuid NOT NULL", `
			SELECT c.relname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT EXISTS (
				SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'event_id' AND a.attnotnull
					AND a.atttypid = 'uuid'::regtype AND NOT a.attisdropped)`},
		{"table without primary key", `
			SELECT c.relname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
				AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)`},
		{"unique index that does not begin with event_id", `
			SELECT t.relname, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
				JOIN pg_namespace n ON n.oid = t.relnamespace
			WHERE n.nspname = 'public' AND i.indisunique AND pg_get_indexdef(i.indexrelid, 1, true) <> 'event_id'`},
		{"index that does not begin with event_id", `
			SELECT t.relname, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
				JOIN pg_namespace n ON n.oid = t.relnamespace
			WHERE n.nspname = 'public' AND NOT i.indisunique AND pg_get_indexdef(i.indexrelid, 1, true) <> 'event_id'`},
		{"foreign key that does not begin with event_id on both sides", `
			SELECT t.relname, k.conname FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid
				JOIN pg_namespace n ON n.oid = t.relnamespace
				JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
				JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
			WHERE n.nspname = 'public' AND k.contype = 'f' AND (a.attname <> 'event_id' OR b.attname <> 'event_id')`},
		{"exclusion constraint", `
			SELECT t.relname, k.conname FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid
			WHERE k.contype = 'x'`},
		{"column whose default is not a constant", `
			SELECT t.relname, a.attname FROM pg_attrdef d JOIN pg_class t ON t.oid = d.adrelid
				JOIN pg_namespace n ON n.oid = t.relnamespace
				JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
			WHERE n.nspname = 'public' AND pg_get_expr(d.adbin, d.adrelid) ~ '\(|CURRENT_|LOCALTIME'`},
		{"sequence", `
			SELECT coalesce(t.relname, s.relname), s.relname FROM pg_class s
				LEFT JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i') LEFT JOIN pg_class t ON t.oid = d.refobjid
			WHERE s.relkind = 'S'`},
		{"trigger", `
			SELECT t.relname, g.tgname FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal`},
		{"function", `
			SELECT p.proname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'`},
		{"rule or view", `
			SELECT c.relname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relkind IN ('v', 'm')`},
	} {
		rows, err := db.Query(ctx, rule.sql)
		if err != nil {
			return nil, err
		}
		var table, what string
		_, err = pgx.ForEachRow(rows, []any{&table, &what}, func() error {
			if !isExempt(table) {
				faults = append(faults, rule.name+": "+table+" "+what)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return faults, nil
}

func TestSchemaRules(t *testing.T) {
	t.Parallel()
	db, _ := devtest.Postgres(t)
	faults, err := schemaFaults(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
	for _, table := range exempt {
		var found bool
		if err := db.QueryRow(t.Context(), `SELECT to_regclass('public.' || $1) IS NOT NULL`, table).Scan(&found); err != nil || !found {
			t.Errorf("exempt table %s is not there (%v)", table, err)
		}
	}

	// The check itself sees what it is for.
	_, err = db.Exec(t.Context(), `
		CREATE TABLE bad_sale (id bigserial PRIMARY KEY, event_id uuid NOT NULL, at timestamptz DEFAULT now());
		CREATE TABLE bad_child (event_id uuid NOT NULL, bad bigint REFERENCES bad_sale (id));
		CREATE TABLE bad_free (note text);
		CREATE FUNCTION bad_touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE TRIGGER bad_touched BEFORE UPDATE ON bad_sale FOR EACH ROW EXECUTE FUNCTION bad_touch()`)
	if err != nil {
		t.Fatal(err)
	}
	if faults, err = schemaFaults(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"table without event_id uuid NOT NULL: bad_free", "table without primary key: bad_child",
		"unique index that does not begin with event_id: bad_sale", "foreign key that does not begin with event_id on both sides: bad_child",
		"column whose default is not a constant: bad_sale at", "sequence: bad_sale", "trigger: bad_sale", "function: bad_touch",
	} {
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, want) }) {
			t.Errorf("the check does not see: %s", want)
		}
	}
}

// forbiddenSQL is what no statement of ours may use. The migrations' lock is goose's.
var forbiddenSQL = regexp.MustCompile(`(?i)pg_(try_)?advisory|\bLISTEN\s+\w|\bNOTIFY\s+\w|pg_notify|nextval|(?:^|[^.\w])now\(\)|CURRENT_TIMESTAMP|clock_timestamp|gen_random_uuid`)

func TestStatementsRules(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	migrations, err := filepath.Glob("../internal/postgres/migrations/*.sql")
	if err != nil || len(migrations) == 0 {
		t.Fatalf("migrations: %v", err)
	}
	for _, name := range append(files, migrations...) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := forbiddenSQL.Find(text); found != nil {
			t.Errorf("%s uses %s: ids and times are parameters, and nothing needs one server", name, found)
		}
	}
}
