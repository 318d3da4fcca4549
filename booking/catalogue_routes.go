package booking

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/maypok86/otter/v2"

	"usher/internal/deadline"
	"usher/internal/problem"
)

// Money is an amount in minor units of a currency.
type Money struct {
	Amount   int64  `json:"amount" doc:"minor units"`
	Currency string `json:"currency"`
}

// Event is an event as the public sees it.
type Event struct {
	Slug         string             `json:"slug"`
	Title        string             `json:"title"`
	Status       string             `json:"status" enum:"draft,on_sale,ended"`
	Venue        string             `json:"venue"`
	VenueName    string             `json:"venue_name"`
	Currency     string             `json:"currency"`
	Room         *string            `json:"room" doc:"the waiting room in front of it; null: none"`
	Performances []EventPerformance `json:"performances"`
	Categories   []EventCategory    `json:"categories" doc:"what is sold, in the plan's order"`
	Areas        []EventArea        `json:"areas" doc:"standing areas"`
	Limits       EventLimits        `json:"limits"`
}

// EventPerformance is one date of an event.
type EventPerformance struct {
	ID       uuid.UUID `json:"id" format:"uuid"`
	StartsAt time.Time `json:"starts_at"`
	Status   string    `json:"status" enum:"draft,on_sale,ended"`
	Plan     string    `json:"plan" doc:"version of the seating plan; .../plan?v={plan} never changes"`
}

// EventCategory is a price category.
type EventCategory struct {
	Name  string `json:"name"`
	Price Money  `json:"price"`
	Color string `json:"color"`
}

// EventArea is a standing area on sale.
type EventArea struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Category string `json:"category"`
	Capacity int    `json:"capacity"`
}

// EventLimits are what one buyer may have.
type EventLimits struct {
	MaxSeatsPerSession int `json:"max_seats_per_session"`
}

// document is e as the public sees it at now.
func (e *eventRecord) document(now time.Time) Event {
	doc := Event{
		Slug: e.Slug, Title: e.Title, Status: e.Status, Venue: e.Venue, VenueName: e.VenueName, Currency: e.Currency,
		Performances: []EventPerformance{}, Categories: []EventCategory{}, Areas: []EventArea{},
		Limits: EventLimits{MaxSeatsPerSession: e.MaxPerSession},
	}
	if e.Room != "" {
		doc.Room = &e.Room
	}
	for _, p := range e.Performances {
		doc.Performances = append(doc.Performances, EventPerformance{
			ID: p.ID, StartsAt: p.StartsAt.UTC(), Status: e.status(p, now), Plan: e.planVersion(p),
		})
	}
	for _, c := range e.Categories {
		if amount, ok := e.price(c.Name); ok {
			doc.Categories = append(doc.Categories, EventCategory{Name: c.Name, Price: Money{amount, e.Currency}, Color: c.Color})
		}
	}
	for _, a := range e.Areas {
		doc.Areas = append(doc.Areas, EventArea{ID: a.UUID, Name: a.Name, Category: a.Category, Capacity: a.Capacity})
	}
	return doc
}

// planVersion names what GET …/plan answers: the plan and the areas on sale.
func (e *eventRecord) planVersion(p performanceRecord) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", p.Plan)
	for _, a := range e.Areas {
		fmt.Fprintf(h, "%q %q %q %d\n", a.UUID, a.Name, a.Category, a.Capacity)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// EventList is a page of events.
type EventList struct {
	Events []Event `json:"events"`
	Next   string  `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
}

// rendered is a body that is ready to send.
type rendered struct {
	body, zipped []byte // zipped may be nil
	tag          string // of body, without quotes
}

func render(v any) (rendered, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return rendered{}, fmt.Errorf("render: %w", err)
	}
	sum := sha256.Sum256(body)
	return rendered{body: body, tag: hex.EncodeToString(sum[:12])}, nil
}

// Conditional is what a client says about the copy that it has.
type Conditional struct {
	IfNoneMatch    string `header:"If-None-Match"`
	AcceptEncoding string `header:"Accept-Encoding"`
}

type cacheable struct {
	Status          int
	ContentType     string `header:"Content-Type"`
	ContentEncoding string `header:"Content-Encoding"`
	CacheControl    string `header:"Cache-Control"`
	ETag            string `header:"ETag"`
	Vary            string `header:"Vary"`
	Body            []byte
}

// answer sends r, or 304 where the client has it.
func (c Conditional) answer(r rendered, cacheControl string) *cacheable {
	out := &cacheable{
		Status: http.StatusOK, ContentType: "application/json", CacheControl: cacheControl,
		ETag: `"` + r.tag + `"`, Vary: "Accept-Encoding", Body: r.body,
	}
	if r.zipped != nil && acceptsGzip(c.AcceptEncoding) {
		out.ContentEncoding, out.Body, out.ETag = "gzip", r.zipped, `"`+r.tag+`-gzip"`
	}
	for tag := range strings.SplitSeq(c.IfNoneMatch, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag == out.ETag {
			out.Status, out.Body, out.ContentEncoding, out.ContentType = http.StatusNotModified, nil, "", ""
			break
		}
	}
	return out
}

func acceptsGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, ok := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			return !ok || strings.Trim(q, "0.") != ""
		}
	}
	return false
}

// The catalogue may be kept for a few seconds by anyone; after that the ETag decides.
const (
	cacheCatalogue = "public, max-age=5"
	cachePlan      = "public, max-age=60, immutable"
	cacheForever   = "public, max-age=31536000, immutable"
)

func (s *Server) registerCatalogue() {
	huma.Register(s.api, huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/api/v1/events", Tags: []string{"Catalogue"},
		Summary: "Events, by their first performance", Errors: []int{422, 503},
		Responses: jsonResponse[EventList](s.api),
	}, s.listEvents)
	huma.Register(s.api, huma.Operation{
		OperationID: "get-event", Method: http.MethodGet, Path: "/api/v1/events/{event}", Tags: []string{"Catalogue"},
		Summary: "An event", Errors: []int{404, 503},
		Responses: jsonResponse[Event](s.api),
	}, s.getEvent)
	huma.Register(s.api, huma.Operation{
		OperationID: "get-plan", Method: http.MethodGet, Path: "/api/v1/events/{event}/performances/{performance}/plan",
		Tags: []string{"Catalogue"}, Summary: "The seating plan of a performance", Errors: []int{404, 503},
		Responses: jsonResponse[SeatingPlan](s.api),
	}, s.getPlan)
}

// jsonResponse describes a body that is sent as bytes.
func jsonResponse[T any](api huma.API) map[string]*huma.Response {
	kind := reflect.TypeFor[T]()
	return map[string]*huma.Response{"200": {
		Description: "OK",
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: api.OpenAPI().Components.Schemas.Schema(kind, true, kind.Name()),
		}},
	}}
}

// listQuery is a page of the list: what follows the cursor (first start, slug).
type listQuery struct {
	status string
	limit  int
	after  string
}

const farFuture = "infinity"

func (s *Server) listEvents(ctx context.Context, in *struct {
	Conditional
	Status string `query:"status" enum:"on_sale,ended" default:"on_sale"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
	Cursor string `query:"cursor" maxLength:"200"`
}) (*cacheable, error) {
	q := listQuery{status: in.Status, limit: in.Limit, after: in.Cursor}
	page, err := s.catalogue.pages.Get(ctx, q, otter.LoaderFunc[listQuery, rendered](s.readPage))
	if err != nil {
		return nil, s.fail(ctx, "list events", err)
	}
	return in.answer(page, cacheCatalogue), nil
}

func (s *Server) readPage(ctx context.Context, q listQuery) (rendered, error) {
	ctx, cancel := detached(ctx)
	defer cancel()
	at, slug, err := openCursor(q.after)
	if err != nil {
		return rendered{}, err
	}
	rows, err := s.db.Query(ctx, selectEvents+`
		WHERE e.status = $1 AND (coalesce(e.first_at, 'infinity'), e.slug) > ($2::timestamptz, $3)
		ORDER BY coalesce(e.first_at, 'infinity'), e.slug LIMIT $4`, q.status, at, slug, q.limit+1)
	if err != nil {
		return rendered{}, fmt.Errorf("list events: %w", err)
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return rendered{}, fmt.Errorf("list events: %w", err)
	}
	list := EventList{Events: []Event{}}
	if len(events) > q.limit {
		events = events[:q.limit]
		list.Next = sealCursor(events[q.limit-1])
	}
	for _, e := range events {
		list.Events = append(list.Events, e.document(s.now()))
	}
	return render(list)
}

func sealCursor(e *eventRecord) string {
	at := farFuture
	if len(e.Performances) > 0 {
		at = e.Performances[0].StartsAt.UTC().Format(time.RFC3339Nano)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(at + " " + e.Slug))
}

func openCursor(cursor string) (at, slug string, err error) {
	if cursor == "" {
		return "-infinity", "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	at, slug, ok := strings.Cut(string(raw), " ")
	if at != farFuture {
		_, parseErr := time.Parse(time.RFC3339Nano, at)
		ok = ok && parseErr == nil
	}
	if err != nil || !ok || !slugPattern.MatchString(slug) {
		return "", "", problem.Invalid(problem.Field{Location: "query.cursor", Message: "not a cursor of this list"})
	}
	return at, slug, nil
}

// detached lets a read that others wait for too outlive the request that began it.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return deadline.In(context.WithoutCancel(ctx), 10*time.Second)
}

func (s *Server) getEvent(ctx context.Context, in *struct {
	Conditional
	Event string `path:"event"`
}) (*cacheable, error) {
	e, err := s.publicEvent(ctx, in.Event)
	if err != nil {
		return nil, s.fail(ctx, "get event", err)
	}
	r, err := render(e.document(s.now()))
	if err != nil {
		return nil, s.fail(ctx, "get event", err)
	}
	return in.answer(r, cacheCatalogue), nil
}

// drawnKey names a plan with the areas on sale.
type drawnKey struct {
	event   uuid.UUID
	version string
}

func (s *Server) getPlan(ctx context.Context, in *struct {
	Conditional
	Event       string `path:"event"`
	Performance string `path:"performance"`
	Version     string `query:"v" maxLength:"64" doc:"the performance's plan; with the current one the answer never changes"`
}) (*cacheable, error) {
	e, err := s.publicEvent(ctx, in.Event)
	if err != nil {
		return nil, s.fail(ctx, "get plan", err)
	}
	p, err := e.performanceOf(in.Performance)
	if err != nil {
		return nil, err
	}
	version := e.planVersion(p)
	drawn, err := s.catalogue.drawn.Get(ctx, drawnKey{e.ID, version}, otter.LoaderFunc[drawnKey, rendered](
		func(ctx context.Context, _ drawnKey) (rendered, error) {
			plan, err := s.plan(ctx, e.Venue, p.Plan)
			if err != nil {
				return rendered{}, err
			}
			r, err := render(drawPlan(plan, e.Areas))
			if err == nil {
				r.zipped, err = compress(r.body)
			}
			return r, err
		}))
	if err != nil {
		return nil, s.fail(ctx, "get plan", err)
	}
	cache := cachePlan
	if in.Version == version {
		cache = cacheForever
	}
	return in.answer(drawn, cache), nil
}
