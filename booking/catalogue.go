package booking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/maypok86/otter/v2"

	"usher/internal/operator"
	"usher/internal/problem"
)

// A performance stops being sold endsAfter its start: late doors still sell, and nobody
// told us how long it lasts.
const endsAfter = 12 * time.Hour

// Statuses of an event; a performance of it has the same, or ended.
const (
	statusDraft  = "draft"
	statusOnSale = "on_sale"
	statusEnded  = "ended"
)

// eventRecord is an event as Postgres has it. Records are immutable once read.
type eventRecord struct {
	ID            uuid.UUID
	Slug          string
	Title         string
	Venue         string
	VenueName     string
	Plan          string // what new performances take
	Categories    []Category
	Currency      string
	Status        string
	Room          string
	MaxPerSession int
	Performances  []performanceRecord // by start
	Prices        []priceRecord
	Areas         []areaRecord // by ordinal
}

type performanceRecord struct {
	ID       uuid.UUID `json:"id"`
	StartsAt time.Time `json:"starts_at"`
	Plan     string    `json:"plan"`
	Layout   int       `json:"layout"`
}

type priceRecord struct {
	Category string `json:"category"`
	Amount   int64  `json:"amount"`
}

type areaRecord struct {
	UUID     string `json:"uuid"`
	Name     string `json:"name"`
	Category string `json:"category"`
	Capacity int    `json:"capacity"`
}

// status of a performance at now.
func (e *eventRecord) status(p performanceRecord, now time.Time) string {
	if e.Status == statusOnSale && now.After(p.StartsAt.Add(endsAfter)) {
		return statusEnded
	}
	return e.Status
}

func (e *eventRecord) performance(id uuid.UUID) (performanceRecord, bool) {
	i := slices.IndexFunc(e.Performances, func(p performanceRecord) bool { return p.ID == id })
	if i < 0 {
		return performanceRecord{}, false
	}
	return e.Performances[i], true
}

func (e *eventRecord) price(category string) (int64, bool) {
	i := slices.IndexFunc(e.Prices, func(p priceRecord) bool { return p.Category == category })
	if i < 0 {
		return 0, false
	}
	return e.Prices[i].Amount, true
}

// selectEvents reads whole events in one statement; a WHERE on e follows.
const selectEvents = `
	SELECT e.event_id, e.slug, e.title, e.venue, v.name, e.plan, pl.categories, e.currency, e.status, e.room,
		e.max_seats_per_session,
		(SELECT json_agg(json_build_object('id', p.performance_id, 'starts_at', p.starts_at, 'plan', p.plan,
			'layout', p.layout) ORDER BY p.starts_at, p.performance_id) FROM performances p WHERE p.event_id = e.event_id),
		(SELECT json_agg(json_build_object('category', c.category, 'amount', c.amount) ORDER BY c.category)
			FROM event_prices c WHERE c.event_id = e.event_id),
		(SELECT json_agg(json_build_object('uuid', a.area_id, 'name', a.name, 'category', a.category,
			'capacity', a.capacity) ORDER BY a.ordinal) FROM event_areas a WHERE a.event_id = e.event_id)
	FROM events e JOIN venues v ON v.venue = e.venue JOIN plans pl ON pl.venue = e.venue AND pl.plan = e.plan `

func scanEvent(row pgx.CollectableRow) (*eventRecord, error) {
	e := &eventRecord{}
	var categories, performances, prices, areas []byte
	err := row.Scan(&e.ID, &e.Slug, &e.Title, &e.Venue, &e.VenueName, &e.Plan, &categories, &e.Currency, &e.Status,
		&e.Room, &e.MaxPerSession, &performances, &prices, &areas)
	if err != nil {
		return nil, err
	}
	for _, part := range []struct {
		raw  []byte
		into any
	}{{categories, &e.Categories}, {performances, &e.Performances}, {prices, &e.Prices}, {areas, &e.Areas}} {
		if part.raw == nil {
			continue
		}
		if err := json.Unmarshal(part.raw, part.into); err != nil {
			return nil, fmt.Errorf("event %s: %w", e.Slug, err)
		}
	}
	return e, nil
}

// findEvent reads an event; nil when there is none.
func findEvent(ctx context.Context, db operator.DB, slug string) (*eventRecord, error) {
	rows, err := db.Query(ctx, selectEvents+`WHERE e.slug = $1`, slug)
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, scanEvent)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read event: %w", err)
	}
	return e, nil
}

// catalogue remembers what was read a moment ago. All of it is bounded.
type catalogue struct {
	events *otter.Cache[string, *eventRecord] // by slug; nil: no such event
	pages  *otter.Cache[listQuery, rendered]
	plans  *otter.Cache[planKey, *Plan]
	drawn  *otter.Cache[drawnKey, rendered] // plans as the public sees them
}

type planKey struct{ venue, hash string }

// catalogueAge is how old what another process changed may be here.
const catalogueAge = time.Second

func newCatalogue() catalogue {
	return catalogue{
		events: otter.Must(&otter.Options[string, *eventRecord]{
			MaximumSize: 4096, ExpiryCalculator: otter.ExpiryWriting[string, *eventRecord](catalogueAge),
		}),
		pages: otter.Must(&otter.Options[listQuery, rendered]{
			MaximumSize: 256, ExpiryCalculator: otter.ExpiryWriting[listQuery, rendered](catalogueAge),
		}),
		plans: otter.Must(&otter.Options[planKey, *Plan]{ // in seats: about 100 bytes each
			MaximumWeight: 1_000_000, Weigher: func(_ planKey, p *Plan) uint32 { return uint32(len(p.Seats) + 100) },
		}),
		drawn: otter.Must(&otter.Options[drawnKey, rendered]{ // in bytes
			MaximumWeight: 64 << 20, Weigher: func(_ drawnKey, r rendered) uint32 { return uint32(len(r.body) + len(r.zipped) + 100) },
		}),
	}
}

// event returns an event that may be a draft: 404 event-not-found.
func (s *Server) event(ctx context.Context, slug string) (*eventRecord, error) {
	if !slugPattern.MatchString(slug) {
		return nil, noEvent()
	}
	e, err := s.catalogue.events.Get(ctx, slug, otter.LoaderFunc[string, *eventRecord](
		func(ctx context.Context, slug string) (*eventRecord, error) {
			ctx, cancel := detached(ctx)
			defer cancel()
			return findEvent(ctx, s.db, slug)
		}))
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, noEvent()
	}
	return e, nil
}

// publicEvent is event without drafts, which the public does not see.
func (s *Server) publicEvent(ctx context.Context, slug string) (*eventRecord, error) {
	e, err := s.event(ctx, slug)
	if err == nil && e.Status == statusDraft {
		return nil, noEvent()
	}
	return e, err
}

func noEvent() *problem.Problem {
	return problem.New(http.StatusNotFound, "event-not-found", "There is no such event.")
}

func noPerformance() *problem.Problem {
	return problem.New(http.StatusNotFound, "performance-not-found", "The event has no such performance.")
}

// plan reads an immutable plan.
func (s *Server) plan(ctx context.Context, venue, hash string) (*Plan, error) {
	return s.catalogue.plans.Get(ctx, planKey{venue, hash}, otter.LoaderFunc[planKey, *Plan](
		func(ctx context.Context, k planKey) (*Plan, error) {
			ctx, cancel := detached(ctx)
			defer cancel()
			return readPlan(ctx, s.db, k)
		}))
}

func readPlan(ctx context.Context, db operator.DB, k planKey) (*Plan, error) {
	var document []byte
	err := db.QueryRow(ctx, `SELECT document FROM plans WHERE venue = $1 AND plan = $2`, k.venue, k.hash).Scan(&document)
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	return decodePlan(document, k.hash)
}

// findLayout returns what the indexes of a performance are, at most catalogueAge old: 404
// event-not-found (also for drafts) or performance-not-found.
func (s *Server) findLayout(ctx context.Context, slug, performance string) (*Layout, error) {
	e, err := s.publicEvent(ctx, slug)
	if err != nil {
		return nil, err
	}
	p, err := e.performanceOf(performance)
	if err != nil {
		return nil, err
	}
	plan, err := s.plan(ctx, e.Venue, p.Plan)
	if err != nil {
		return nil, err
	}
	return newLayout(e, p, plan, s.now()), nil
}

func (e *eventRecord) performanceOf(text string) (performanceRecord, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return performanceRecord{}, noPerformance()
	}
	p, ok := e.performance(id)
	if !ok {
		return performanceRecord{}, noPerformance()
	}
	return p, nil
}

func newLayout(e *eventRecord, p performanceRecord, plan *Plan, now time.Time) *Layout {
	l := &Layout{
		EventID: e.ID, PerformanceID: p.ID, Slug: e.Slug, Title: e.Title, Venue: e.VenueName, Room: e.Room,
		Currency: e.Currency, StartsAt: p.StartsAt, OnSale: e.status(p, now) == statusOnSale,
		MaxPerSession: e.MaxPerSession, Revision: p.Layout, Plan: plan, Seats: plan.Seats,
	}
	categories := make([]string, 0, len(plan.Categories)+len(e.Areas))
	for _, c := range plan.Categories {
		categories = append(categories, c.Name)
	}
	first := len(plan.Seats)
	for _, a := range e.Areas {
		l.Areas = append(l.Areas, Area{ID: a.UUID, Name: a.Name, Category: a.Category, First: first, Capacity: a.Capacity})
		first += a.Capacity
		categories = append(categories, a.Category)
	}
	for _, c := range categories {
		amount, known := e.price(c)
		l.prices = append(l.prices, price{amount, known})
	}
	return l
}

// unreachable tells a Postgres that is away from a statement that is wrong.
func unreachable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) { // 57: shutting down, 53: out of connections or space, 08: connection lost, 25006: a standby
		return pg.Code[:2] == "57" || pg.Code[:2] == "53" || pg.Code[:2] == "08" || pg.Code == "25006"
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err)
}
