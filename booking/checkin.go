package booking

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"usher/internal/operator"
	"usher/internal/problem"
)

// CheckinRequest shows a ticket's code at the door.
type CheckinRequest struct {
	Code string `json:"code" minLength:"1" maxLength:"200"`
	Gate string `json:"gate,omitempty" maxLength:"100" doc:"which door; default the name of the key or account"`
}

// UsedTicket is a ticket that has just let somebody in.
type UsedTicket struct {
	Event       string    `json:"event"`
	Performance string    `json:"performance"`
	Order       string    `json:"order"`
	SeatLabel   string    `json:"seat_label"`
	Area        string    `json:"area" doc:"empty for a numbered seat"`
	UsedAt      time.Time `json:"used_at"`
	UsedWhere   string    `json:"used_where"`
}

// checkin lets a ticket in once: one conditional statement decides between two doors.
func (s *Server) checkin(ctx context.Context, who operator.Principal, in CheckinRequest) (UsedTicket, error) {
	event, code, ok := eventOfCode(in.Code)
	if !ok {
		return UsedTicket{}, ticketNotFound()
	}
	slug, err := s.slugOf(ctx, event)
	if errors.Is(err, pgx.ErrNoRows) {
		return UsedTicket{}, ticketNotFound()
	}
	if err != nil {
		return UsedTicket{}, err
	}
	if !who.May(operator.CheckIn, slug) {
		return UsedTicket{}, operator.Forbidden()
	}
	gate := in.Gate
	if gate == "" {
		gate = who.Name
	}
	now := s.now().UTC().Truncate(time.Microsecond)
	var order, performance uuid.UUID
	var unit int
	err = s.db.QueryRow(ctx, `
		UPDATE tickets SET used_at = $3, used_where = $4
		WHERE event_id = $1 AND code = $2 AND used_at IS NULL AND NOT void
		RETURNING order_id, performance_id, seat_index`, event, code, now, gate).Scan(&order, &performance, &unit)
	if errors.Is(err, pgx.ErrNoRows) {
		return UsedTicket{}, s.whyNot(ctx, event, code)
	}
	if err != nil {
		return UsedTicket{}, fmt.Errorf("check in: %w", err)
	}
	l, err := s.orderLayout(ctx, slug, performance)
	if err != nil {
		return UsedTicket{}, err
	}
	label, area := l.Label(unit)
	return UsedTicket{
		Event: slug, Performance: performance.String(), Order: order.String(), SeatLabel: label, Area: area, UsedAt: now, UsedWhere: gate,
	}, nil
}

// whyNot explains a code that let nobody in.
func (s *Server) whyNot(ctx context.Context, event uuid.UUID, code string) error {
	var t ticketRecord
	err := s.db.QueryRow(ctx, `SELECT void, used_at, used_where FROM tickets WHERE event_id = $1 AND code = $2`, event, code).
		Scan(&t.Void, &t.UsedAt, &t.UsedWhere)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ticketNotFound()
	case err != nil:
		return fmt.Errorf("read ticket: %w", err)
	case t.Void:
		return problem.New(http.StatusConflict, "ticket-void", "This ticket was given back.")
	}
	return problem.New(http.StatusConflict, "already-used", "This ticket was used already.").
		With("used_at", t.UsedAt.UTC()).With("used_where", t.UsedWhere)
}
