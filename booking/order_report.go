package booking

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"usher/internal/operator"
	"usher/internal/postgres"
	"usher/internal/problem"
)

// orderSearch is a page of an event's orders, newest first.
type orderSearch struct {
	Event  uuid.UUID
	Text   string // lower case; "" for all
	State  string // "" for all
	Before uuid.UUID
	Limit  int
}

func (s *Server) searchOrders(ctx context.Context, e *eventRecord, q orderSearch) (OperateOrders, error) {
	if q.Before == uuid.Nil {
		q.Before = uuid.Max
	}
	rows, err := s.db.Query(ctx, `
		SELECT `+orderColumns+`, refunded FROM orders
		WHERE event_id = $1 AND order_id < $2 AND ($3 = '' OR state = $3)
			AND ($4 = '' OR position($4 IN lower(buyer_email)) > 0 OR position($4 IN lower(buyer_name)) > 0 OR order_id::text = $4)
		ORDER BY order_id DESC LIMIT $5`, q.Event, q.Before, q.State, q.Text, q.Limit+1)
	if err != nil {
		return OperateOrders{}, fmt.Errorf("search orders: %w", err)
	}
	type found struct {
		orderRecord
		refunded int64
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f found, err error) {
		f.orderRecord, err = scanOrder(tail{row, &f.refunded})
		return f, err
	})
	if err != nil {
		return OperateOrders{}, fmt.Errorf("search orders: %w", err)
	}
	page := OperateOrders{Orders: []OperateOrder{}}
	for i, o := range all {
		if i == q.Limit {
			page.Next = page.Orders[i-1].ID
			break
		}
		l, err := s.orderLayout(ctx, e.Slug, o.Performance)
		if err != nil {
			return OperateOrders{}, err
		}
		page.Orders = append(page.Orders, operateDocument(l, o.orderRecord, o.refunded))
	}
	return page, nil
}

// tail scans one column more than its caller asks for.
type tail struct {
	pgx.Row
	more any
}

func (t tail) Scan(dest ...any) error { return t.Row.Scan(append(dest, t.more)...) }

func operateDocument(l *Layout, o orderRecord, refunded int64) OperateOrder {
	doc := OperateOrder{
		ID: o.ID.String(), Performance: o.Performance.String(), State: o.State, Test: o.Provider == sandboxName, Buyer: o.Buyer,
		Total: o.Total, Paid: o.Paid, Refunded: refunded, Provider: o.Provider, Payment: o.Payment,
		CreatedAt: o.CreatedAt.UTC(), ExpiresAt: o.ExpiresAt.UTC(),
	}
	for _, unit := range o.Seats {
		label, _ := l.Label(unit)
		doc.Seats = append(doc.Seats, label)
	}
	return doc
}

// refundPaid starts the refund of a paid order: its tickets are void and its seats free
// at once; a job has the provider give the money back. The outcome, the audit entry and
// the change are one transaction.
func (s *Server) refundPaid(ctx context.Context, e *eventRecord, id uuid.UUID, key string) (OperateOrder, error) {
	who, _ := operator.PrincipalFrom(ctx) // the middleware put it there
	holder := "operator:" + who.ID
	hash := append([]byte("refund\x00"), id[:]...)
	now := s.now().UTC()
	o, err := s.readOrder(ctx, e.ID, id)
	if err != nil {
		return OperateOrder{}, err
	}
	// Not within the transaction: it holds a connection, and this may need another.
	l, err := s.orderLayout(ctx, e.Slug, o.Performance)
	if err != nil {
		return OperateOrder{}, err
	}
	var doc OperateOrder
	var done settled
	err = postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		done = settled{}
		tag, err := tx.Exec(ctx, `
			INSERT INTO idempotency (event_id, session, key, body_hash, order_id, busy_until, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING`, e.ID, holder, key, hash, id, now)
		if err != nil {
			return fmt.Errorf("record idempotency key: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return s.replayRefund(ctx, tx, e.ID, holder, key, id, &doc)
		}
		o, err := scanOrder(tx.QueryRow(ctx, `SELECT `+orderColumns+` FROM orders WHERE event_id = $1 AND order_id = $2 FOR UPDATE`, e.ID, id))
		if err != nil {
			return fmt.Errorf("lock order: %w", err)
		}
		if o.State != orderPaid {
			return problem.New(http.StatusConflict, "order-"+o.State, "Only a paid order can be refunded; this one is "+o.State+".").With("state", o.State)
		}
		if done, err = s.refundOrder(ctx, tx, o, o.Paid, now); err != nil {
			return err
		}
		o.State = orderRefunding
		doc = operateDocument(l, o, 0)
		if err := s.record(ctx, tx, "order.refund", "event/"+e.Slug+"/order/"+id.String(), map[string]string{"state": orderPaid}, map[string]string{"state": orderRefunding}); err != nil {
			return err
		}
		answer, err := json.Marshal(doc)
		if err != nil {
			return fmt.Errorf("encode refund: %w", err)
		}
		_, err = tx.Exec(ctx, `UPDATE idempotency SET status = 200, answer = $4 WHERE event_id = $1 AND session = $2 AND key = $3`, e.ID, holder, key, answer)
		return err
	})
	if err != nil {
		return OperateOrder{}, err
	}
	s.announce(ctx, done)
	return doc, nil
}

func (s *Server) replayRefund(ctx context.Context, tx pgx.Tx, event uuid.UUID, holder, key string, id uuid.UUID, doc *OperateOrder) error {
	var order uuid.UUID
	var answer []byte
	err := tx.QueryRow(ctx, `SELECT order_id, answer FROM idempotency WHERE event_id = $1 AND session = $2 AND key = $3`, event, holder, key).
		Scan(&order, &answer)
	if err != nil {
		return fmt.Errorf("read idempotency key: %w", err)
	}
	if order != id {
		return problem.New(http.StatusUnprocessableEntity, "idempotency-mismatch", "This Idempotency-Key was used with another request.")
	}
	if err := json.Unmarshal(answer, doc); err != nil {
		return fmt.Errorf("read stored outcome: %w", err)
	}
	return nil
}

// Report is what an event sold.
type Report struct {
	Event        string              `json:"event"`
	Currency     string              `json:"currency"`
	Orders       map[string]int      `json:"orders" doc:"how many are in each state"`
	Paid         int64               `json:"paid" doc:"minor units taken"`
	Refunded     int64               `json:"refunded" doc:"minor units given back or about to be"`
	Performances []PerformanceReport `json:"performances"`
	At           time.Time           `json:"at"`
}

// PerformanceReport is what one performance sold.
type PerformanceReport struct {
	ID         uuid.UUID        `json:"id" format:"uuid"`
	StartsAt   time.Time        `json:"starts_at"`
	CheckedIn  int              `json:"checked_in"`
	Categories []CategoryReport `json:"categories"`
}

// CategoryReport counts seats and units of a price category.
type CategoryReport struct {
	Name     string `json:"name"`
	Units    int    `json:"units"`
	Reserved int    `json:"reserved"`
	Sold     int    `json:"sold"`
}

func (s *Server) report(ctx context.Context, e *eventRecord) (Report, error) {
	r := Report{Event: e.Slug, Currency: e.Currency, Orders: map[string]int{}, Performances: []PerformanceReport{}, At: s.now().UTC()}
	rows, err := s.db.Query(ctx, `
		SELECT state, count(*), sum(paid), sum(CASE WHEN state = 'refunding' THEN paid ELSE refunded END)
		FROM orders WHERE event_id = $1 GROUP BY state`, e.ID)
	if err != nil {
		return r, fmt.Errorf("report orders: %w", err)
	}
	var state string
	var n int
	var paid, refunded int64
	_, err = pgx.ForEachRow(rows, []any{&state, &n, &paid, &refunded}, func() error {
		r.Orders[state] = n
		r.Paid += paid
		r.Refunded += refunded
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("report orders: %w", err)
	}
	for _, p := range e.Performances {
		one, err := s.reportPerformance(ctx, e, p)
		if err != nil {
			return r, err
		}
		r.Performances = append(r.Performances, one)
	}
	return r, nil
}

func (s *Server) reportPerformance(ctx context.Context, e *eventRecord, p performanceRecord) (PerformanceReport, error) {
	r := PerformanceReport{ID: p.ID, StartsAt: p.StartsAt, Categories: []CategoryReport{}}
	l, err := s.orderLayout(ctx, e.Slug, p.ID)
	if err != nil {
		return r, err
	}
	at := map[string]int{}
	for unit := range l.Units() {
		name := l.Category(unit)
		if _, ok := at[name]; !ok {
			at[name] = len(r.Categories)
			r.Categories = append(r.Categories, CategoryReport{Name: name})
		}
		r.Categories[at[name]].Units++
	}
	owned, err := s.ownedUnits(ctx, l)
	if err != nil {
		return r, err
	}
	for unit, o := range owned {
		if c := &r.Categories[at[l.Category(unit)]]; o.sold {
			c.Sold++
		} else {
			c.Reserved++
		}
	}
	err = s.db.QueryRow(ctx, `
		SELECT count(*) FROM tickets WHERE event_id = $1 AND performance_id = $2 AND used_at IS NOT NULL AND NOT void`, e.ID, p.ID).Scan(&r.CheckedIn)
	if err != nil {
		return r, fmt.Errorf("report check-ins: %w", err)
	}
	return r, nil
}
