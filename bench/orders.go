package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/booking"
	"usher/internal/devstack"
	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/pass"
	"usher/internal/postgres"
	"usher/internal/redisx"
)

const (
	buyers       = 8 // buy at once, and replay at once, on as many connections
	seatsAnOrder = 2
	benchEvent   = "bench"
	benchKey     = "usher_bench_orders"
)

// orderBench measures what Usher adds to the database work of paid orders. Each turn starts from a copy of the same
// database; the replay repeats what the turn before it told its connections.
type orderBench struct {
	settings
	admin        string // a database to give orders from
	template     string
	rdb          redis.UniversalClient
	ring         *keyring.Ring
	performances []string
}

// measureOrders compares paying orders through booking's handlers with the same statements, with their arguments, in a
// loop without Usher.
func measureOrders(ctx context.Context, s settings, folder string) (rows []row, err error) {
	state := filepath.Join(folder, "orders")
	if err := os.Mkdir(state, 0o755); err != nil {
		return nil, err
	}
	owned, err := devstack.Lock(state)
	if err != nil {
		return nil, err
	}
	defer owned.Unlock()
	server, err := devstack.StartRedis(ctx, devstack.RedisConfig{Folder: owned, Durable: true})
	if err != nil {
		return nil, err
	}
	defer server.Kill()
	database, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{Folder: owned, Durable: true})
	if err != nil {
		return nil, err
	}
	defer database.Kill()
	b := orderBench{settings: s, template: database.URL, ring: keyring.Generate(time.Now())}
	if b.admin, err = named(database.URL, "postgres"); err != nil {
		return nil, err
	}
	if err := postgres.Migrate(ctx, database.URL); err != nil {
		return nil, err
	}
	if b.rdb, err = redisx.Open(ctx, server.URL); err != nil {
		return nil, err
	}
	defer b.rdb.Close()
	if err := b.putEvent(ctx); err != nil {
		return nil, err
	}

	var usher, plain, ratios []float64
	var trips, statements int
	for round := range s.rounds + 1 { // the first fills caches and does not count
		tapes, through, err := b.buy(ctx, round)
		if err != nil {
			return nil, err
		}
		alone, err := b.replay(ctx, round, tapes)
		if err != nil {
			return nil, err
		}
		if round == 0 {
			trips, statements = len(tapes[0].ops), tapes[0].statements()
			continue
		}
		usher, plain = append(usher, through.perSecond()), append(plain, alone.perSecond())
		ratios = append(ratios, through.perSecond()/alone.perSecond())
	}
	return []row{{
		what: fmt.Sprintf("paid orders of %d seats a second, %d at once ÷ their statements alone", seatsAnOrder, buyers), usher: fmt.Sprintf("%.0f", median(usher)),
		baseline: fmt.Sprintf("%.0f", median(plain)), ratio: fmt.Sprintf("%.2f", median(ratios)),
		note: fmt.Sprintf("%s; %d statements in %d round trips an order", spread(ratios), statements, trips),
	}}, nil
}

// named is a database URL with another database.
func named(address, database string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	u.Path = "/" + database
	return u.String(), nil
}

// copied makes a database from the template and opens it; drop closes and removes it.
func (b *orderBench) copied(ctx context.Context, name string, tracer pgx.QueryTracer) (pool *pgxpool.Pool, drop func() error, err error) {
	if err := b.tell(ctx, "CREATE DATABASE "+name+" TEMPLATE "+devstack.Database); err != nil {
		return nil, nil, err
	}
	address, err := named(b.template, name)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, nil, err
	}
	cfg.MinConns, cfg.MaxConns = buyers, buyers
	cfg.ConnConfig.Tracer = tracer
	pool, err = pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	return pool, func() error {
		pool.Close()
		return b.tell(ctx, "DROP DATABASE "+name)
	}, nil
}

func (b *orderBench) tell(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, b.admin)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}

func (b *orderBench) office(pool *pgxpool.Pool) (*booking.Server, error) {
	return booking.New(booking.Config{
		DB: pool, Redis: b.rdb, Ring: b.ring, Auth: operator.NewAuthenticator(b.rdb, b.ring), Log: slog.New(slog.DiscardHandler), Sandbox: true,
	})
}

// putEvent puts an event without a room into the template: one performance a round, seats for all its orders.
func (b *orderBench) putEvent(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, b.template)
	if err != nil {
		return err
	}
	defer pool.Close()
	office, err := b.office(pool)
	if err != nil {
		return err
	}
	if err := operator.AddKey(ctx, b.rdb, benchKey, operator.Principal{ID: "bench", Name: "bench", Role: operator.Admin}); err != nil {
		return err
	}
	auth := http.Header{"Authorization": {"Bearer " + benchKey}}
	if err := ask(ctx, office, http.MethodPut, "/api/v1/operate/venues/bench/plan", auth, plan(b.orders*seatsAnOrder), nil); err != nil {
		return err
	}
	var performances []map[string]any
	for range b.rounds + 1 {
		performances = append(performances, map[string]any{"starts_at": time.Now().Add(30 * 24 * time.Hour).UTC()})
	}
	var event struct {
		Performances []struct {
			ID string `json:"id"`
		} `json:"performances"`
	}
	err = ask(ctx, office, http.MethodPut, "/api/v1/operate/events/"+benchEvent, auth, map[string]any{
		"title": "Bench", "venue": "bench", "currency": "EUR", "status": "on_sale",
		"prices": []map[string]any{{"category": "Stalls", "amount": 4500}}, "performances": performances,
	}, &event)
	for _, p := range event.Performances {
		b.performances = append(b.performances, p.ID)
	}
	return err
}

// plan is a hall of so many seats.
func plan(seats int) map[string]any {
	const row = 100
	var rows []map[string]any
	for from := 0; from < seats; from += row {
		var line []map[string]any
		for i := from; i < min(from+row, seats); i++ {
			line = append(line, map[string]any{
				"seat_guid": fmt.Sprintf("s%d", i), "seat_number": fmt.Sprint(i%row + 1), "category": "Stalls",
				"position": map[string]any{"x": 20 * (i % row), "y": 0},
			})
		}
		rows = append(rows, map[string]any{"row_number": fmt.Sprint(from/row + 1), "position": map[string]any{"x": 0, "y": 20 * (from / row)}, "seats": line})
	}
	return map[string]any{
		"name": "Hall", "size": map[string]any{"width": 2000, "height": 2000},
		"categories": []map[string]any{{"name": "Stalls", "color": "#336699"}},
		"zones":      []map[string]any{{"name": "Floor", "position": map[string]any{"x": 0, "y": 0}, "rows": rows, "areas": []any{}}},
	}
}

// buy pays a round's orders through booking's handlers. Holding is Redis' work and done before; the time is that of
// ordering and paying.
func (b *orderBench) buy(ctx context.Context, round int) (tapes []*tape, p pace, err error) {
	pool, drop, err := b.copied(ctx, fmt.Sprintf("usher_%d", round), recorder{})
	if err != nil {
		return nil, p, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	office, err := b.office(pool)
	if err != nil {
		return nil, p, err
	}
	orders := make([]*wish, b.orders)
	if err := atOnce(len(orders), func(i int) (err error) {
		orders[i], err = b.hold(ctx, office, round, i)
		return err
	}); err != nil {
		return nil, p, fmt.Errorf("hold: %w", err)
	}
	tapes = make([]*tape, len(orders))
	p, err = b.timed(func(i int) error {
		tapes[i] = &tape{}
		return orders[i].pay(onTape(ctx, tapes[i]), office)
	})
	return tapes, p, err
}

// replay does the tapes' work on a copy of the database as it was before.
func (b *orderBench) replay(ctx context.Context, round int, tapes []*tape) (p pace, err error) {
	pool, drop, err := b.copied(ctx, fmt.Sprintf("plain_%d", round), nil)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	return b.timed(func(i int) error { return tapes[i].replay(ctx, pool) })
}

// timed does act for every order and times all but the first tenth, in which connections learn their statements.
func (b *orderBench) timed(act func(int) error) (pace, error) {
	first := b.orders / 10
	if err := atOnce(first, act); err != nil {
		return pace{}, err
	}
	start := time.Now()
	err := atOnce(b.orders-first, func(i int) error { return act(first + i) })
	return pace{int64(b.orders - first), time.Since(start)}, err
}

// atOnce does act for 0 to n−1, buyers at a time.
func atOnce(n int, act func(int) error) error {
	var group errgroup.Group
	group.SetLimit(buyers)
	for i := range n {
		group.Go(func() error { return act(i) })
	}
	return group.Wait()
}

// A wish is an order about to be made.
type wish struct {
	header http.Header
	hold   string
	number int
}

func (b *orderBench) hold(ctx context.Context, office *booking.Server, round, i int) (*wish, error) {
	now := time.Now()
	token, err := pass.Issue(b.ring, pass.RoomOfEvent(benchEvent, ""), uuid.NewString(), now, now.Add(time.Hour))
	if err != nil {
		return nil, err
	}
	w := &wish{header: http.Header{"Usher-Pass": {token}, "Idempotency-Key": {uuid.NewString()}}, number: i}
	var hold struct {
		ID string `json:"id"`
	}
	seats := make([]int, seatsAnOrder)
	for n := range seats {
		seats[n] = i*seatsAnOrder + n
	}
	err = ask(ctx, office, http.MethodPost, "/api/v1/events/"+benchEvent+"/performances/"+b.performances[round]+"/holds", w.header, map[string]any{"seats": seats}, &hold)
	w.hold = hold.ID
	return w, err
}

// pay orders and approves, and reads once that the order is paid.
func (w *wish) pay(ctx context.Context, office *booking.Server) error {
	var order struct {
		ID      string `json:"id"`
		State   string `json:"state"`
		Access  string `json:"access"`
		Payment struct {
			ID string `json:"id"`
		} `json:"payment"`
		Tickets []struct{} `json:"tickets"`
	}
	const orders = "/api/v1/events/" + benchEvent + "/orders"
	err := ask(ctx, office, http.MethodPost, orders, w.header, map[string]any{
		"hold": w.hold, "provider": "sandbox", "buyer": map[string]string{"name": "Buyer", "email": fmt.Sprintf("buyer-%d@bench.example", w.number)},
	}, &order)
	if err != nil {
		return err
	}
	if err := ask(ctx, office, http.MethodPost, "/sandbox/payments/"+order.Payment.ID+"/approve", nil, nil, nil); err != nil {
		return err
	}
	if err := ask(ctx, office, http.MethodGet, orders+"/"+order.ID, http.Header{"X-Order-Access": {order.Access}}, nil, &order); err != nil {
		return err
	}
	if order.State != "paid" || len(order.Tickets) != seatsAnOrder {
		return fmt.Errorf("order %s is %s with %d tickets", order.ID, order.State, len(order.Tickets))
	}
	return nil
}

// ask calls booking's handler directly and decodes a 2xx answer into out (nil: not read).
func ask(ctx context.Context, office *booking.Server, method, path string, header http.Header, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	r := httptest.NewRequestWithContext(ctx, method, path, &body)
	for name, values := range header {
		r.Header[name] = values
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	office.Handler().ServeHTTP(w, r)
	if w.Code/100 != 2 {
		return fmt.Errorf("%s %s: %d %.500s", method, path, w.Code, w.Body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(w.Body.Bytes(), out)
}
