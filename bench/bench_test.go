package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"usher/internal/devstack/devtest"
)

func TestOnlyTheExpectedAnswerCounts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer string
		mention      string // of the error; empty: none
	}{
		{"created", "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", ""},
		{"refused", "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 5\r\n\r\nquota", "quota"},
		{"kept place", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"},
		{"without a length", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "content length"},
		{"cut short", "HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{}", "EOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := bufio.NewReader(strings.NewReader(test.answer))
			err := readAnswer(in, 201)
			if (err == nil) != (test.mention == "") || err != nil && !strings.Contains(err.Error(), test.mention) {
				t.Errorf("error %v, want one that mentions %q", err, test.mention)
			}
			if err == nil && in.Buffered() != 0 {
				t.Errorf("%d bytes of the answer are left", in.Buffered())
			}
		})
	}
}

// A lean load counts every answer, and ends at the first that is not as wanted.
func TestLeanLoad(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		var asked atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if asked.Add(1) > 2 && fails {
				w.WriteHeader(http.StatusInternalServerError)
			}
			fmt.Fprint(w, "an answer")
		}))
		l := load{connections: 5, sent: new(atomic.Uint32), lean: true, status: http.StatusOK, write: func(out []byte, _ uint32, address string) []byte {
			return fmt.Appendf(out, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", address)
		}}
		p, err := l.run(t.Context(), server.Listener.Addr().String(), time.Second, 0)
		server.Close()
		switch {
		case fails && err == nil:
			t.Errorf("%d answers, and nobody minds that some failed", p.answers)
		case !fails && (err != nil || p.answers < 5 || p.answers != asked.Load()):
			t.Errorf("%d answers of %d, %v", p.answers, asked.Load(), err)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		list []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}} {
		if got := median(test.list); got != test.want {
			t.Errorf("median of %v = %g, want %g", test.list, got, test.want)
		}
	}
}

// A tape holds all that was done under its context, transactions and batches included, and nothing else, and doing it
// again elsewhere gives the same rows.
func TestATapeIsReplayed(t *testing.T) {
	t.Parallel()
	const table = `CREATE TABLE notes (n integer PRIMARY KEY, word text NOT NULL)`
	taped, plain := database(t, recorder{}), database(t, nil)
	for _, pool := range []*pgxpool.Pool{taped, plain} {
		if _, err := pool.Exec(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	}
	var recording tape
	ctx := onTape(t.Context(), &recording)
	err := pgx.BeginFunc(ctx, taped, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(`INSERT INTO notes VALUES ($1, $2)`, 1, "one")
		b.Queue(`INSERT INTO notes VALUES ($1, $2)`, 2, "two")
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := taped.Exec(ctx, `UPDATE notes SET word = $2 WHERE n = $1`, 2, "zwei"); err != nil {
		t.Fatal(err)
	}
	if _, err := taped.Exec(t.Context(), `SELECT 1`); err != nil { // no tape in this context
		t.Fatal(err)
	}
	if len(recording.ops) != 4 || recording.statements() != 5 { // begin, batch, commit, update
		t.Fatalf("%d round trips, %d statements: %v", len(recording.ops), recording.statements(), recording.ops)
	}
	if err := recording.replay(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	var words string
	if err := plain.QueryRow(t.Context(), `SELECT string_agg(word, ' ' ORDER BY n) FROM notes`).Scan(&words); err != nil || words != "one zwei" {
		t.Errorf("replayed to %q, %v", words, err)
	}
}

func database(t *testing.T, tracer pgx.QueryTracer) *pgxpool.Pool {
	t.Helper()
	_, address := devtest.Postgres(t)
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}
