package booking

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"usher/internal/postgres"
	"usher/internal/problem"
)

var (
	// errKeyUsed: another request used the Idempotency-Key first.
	errKeyUsed = errors.New("idempotency key is used")
	// errShort: not all seats were free.
	errShort = errors.New("seats are owned by others")
	// errSlots: the session has too many seats already, or another of its orders was faster.
	errSlots = errors.New("no purchase slots left")
)

// reserve takes the order's seats in Postgres, before any payment: all or none. This is
// the one place where seats get an owner. It refuses with 409 seats-taken or hold-limit.
//
// Seats that an unpaid order should have given back already are freed first, the way its
// expiry would: the provider is asked, and its word alone frees them.
func (s *Server) reserve(ctx context.Context, l *Layout, o orderRecord, key string, hash []byte) error {
	for try, outrun := 0, 0; ; {
		err := s.reserveOnce(ctx, l, o, key, hash)
		var pg *pgconn.PgError
		switch {
		case errors.As(err, &pg) && pg.Code == "23503" && strings.Contains(pg.ConstraintName, "layout"):
			return problem.New(http.StatusConflict, "seats-taken", "The seating has just changed.").With("taken", o.Seats).With("alternative", nil)
		case errors.Is(err, errSlots):
			used, err := s.usedSlots(ctx, l, o)
			if err != nil {
				return err
			}
			if used+len(o.Seats) > l.MaxPerSession {
				return holdLimit(l)
			}
			if outrun++; outrun == maxOutrun {
				return fmt.Errorf("reserve seats: outrun by the session's other orders: %w", context.DeadlineExceeded)
			}
			continue
		case !errors.Is(err, errShort):
			return err
		}
		taken, freed, err := s.expireOwners(ctx, o)
		if err != nil {
			return err
		}
		if try++; (freed || len(taken) == 0) && try < 3 {
			continue
		}
		if _, err := s.reconcile(ctx, l); err != nil { // the map let them be held: it was wrong
			s.log.WarnContext(ctx, "mend the seat map", "error", err, "event", l.Slug)
		}
		return seatsTaken(l, taken, nil)
	}
}

func (s *Server) reserveOnce(ctx context.Context, l *Layout, o orderRecord, key string, hash []byte) error {
	b := &pgx.Batch{}
	b.Queue(`
		INSERT INTO idempotency (event_id, session, key, body_hash, order_id, busy_until, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		o.Event, o.Session, key, hash, o.ID, o.CreatedAt.Add(busyTime), o.CreatedAt)
	b.Queue(`
		INSERT INTO orders (event_id, order_id, performance_id, layout, state, session, hold_id, seats, total, currency,
			buyer_email, buyer_name, buyer_phone, provider, paid, refunded, created_at, expires_at)
		VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0, $14, $15) ON CONFLICT DO NOTHING`,
		o.Event, o.ID, o.Performance, o.Layout, o.Session, o.Hold, o.Seats, o.Total.Amount, o.Total.Currency,
		o.Buyer.Email, o.Buyer.Name, o.Buyer.Phone, o.Provider, o.CreatedAt, o.ExpiresAt)
	b.Queue(`
		INSERT INTO order_seats (event_id, performance_id, seat_index, order_id, state)
		SELECT $1, $2, seat, $3, 'reserved' FROM unnest($4::integer[]) AS seat ORDER BY seat
		ON CONFLICT DO NOTHING`,
		o.Event, o.Performance, o.ID, o.Seats)
	// The scalar subquery probes the whole key; joins would scan what statistics do not know.
	b.Queue(`
		INSERT INTO purchase_slots (event_id, holder, slot, order_id)
		SELECT $1, $2, n, $3 FROM generate_series(1, $4::integer) AS n
		WHERE (SELECT true FROM purchase_slots p WHERE p.event_id = $1 AND p.holder = $2 AND p.slot = n) IS NULL
		ORDER BY n LIMIT $5
		ON CONFLICT DO NOTHING`,
		o.Event, sessionHolder(o.Session), o.ID, l.MaxPerSession, len(o.Seats))
	n := int64(len(o.Seats))
	want := []struct {
		rows int64
		err  error
	}{{1, errKeyUsed}, {1, errKeyUsed}, {n, errShort}, {n, errSlots}}

	return postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		results := tx.SendBatch(ctx, b)
		var short error
		for _, w := range want {
			tag, err := results.Exec()
			if err != nil {
				return errors.Join(fmt.Errorf("reserve seats: %w", err), results.Close())
			}
			if tag.RowsAffected() < w.rows && short == nil {
				short = w.err
			}
		}
		return errors.Join(short, results.Close())
	})
}

// maxOutrun is how often an order chooses slots anew because another one of its session,
// at work in the same moment, took them first. Each time one of them gets on.
const maxOutrun = 50

// usedSlots counts the slots that the order's session has, each probed by its whole key.
func (s *Server) usedSlots(ctx context.Context, l *Layout, o orderRecord) (n int, err error) {
	err = s.db.QueryRow(ctx, `
		SELECT count(*) FROM generate_series(1, $3::integer) AS n
		WHERE (SELECT true FROM purchase_slots p WHERE p.event_id = $1 AND p.holder = $2 AND p.slot = n)`,
		o.Event, sessionHolder(o.Session), l.MaxPerSession).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count purchase slots: %w", err)
	}
	return n, nil
}

func sessionHolder(session string) string { return "session:" + session }

// expireOwners finds out who owns the order's seats and ends those of them that are
// unpaid orders past their time. taken are the seats with an owner, freed tells whether
// one was ended.
func (s *Server) expireOwners(ctx context.Context, o orderRecord) (taken []int, freed bool, err error) {
	b := &pgx.Batch{}
	for _, seat := range o.Seats {
		b.Queue(`SELECT order_id FROM order_seats WHERE event_id = $1 AND performance_id = $2 AND seat_index = $3`,
			o.Event, o.Performance, seat)
	}
	results := s.db.SendBatch(ctx, b)
	taken = []int{}
	owners := map[uuid.UUID]bool{}
	for _, seat := range o.Seats {
		var owner uuid.UUID
		err := results.QueryRow().Scan(&owner)
		if errors.Is(err, pgx.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, false, errors.Join(fmt.Errorf("find owners: %w", err), results.Close())
		}
		taken, owners[owner] = append(taken, seat), true
	}
	if err := results.Close(); err != nil {
		return nil, false, fmt.Errorf("find owners: %w", err)
	}
	for id := range owners {
		owner, err := s.readOrder(ctx, o.Event, id)
		if err != nil {
			return nil, false, err
		}
		if owner.State != orderPending || s.now().Before(owner.ExpiresAt) {
			continue
		}
		if err := s.expire(ctx, owner); err != nil {
			s.log.WarnContext(ctx, "expire an overdue order", "error", err, "order", id)
			continue
		}
		freed = true
	}
	return taken, freed, nil
}
