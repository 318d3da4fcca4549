package booking

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"usher/internal/operator"
	"usher/internal/postgres"
	"usher/internal/problem"
)

// OperateEvent is an event as operators see it: what they set, and what follows from it.
type OperateEvent struct {
	Slug         string               `json:"slug"`
	Title        string               `json:"title"`
	Status       string               `json:"status" enum:"draft,on_sale,ended"`
	Venue        string               `json:"venue"`
	VenueName    string               `json:"venue_name"`
	Plan         string               `json:"plan" doc:"version of the venue's plan"`
	Currency     string               `json:"currency"`
	Room         *string              `json:"room"`
	Prices       []priceRecord        `json:"prices"`
	Areas        []areaRecord         `json:"areas"`
	Performances []OperatePerformance `json:"performances"`
	Categories   []EventCategory      `json:"categories"`
	Limits       EventLimits          `json:"limits"`
}

// OperatePerformance is one date of an event.
type OperatePerformance struct {
	ID       uuid.UUID `json:"id" format:"uuid"`
	StartsAt time.Time `json:"starts_at"`
	Status   string    `json:"status" enum:"draft,on_sale,ended"`
}

// OperateEventList is a page of events.
type OperateEventList struct {
	Events []OperateEvent `json:"events"`
	Next   string         `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
}

func (e *eventRecord) settings(now time.Time) OperateEvent {
	public := e.document(now)
	doc := OperateEvent{
		Slug: e.Slug, Title: e.Title, Status: e.Status, Venue: e.Venue, VenueName: e.VenueName, Plan: e.Plan,
		Currency: e.Currency, Room: public.Room, Prices: append([]priceRecord{}, e.Prices...),
		Areas: append([]areaRecord{}, e.Areas...), Performances: []OperatePerformance{},
		Categories: public.Categories, Limits: public.Limits,
	}
	for _, p := range public.Performances {
		doc.Performances = append(doc.Performances, OperatePerformance{ID: p.ID, StartsAt: p.StartsAt, Status: p.Status})
	}
	return doc
}

func (s *Server) registerEvents() {
	put := operate(http.MethodPut, "/events/{event}", "put-event",
		"Create or change an event: absent members keep, null restores the default", operator.Operate, 409, 413, 422)
	put.Responses = putResponses[OperateEvent](s.api)
	huma.Register(s.api, put, s.putEvent)
	huma.Register(s.api, operate(http.MethodGet, "/events/{event}", "operate-event",
		"An event with its settings, also a draft", operator.View, 404), s.operateEvent)
	huma.Register(s.api, operate(http.MethodGet, "/events", "operate-events",
		"All events, also drafts, by slug", operator.View), s.operateEvents)
}

type operateEventAnswer struct {
	Status int
	Body   OperateEvent
}

// errRaced tells that another request made the event first.
var errRaced = errors.New("another request made the event first")

func (s *Server) putEvent(ctx context.Context, in *struct {
	Event string `path:"event" pattern:"^[a-z0-9-]{1,40}$"`
	Body  eventChange
}) (*operateEventAnswer, error) {
	var current, next *eventRecord
	change := func(tx pgx.Tx) (err error) {
		current, next, err = s.changeEvent(ctx, tx, in.Event, &in.Body)
		return err
	}
	err := postgres.Retry(ctx, s.db, change)
	if errors.Is(err, errRaced) {
		err = postgres.Retry(ctx, s.db, change)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23503" && pg.TableName == "orders" {
		err = problem.New(http.StatusConflict, "event-has-sales",
			"There are orders: their performances, the plan, the areas and their capacities and the currency stay as they are, and the event cannot be a draft again.")
	}
	if err != nil {
		return nil, s.fail(ctx, "put event", err)
	}
	s.catalogue.events.Invalidate(in.Event)
	s.catalogue.pages.InvalidateAll()
	if err := s.publishOnce(ctx); err != nil { // the ticker tries again
		s.log.ErrorContext(ctx, "publish catalogue to redis", "error", err)
	}
	return &operateEventAnswer{Status: made(current == nil), Body: next.settings(s.now())}, nil
}

// changeEvent merges c into the event and stores the outcome with its audit entry.
func (s *Server) changeEvent(ctx context.Context, tx pgx.Tx, slug string, c *eventChange) (current, next *eventRecord, err error) {
	// Not FOR UPDATE: that would hold up every order of the event.
	if _, err := tx.Exec(ctx, `SELECT FROM events WHERE slug = $1 FOR NO KEY UPDATE`, slug); err != nil {
		return nil, nil, fmt.Errorf("lock event: %w", err)
	}
	if current, err = findEvent(ctx, tx, slug); err != nil {
		return nil, nil, err
	}
	before := eventRecord{}
	if current != nil {
		before = *current
	}
	merged, faults := c.merge(before)
	next = &merged
	if current == nil {
		next.ID, next.Slug = uuid.Must(uuid.NewV7()), slug
	}
	if next.Venue != "" {
		more, err := s.pinPlan(ctx, tx, next, &before, c.Plan)
		if err != nil {
			return nil, nil, err
		}
		faults = append(faults, more...)
	}
	if len(faults) > 0 {
		return nil, nil, problem.Invalid(faults...)
	}
	slices.SortFunc(next.Performances, func(a, b performanceRecord) int {
		if n := a.StartsAt.Compare(b.StartsAt); n != 0 {
			return n
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	act, was := "event.create", any(nil)
	if current != nil {
		act, was = "event.update", current.settings(s.now())
	}
	if err := storeEvent(ctx, tx, current, next, s.now()); err != nil {
		return nil, nil, err
	}
	return current, next, s.record(ctx, tx, act, "event/"+slug, was, next.settings(s.now()))
}

// pinPlan finds the plan that next is to have and checks next against it.
func (s *Server) pinPlan(ctx context.Context, tx pgx.Tx, next, before *eventRecord, asked optional[string]) ([]problem.Field, error) {
	var newest string
	err := tx.QueryRow(ctx, `SELECT name, plan FROM venues WHERE venue = $1 FOR SHARE`, next.Venue).Scan(&next.VenueName, &newest)
	if errors.Is(err, pgx.ErrNoRows) {
		return []problem.Field{{Location: "body.venue", Message: "there is no such venue; put its plan first"}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find venue: %w", err)
	}
	if next.Venue != before.Venue {
		next.Plan = newest
	}
	next.Plan = asked.over(next.Plan, newest)
	plan, known := s.catalogue.plans.GetIfPresent(planKey{next.Venue, next.Plan})
	if !known { // by tx: a second connection while one is held could starve the pool
		plan, err = readPlan(ctx, tx, planKey{next.Venue, next.Plan})
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return []problem.Field{{Location: "body.plan", Message: "the venue has no such plan"}}, nil
	}
	if err != nil {
		return nil, err
	}
	next.Categories = plan.Categories
	return next.check(plan), nil
}

// storeEvent writes next over current, nil for a new event. Where orders stand against
// the change, Postgres refuses it by the orders' foreign key on a performance's layout.
func storeEvent(ctx context.Context, tx pgx.Tx, current, next *eventRecord, now time.Time) error {
	var firstAt *time.Time
	if len(next.Performances) > 0 {
		firstAt = &next.Performances[0].StartsAt
	}
	args := []any{next.ID, next.Slug, next.Title, next.Venue, next.Plan, next.Currency, next.Status, next.Room,
		next.MaxPerSession, firstAt, now}
	if current == nil {
		tag, err := tx.Exec(ctx, `
			INSERT INTO events (event_id, slug, title, venue, plan, currency, status, room, max_seats_per_session,
				first_at, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) ON CONFLICT (slug) DO NOTHING`, args...)
		if err != nil {
			return fmt.Errorf("create event: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return errRaced
		}
		current = &eventRecord{}
	} else {
		_, err := tx.Exec(ctx, `
			UPDATE events SET slug = $2, title = $3, venue = $4, plan = $5, currency = $6, status = $7, room = $8,
				max_seats_per_session = $9, first_at = $10, updated_at = $11
			WHERE event_id = $1`, args...)
		if err != nil {
			return fmt.Errorf("change event: %w", err)
		}
	}
	if err := storePerformances(ctx, tx, current, next); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(`DELETE FROM event_prices WHERE event_id = $1`, next.ID)
	for _, p := range next.Prices {
		batch.Queue(`INSERT INTO event_prices (event_id, category, amount) VALUES ($1, $2, $3)`, next.ID, p.Category, p.Amount)
	}
	batch.Queue(`DELETE FROM event_areas WHERE event_id = $1`, next.ID)
	for i, a := range next.Areas {
		batch.Queue(`INSERT INTO event_areas (event_id, area_id, ordinal, name, category, capacity) VALUES ($1, $2, $3, $4, $5, $6)`,
			next.ID, a.UUID, i, a.Name, a.Category, a.Capacity)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("store prices and areas: %w", err)
	}
	return nil
}

func storePerformances(ctx context.Context, tx pgx.Tx, current, next *eventRecord) error {
	pinned := next.pinned(current)
	batch := &pgx.Batch{}
	for _, p := range current.Performances {
		if _, kept := next.performance(p.ID); !kept {
			batch.Queue(`DELETE FROM performances WHERE event_id = $1 AND performance_id = $2`, next.ID, p.ID)
		}
	}
	for i := range next.Performances {
		p := &next.Performances[i]
		switch {
		case p.Layout == 0:
			p.Plan, p.Layout = next.Plan, 1
			batch.Queue(`INSERT INTO performances (event_id, performance_id, starts_at, plan, layout) VALUES ($1, $2, $3, $4, $5)`,
				next.ID, p.ID, p.StartsAt, p.Plan, p.Layout)
		case pinned:
			p.Plan, p.Layout = next.Plan, p.Layout+1
			batch.Queue(`UPDATE performances SET starts_at = $3, plan = $4, layout = $5 WHERE event_id = $1 AND performance_id = $2`,
				next.ID, p.ID, p.StartsAt, p.Plan, p.Layout)
		default: // naming the layout here would lock out the orders that refer to it
			batch.Queue(`UPDATE performances SET starts_at = $3 WHERE event_id = $1 AND performance_id = $2`, next.ID, p.ID, p.StartsAt)
		}
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("store performances: %w", err)
	}
	return nil
}

func (s *Server) operateEvent(ctx context.Context, in *struct {
	Event string `path:"event"`
}) (*operateEventAnswer, error) {
	e, err := findEvent(ctx, s.db, in.Event)
	if err == nil && e == nil {
		err = noEvent()
	}
	if err != nil {
		return nil, s.fail(ctx, "get event", err)
	}
	return &operateEventAnswer{Status: http.StatusOK, Body: e.settings(s.now())}, nil
}

func (s *Server) operateEvents(ctx context.Context, in *struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
	Cursor string `query:"cursor" maxLength:"40" doc:"the last slug of the page before"`
}) (*struct{ Body OperateEventList }, error) {
	p, _ := operator.PrincipalFrom(ctx)
	rows, err := s.db.Query(ctx, selectEvents+`
		WHERE e.slug > $1 AND ($2::text[] IS NULL OR e.slug = ANY ($2)) ORDER BY e.slug LIMIT $3`,
		in.Cursor, p.Limits(), in.Limit+1)
	if err != nil {
		return nil, s.fail(ctx, "list events", err)
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return nil, s.fail(ctx, "list events", err)
	}
	list := OperateEventList{Events: []OperateEvent{}}
	if len(events) > in.Limit {
		events = events[:in.Limit]
		list.Next = events[in.Limit-1].Slug
	}
	for _, e := range events {
		list.Events = append(list.Events, e.settings(s.now()))
	}
	return &struct{ Body OperateEventList }{list}, nil
}
