package booking

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/pass"
	"usher/internal/postgres"
)

const testKey = "usher_test_0123456789abcdef0123456789abcdef"

// shop is a box office on real stores with one event: two rows of 20 seats, dear and
// cheap, and a standing area of 30 units (indexes 40 to 69). Every further server shares
// its stores and its clock.
type shop struct {
	t           testing.TB
	db          *pgxpool.Pool
	rdb         redis.UniversalClient
	ring        *keyring.Ring
	ahead       atomic.Int64 // how far the clock is put forward, in ns
	s           *Server
	base        string
	performance string
	maxSeats    int
}

const (
	shopEvent = "gala"
	shopRoom  = "gala-room"
	shopArea  = "11111111-1111-4111-8111-111111111111"
)

func (sh *shop) now() time.Time { return time.Now().Add(time.Duration(sh.ahead.Load())) }

func newShop(t testing.TB) *shop {
	t.Helper()
	sh := &shop{t: t, rdb: devtest.Redis(t), ring: keyring.Generate(time.Now()), maxSeats: 6}
	sh.db, _ = devtest.Postgres(t)
	sh.s, sh.base = sh.serve()
	if err := operator.AddKey(t.Context(), sh.rdb, testKey, operator.Principal{ID: "test", Name: "test", Role: operator.Admin}); err != nil {
		t.Fatal(err)
	}
	sh.plan("hall", shopPlan())
	out := sh.operate(http.MethodPut, "/events/"+shopEvent, fmt.Sprintf(`{"title":"Gala","venue":"hall","currency":"EUR","status":"on_sale","room":%q,
		"prices":[{"category":"Dear","amount":5000},{"category":"Cheap","amount":2000},{"category":"Floor","amount":1500}],
		"areas":[{"uuid":%q,"name":"Floor","category":"Floor","capacity":30}],
		"performances":[{"starts_at":%q}],"limits":{"max_seats_per_session":%d}}`,
		shopRoom, shopArea, time.Now().Add(30*24*time.Hour).UTC().Format(time.RFC3339), sh.maxSeats))
	var event struct {
		Performances []struct{ ID string }
	}
	if err := json.Unmarshal(out, &event); err != nil || len(event.Performances) != 1 {
		t.Fatalf("event: %v in %s", err, out)
	}
	sh.performance = event.Performances[0].ID
	return sh
}

// serve starts another server on the same stores.
func (sh *shop) serve() (*Server, string) { return sh.serveOn(sh.rdb) }

func (sh *shop) serveOn(rdb redis.UniversalClient) (*Server, string) { return sh.serveOver(sh.db, rdb) }

func (sh *shop) serveOver(db *pgxpool.Pool, rdb redis.UniversalClient) (*Server, string) {
	s, err := New(Config{
		DB: db, Redis: rdb, Ring: sh.ring, Auth: operator.NewAuthenticator(rdb, sh.ring), Log: slog.New(slog.DiscardHandler),
		Sandbox: true, PublicURL: "http://shop.test", Now: sh.now,
	})
	if err != nil {
		sh.t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	sh.t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	sh.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			sh.t.Errorf("run: %v", err)
		}
	})
	return s, server.URL
}

func shopPlan() string {
	var rows []string
	for r, category := range []string{"Dear", "Cheap"} {
		var seats []string
		for i := range 20 {
			seats = append(seats, fmt.Sprintf(`{"seat_guid":"%d-%d","seat_number":"%d","position":{"x":%d,"y":0},"category":%q}`, r, i, i+1, 20*i, category))
		}
		rows = append(rows, fmt.Sprintf(`{"row_number":"%c","position":{"x":0,"y":%d},"seats":[%s]}`, 'A'+r, 30*r, strings.Join(seats, ",")))
	}
	return fmt.Sprintf(`{"name":"Hall","size":{"width":500,"height":300},
		"categories":[{"name":"Dear","color":"#aa0000"},{"name":"Cheap","color":"#00aa00"},{"name":"Floor","color":"#0000aa"}],
		"zones":[{"name":"Stalls","position":{"x":0,"y":0},"rows":[%s],
		"areas":[{"uuid":%q,"shape":"rectangle","color":"#cccccc","border_color":"#333333","rotation":0,"position":{"x":0,"y":100},
			"text":{"position":{"x":0,"y":0},"color":"#222222","text":"Floor"},"rectangle":{"width":400,"height":100}}]}]}`,
		strings.Join(rows, ","), shopArea)
}

func (sh *shop) plan(venue, text string) {
	sh.t.Helper()
	plan, faults := parsePlan([]byte(text))
	if len(faults) > 0 {
		sh.t.Fatal(faults)
	}
	document, hash, err := plan.encode()
	if err != nil {
		sh.t.Fatal(err)
	}
	plan.Hash = hash
	ctx := operator.WithPrincipal(sh.t.Context(), operator.Principal{ID: "test", Role: operator.Admin})
	err = postgres.Retry(ctx, sh.db, func(tx pgx.Tx) error {
		_, err := sh.s.storePlan(ctx, tx, venue, plan, document)
		return err
	})
	if err != nil {
		sh.t.Fatal(err)
	}
}

func (sh *shop) operate(method, path, body string) []byte {
	sh.t.Helper()
	a := sh.call(method, sh.base+"/api/v1/operate"+path, http.Header{"Authorization": {"Bearer " + testKey}}, body)
	if a.status >= 300 {
		sh.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a.body
}

// answered is what a call came to.
type answered struct {
	status int
	header http.Header
	body   []byte
}

// code of the problem.
func (a answered) code() string {
	var p struct{ Code string }
	_ = json.Unmarshal(a.body, &p) // no problem: no code
	return p.Code
}

func into[T any](t testing.TB, a answered, status int) T {
	t.Helper()
	var v T
	if a.status != status {
		t.Fatalf("answered %d %s, want %d", a.status, a.body, status)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

func (a answered) want(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Fatalf("answered %d %s, want %d %s", a.status, a.body, status, code)
	}
	if code != "" && a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a problem as %q", a.header.Get("Content-Type"))
	}
}

func (sh *shop) call(method, url string, header http.Header, body string) answered {
	req, err := http.NewRequestWithContext(sh.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		sh.t.Error(err)
		return answered{}
	}
	if header != nil {
		req.Header = header.Clone()
	}
	if body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		sh.t.Error(err)
		return answered{}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		sh.t.Error(err)
	}
	return answered{resp.StatusCode, resp.Header, raw}
}

// fan is a shopper with a pass of their own, at one of the shop's servers.
type fan struct {
	sh      *shop
	base    string
	session string
	pass    string
}

func (sh *shop) fan() *fan { return sh.fanAt(sh.base) }

func (sh *shop) fanAt(base string) *fan {
	session := strings.ReplaceAll(uuid.NewString(), "-", "")
	token, err := pass.Issue(sh.ring, shopRoom, session, sh.now(), sh.now().Add(time.Hour))
	if err != nil {
		sh.t.Error(err)
	}
	return &fan{sh, base, session, token}
}

func (f *fan) header(pairs ...string) http.Header {
	h := http.Header{"Usher-Pass": {f.pass}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func (f *fan) at(path string) string {
	return f.base + "/api/v1/events/" + shopEvent + "/performances/" + f.sh.performance + path
}

func (f *fan) hold(body string) answered {
	return f.sh.call(http.MethodPost, f.at("/holds"), f.header(), body)
}

func (f *fan) holds(seats ...int) Hold {
	f.sh.t.Helper()
	body, _ := json.Marshal(HoldRequest{Seats: seats}) // integers: cannot fail
	return into[Hold](f.sh.t, f.hold(string(body)), http.StatusCreated)
}

func orderBody(hold string) string {
	return fmt.Sprintf(`{"hold":%q,"buyer":{"email":"fan@example.com","name":"A Fan"},"provider":"sandbox"}`, hold)
}

func (f *fan) order(key, body string) answered {
	return f.sh.call(http.MethodPost, f.base+"/api/v1/events/"+shopEvent+"/orders", f.header("Idempotency-Key", key), body)
}

func (f *fan) orders(seats ...int) Order {
	f.sh.t.Helper()
	return into[Order](f.sh.t, f.order(uuid.NewString(), orderBody(f.holds(seats...).ID)), http.StatusCreated)
}

func (f *fan) availability() Snapshot {
	f.sh.t.Helper()
	return into[Snapshot](f.sh.t, f.sh.call(http.MethodGet, f.at("/availability"), f.header(), ""), http.StatusOK)
}

// state asks for an order by its access alone.
func (sh *shop) state(o Order) Order {
	sh.t.Helper()
	return into[Order](sh.t, sh.call(http.MethodGet, sh.base+"/api/v1/events/"+shopEvent+"/orders/"+o.ID, http.Header{"X-Order-Access": {o.Access}}, ""), http.StatusOK)
}

func (sh *shop) cancel(o Order) answered {
	return sh.call(http.MethodPost, sh.base+"/api/v1/events/"+shopEvent+"/orders/"+o.ID+"/cancel", http.Header{"X-Order-Access": {o.Access}}, "")
}

func (sh *shop) play(o Order, what string) answered {
	return sh.call(http.MethodPost, sh.base+"/sandbox/payments/"+o.Payment.ID+"/"+what, nil, "")
}

func (sh *shop) layout() *Layout {
	sh.t.Helper()
	l, err := sh.s.findLayout(sh.t.Context(), shopEvent, sh.performance)
	if err != nil {
		sh.t.Fatal(err)
	}
	return l
}

// forget makes Redis forget all about the performance, as a wiped one would.
func (sh *shop) forget(holds ...string) {
	sh.t.Helper()
	l := sh.layout()
	keys := seatKeys(l.EventID, l.PerformanceID)
	for _, id := range holds {
		h, err := openHold(sh.ring, id)
		if err != nil {
			sh.t.Fatal(err)
		}
		keys = append(keys, eventPrefix(l.EventID)+"hold:"+h.ID.String(), eventPrefix(l.EventID)+"session:"+h.Session)
	}
	if err := sh.rdb.Del(sh.t.Context(), keys...).Err(); err != nil {
		sh.t.Fatal(err)
	}
}

// owners is who owns each unit by Postgres.
func (sh *shop) owners() map[int]string {
	sh.t.Helper()
	rows, err := sh.db.Query(sh.t.Context(), `SELECT seat_index, order_id::text FROM order_seats`)
	if err != nil {
		sh.t.Fatal(err)
	}
	defer rows.Close()
	out := map[int]string{}
	for rows.Next() {
		var seat int
		var order string
		if err := rows.Scan(&seat, &order); err != nil {
			sh.t.Fatal(err)
		}
		if out[seat] != "" {
			sh.t.Errorf("seat %d has two owners", seat)
		}
		out[seat] = order
	}
	if rows.Err() != nil {
		sh.t.Fatal(rows.Err())
	}
	return out
}

// whole checks what must hold at any time: orders own all of their seats or none, as
// their state says, and money taken is tickets or refunds.
func (sh *shop) whole() {
	sh.t.Helper()
	var wrong []string
	rows, err := sh.db.Query(sh.t.Context(), `
		SELECT o.order_id::text || ' ' || o.state FROM orders o
		LEFT JOIN LATERAL (SELECT count(*) AS n, count(*) FILTER (WHERE s.state = 'sold') AS sold FROM order_seats s
			WHERE s.event_id = o.event_id AND s.order_id = o.order_id) s ON true
		LEFT JOIN LATERAL (SELECT count(*) AS n FROM tickets t WHERE t.event_id = o.event_id AND t.order_id = o.order_id AND NOT void) t ON true
		LEFT JOIN LATERAL (SELECT count(*) AS n FROM purchase_slots p WHERE p.event_id = o.event_id AND p.order_id = o.order_id) p ON true
		LEFT JOIN sandbox_payments b ON b.order_id = o.order_id
		WHERE NOT CASE o.state
			WHEN 'pending' THEN s.n = cardinality(o.seats) AND s.sold = 0 AND t.n = 0 AND p.n = s.n
			WHEN 'paid' THEN s.sold = cardinality(o.seats) AND t.n = s.n AND p.n = s.n AND b.state = 'paid' AND b.refunded = 0
			WHEN 'refunded' THEN s.n = 0 AND t.n = 0 AND p.n = 0 AND b.refunded = b.amount
			WHEN 'refunding' THEN s.n = 0 AND t.n = 0 AND p.n = 0
			ELSE s.n = 0 AND t.n = 0 AND p.n = 0 AND coalesce(b.state, '') <> 'paid' END`)
	if err != nil {
		sh.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var w string
		if err := rows.Scan(&w); err != nil {
			sh.t.Fatal(err)
		}
		wrong = append(wrong, w)
	}
	if rows.Err() != nil || len(wrong) > 0 {
		sh.t.Fatalf("orders that are neither whole nor nothing: %v %v", wrong, rows.Err())
	}
}

// eventually asks until it is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	again, never := time.NewTicker(10*time.Millisecond), time.After(2*time.Minute)
	defer again.Stop()
	for !so() {
		select {
		case <-again.C:
		case <-never:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// storm runs f n times at once.
func storm(n int, f func(i int)) {
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			f(i)
		})
	}
	start.Done()
	done.Wait()
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
