package booking

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"usher/internal/keyring"
)

// signed is a webhook as the sandbox would sign it at a time.
func (sh *shop) signed(m sandboxMessage, at time.Time) (http.Header, string) {
	body, _ := json.Marshal(m) // plain fields: cannot fail
	t := strconv.FormatInt(at.Unix(), 10)
	kid, mac := sh.ring.Sign(keyring.Access, sandboxSigned(t, body))
	return http.Header{sandboxSignature: {"t=" + t + ",k=" + kid + ",v1=" + hex.EncodeToString(mac)}}, string(body)
}

func (sh *shop) webhook(header http.Header, body string) answered {
	return sh.call(http.MethodPost, sh.base+"/api/v1/payments/sandbox/webhook", header, body)
}

func (sh *shop) message(o Order, id, kind string) sandboxMessage {
	return sandboxMessage{ID: id, Type: "payment." + kind, Payment: o.Payment.ID, Event: sh.layout().EventID, Order: uuid.MustParse(o.ID), Amount: o.Total}
}

func TestWebhookForged(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	o := sh.fan().orders(0)
	m := sh.message(o, "evt_1", paymentPaid)
	good, body := sh.signed(m, sh.now())
	old, _ := sh.signed(m, sh.now().Add(-webhookTolerance-2*time.Second))
	early, _ := sh.signed(m, sh.now().Add(webhookTolerance+2*time.Second))
	foreign := newForeignSignature(body)
	for name, c := range map[string]struct {
		header http.Header
		body   string
	}{
		"unsigned":       {nil, body},
		"empty":          {http.Header{sandboxSignature: {""}}, body},
		"other body":     {good, strings.Replace(body, "5000", "1", 1)},
		"old":            {old, body},
		"of the future":  {early, body},
		"another's key":  {foreign, body},
		"no hex":         {http.Header{sandboxSignature: {good.Get(sandboxSignature) + "zz"}}, body},
		"later time":     {http.Header{sandboxSignature: {strings.Replace(good.Get(sandboxSignature), "t=1", "t=2", 1)}}, body},
		"signed no JSON": signedText(sh, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			if a := sh.webhook(c.header, c.body); a.status != http.StatusBadRequest || a.code() != "bad-signature" && name != "signed no JSON" {
				t.Errorf("answered %d %s", a.status, a.body)
			}
		})
	}
	sh.call(http.MethodPost, sh.base+"/api/v1/payments/stripe/webhook", good, body).want(t, http.StatusNotFound, "provider-not-found")
	sh.webhook(good, strings.Repeat("x", maxBody+1)).want(t, http.StatusRequestEntityTooLarge, "body-too-large")
	if got := sh.state(o).State; got != orderPending {
		t.Errorf("after forged webhooks the order is %s", got)
	}
}

func newForeignSignature(body string) http.Header {
	ring := keyring.Generate(time.Now())
	t := strconv.FormatInt(time.Now().Unix(), 10)
	kid, mac := ring.Sign(keyring.Access, sandboxSigned(t, []byte(body)))
	return http.Header{sandboxSignature: {"t=" + t + ",k=" + kid + ",v1=" + hex.EncodeToString(mac)}}
}

func signedText(sh *shop, body string) (c struct {
	header http.Header
	body   string
}) {
	t := strconv.FormatInt(sh.now().Unix(), 10)
	kid, mac := sh.ring.Sign(keyring.Access, sandboxSigned(t, []byte(body)))
	c.header, c.body = http.Header{sandboxSignature: {"t=" + t + ",k=" + kid + ",v1=" + hex.EncodeToString(mac)}}, body
	return c
}

func TestWebhookDuplicatesAndOrder(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	_, second := sh.serve()
	o := sh.fan().orders(0, 1)
	// The far side says paid; its webhook is sent 50 times at once.
	if _, err := sh.db.Exec(t.Context(), `UPDATE sandbox_payments SET state = 'paid'`); err != nil {
		t.Fatal(err)
	}
	header, body := sh.signed(sh.message(o, "evt_1", paymentPaid), sh.now())
	storm(50, func(i int) {
		base := []string{sh.base, second}[i%2]
		if a := sh.call(http.MethodPost, base+"/api/v1/payments/sandbox/webhook", header, body); a.status != http.StatusOK {
			t.Errorf("duplicate answered %d %s", a.status, a.body)
		}
	})
	paid := sh.state(o)
	if paid.State != orderPaid || len(paid.Tickets) != 2 {
		t.Fatalf("paid %+v", paid)
	}
	// Late, of another id, or of the opposite: nothing changes.
	for _, m := range []sandboxMessage{
		sh.message(o, "evt_2", paymentPaid), sh.message(o, "evt_3", paymentFailed), sh.message(o, "evt_4", "refunded"), sh.message(o, "evt_1", paymentFailed),
	} {
		if a := sh.webhook(sh.signed(m, sh.now())); a.status != http.StatusOK {
			t.Errorf("%s answered %d %s", m.ID, a.status, a.body)
		}
	}
	if again := sh.state(o); again.State != orderPaid || again.Tickets[0] != paid.Tickets[0] {
		t.Errorf("later events made %+v of %+v", again, paid)
	}
	unknown := sh.message(o, "evt_5", paymentPaid)
	unknown.Order = uuid.New()
	if a := sh.webhook(sh.signed(unknown, sh.now())); a.status != http.StatusOK {
		t.Errorf("an unknown order answered %d %s", a.status, a.body)
	}
	var mails int
	if err := sh.db.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE kind = 'ticket_mail'`).Scan(&mails); err != nil || mails != 1 {
		t.Errorf("%d mails, %v", mails, err)
	}
	sh.whole()
}

func TestDeclineFreesTheSeats(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	o := f.orders(0)
	if a := sh.play(o, "decline"); a.status != http.StatusOK {
		t.Fatalf("decline: %d %s", a.status, a.body)
	}
	if got := sh.state(o); got.State != orderCancelled || states(t, f.availability())[0] != unitFree {
		t.Errorf("declined: %+v", got)
	}
	sh.play(o, "approve").want(t, http.StatusConflict, "payment-closed")
	sh.call(http.MethodPost, sh.base+"/sandbox/payments/pay_nothing/approve", nil, "").want(t, http.StatusNotFound, "payment-not-found")
	sh.call(http.MethodGet, sh.base+"/sandbox/payments/pay_nothing", nil, "").want(t, http.StatusNotFound, "payment-not-found")
	sh.whole()
}

// TestLatePaymentIsRefunded: a provider that took money for an order that is over.
func TestLatePaymentIsRefunded(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	for name, c := range map[string]struct {
		seat  int
		spoil func(o Order) sandboxMessage
	}{
		"after the end": {0, func(o Order) sandboxMessage {
			into[Order](t, sh.cancel(o), http.StatusOK)
			return sh.message(o, "evt_late", paymentPaid)
		}},
		"another amount": {1, func(o Order) sandboxMessage {
			m := sh.message(o, "evt_less", paymentPaid)
			m.Amount.Amount = 1
			return m
		}},
		"seats gone": {2, func(o Order) sandboxMessage {
			if _, err := sh.db.Exec(t.Context(), `DELETE FROM order_seats WHERE order_id = $1`, o.ID); err != nil {
				t.Fatal(err)
			}
			return sh.message(o, "evt_gone", paymentPaid)
		}},
	} {
		o := f.orders(c.seat)
		m := c.spoil(o)
		if _, err := sh.db.Exec(t.Context(), `UPDATE sandbox_payments SET state = 'paid', amount = $2 WHERE order_id = $1`, o.ID, m.Amount.Amount); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if a := sh.webhook(sh.signed(m, sh.now())); a.status != http.StatusOK {
				t.Fatalf("%s: %d %s", name, a.status, a.body)
			}
		}
		if got := sh.state(o); got.State != orderRefunding || len(got.Tickets) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if states(t, f.availability())[c.seat] != unitFree {
			t.Errorf("%s: the seat is not free", name)
		}
		sh.work(t, func() bool { return sh.state(o).State == orderRefunded })
	}
	sh.whole()
}

// TestCancelAgainstPay: whoever wins, the order is whole and the money is right.
func TestCancelAgainstPay(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	var orders []Order
	for i := range 20 {
		orders = append(orders, sh.fan().orders(2*i, 2*i+1))
	}
	storm(40, func(i int) {
		if o := orders[i/2]; i%2 == 0 {
			sh.cancel(o)
		} else {
			sh.play(o, "approve")
		}
	})
	ends := map[string]int{}
	for _, o := range orders {
		ends[sh.state(o).State]++
	}
	if ends[orderPaid]+ends[orderCancelled] != len(orders) {
		t.Errorf("ends %v", ends)
	}
	sh.whole()
}

// TestPayBeforeTheWebhookIsSeen: the expiry meets a payment whose webhook was lost.
func TestPayBeforeTheWebhookIsSeen(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	o := sh.fan().orders(0)
	if _, err := sh.db.Exec(t.Context(), `UPDATE sandbox_payments SET state = 'paid'`); err != nil {
		t.Fatal(err)
	}
	sh.ahead.Store(int64(payTime + time.Second))
	if err := sh.s.expireOverdue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sh.state(o); got.State != orderPaid || len(got.Tickets) != 1 {
		t.Errorf("paid in the last moment: %+v", got)
	}
	if a := sh.webhook(sh.signed(sh.message(o, "evt_1", paymentPaid), sh.now())); a.status != http.StatusOK {
		t.Errorf("the webhook after all: %d %s", a.status, a.body)
	}
	sh.whole()
}

// TestCrashBeforeThePaymentIsMade: the order is there, the provider was never asked.
func TestCrashBeforeThePaymentIsMade(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	o := f.orders(0)
	for _, statement := range []string{
		`UPDATE orders SET payment_id = NULL, payment_link = NULL`, `DELETE FROM sandbox_payments`,
		`UPDATE idempotency SET status = NULL, answer = NULL`,
	} {
		if _, err := sh.db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	sh.ahead.Store(int64(payTime + time.Second))
	if err := sh.s.expireOverdue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sh.state(o).State; got != orderExpired {
		t.Errorf("the order is %s", got)
	}
	if states(t, f.availability())[0] != unitFree {
		t.Error("the seat is not free")
	}
	sh.whole()
}

// TestCrashAfterTheCancellation: the provider cancelled, Postgres never heard.
func TestCrashAfterTheCancellation(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	o := sh.fan().orders(0)
	if cancelled, err := sh.s.sales.sandbox.Cancel(t.Context(), o.Payment.ID); err != nil || !cancelled {
		t.Fatal(cancelled, err)
	}
	sh.play(o, "approve").want(t, http.StatusConflict, "payment-closed")
	if into[Order](t, sh.cancel(o), http.StatusOK).State != orderCancelled {
		t.Error("not cancelled")
	}
	sh.whole()
}

// silent is a provider whose wire is cut.
type silent struct{ provider }

func (silent) Create(context.Context, charge) (payment, error) {
	return payment{}, fmt.Errorf("no route")
}
func (silent) Cancel(context.Context, string) (bool, error) { return false, fmt.Errorf("no route") }

func TestProviderAway(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	box := sh.s.sales.providers[sandboxName]
	sh.s.sales.providers[sandboxName] = silent{box}
	f := sh.fan()
	body := orderBody(f.holds(0).ID)
	away := f.order("k", body)
	away.want(t, http.StatusServiceUnavailable, "payment-unavailable")
	if away.header.Get("Retry-After") == "" || len(sh.owners()) != 1 {
		t.Error("the seat is not reserved for the next try")
	}
	sh.ahead.Store(int64(payTime + time.Second))
	if err := sh.s.expireOverdue(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(sh.owners()) != 1 {
		t.Error("seats were freed without the provider's word")
	}
	sh.ahead.Store(0)
	sh.s.sales.providers[sandboxName] = box
	into[Order](t, f.order("k", body), http.StatusCreated)
	sh.whole()
}

// TestRedisAway: what needs no lock goes on, what needs one says so.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	o := f.orders(0)
	h := f.holds(1)
	gone := redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(t.TempDir(), "none"), MaxRetries: -1})
	t.Cleanup(func() { gone.Close() })
	_, base := sh.serveOn(gone)
	g := *f
	g.base = base
	for name, a := range map[string]answered{
		"hold": g.hold(`{"seats":[2]}`), "order": g.order("k", orderBody(h.ID)),
		"availability": sh.call(http.MethodGet, g.at("/availability"), g.header(), ""),
	} {
		if a.status != http.StatusServiceUnavailable || a.code() != "unavailable" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := sh.call(http.MethodPost, base+"/sandbox/payments/"+o.Payment.ID+"/approve", nil, ""); a.status != http.StatusOK {
		t.Errorf("paying while Redis is away: %d %s", a.status, a.body)
	}
	if got := sh.state(o); got.State != orderPaid || len(got.Tickets) != 1 {
		t.Errorf("paid while Redis was away: %+v", got)
	}
	if _, err := sh.s.reconcile(t.Context(), sh.layout()); err != nil {
		t.Fatal(err)
	}
	if got := states(t, f.availability()); got[0] != unitSold {
		t.Errorf("seats after Redis came back: %v", got)
	}
	into[Order](t, f.order("k", orderBody(h.ID)), http.StatusCreated)
	sh.whole()
}
