package booking

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/mail"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"usher/internal/deadline"
	"usher/internal/pass"
	"usher/internal/problem"
	"usher/internal/telemetry"
)

// OrderRequest makes an order of a hold.
type OrderRequest struct {
	Hold     string `json:"hold" minLength:"1" maxLength:"4096" doc:"the hold's id"`
	Buyer    Buyer  `json:"buyer"`
	Provider string `json:"provider" maxLength:"40" doc:"sandbox or stripe, where the shop has them"`
}

// Buyer is who gets the tickets.
type Buyer struct {
	Email string `json:"email" format:"email" minLength:"3" maxLength:"254"`
	Name  string `json:"name" minLength:"1" maxLength:"200"`
	Phone string `json:"phone,omitempty" maxLength:"40"`
}

// busyTime is how long a request may work on an order before another with the same key
// may take over from it.
const busyTime = 20 * time.Second

// attempt is a row of idempotency.
type attempt struct {
	bodyHash  []byte
	order     uuid.UUID
	status    int // 0: no outcome yet
	answer    []byte
	busyUntil time.Time
}

// order turns a hold into an order under an Idempotency-Key. Every step can be repeated:
// the order's id follows from the key and the hold, so whoever resumes after a crash does
// the same again.
func (s *Server) order(ctx context.Context, slug string, claims pass.Claims, key string, in OrderRequest) (Order, error) {
	e, err := s.publicEvent(ctx, slug)
	if err != nil {
		return Order{}, err
	}
	hash, err := in.hash()
	if err != nil {
		return Order{}, err
	}
	if doc, done, err := s.replay(ctx, e.ID, claims.Session, key, hash); done || err != nil {
		return doc, err
	}
	if faults := s.orderFaults(in); len(faults) > 0 {
		return Order{}, problem.Invalid(faults...)
	}
	h, err := openHold(s.ring, in.Hold)
	if err != nil || h.Event != e.ID {
		return Order{}, problem.Invalid(problem.Field{Location: "body.hold", Message: "not a hold of this event"})
	}
	if h.Session != claims.Session {
		return Order{}, holdExpired("This is not a hold of this session.")
	}
	l, err := s.orderLayout(ctx, slug, h.Performance)
	if err != nil {
		return Order{}, err
	}
	if !l.OnSale {
		return Order{}, notOnSale()
	}

	now := s.now().UTC().Truncate(time.Microsecond)
	o := orderRecord{
		Event: e.ID, ID: orderID(h, key), Performance: h.Performance, Layout: l.Revision, State: orderPending,
		Session: claims.Session, Hold: h.ID, Seats: h.Units, Total: Money{h.Total, l.Currency}, Buyer: in.Buyer,
		Provider: in.Provider, CreatedAt: now, ExpiresAt: now.Add(s.sales.payTime),
	}
	if err := s.keep(ctx, l, h, o.ID.String()); err != nil {
		return Order{}, err
	}
	err = s.reserve(ctx, l, o, key, hash)
	switch {
	case errors.Is(err, errKeyUsed): // by a request that ran beside this one
		doc, done, err := s.replay(ctx, e.ID, claims.Session, key, hash)
		if p, ok := problem.From(err); ok && p.Code == "idempotency-mismatch" {
			s.settle(ctx, o, unitFree) // this one's hold, which no order will follow
		}
		if err == nil && !done {
			err = keyBusy(busyTime)
		}
		return doc, err
	case err != nil:
		if p, ok := problem.From(err); ok {
			s.settle(ctx, o, unitFree)
			if err := s.refuse(ctx, o, key, hash, p); err != nil {
				s.log.WarnContext(ctx, "store refused order", "error", err)
			}
			return Order{}, p
		}
		// Whether it was committed is not known; the same key will tell, at once if it can.
		s.letGo(context.WithoutCancel(ctx), o, key)
		return Order{}, err
	}
	telemetry.Orders.WithLabelValues(orderPending).Inc()
	return s.finish(ctx, l, o, key)
}

// finish has the payment made and stores the answer under the key.
func (s *Server) finish(ctx context.Context, l *Layout, o orderRecord, key string) (doc Order, err error) {
	defer func() {
		if err != nil {
			s.letGo(context.WithoutCancel(ctx), o, key)
		}
	}()
	o, err = s.createPayment(ctx, l.Slug, o)
	if err != nil {
		s.log.ErrorContext(ctx, "create payment", "error", err, "order", o.ID)
		return Order{}, problem.New(http.StatusServiceUnavailable, "payment-unavailable",
			"The payment could not be started. Your seats stay reserved: send the same request again.").In(2 * time.Second)
	}
	if doc, err = s.document(ctx, l, o); err != nil {
		return Order{}, err
	}
	// The answer is what was true when the order was made, also if this is a late resumption.
	doc.State, doc.Tickets = orderPending, []Ticket{}
	doc.Payment = &OrderPayment{ID: o.Payment, RedirectURL: o.PaymentLink}
	answer, err := json.Marshal(doc)
	if err != nil {
		return Order{}, fmt.Errorf("encode order: %w", err)
	}
	b := &pgx.Batch{} // without a transaction around it, one transaction
	queuePayment(b, o)
	b.Queue(`UPDATE idempotency SET status = 201, answer = $4 WHERE event_id = $1 AND session = $2 AND key = $3 AND answer IS NULL`,
		o.Event, o.Session, key, answer)
	if err := s.db.SendBatch(ctx, b).Close(); err != nil {
		return Order{}, fmt.Errorf("store outcome: %w", err)
	}
	doc.Access = orderAccess(s.ring, o.Event, o.ID)
	return doc, nil
}

// createPayment has the order's payment made by its provider; made before, nothing
// happens. It is not recorded yet (queuePayment): after a crash it is made once more, and
// the provider returns the same.
func (s *Server) createPayment(ctx context.Context, slug string, o orderRecord) (orderRecord, error) {
	if o.Payment != "" {
		return o, nil
	}
	p, err := s.provider(o.Provider)
	if err != nil {
		return o, err
	}
	made, err := p.Create(ctx, charge{
		Event: o.Event, Order: o.ID, Amount: o.Total,
		ReturnURL: s.cfg.PublicURL + "/orders/" + slug + "/" + o.ID.String(),
	})
	if err != nil {
		return o, fmt.Errorf("create payment: %w", err)
	}
	o.Payment, o.PaymentLink = made.ID, made.Link
	return o, nil
}

func queuePayment(b *pgx.Batch, o orderRecord) {
	b.Queue(`UPDATE orders SET payment_id = $3, payment_link = $4 WHERE event_id = $1 AND order_id = $2 AND payment_id IS NULL`,
		o.Event, o.ID, o.Payment, o.PaymentLink)
}

// replay answers a key that was used before: with its outcome, with 409 while the first
// request is at work, or by resuming what a crash left. done is false for a new key.
func (s *Server) replay(ctx context.Context, event uuid.UUID, session, key string, hash []byte) (doc Order, done bool, err error) {
	var a attempt
	err = s.db.QueryRow(ctx, `
		SELECT body_hash, order_id, coalesce(status, 0), answer, busy_until FROM idempotency
		WHERE event_id = $1 AND session = $2 AND key = $3`, event, session, key).
		Scan(&a.bodyHash, &a.order, &a.status, &a.answer, &a.busyUntil)
	if errors.Is(err, pgx.ErrNoRows) {
		return Order{}, false, nil
	}
	if err != nil {
		return Order{}, false, fmt.Errorf("read idempotency key: %w", err)
	}
	if !bytes.Equal(a.bodyHash, hash) {
		return Order{}, true, problem.New(http.StatusUnprocessableEntity, "idempotency-mismatch", "This Idempotency-Key was used with another request.")
	}
	now := s.now().UTC()
	switch {
	case a.status == http.StatusCreated:
		if err := json.Unmarshal(a.answer, &doc); err != nil {
			return Order{}, true, fmt.Errorf("read stored outcome: %w", err)
		}
		doc.Access = orderAccess(s.ring, event, a.order)
		return doc, true, nil
	case a.status != 0:
		return Order{}, true, storedProblem(a.status, a.answer)
	case now.Before(a.busyUntil):
		return Order{}, true, keyBusy(min(a.busyUntil.Sub(now), time.Second))
	}
	tag, err := s.db.Exec(ctx, `
		UPDATE idempotency SET busy_until = $4
		WHERE event_id = $1 AND session = $2 AND key = $3 AND answer IS NULL AND busy_until = $5`,
		event, session, key, now.Add(busyTime), a.busyUntil)
	if err != nil {
		return Order{}, true, fmt.Errorf("resume order: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return Order{}, true, keyBusy(time.Second)
	}
	o, err := s.readOrder(ctx, event, a.order)
	if err != nil {
		return Order{}, true, err
	}
	if o.State == orderExpired || o.State == orderCancelled {
		return Order{}, true, holdExpired("The time to pay is over.")
	}
	slug, err := s.slugOf(ctx, event)
	if err != nil {
		return Order{}, true, err
	}
	l, err := s.orderLayout(ctx, slug, o.Performance)
	if err != nil {
		return Order{}, true, err
	}
	doc, err = s.finish(ctx, l, o, key)
	return doc, true, err
}

// letGo lets the next request with the key resume at once.
func (s *Server) letGo(ctx context.Context, o orderRecord, key string) {
	ctx, cancel := deadline.In(ctx, 2*time.Second)
	defer cancel()
	_, err := s.db.Exec(ctx, `
		UPDATE idempotency SET busy_until = $4 WHERE event_id = $1 AND session = $2 AND key = $3 AND answer IS NULL`,
		o.Event, o.Session, key, s.now().UTC())
	if err != nil {
		s.log.WarnContext(ctx, "let go of idempotency key", "error", err, "order", o.ID)
	}
}

// refuse stores a refusal that was decided in Postgres as the key's outcome.
func (s *Server) refuse(ctx context.Context, o orderRecord, key string, hash []byte, p *problem.Problem) error {
	answer, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode refusal: %w", err)
	}
	_, err = s.db.Exec(ctx, `
		INSERT INTO idempotency (event_id, session, key, body_hash, order_id, status, answer, busy_until, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING`,
		o.Event, o.Session, key, hash, o.ID, p.Status, answer, o.CreatedAt)
	if err != nil {
		return fmt.Errorf("store outcome: %w", err)
	}
	return nil
}

// storedProblem is the refusal that refuse kept.
func storedProblem(status int, answer []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(answer, &members); err != nil {
		return fmt.Errorf("read stored outcome: %w", err)
	}
	text := func(name string) (v string) {
		_ = json.Unmarshal(members[name], &v) // always a string: we wrote it
		return v
	}
	p := problem.New(status, text("code"), text("detail"))
	for name, value := range members {
		switch name {
		case "type", "title", "status", "detail", "code", "request_id", "errors":
		default:
			p.With(name, value)
		}
	}
	return p
}

func keyBusy(again time.Duration) *problem.Problem {
	return problem.New(http.StatusConflict, "idempotency-conflict", "A request with this Idempotency-Key is under way.").In(again)
}

// orderFaults are what a schema cannot say about a request.
func (s *Server) orderFaults(in OrderRequest) []problem.Field {
	var out []problem.Field
	if _, ok := s.sales.providers[in.Provider]; !ok {
		out = append(out, problem.Field{Location: "body.provider", Message: "this shop does not take payments by it"})
	}
	if a, err := mail.ParseAddress(in.Buyer.Email); err != nil || a.Address != in.Buyer.Email {
		out = append(out, problem.Field{Location: "body.buyer.email", Message: "not one plain address"})
	}
	for location, text := range map[string]string{"body.buyer.name": in.Buyer.Name, "body.buyer.phone": in.Buyer.Phone} {
		if strings.ContainsFunc(text, unicode.IsControl) {
			out = append(out, problem.Field{Location: location, Message: "holds control characters"})
		}
	}
	return out
}

func (in OrderRequest) hash() ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("hash request: %w", err)
	}
	sum := sha256.Sum256(body)
	return sum[:], nil
}

// orderID follows from the hold and the key: a UUIDv7 of the hold's time, its random part
// a hash of both.
func orderID(h heldSeats, key string) uuid.UUID {
	sum := sha256.Sum256(append(append([]byte("order\x00"), h.ID[:]...), key...))
	id := h.ID
	copy(id[6:], sum[:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
