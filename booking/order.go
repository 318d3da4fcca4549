package booking

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"usher/internal/keyring"
	"usher/internal/pass"
	"usher/internal/problem"
)

// States of an order; migration 0004 draws how they follow one another.
const (
	orderPending   = "pending"
	orderPaid      = "paid"
	orderExpired   = "expired"
	orderCancelled = "cancelled"
	orderRefunding = "refunding"
	orderRefunded  = "refunded"
)

const (
	// payTime is how long a buyer may take to pay, from the order on. It does not depend
	// on the pass: the order's access is enough from then on.
	payTime = 10 * time.Minute
	// reserveGrace is how much longer than payTime the seats stay locked in Redis, so that
	// the map never shows as free what Postgres has not freed yet.
	reserveGrace = 5 * time.Minute
)

// Order is a purchase.
type Order struct {
	ID          string        `json:"id"`
	Event       string        `json:"event"`
	Title       string        `json:"title"`
	Performance string        `json:"performance"`
	State       string        `json:"state" enum:"pending,paid,expired,cancelled,refunding,refunded"`
	Test        bool          `json:"test" doc:"no real money: made with the sandbox"`
	Seats       []int         `json:"seats"`
	Areas       []HoldArea    `json:"areas"`
	Total       Money         `json:"total"`
	CreatedAt   time.Time     `json:"created_at"`
	ExpiresAt   time.Time     `json:"expires_at" doc:"until when it can be paid"`
	Payment     *OrderPayment `json:"payment,omitempty" doc:"while pending"`
	Access      string        `json:"access,omitempty" doc:"authorises all calls on the order, in X-Order-Access"`
	Tickets     []Ticket      `json:"tickets" doc:"of a paid order; else empty"`
}

// OrderPayment is where to pay.
type OrderPayment struct {
	ID          string `json:"id"`
	RedirectURL string `json:"redirect_url,omitempty"`
}

// Ticket is one seat or unit of a paid order.
type Ticket struct {
	ID        string `json:"id"`
	SeatLabel string `json:"seat_label"`
	Area      string `json:"area" doc:"empty for a numbered seat"`
	Code      string `json:"code"`
	QRURL     string `json:"qr_url" doc:"an SVG; needs X-Order-Access or the pass like the order itself"`
}

// orderRecord is a row of orders.
type orderRecord struct {
	Event, ID, Performance uuid.UUID
	Layout                 int
	State                  string
	Session                string
	Hold                   uuid.UUID
	Seats                  []int
	Total                  Money
	Buyer                  Buyer
	Provider               string
	Payment, PaymentLink   string // "" until the provider has answered
	Paid                   int64
	CreatedAt, ExpiresAt   time.Time
}

const orderColumns = `event_id, order_id, performance_id, layout, state, session, hold_id, seats, total, currency,
	buyer_email, buyer_name, buyer_phone, provider, coalesce(payment_id, ''), coalesce(payment_link, ''), paid, created_at, expires_at`

func scanOrder(row pgx.Row) (o orderRecord, err error) {
	err = row.Scan(&o.Event, &o.ID, &o.Performance, &o.Layout, &o.State, &o.Session, &o.Hold, &o.Seats, &o.Total.Amount, &o.Total.Currency,
		&o.Buyer.Email, &o.Buyer.Name, &o.Buyer.Phone, &o.Provider, &o.Payment, &o.PaymentLink, &o.Paid, &o.CreatedAt, &o.ExpiresAt)
	return o, err
}

func orderNotFound() *problem.Problem {
	return problem.New(http.StatusNotFound, "order-not-found", "There is no such order, or this is not its access.")
}

// readOrder returns 404 order-not-found where there is none.
func (s *Server) readOrder(ctx context.Context, event, id uuid.UUID) (orderRecord, error) {
	o, err := scanOrder(s.db.QueryRow(ctx, `SELECT `+orderColumns+` FROM orders WHERE event_id = $1 AND order_id = $2`, event, id))
	if errors.Is(err, pgx.ErrNoRows) {
		return o, orderNotFound()
	}
	if err != nil {
		return o, fmt.Errorf("read order: %w", err)
	}
	return o, nil
}

// orderLayout is the layout of an order's performance, whatever the event's status.
func (s *Server) orderLayout(ctx context.Context, slug string, performance uuid.UUID) (*Layout, error) {
	e, err := s.event(ctx, slug)
	if err != nil {
		return nil, err
	}
	p, ok := e.performance(performance)
	if !ok {
		return nil, noPerformance()
	}
	plan, err := s.plan(ctx, e.Venue, p.Plan)
	if err != nil {
		return nil, err
	}
	return newLayout(e, p, plan, s.now()), nil
}

// slugOf is the slug of an event's id; it never changes.
func (s *Server) slugOf(ctx context.Context, event uuid.UUID) (string, error) {
	if slug, ok := s.sales.slugs.GetIfPresent(event); ok {
		return slug, nil
	}
	var slug string
	if err := s.db.QueryRow(ctx, `SELECT slug FROM events WHERE event_id = $1`, event).Scan(&slug); err != nil {
		return "", fmt.Errorf("read event: %w", err)
	}
	s.sales.slugs.Set(event, slug)
	return slug, nil
}

// document is the order as its buyer sees it, without the access.
func (s *Server) document(ctx context.Context, l *Layout, o orderRecord) (Order, error) {
	chosen := l.split(o.Seats)
	doc := Order{
		ID: o.ID.String(), Event: l.Slug, Title: l.Title, Performance: o.Performance.String(), State: o.State,
		Test: o.Provider == sandboxName, Seats: chosen.Seats, Areas: chosen.Areas, Total: o.Total,
		CreatedAt: o.CreatedAt.UTC(), ExpiresAt: o.ExpiresAt.UTC(), Tickets: []Ticket{},
	}
	switch {
	case o.State == orderPending && o.Payment != "":
		doc.Payment = &OrderPayment{ID: o.Payment, RedirectURL: o.PaymentLink}
	case o.State == orderPaid:
		tickets, err := s.tickets(ctx, o)
		if err != nil {
			return Order{}, err
		}
		for _, t := range tickets {
			label, area := l.Label(t.Unit)
			doc.Tickets = append(doc.Tickets, Ticket{
				ID: t.ID.String(), SeatLabel: label, Area: area, Code: t.Code,
				QRURL: "/api/v1/events/" + l.Slug + "/orders/" + doc.ID + "/tickets/" + t.ID.String() + "/qr.svg",
			})
		}
	}
	return doc, nil
}

func accessMessage(event, order uuid.UUID) []byte {
	return append(append([]byte("order access\x00"), event[:]...), order[:]...)
}

// orderAccess is the secret that authorises all calls on an order. It is computed, never
// stored: a copy of the database gives access to nothing.
func orderAccess(ring *keyring.Ring, event, order uuid.UUID) string {
	kid, mac := ring.Sign(keyring.Access, accessMessage(event, order))
	return kid + "." + base64.RawURLEncoding.EncodeToString(mac)
}

func checkAccess(ring *keyring.Ring, event, order uuid.UUID, access string) bool {
	kid, text, ok := strings.Cut(access, ".")
	if !ok || len(access) > 200 {
		return false
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && ring.Check(keyring.Access, kid, accessMessage(event, order), mac)
}

// mayUse finds the order that a request is about and checks that it may: by the order's
// access, or with the pass that made it.
func (s *Server) mayUse(ctx context.Context, r *http.Request, slug, id, access string) (orderRecord, *Layout, error) {
	orderID, err := uuid.Parse(id)
	if err != nil || len(id) != 36 {
		return orderRecord{}, nil, orderNotFound()
	}
	e, err := s.event(ctx, slug)
	if err != nil {
		return orderRecord{}, nil, err
	}
	o, err := s.readOrder(ctx, e.ID, orderID)
	if err != nil {
		return orderRecord{}, nil, err
	}
	if access != "" {
		if !checkAccess(s.ring, e.ID, orderID, access) {
			return orderRecord{}, nil, orderNotFound()
		}
	} else if claims, err := s.passes.FromRequest(r, pass.RoomOfEvent(e.Slug, e.Room), s.now()); err != nil || claims.Session != o.Session {
		return orderRecord{}, nil, orderNotFound()
	}
	l, err := s.orderLayout(ctx, slug, o.Performance)
	return o, l, err
}
