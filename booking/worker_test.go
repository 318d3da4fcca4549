package booking

import (
	"context"
	"log/slog"
	"mime/quotedprintable"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/internal/operator"
)

// work runs a worker until it is so, and returns its mail folder.
func (sh *shop) work(t testing.TB, so func() bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mail")
	sh.workWith(t, MailConfig{Dir: dir}, so)
	return dir
}

func (sh *shop) workWith(t testing.TB, mail MailConfig, so func() bool) {
	t.Helper()
	w, err := NewWorker(WorkerConfig{
		DB: sh.db, Redis: sh.rdb, Ring: sh.ring, Log: slog.New(slog.DiscardHandler), Sandbox: true, PublicURL: "http://shop.test",
		Mail: mail, Now: sh.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
	}()
	eventually(t, "the worker's work", so)
}

// A site that has no mail yet sells all the same, and its mail is not lost.
func TestMailWaitsUntilItIsConfigured(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	o := into[Order](t, f.order("k", orderBody(f.holds(0).ID)), http.StatusCreated)
	sh.play(o, "approve")
	sh.workWith(t, MailConfig{}, func() bool {
		var state string
		err := sh.db.QueryRow(t.Context(), `SELECT state FROM river_job WHERE kind = 'ticket_mail'`).Scan(&state)
		return err == nil && state == "scheduled"
	})
	var attempts int
	if err := sh.db.QueryRow(t.Context(), `SELECT attempt FROM river_job WHERE kind = 'ticket_mail'`).Scan(&attempts); err != nil || attempts != 0 {
		t.Errorf("waiting cost %d attempts, %v", attempts, err)
	}
	if got := sh.state(o).State; got != "paid" {
		t.Errorf("the order is %s", got)
	}
}

func TestWorkerMailsTickets(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	h := f.holds(0, 1)
	o := into[Order](t, f.order("k", strings.Replace(orderBody(h.ID), "A Fan", `Zoë \"the\" Fän, Jr.`, 1)), http.StatusCreated)
	sh.play(o, "approve")
	var files []string
	dir := ""
	dir = sh.work(t, func() bool {
		var left int
		err := sh.db.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE kind = 'ticket_mail' AND state <> 'completed'`).Scan(&left)
		return err == nil && left == 0
	})
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		files = append(files, e.Name())
	}
	if err != nil || len(files) != 1 || files[0] != o.ID+".eml" {
		t.Fatalf("mail folder %v %v", files, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, files[0]))
	if err != nil {
		t.Fatal(err)
	}
	text := decodeMail(t, string(raw))
	for _, want := range []string{
		"<fan@example.com>", "Your tickets: Gala", "http://shop.test/orders/gala/" + o.ID + "#access=" + o.Access,
		sh.state(o).Tickets[0].Code, sh.state(o).Tickets[1].Code, "€100.00", "text/plain", "text/html", "image/png", "Zoë \"the\" Fän, Jr.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the mail lacks %q", want)
		}
	}
}

// decodeMail undoes quoted-printable well enough for looking for words.
func decodeMail(t testing.TB, raw string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(raw)
	for _, part := range strings.Split(raw, "\r\n\r\n") {
		buf := make([]byte, 2*len(part))
		n, _ := quotedprintable.NewReader(strings.NewReader(part)).Read(buf) // parts in base64 are no matter
		b.Write(buf[:n])
	}
	return b.String()
}

func TestWorkerExpiresOrders(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	o := f.orders(0, 1)
	sh.ahead.Store(int64(payTime + time.Second))
	sh.work(t, func() bool { return sh.state(o).State == orderExpired })
	if got := states(t, f.availability()); got[0] != unitFree || got[1] != unitFree {
		t.Errorf("seats after the expiry: %v", got)
	}
	f.holds(0, 1)
	sh.whole()
}

// TestWorkerDeliversWebhooks: approved, and the process died before it told anybody.
func TestWorkerDeliversWebhooks(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	o := sh.fan().orders(0)
	if _, err := sh.s.sales.sandbox.play(t.Context(), o.Payment.ID, sandboxPaid); err != nil {
		t.Fatal(err)
	}
	if got := sh.state(o).State; got != orderPending {
		t.Fatalf("before the webhook: %s", got)
	}
	sh.work(t, func() bool { return sh.state(o).State == orderPaid })
	sh.whole()
}

func TestReconcileMendsTheMap(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	paid, pending := f.orders(0), f.orders(1)
	sh.play(paid, "approve")
	h := f.holds(2)
	l := sh.layout()
	keys := seatKeys(l.EventID, l.PerformanceID)
	// What crashes between Postgres and Redis leave: sold and reserved seats that look
	// free, free seats that look sold or held.
	for seat, state := range map[int64]string{0: "\x00", 1: "\x00", 5: "\x02", 6: "\x01"} {
		if err := sh.rdb.SetRange(t.Context(), keys[0], seat, state).Err(); err != nil {
			t.Fatal(err)
		}
	}
	f.availability() // publishes what is still on its way
	if err := sh.s.reconcileAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 40)
	want[0], want[1], want[2] = unitSold, unitHeld, unitHeld
	if got := states(t, f.availability()); string(got) != string(want) {
		t.Errorf("mended %v, want %v", got, want)
	}
	if n, err := sh.s.reconcile(t.Context(), l); n != 0 || err != nil {
		t.Errorf("mended %d again, %v", n, err)
	}
	into[Order](t, sh.cancel(pending), http.StatusOK)
	into[Order](t, f.order("k", orderBody(h.ID)), http.StatusCreated)
	if got := states(t, f.availability()); got[1] != unitFree || got[2] != unitHeld {
		t.Errorf("after cancel and order: %v", got)
	}
}

func TestCheckin(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	o := sh.fan().orders(0, 1)
	sh.play(o, "approve")
	tickets := sh.state(o).Tickets
	keys := map[string]operator.Principal{
		"usher_gate_0123456789abcdef": {ID: "gate", Name: "Door 3", Role: operator.Gate, Events: []string{shopEvent}},
		"usher_else_0123456789abcdef": {ID: "else", Name: "Elsewhere", Role: operator.Gate, Events: []string{"other"}},
		"usher_view_0123456789abcdef": {ID: "view", Name: "Viewer", Role: operator.Viewer},
	}
	for key, p := range keys {
		if err := operator.AddKey(t.Context(), sh.rdb, key, p); err != nil {
			t.Fatal(err)
		}
	}
	show := func(key, body string) answered {
		h := http.Header{}
		if key != "" {
			h.Set("Authorization", "Bearer usher_"+key+"_0123456789abcdef")
		}
		return sh.call(http.MethodPost, sh.base+"/api/v1/checkin", h, body)
	}
	code := `{"code":"` + tickets[0].Code + `"}`
	show("", code).want(t, http.StatusUnauthorized, "unauthenticated")
	show("view", code).want(t, http.StatusForbidden, "forbidden")
	show("else", code).want(t, http.StatusForbidden, "forbidden")
	for _, bad := range []string{`{"code":"x"}`, `{"code":"` + newCode(sh.layout().EventID) + `"}`, `{"code":"` + strings.Repeat("0", 48) + `"}`} {
		show("gate", bad).want(t, http.StatusNotFound, "ticket-not-found")
	}
	show("gate", `{"code":""}`).want(t, http.StatusUnprocessableEntity, "invalid")

	admitted := 0
	storm(20, func(int) {
		a := show("gate", strings.ToLower(code[:9])+code[9:])
		switch {
		case a.status == http.StatusOK:
			admitted++ // one alone: the race detector would tell
		case a.code() != "already-used" || !strings.Contains(string(a.body), `"used_where":"Door 3"`) || !strings.Contains(string(a.body), `"used_at":"`):
			t.Errorf("answered %d %s", a.status, a.body)
		}
	})
	if admitted != 1 {
		t.Errorf("%d let in with one ticket", admitted)
	}
	if in := into[UsedTicket](t, show("gate", `{"code":"`+strings.ToLower(tickets[1].Code)+`","gate":"Side door"}`), http.StatusOK); in.UsedWhere != "Side door" || in.SeatLabel != tickets[1].SeatLabel {
		t.Errorf("admitted %+v", in)
	}
}
