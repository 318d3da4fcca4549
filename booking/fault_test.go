package booking

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
)

// wire is what a Postgres connection goes over; the servers that use it see it break.
type wire struct {
	// lost counts the commits to come whose answer never arrives: Postgres has committed.
	lost atomic.Int64
	// cut breaks every read.
	cut atomic.Bool
}

type wired struct {
	net.Conn
	wire *wire
	lose atomic.Bool
}

func (c *wired) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("commit\x00")) && c.wire.lost.Add(-1) >= 0 {
		c.lose.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *wired) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.lose.Load() || c.wire.cut.Load() {
		return 0, io.EOF
	}
	return n, err
}

// pool connects to the shop's database over a wire.
func (sh *shop) pool(conns int32) (*pgxpool.Pool, *wire) {
	sh.t.Helper()
	cfg := sh.db.Config().Copy()
	cfg.MaxConns = conns
	w := &wire{}
	dial := cfg.ConnConfig.DialFunc
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wired{Conn: conn, wire: w}, nil
	}
	db, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		sh.t.Fatal(err)
	}
	sh.t.Cleanup(db.Close)
	return db, w
}

// TestAnswerOfACommitIsLost: Postgres committed and the process never heard, at every
// step of an order's life. Asking again comes to what asking once does.
func TestAnswerOfACommitIsLost(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	db, w := sh.pool(4)
	_, base := sh.serveOver(db, sh.rdb)
	f := sh.fanAt(base)
	again := func(act func() answered) answered {
		t.Helper()
		w.lost.Store(1)
		a := act()
		if w.lost.Load() > 0 {
			t.Fatal("no commit was lost")
		}
		if a.status != http.StatusServiceUnavailable {
			t.Errorf("without an answer: %d %s", a.status, a.body)
		}
		w.lost.Store(0)
		return act()
	}
	first, second := orderBody(f.holds(0, 1).ID), orderBody(f.holds(2, 3).ID)
	o := into[Order](t, again(func() answered { return f.order("k", first) }), http.StatusCreated)
	dropped := into[Order](t, again(func() answered { return f.order("l", second) }), http.StatusCreated)
	if n := len(sh.owners()); n != 4 {
		t.Errorf("%d seats are owned, want 4", n)
	}
	cancel := func() answered {
		return sh.call(http.MethodPost, base+"/api/v1/events/"+shopEvent+"/orders/"+dropped.ID+"/cancel", http.Header{"X-Order-Access": {dropped.Access}}, "")
	}
	if got := into[Order](t, again(cancel), http.StatusOK); got.State != orderCancelled {
		t.Errorf("cancelled: %+v", got)
	}
	if _, err := sh.db.Exec(t.Context(), `UPDATE sandbox_payments SET state = 'paid' WHERE payment_id = $1`, o.Payment.ID); err != nil {
		t.Fatal(err)
	}
	paid := func() answered {
		header, body := sh.signed(sh.message(o, "evt_1", paymentPaid), sh.now())
		return sh.call(http.MethodPost, base+"/api/v1/payments/sandbox/webhook", header, body)
	}
	if a := again(paid); a.status != http.StatusOK {
		t.Errorf("the webhook again: %d %s", a.status, a.body)
	}
	if got := sh.state(o); got.State != orderPaid || len(got.Tickets) != 2 {
		t.Errorf("paid %+v", got)
	}
	sh.whole()
	refund := func() answered {
		return sh.call(http.MethodPost, base+"/api/v1/operate/events/"+shopEvent+"/orders/"+o.ID+"/refund",
			http.Header{"Authorization": {"Bearer " + testKey}, "Idempotency-Key": {"r"}}, "")
	}
	if got := into[OperateOrder](t, again(refund), http.StatusOK); got.State != orderRefunding {
		t.Errorf("refund %+v", got)
	}
	sh.work(t, func() bool { return sh.state(o).State == orderRefunded })
	sh.aMinuteLater()
	if err := sh.s.reconcileAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := states(t, f.availability()); !bytes.Equal(got, make([]byte, 40)) {
		t.Errorf("seats after all: %v", got)
	}
	sh.whole()
}

func TestBrokenWireIsA503(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	db, w := sh.pool(2)
	_, base := sh.serveOver(db, sh.rdb)
	if a := sh.call(http.MethodGet, base+"/api/v1/events/"+shopEvent, nil, ""); a.status != http.StatusOK {
		t.Fatalf("before: %d %s", a.status, a.body)
	}
	w.cut.Store(true)
	a := sh.call(http.MethodGet, base+"/api/v1/events/other", nil, "")
	a.want(t, http.StatusServiceUnavailable, "unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.cut.Store(false)
	eventually(t, "the wire is good again", func() bool {
		return sh.call(http.MethodGet, base+"/api/v1/events/other", nil, "").status == http.StatusNotFound
	})
}

// TestRefundNeedsOneConnection: transactions that wait for a second connection while they
// hold one starve a small pool for good.
func TestRefundNeedsOneConnection(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	o := sh.fan().orders(0)
	sh.play(o, "approve")
	db, _ := sh.pool(1)
	s, _ := sh.serveOver(db, sh.rdb)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	e, err := s.event(ctx, shopEvent)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.refundPaid(ctx, e, uuid.MustParse(o.ID), "k"); err != nil || got.State != orderRefunding {
		t.Errorf("refund over one connection: %+v %v", got, err)
	}
}

// TestReplaceWhatIsGone: a hold that was given back cannot be taken again by replacing it
// in vain, least of all from whoever has its seats now.
func TestReplaceWhatIsGone(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	a, b := sh.fan(), sh.fan()
	first := a.holds(0, 1)
	if got := sh.call(http.MethodDelete, a.at("/holds/"+first.ID), a.header(), ""); got.status != http.StatusNoContent {
		t.Fatalf("%d %s", got.status, got.body)
	}
	theirs := b.holds(0)
	a.hold(fmt.Sprintf(`{"seats":[0],"replace":%q}`, first.ID)).want(t, http.StatusConflict, "seats-taken")
	if got := states(t, a.availability()); got[0] != unitHeld || got[1] != unitFree {
		t.Errorf("seats %v", got)
	}
	sh.call(http.MethodDelete, b.at("/holds/"+theirs.ID), b.header(), "")
	if got := states(t, a.availability()); got[0] != unitFree {
		t.Error("the seat does not come back from its holder")
	}

	// The answer to a replacement was lost: the same again meets its own seats.
	second := a.holds(2)
	swap := fmt.Sprintf(`{"seats":[3],"replace":%q}`, second.ID)
	into[Hold](t, a.hold(swap), http.StatusCreated)
	a.hold(swap).want(t, http.StatusConflict, "seats-taken")
	if got := states(t, a.availability()); got[2] != unitFree || got[3] != unitHeld {
		t.Errorf("seats %v", got)
	}

	// Redis forgot a hold, then it was given back.
	third := b.holds(5)
	sh.forget(third.ID)
	sh.call(http.MethodDelete, b.at("/holds/"+third.ID), b.header(), "")
	into[Hold](t, b.hold(fmt.Sprintf(`{"seats":[6],"replace":%q}`, third.ID)), http.StatusCreated)
}

// TestHoldOfAnotherLayout: an index means the seat that was shown when it was held.
func TestHoldOfAnotherLayout(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	h := f.holds(0) // dear
	sh.plan("hall", strings.NewReplacer(`"category":"Dear"`, `"category":"Cheap"`, `"category":"Cheap"`, `"category":"Dear"`).Replace(shopPlan()))
	sh.operate(http.MethodPut, "/events/"+shopEvent, `{"plan":null}`)
	f.order("k", orderBody(h.ID)).want(t, http.StatusGone, "hold-expired")
	sh.call(http.MethodGet, f.at("/holds/"+h.ID), f.header(), "").want(t, http.StatusGone, "hold-expired")
	if a := sh.call(http.MethodDelete, f.at("/holds/"+h.ID), f.header(), ""); a.status != http.StatusNoContent {
		t.Errorf("giving it back: %d %s", a.status, a.body)
	}
	if h := f.holds(0); h.Total.Amount != 2000 {
		t.Errorf("the seat costs %+v now", h.Total)
	}
}

// aMinuteLater makes all orders' holds in Redis a minute old, and publishes all changes.
func (sh *shop) aMinuteLater() {
	sh.t.Helper()
	ids, err := sh.rdb.ZRange(sh.t.Context(), seatKeys(sh.layout().EventID, sh.layout().PerformanceID)[2], 0, -1).Result()
	if err != nil || len(ids) == 0 {
		sh.t.Fatal(ids, err)
	}
	for _, id := range ids {
		if err := sh.rdb.HSet(sh.t.Context(), eventPrefix(sh.layout().EventID)+"hold:"+id, "at", 1).Err(); err != nil {
			sh.t.Fatal(err)
		}
	}
	sh.fan().availability()
}

// TestEndedOrderIsNotCounted: an order ended while Redis was away. Its seats come back
// all the same, and its buyer may have as many again.
func TestEndedOrderIsNotCounted(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	f.orders(0, 1, 2, 3, 4, 5) // all that one may have
	gone := redis.NewClient(&redis.Options{Network: "unix", Addr: t.TempDir() + "/none", MaxRetries: -1})
	t.Cleanup(func() { gone.Close() })
	away, _ := sh.serveOn(gone)
	sh.ahead.Store(int64(payTime + time.Second))
	if err := away.expireOverdue(t.Context()); err != nil {
		t.Fatal(err)
	}
	sh.aMinuteLater()
	if err := sh.s.reconcileAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.holds(6, 7, 8, 9, 10, 11) // as many as one may have
	if got := states(t, f.availability()); got[0] != unitFree {
		t.Error("the seats of the ended order are not free")
	}
}

// TestOrdersOfOneSessionAtOnce: buyers get all that they may have, however they ask.
func TestOrdersOfOneSessionAtOnce(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	var holds []string
	for seat := range sh.maxSeats {
		holds = append(holds, f.holds(seat).ID)
	}
	storm(len(holds), func(i int) {
		if a := f.order(fmt.Sprint("k", i), orderBody(holds[i])); a.status != http.StatusCreated {
			t.Errorf("%d of %d: %d %s", i, sh.maxSeats, a.status, a.body)
		}
	})
	sh.whole()
}

// TestSweepPassesWhatCannotEnd: orders whose provider does not answer keep nobody else's
// seats.
func TestSweepPassesWhatCannotEnd(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	o := sh.fan().orders(0)
	l := sh.layout()
	_, err := sh.db.Exec(t.Context(), `
		INSERT INTO orders (event_id, order_id, performance_id, layout, state, session, hold_id, seats, total, currency,
			buyer_email, buyer_name, buyer_phone, provider, paid, refunded, created_at, expires_at)
		SELECT $1, gen_random_uuid(), $2, $3, 'pending', 's', $2, '{0}', 1, 'EUR', 'a@b.c', 'n', '', 'nobody', 0, 0, $4, $4
		FROM generate_series(1, $5)`, l.EventID, l.PerformanceID, l.Revision, sh.now(), sweepOrders)
	if err != nil {
		t.Fatal(err)
	}
	sh.ahead.Store(int64(payTime + time.Second))
	if err := sh.s.expireOverdue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sh.state(o).State; got != orderExpired {
		t.Errorf("behind what cannot end an order stays %s", got)
	}
}

// TestReconcilePassesABrokenEvent: one event that cannot be read hides no other.
func TestReconcilePassesABrokenEvent(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	sh.plan("ruin", shopPlan())
	for _, slug := range []string{"a-ruin", "z-ruin"} {
		sh.operate(http.MethodPut, "/events/"+slug, fmt.Sprintf(`{"title":"Ruin","venue":"ruin","currency":"EUR","performances":[{"starts_at":%q}],
			"prices":[{"category":"Dear","amount":1},{"category":"Cheap","amount":1}],"status":"on_sale"}`, sh.now().Add(time.Hour).UTC().Format(time.RFC3339)))
	}
	for _, statement := range []string{
		`UPDATE plans SET document = 'x' WHERE venue = 'ruin'`,
		`UPDATE performances SET starts_at = starts_at WHERE event_id = (SELECT event_id FROM events WHERE slug = 'gala')`, // read last
	} {
		if _, err := sh.db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := sh.db.Query(t.Context(), `SELECT event_id, performance_id FROM performances`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var event, performance uuid.UUID
		if err := rows.Scan(&event, &performance); err != nil {
			t.Fatal(err)
		}
		if err := sh.rdb.SetNX(t.Context(), seatKeys(event, performance)[0], "", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	sh.fan().orders(0)
	sh.forget()
	if err := sh.rdb.Set(t.Context(), seatKeys(sh.layout().EventID, sh.layout().PerformanceID)[0], "", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s, _ := sh.serve() // remembers no plan
	if err := s.reconcileAll(t.Context()); err != nil {
		t.Error(err)
	}
	if got := states(t, sh.fan().availability()); got[0] != unitHeld {
		t.Error("the map behind broken ones was not mended")
	}
}

// pays makes the far side take money for a payment that no order knows of, and tell.
func (sh *shop) pays(order uuid.UUID, payment string) answered {
	sh.t.Helper()
	m := sandboxMessage{
		ID: "evt_" + payment, Type: "payment.paid", Payment: payment, Event: sh.layout().EventID, Order: order, Amount: Money{5000, "EUR"},
	}
	_, err := sh.db.Exec(sh.t.Context(), `
		INSERT INTO sandbox_payments (payment_id, idempotency_key, event_id, order_id, amount, currency, state, refunded, return_url, created_at)
		VALUES ($1, $1, $2, $3, $4, $5, 'paid', 0, '', $6) ON CONFLICT DO NOTHING`, payment, m.Event, order, m.Amount.Amount, m.Amount.Currency, sh.now())
	if err != nil {
		sh.t.Fatal(err)
	}
	return sh.webhook(sh.signed(m, sh.now()))
}

func (sh *shop) refundOf(payment string) (amount int64) {
	sh.t.Helper()
	if err := sh.db.QueryRow(sh.t.Context(), `SELECT refunded FROM sandbox_payments WHERE payment_id = $1`, payment).Scan(&amount); err != nil {
		sh.t.Fatal(err)
	}
	return amount
}

// TestMoneyWithoutAnOrder: a provider that forgot its idempotency key took money twice,
// or a failover lost the order. What is no order's goes back, once.
func TestMoneyWithoutAnOrder(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	pending, paid := f.orders(0), f.orders(1)
	sh.play(paid, "approve")
	strays := map[string]uuid.UUID{"pay_lost": uuid.New(), "pay_again": uuid.MustParse(paid.ID), "pay_other": uuid.MustParse(pending.ID)}
	for payment, order := range strays {
		for range 2 {
			if a := sh.pays(order, payment); a.status != http.StatusOK {
				t.Errorf("%s: %d %s", payment, a.status, a.body)
			}
		}
	}
	// The end of a payment that is not the order's ends nothing.
	m := sh.message(pending, "evt_failed", paymentFailed)
	m.Payment = "pay_other"
	if a := sh.webhook(sh.signed(m, sh.now())); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	// An event that is not this shop's is none of its business.
	m = sh.message(pending, "evt_elsewhere", paymentPaid)
	m.Event = uuid.New()
	if a := sh.webhook(sh.signed(m, sh.now())); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a, b := sh.state(pending), sh.state(paid); a.State != orderPending || b.State != orderPaid || len(b.Tickets) != 1 {
		t.Errorf("the orders are %+v and %+v", a, b)
	}
	sh.work(t, func() bool {
		return sh.refundOf("pay_lost") == 5000 && sh.refundOf("pay_again") == 5000 && sh.refundOf("pay_other") == 5000
	})
	var jobs int
	if err := sh.db.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE kind = 'refund_stray'`).Scan(&jobs); err != nil || jobs != len(strays) {
		t.Errorf("%d refunds of %d payments, %v", jobs, len(strays), err)
	}
	if sh.refundOf(paid.Payment.ID) != 0 {
		t.Error("the order's own payment was given back")
	}
}

// TestTextThatPostgresRefuses is the caller's fault and no error of ours.
func TestTextThatPostgresRefuses(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	key := http.Header{"Authorization": {"Bearer " + testKey}}
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/events/" + shopEvent + "/orders?q=%00", ""},
		{"GET", "/audit?subject=%00", ""},
		{"GET", "/users?cursor=%ff", ""},
		{"DELETE", "/keys/%00", ""},
		{"PUT", "/events/" + shopEvent, `{"title":"a\u0000b"}`},
		{"POST", "/keys", `{"name":"a\u0000b","role":"gate"}`},
		{"POST", "/users", `{"name":"a\u0000b","role":"gate","email":"a@b.c","password":"long enough"}`},
	} {
		sh.call(c.method, sh.base+"/api/v1/operate"+c.path, key, c.body).want(t, http.StatusUnprocessableEntity, "invalid")
	}
	o := sh.fan().orders(0)
	sh.play(o, "approve")
	sh.call("POST", sh.base+"/api/v1/checkin", key, `{"code":"`+sh.state(o).Tickets[0].Code+`","gate":"\u0000"}`).want(t, http.StatusUnprocessableEntity, "invalid")
	sh.call("POST", sh.base+"/api/v1/operate/session", nil, `{"email":"\u0000","password":"long enough"}`).want(t, http.StatusUnprocessableEntity, "invalid")
}

// hanging is a provider that takes calls and never answers.
type hanging struct{ provider }

func (hanging) Cancel(ctx context.Context, _ string) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

// TestHangingProvider: the seat map is mended whatever the expiry waits for.
func TestHangingProvider(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	sh.fan().orders(0)
	sh.ahead.Store(int64(payTime + time.Second))
	f := sh.fan()
	f.availability()
	if err := sh.rdb.SetRange(t.Context(), seatKeys(sh.layout().EventID, sh.layout().PerformanceID)[0], 5, "\x02").Err(); err != nil {
		t.Fatal(err)
	}
	w, err := NewWorker(WorkerConfig{DB: sh.db, Redis: sh.rdb, Ring: sh.ring, Log: slog.New(slog.DiscardHandler), Sandbox: true, Now: sh.now})
	if err != nil {
		t.Fatal(err)
	}
	w.s.sales.providers[sandboxName] = hanging{w.s.sales.providers[sandboxName]}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	eventually(t, "the map is mended", func() bool { return states(t, f.availability())[5] == unitFree })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("worker: %v", err)
	}
	sh.whole()
}
