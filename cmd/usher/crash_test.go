package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// The sale that is interrupted: the demo's theatre.
const (
	saleEvent = "theatre"
	buyers    = 10
	kills     = 3 // and more, until one came in the middle of an order
	mostKills = 10
)

// purchase is what one buyer remembers of one attempt; the truth it must find
// again after each crash.
type purchase struct {
	pass, hold, key string
	order           order // zero while no answer has come
	approved        bool  // the sandbox took the approval
	paid            bool  // an answer said so
}

type order struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Access  string `json:"access"`
	Payment struct {
		ID string `json:"id"`
	} `json:"payment"`
	Tickets []struct {
		ID   string `json:"id"`
		Code string `json:"code"`
	} `json:"tickets"`
}

// ledger gathers the purchases of all buyers.
type ledger struct {
	lock sync.Mutex
	all  []*purchase
	seen chan struct{} // one for each step that a buyer has done
	// under is how many purchases are between order and tickets.
	under atomic.Int64
}

func (l *ledger) open(p *purchase) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.all = append(l.all, p)
}

// cutOff is how many purchases were between order and tickets when they were interrupted;
// nobody buys any more.
func (l *ledger) cutOff() (n int) {
	for _, p := range l.all {
		if p.order.ID == "" || p.approved && !p.paid {
			n++
		}
	}
	return n
}

func (l *ledger) step(ctx context.Context) {
	select {
	case l.seen <- struct{}{}:
	case <-ctx.Done():
	}
}

// during does what a kill should come into.
func (l *ledger) during(act func() error) error {
	l.under.Add(1)
	defer l.under.Add(-1)
	return act()
}

func TestOrdersSurviveKills(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	book := &ledger{seen: make(chan struct{})}
	steps := rand.New(rand.NewPCG(20, 26))

	for round := 0; round < kills || book.cutOff() == 0 && round < mostKills; round++ {
		s := startSite(t, dir)
		s.follow(t, dir)
		hurry(ctx, t, s)
		performance, seats := stage(ctx, t, s)

		crowd, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for i := range buyers {
			wg.Go(func() {
				luck := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				address := fmt.Sprintf("127.0.%d.%d", 10+round, i+1)
				for {
					err := buy(crowd, book, s, address, performance, seats, luck)
					var answer *refused
					if errors.As(err, &answer) {
						t.Errorf("buyer %d: %v", i, err)
						return
					}
					if err != nil && !s.stillThere(crowd) {
						return
					}
				}
			})
		}
		// Somewhere in the middle: each order is five steps.
		for left := 40 + steps.IntN(40); left > 0 || book.under.Load() == 0; left-- {
			select {
			case <-book.seen:
			case <-ctx.Done():
				stop()
				wg.Wait()
				t.Fatalf("the buyers get nowhere\n%s", said(t, dir))
			}
		}
		s.kill()
		stop()
		wg.Wait()
		s.gone(t)
	}

	s := startSite(t, dir)
	s.follow(t, dir)
	t.Cleanup(func() { // its servers write until they have ended, and the folder is removed next
		s.kill()
		s.gone(t)
	})
	t.Logf("%d purchases begun, %d of them cut off between order and tickets", len(book.all), book.cutOff())
	if book.cutOff() == 0 {
		t.Error("no kill came in the middle of an order")
	}
	if !t.Failed() {
		settle(ctx, t, book, s)
		audit(ctx, t, book, s, dir)
	}
}

// stillThere is false once the site was killed or ctx ended. A call can break just
// before either shows, so it waits a little.
func (s *site) stillThere(ctx context.Context) bool {
	select {
	case <-s.ended:
		return false
	case <-ctx.Done():
		return false
	case <-time.After(time.Second):
		return true
	}
}

// hurry lets everybody into the sale at once.
func hurry(ctx context.Context, t *testing.T, s *site) {
	t.Helper()
	v := newVisitor(s.HTTP, "127.0.0.1")
	defer v.close()
	v.head.Set("Authorization", "Bearer "+testKey)
	settings := map[string]any{"pace_per_min": 60_000, "capacity": 10_000, "state": "open"}
	if err := v.call(ctx, "PUT", "/api/v1/operate/rooms/"+saleEvent, settings, nil); err != nil {
		t.Fatalf("open the room: %v", err)
	}
}

// stage returns the sale's first performance and how many numbered seats it has.
func stage(ctx context.Context, t *testing.T, s *site) (performance string, seats int) {
	t.Helper()
	v := newVisitor(s.HTTP, "127.0.0.1")
	defer v.close()
	var event struct {
		Performances []struct {
			ID string `json:"id"`
		} `json:"performances"`
	}
	if err := v.call(ctx, "GET", "/api/v1/events/"+saleEvent, nil, &event); err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Seats []struct{} `json:"seats"`
	}
	performance = event.Performances[0].ID
	if err := v.call(ctx, "GET", "/api/v1/events/"+saleEvent+"/performances/"+performance+"/plan", nil, &plan); err != nil {
		t.Fatal(err)
	}
	return performance, len(plan.Seats)
}

// buy is one whole purchase: the room, two seats, an order, the payment.
func buy(ctx context.Context, book *ledger, s *site, address, performance string, seats int, luck *rand.Rand) error {
	v := newVisitor(s.HTTP, address)
	defer v.close()
	p := &purchase{key: fmt.Sprintf("key-%x", luck.Uint64())}
	var place struct {
		Token string `json:"token"`
		State string `json:"state"`
	}
	err := again(ctx, "", func() error {
		return v.call(ctx, "POST", "/api/v1/rooms/"+saleEvent+"/places", map[string]any{}, &place)
	})
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	book.step(ctx)
	v.head.Set("Authorization", "Place "+place.Token)
	var pass struct {
		Pass string `json:"pass"`
	}
	err = again(ctx, "not-called", func() error {
		return v.call(ctx, "POST", "/api/v1/rooms/"+saleEvent+"/pass", nil, &pass)
	})
	if err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	book.step(ctx)
	p.pass = pass.Pass
	v.head.Set("Usher-Pass", p.pass)
	v.head.Del("Authorization")
	var hold struct {
		ID string `json:"id"`
	}
	err = again(ctx, "seats-taken", func() error {
		first := luck.IntN(seats - 1)
		return v.call(ctx, "POST", "/api/v1/events/"+saleEvent+"/performances/"+performance+"/holds",
			map[string]any{"seats": []int{first, first + 1}}, &hold)
	})
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	book.step(ctx)
	p.hold = hold.ID
	book.open(p)
	err = book.during(func() error { return p.checkOut(ctx, v) })
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	book.step(ctx)
	if luck.IntN(8) == 0 {
		return nil // changed their mind
	}
	if err := book.during(func() error { return p.pay(ctx, v) }); err != nil {
		return fmt.Errorf("pay: %w", err)
	}
	book.step(ctx)
	return nil
}

// checkOut makes the order, or finds the one that an earlier try made.
func (p *purchase) checkOut(ctx context.Context, v *visitor) error {
	v.head.Set("Usher-Pass", p.pass)
	v.head.Set("Idempotency-Key", p.key)
	defer v.head.Del("Idempotency-Key")
	body := map[string]any{"hold": p.hold, "provider": "sandbox", "buyer": map[string]any{"email": p.key + "@example.org", "name": "A Buyer"}}
	return again(ctx, "idempotency-conflict", func() error {
		return v.call(ctx, "POST", "/api/v1/events/"+saleEvent+"/orders", body, &p.order)
	})
}

// pay approves at the sandbox and waits for the tickets.
func (p *purchase) pay(ctx context.Context, v *visitor) error {
	err := again(ctx, "", func() error {
		return v.call(ctx, "POST", "/sandbox/payments/"+p.order.Payment.ID+"/approve", nil, nil)
	})
	if err != nil {
		return err
	}
	p.approved = true
	for {
		var got order
		err := again(ctx, "", func() (err error) {
			got, err = p.look(ctx, v)
			return err
		})
		if err != nil {
			return err
		}
		if got.State == "paid" {
			p.paid = true
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *purchase) look(ctx context.Context, v *visitor) (got order, err error) {
	v.head.Set("X-Order-Access", p.order.Access)
	defer v.head.Del("X-Order-Access")
	err = v.call(ctx, "GET", "/api/v1/events/"+saleEvent+"/orders/"+p.order.ID, nil, &got)
	return got, err
}

// again repeats act while it is refused with code, for coming too fast, or because
// the site cannot just now, as it may when it has only begun.
func again(ctx context.Context, code string, act func() error) error {
	for {
		err := act()
		var answer *refused
		if !errors.As(err, &answer) || answer.Code != code && answer.status != 429 && answer.status <= 500 {
			return err
		}
		select {
		case <-time.After(max(answer.after, 50*time.Millisecond)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle is what buyers do after a crash: those who had no answer ask again with
// the same key, some who had not paid do so now, the rest stay away.
func settle(ctx context.Context, t *testing.T, book *ledger, s *site) {
	t.Helper()
	for i, p := range book.all {
		v := newVisitor(s.HTTP, fmt.Sprintf("127.1.%d.%d", i/250, i%250+1))
		if p.order.ID == "" {
			err := p.checkOut(ctx, v)
			var answer *refused
			if errors.As(err, &answer) && answer.status < 500 {
				v.close()
				continue // refused with a reason: no order, nothing owed
			}
			if err != nil {
				t.Errorf("order again after the crash: %v", err)
			}
		}
		if !p.paid && (p.approved || i%2 == 0) && p.order.ID != "" {
			if err := p.pay(ctx, v); err != nil {
				t.Errorf("pay order %s after the crash: %v", p.order.ID, err)
			}
		}
		v.close()
	}
}

// audit compares what buyers saw with what the database and the mail folder say.
func audit(ctx context.Context, t *testing.T, book *ledger, s *site, dir string) {
	t.Helper()
	db, err := pgx.Connect(ctx, s.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)

	paid := 0
	for i, p := range book.all {
		if p.order.ID == "" {
			continue
		}
		v := newVisitor(s.HTTP, fmt.Sprintf("127.2.%d.%d", i/250, i%250+1))
		got, err := p.look(ctx, v)
		v.close()
		switch {
		case err != nil:
			t.Errorf("order %s is lost: %v", p.order.ID, err)
		case p.paid && got.State != "paid":
			t.Errorf("order %s was paid and is %s", p.order.ID, got.State)
		case got.State == "paid" && len(got.Tickets) != 2:
			t.Errorf("paid order %s has %d tickets", p.order.ID, len(got.Tickets))
		case got.State != "paid" && len(got.Tickets) != 0:
			t.Errorf("order %s is %s and has %d tickets", p.order.ID, got.State, len(got.Tickets))
		}
		if got.State == "paid" {
			paid++
		}
	}
	t.Logf("%d orders paid in the end", paid)
	if paid < buyers {
		t.Errorf("only %d orders were paid: the kills came before the middle", paid)
	}

	for what, sql := range map[string]string{
		"orders paid without their seats": `SELECT o.order_id::text FROM orders o WHERE o.state = 'paid' AND cardinality(o.seats) <>
			(SELECT count(*) FROM order_seats s WHERE s.event_id = o.event_id AND s.order_id = o.order_id AND s.state = 'sold')`,
		"orders paid without their tickets": `SELECT o.order_id::text FROM orders o WHERE o.state = 'paid' AND cardinality(o.seats) <>
			(SELECT count(*) FROM tickets k WHERE k.event_id = o.event_id AND k.order_id = o.order_id AND NOT k.void)`,
		"tickets of unpaid orders": `SELECT k.order_id::text FROM tickets k JOIN orders o USING (event_id, order_id) WHERE o.state <> 'paid' AND NOT k.void`,
		"seats with two tickets":   `SELECT seat_index::text FROM tickets WHERE NOT void GROUP BY event_id, performance_id, seat_index HAVING count(*) > 1`,
		"seats of closed orders":   `SELECT s.seat_index::text FROM order_seats s JOIN orders o USING (event_id, order_id) WHERE o.state NOT IN ('pending', 'paid', 'refunding')`,
	} {
		if found := query[string](t, db, sql); len(found) > 0 {
			t.Errorf("%s: %v", what, found)
		}
	}

	// What a killed worker had in hands is done by another one a minute or so later:
	// the notice of a payment, and the mail.
	err = until(ctx, func() error {
		open := query[string](t, db, `SELECT o.order_id::text FROM orders o JOIN sandbox_payments p USING (event_id, order_id)
			WHERE (p.state = 'paid') <> (o.state IN ('paid', 'refunding', 'refunded'))`)
		if len(open) > 0 {
			return fmt.Errorf("payments were taken and not booked, or booked and not taken: %v", open)
		}
		return mailed(filepath.Join(dir, "mail"), query[string](t, db, `SELECT order_id::text FROM orders WHERE state = 'paid'`))
	})
	if err != nil {
		t.Error(err)
	}
}

// mailed tells which paid order has no mail.
func mailed(dir string, orders []string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil {
		return err
	}
	var all strings.Builder
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		// Quoted-printable breaks long lines with "=".
		all.WriteString(strings.ReplaceAll(strings.ReplaceAll(string(raw), "=\r\n", ""), "=\n", ""))
	}
	for _, id := range orders {
		if !strings.Contains(all.String(), id) {
			return fmt.Errorf("paid order %s has no mail among %d", id, len(files))
		}
	}
	return nil
}

func redisProcess(t *testing.T, url string) int {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	defer client.Close()
	info, err := client.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(info["Server"]["process_id"], &pid); err != nil {
		t.Fatalf("redis does not tell its process: %v", info)
	}
	return pid
}
