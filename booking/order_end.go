package booking

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/postgres"
	"usher/internal/telemetry"
)

// releases is the stream that tells the waiting rooms whose sessions are over.
const (
	releases    = "usher:releases"
	maxReleases = 100_000
)

// settled is what a transaction did with an order.
type settled struct {
	order orderRecord
	state string // "" when nothing changed
	freed bool   // its seats have no owner any more
}

// happened acts on what a provider told, once: the event's id is recorded in the
// transaction that changes the order. Late, repeated and out-of-order events end right:
// money for an order that does not own its seats any more goes back, and so does a payment
// that no order has: its order was lost in a failover, or has another payment.
func (s *Server) happened(ctx context.Context, providerName string, ev paymentEvent) error {
	if ev.Kind != paymentPaid && ev.Kind != paymentFailed {
		return nil
	}
	now := s.now().UTC()
	var done settled
	err := postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		done = settled{}
		o, first, err := lockOrder(ctx, tx, providerName, ev, now)
		lost := errors.Is(err, errNoOrder)
		switch {
		case err != nil && !lost:
			return err
		case !first:
			return nil
		case lost || o.Provider != providerName || o.Payment != "" && o.Payment != ev.Payment:
			return s.refundStray(ctx, tx, providerName, ev)
		}
		if o.Payment == "" { // the provider was faster than whoever made the order
			o.Payment = ev.Payment
			b := &pgx.Batch{}
			queuePayment(b, o)
			if err := tx.SendBatch(ctx, b).Close(); err != nil {
				return fmt.Errorf("record payment: %w", err)
			}
		}
		if ev.Kind == paymentFailed {
			done, err = s.closeOrder(ctx, tx, o, orderCancelled, now)
			return err
		}
		done, err = s.payOrder(ctx, tx, o, ev.Amount, now)
		return err
	})
	if err != nil {
		return err
	}
	s.announce(ctx, done)
	return nil
}

// refundStray gives back what was paid for an event of this shop without an order to show
// for it. What is of another shop's event is left alone: sending it again would not help.
func (s *Server) refundStray(ctx context.Context, tx pgx.Tx, provider string, ev paymentEvent) error {
	var ours bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM events WHERE event_id = $1)`, ev.Event).Scan(&ours); err != nil {
		return fmt.Errorf("find event of a payment: %w", err)
	}
	s.log.ErrorContext(ctx, "payment of no order", "provider", provider, "payment", ev.Payment, "kind", ev.Kind, "order", ev.Order, "our event", ours)
	if !ours || ev.Kind != paymentPaid {
		return nil
	}
	if _, err := s.sales.jobs.InsertTx(ctx, tx, refundStrayArgs{provider, ev.Payment, ev.Amount.Amount}, nil); err != nil {
		return fmt.Errorf("enqueue refund: %w", err)
	}
	return nil
}

var errNoOrder = errors.New("no such order")

// lockOrder locks the row of the order that ev is about and records ev; first is false
// when that was done before. With errNoOrder ev is recorded all the same.
func lockOrder(ctx context.Context, tx pgx.Tx, provider string, ev paymentEvent, now time.Time) (o orderRecord, first bool, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT `+orderColumns+` FROM orders WHERE event_id = $1 AND order_id = $2 FOR UPDATE`, ev.Event, ev.Order)
	b.Queue(`
		INSERT INTO payment_events (event_id, provider, id, order_id, kind, received_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		ev.Event, provider, ev.ID, ev.Order, ev.Kind, now)
	results := tx.SendBatch(ctx, b)
	o, err = scanOrder(results.QueryRow())
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoOrder
	} else if err != nil {
		return o, false, errors.Join(fmt.Errorf("lock order: %w", err), results.Close())
	}
	tag, failed := results.Exec()
	if failed := errors.Join(failed, results.Close()); failed != nil {
		return o, false, fmt.Errorf("record payment event: %w", failed)
	}
	return o, tag.RowsAffected() == 1, err
}

// payOrder is called with the order's row locked.
func (s *Server) payOrder(ctx context.Context, tx pgx.Tx, o orderRecord, amount Money, now time.Time) (settled, error) {
	switch o.State {
	case orderPending:
		if amount != o.Total {
			s.log.ErrorContext(ctx, "payment of another amount than the order's", "order", o.ID, "paid", amount, "total", o.Total)
			return s.refundOrder(ctx, tx, o, amount.Amount, now)
		}
		owned, err := s.markSold(ctx, tx, o)
		if err != nil {
			return settled{}, err
		}
		if !owned {
			s.log.ErrorContext(ctx, "paid order without its seats", "order", o.ID)
			return s.refundOrder(ctx, tx, o, amount.Amount, now)
		}
		if _, err := tx.Exec(ctx, `UPDATE orders SET state = 'paid', paid = $3, paid_at = $4 WHERE event_id = $1 AND order_id = $2`,
			o.Event, o.ID, amount.Amount, now); err != nil {
			return settled{}, fmt.Errorf("pay order: %w", err)
		}
		if err := issueTickets(ctx, tx, o); err != nil {
			return settled{}, err
		}
		if _, err := s.sales.jobs.InsertTx(ctx, tx, ticketMailArgs{Event: o.Event, Order: o.ID}, nil); err != nil {
			return settled{}, fmt.Errorf("enqueue mail: %w", err)
		}
		return settled{order: o, state: orderPaid}, nil
	case orderExpired, orderCancelled: // late
		return s.refundOrder(ctx, tx, o, amount.Amount, now)
	}
	return settled{}, nil // paid already
}

// markSold tells whether the order still owned every seat. Each is probed by its whole key.
func (s *Server) markSold(ctx context.Context, tx pgx.Tx, o orderRecord) (bool, error) {
	n, err := eachSeat(ctx, tx, o, `
		UPDATE order_seats SET state = 'sold'
		WHERE event_id = $1 AND performance_id = $2 AND seat_index = $4 AND order_id = $3 AND state = 'reserved'`, o.Event, o.Performance, o.ID)
	return n == len(o.Seats), err
}

// eachSeat runs statement with args and one seat of o as the last argument, for every
// seat, and counts the rows that it changed.
func eachSeat(ctx context.Context, tx pgx.Tx, o orderRecord, statement string, args ...any) (int, error) {
	b := &pgx.Batch{}
	for _, seat := range o.Seats {
		b.Queue(statement, append(slices.Clip(args), seat)...)
	}
	results := tx.SendBatch(ctx, b)
	n := 0
	for range o.Seats {
		tag, err := results.Exec()
		if err != nil {
			return 0, errors.Join(fmt.Errorf("change what an order owns: %w", err), results.Close())
		}
		n += int(tag.RowsAffected())
	}
	return n, results.Close()
}

// freeSeats takes the seats and the slots from an order whose row is locked.
func freeSeats(ctx context.Context, tx pgx.Tx, o orderRecord) error {
	if _, err := eachSeat(ctx, tx, o, `
		DELETE FROM order_seats WHERE event_id = $1 AND performance_id = $2 AND seat_index = $4 AND order_id = $3`, o.Event, o.Performance, o.ID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM purchase_slots WHERE event_id = $1 AND holder = $2 AND order_id = $3`,
		o.Event, sessionHolder(o.Session), o.ID)
	if err != nil {
		return fmt.Errorf("free purchase slots: %w", err)
	}
	return nil
}

// closeOrder makes a pending order expired or cancelled; anything else it leaves alone.
func (s *Server) closeOrder(ctx context.Context, tx pgx.Tx, o orderRecord, state string, now time.Time) (settled, error) {
	if o.State != orderPending {
		return settled{}, nil
	}
	if err := freeSeats(ctx, tx, o); err != nil {
		return settled{}, err
	}
	if _, err := tx.Exec(ctx, `UPDATE orders SET state = $3, closed_at = $4 WHERE event_id = $1 AND order_id = $2`,
		o.Event, o.ID, state, now); err != nil {
		return settled{}, fmt.Errorf("close order: %w", err)
	}
	return settled{order: o, state: state, freed: true}, nil
}

// refundOrder gives the money back and the seats free; a job speaks to the provider.
func (s *Server) refundOrder(ctx context.Context, tx pgx.Tx, o orderRecord, paid int64, now time.Time) (settled, error) {
	if err := freeSeats(ctx, tx, o); err != nil {
		return settled{}, err
	}
	if _, err := eachSeat(ctx, tx, o, `
		UPDATE tickets SET void = true WHERE event_id = $1 AND order_id = $2 AND seat_index = $3`, o.Event, o.ID); err != nil {
		return settled{}, err
	}
	if _, err := tx.Exec(ctx, `
		UPDATE orders SET state = 'refunding', paid = $3, paid_at = coalesce(paid_at, $4) WHERE event_id = $1 AND order_id = $2`,
		o.Event, o.ID, paid, now); err != nil {
		return settled{}, fmt.Errorf("refund order: %w", err)
	}
	if _, err := s.sales.jobs.InsertTx(ctx, tx, refundArgs{Event: o.Event, Order: o.ID}, nil); err != nil {
		return settled{}, fmt.Errorf("enqueue refund: %w", err)
	}
	return settled{order: o, state: orderRefunding, freed: true}, nil
}

// end closes a pending order as expired or cancelled. First the provider must have
// confirmed that nothing can be paid any more; if the buyer was faster, the order is paid
// instead. Whoever runs it again after a crash ends at the same.
func (s *Server) end(ctx context.Context, o orderRecord, state string) error {
	if o.State != orderPending {
		return nil
	}
	slug, err := s.slugOf(ctx, o.Event)
	if err != nil {
		return err
	}
	if o.Payment == "" { // whoever made the order never heard of its payment
		if o, err = s.createPayment(ctx, slug, o); err != nil {
			return err
		}
		b := &pgx.Batch{}
		queuePayment(b, o)
		if err := s.db.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("record payment: %w", err)
		}
	}
	p, err := s.provider(o.Provider)
	if err != nil {
		return err
	}
	cancelled, err := p.Cancel(ctx, o.Payment)
	if err != nil {
		return fmt.Errorf("cancel payment: %w", err)
	}
	if !cancelled { // the webhook about it may still be on its way; its money is counted once
		return s.happened(ctx, o.Provider, paymentEvent{
			ID: "seen:" + o.Payment, Kind: paymentPaid, Event: o.Event, Order: o.ID, Payment: o.Payment, Amount: o.Total,
		})
	}
	now := s.now().UTC()
	var done settled
	err = postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		locked, err := scanOrder(tx.QueryRow(ctx, `SELECT `+orderColumns+` FROM orders WHERE event_id = $1 AND order_id = $2 FOR UPDATE`, o.Event, o.ID))
		if err != nil {
			return fmt.Errorf("lock order: %w", err)
		}
		done, err = s.closeOrder(ctx, tx, locked, state, now)
		return err
	})
	if err != nil {
		return err
	}
	s.announce(ctx, done)
	return nil
}

// refunded records that the provider gave the money back.
func (s *Server) refunded(ctx context.Context, o orderRecord) error {
	tag, err := s.db.Exec(ctx, `
		UPDATE orders SET state = 'refunded', refunded = paid, closed_at = $3
		WHERE event_id = $1 AND order_id = $2 AND state = 'refunding'`, o.Event, o.ID, s.now().UTC())
	if err != nil {
		return fmt.Errorf("record refund: %w", err)
	}
	if tag.RowsAffected() == 1 {
		telemetry.Orders.WithLabelValues(orderRefunded).Inc()
	}
	return nil
}

// announce tells Redis what Postgres decided: the seat map, and the waiting room whose
// session has bought. What it misses, reconcile mends, and a session ends by its time.
func (s *Server) announce(ctx context.Context, done settled) {
	if done.state == "" {
		return
	}
	telemetry.Orders.WithLabelValues(done.state).Inc()
	ctx, cancel := deadline.In(context.WithoutCancel(ctx), redisTime)
	defer cancel()
	if done.freed {
		s.settle(ctx, done.order, unitFree)
	}
	if done.state == orderPaid {
		s.settle(ctx, done.order, unitSold)
		s.releaseSession(ctx, done.order)
	}
}

// settle sets an order's seats in the map; where there is no map, none is needed.
func (s *Server) settle(ctx context.Context, o orderRecord, state int) {
	_, _, err := s.scriptOnce(ctx, o.Event, o.Performance, 1, settleScript, o.Hold.String(), o.Session, unitText(o.Seats), state)
	if err != nil {
		s.log.WarnContext(ctx, "update seat map", "error", err, "order", o.ID)
	}
}

func (s *Server) releaseSession(ctx context.Context, o orderRecord) {
	room, err := s.roomOf(ctx, o.Event)
	if err != nil {
		s.log.WarnContext(ctx, "find the room of an order", "error", err, "order", o.ID)
		return
	}
	if room == "" {
		return
	}
	err = s.rdb.XAdd(ctx, &redis.XAddArgs{Stream: releases, MaxLen: maxReleases, Approx: true, Values: []any{"room", room, "session", o.Session}}).Err()
	if err != nil {
		s.log.WarnContext(ctx, "release session", "error", err, "order", o.ID)
	}
}

func (s *Server) roomOf(ctx context.Context, event uuid.UUID) (string, error) {
	slug, err := s.slugOf(ctx, event)
	if err != nil {
		return "", err
	}
	e, err := s.event(ctx, slug)
	if err != nil {
		return "", err
	}
	return e.Room, nil
}
