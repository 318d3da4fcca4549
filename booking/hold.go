package booking

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"usher/internal/pass"
	"usher/internal/problem"
	"usher/internal/telemetry"
)

// HoldRequest asks for seats: by index and of areas, or the best ones.
type HoldRequest struct {
	Seats   []int      `json:"seats,omitempty" maxItems:"500" doc:"indexes of numbered seats"`
	Areas   []HoldArea `json:"areas,omitempty" maxItems:"50"`
	Best    *BestSeats `json:"best,omitempty" doc:"instead of seats and areas"`
	Replace string     `json:"replace,omitempty" maxLength:"4096" doc:"a hold of this session to give back in the same moment; it stays if the new one fails"`
}

// HoldArea is some units of a standing area.
type HoldArea struct {
	ID       string `json:"id" maxLength:"64"`
	Quantity int    `json:"quantity" minimum:"1" maximum:"500"`
}

// BestSeats asks for the best free seats, chosen in the moment that locks them.
type BestSeats struct {
	Quantity   int    `json:"quantity" minimum:"1" maximum:"500"`
	Category   string `json:"category,omitempty" maxLength:"200"`
	MaxPrice   *int64 `json:"max_price,omitempty" minimum:"0" doc:"of one seat, in minor units"`
	Adjacent   *bool  `json:"adjacent,omitempty" doc:"side by side; default true"`
	Accessible bool   `json:"accessible,omitempty" doc:"accessible seats alone"`
}

// Hold is what a session has locked.
type Hold struct {
	ID        string     `json:"id"`
	Seats     []int      `json:"seats"`
	Areas     []HoldArea `json:"areas"`
	Total     Money      `json:"total"`
	ExpiresAt time.Time  `json:"expires_at"`
}

// Seats is a choice of seats and units that could be held.
type Seats struct {
	Seats []int      `json:"seats"`
	Areas []HoldArea `json:"areas"`
}

// holdTime is how long a hold locks its seats: enough to agree on seats, type a name and
// an address and come back from a phone call (people complain of four minutes to pick and
// pay); short enough that a tab left open gives seats back while the line is still moving.
// Paying has its own time, payTime.
const holdTime = 6 * time.Minute

// take holds what in asks for, for the pass' session. A hold never outlives its pass.
func (s *Server) take(ctx context.Context, l *Layout, claims pass.Claims, in HoldRequest) (Hold, error) {
	if !l.OnSale {
		return Hold{}, notOnSale()
	}
	if faults := in.faults(l); len(faults) > 0 {
		return Hold{}, problem.Invalid(faults...)
	}
	replaced := ""
	if in.Replace != "" {
		old, err := s.ownHold(l, claims.Session, in.Replace)
		if err != nil {
			return Hold{}, problem.Invalid(problem.Field{Location: "body.replace", Message: "not a hold of this session and performance"})
		}
		replaced = old.ID.String()
	}
	areas := make([]string, len(in.Areas))
	for i, want := range in.Areas {
		a := l.area(want.ID)
		areas[i] = fmt.Sprintf("%d:%d:%d", a.First, a.Capacity, want.Quantity)
	}
	best, adjacent, runs := 0, true, []run(nil)
	switch {
	case in.Best != nil:
		best, adjacent = in.Best.Quantity, in.Best.Adjacent == nil || *in.Best.Adjacent
		runs = in.Best.choose(l, s.runs(l))
	case len(in.Seats) > 0 && len(in.Areas) == 0:
		runs = nearbyRuns(s.runs(l), l, in.Seats)
	}
	id := uuid.Must(uuid.NewV7())
	var outcome string
	var reply []any
	for from := 0; from == 0 || outcome == "taken" && from < len(runs); from += maxRuns {
		var err error
		outcome, reply, err = s.script(ctx, l, holdScript, id.String(), claims.Session,
			s.sales.holdTime.Milliseconds(), claims.ExpiresAt.UnixMilli(), l.MaxPerSession, replaced,
			unitText(in.Seats), strings.Join(areas, " "), best, flag(adjacent),
			runText(runs[from:min(len(runs), from+maxRuns)], max(best, len(in.Seats))))
		if err != nil {
			return Hold{}, err
		}
	}
	telemetry.Holds.WithLabelValues(outcome).Inc()
	switch outcome {
	case "ok":
		ends, ok := reply[0].(int64)
		units, isText := reply[1].(string)
		if !ok || !isText {
			return Hold{}, fmt.Errorf("hold script answered %T and %T", reply[0], reply[1])
		}
		h := heldSeats{
			Event: l.EventID, Performance: l.PerformanceID, ID: id, Layout: l.Revision, Session: claims.Session,
			Units: parseUnits(units), Ends: time.UnixMilli(ends).UTC(),
		}
		h.Total = l.total(h.Units).Amount
		return s.holdDocument(l, h), nil
	case "taken":
		return Hold{}, seatsTaken(l, parseUnits(fmt.Sprint(reply[0])), parseUnits(fmt.Sprint(reply[1])))
	case "limit":
		return Hold{}, holdLimit(l)
	case "over":
		return Hold{}, s.passRequired(l.Room)
	}
	return Hold{}, fmt.Errorf("hold script answered %q", outcome)
}

// ownHold reads a signed id and checks that it is of this performance and session.
func (s *Server) ownHold(l *Layout, session, id string) (heldSeats, error) {
	h, err := openHold(s.ring, id)
	if err != nil {
		return heldSeats{}, err
	}
	if h.Event != l.EventID || h.Performance != l.PerformanceID || h.Session != session {
		return heldSeats{}, errHoldID
	}
	return h, nil
}

// held finds the hold with the signed id. Where Redis forgot it, its seats are taken
// again if they are free.
func (s *Server) held(ctx context.Context, l *Layout, session, id string) (Hold, error) {
	h, err := s.ownHold(l, session, id)
	if err != nil {
		return Hold{}, holdNotFound()
	}
	if err := s.keep(ctx, l, h, ""); err != nil {
		return Hold{}, err
	}
	return s.holdDocument(l, h), nil
}

// keep makes sure in Redis that h is in force, and turns it over to order unless that is
// "". A hold of another layout is over: its indexes mean other seats now.
func (s *Server) keep(ctx context.Context, l *Layout, h heldSeats, order string) error {
	if h.Layout != l.Revision {
		return holdExpired("The seating has changed.")
	}
	outcome, reply, err := s.script(ctx, l, keepScript, h.ID.String(), h.Session, unitText(h.Units), h.Ends.UnixMilli(),
		order, (s.sales.payTime + reserveGrace).Milliseconds())
	if err != nil {
		return err
	}
	switch outcome {
	case "ok":
		return nil
	case "gone":
		return holdExpired("The seats' time is over.")
	case "ordered":
		return holdExpired("An order was made of this hold.")
	case "taken":
		return seatsTaken(l, parseUnits(fmt.Sprint(reply[0])), nil)
	}
	return fmt.Errorf("keep script answered %q", outcome)
}

// giveBack ends a hold before its time; one that is over already is no fault.
func (s *Server) giveBack(ctx context.Context, l *Layout, session, id string) error {
	h, err := s.ownHold(l, session, id)
	if err != nil {
		return holdNotFound()
	}
	outcome, _, err := s.script(ctx, l, releaseScript, h.ID.String(), h.Session, unitText(h.Units), h.Ends.UnixMilli())
	if err != nil {
		return err
	}
	if outcome == "ordered" {
		return holdExpired("An order was made of this hold; cancel the order instead.")
	}
	return nil
}

func (s *Server) holdDocument(l *Layout, h heldSeats) Hold {
	chosen := l.split(h.Units)
	return Hold{ID: sealHold(s.ring, h), Seats: chosen.Seats, Areas: chosen.Areas, Total: Money{h.Total, l.Currency}, ExpiresAt: h.Ends}
}

// split parts units into numbered seats and quantities of areas.
func (l *Layout) split(units []int) Seats {
	out := Seats{Seats: []int{}, Areas: []HoldArea{}}
	for _, u := range units {
		i, ok := l.AreaOf(u)
		if !ok {
			out.Seats = append(out.Seats, u)
			continue
		}
		id := l.Areas[i].ID
		if n := len(out.Areas); n > 0 && out.Areas[n-1].ID == id { // units are sorted
			out.Areas[n-1].Quantity++
		} else {
			out.Areas = append(out.Areas, HoldArea{ID: id, Quantity: 1})
		}
	}
	return out
}

func (l *Layout) total(units []int) Money {
	sum := Money{Currency: l.Currency}
	for _, u := range units {
		amount, _ := l.Price(u)
		sum.Amount += amount
	}
	return sum
}

func (l *Layout) area(id string) *Area {
	for i := range l.Areas {
		if l.Areas[i].ID == id {
			return &l.Areas[i]
		}
	}
	return nil
}

// faults are all that is wrong with the request, before any store is asked.
func (in HoldRequest) faults(l *Layout) []problem.Field {
	var out []problem.Field
	add := func(location, message string) {
		out = append(out, problem.Field{Location: location, Message: message})
	}
	if in.Best != nil {
		if len(in.Seats) > 0 || len(in.Areas) > 0 {
			add("body.best", "not together with seats or areas")
		}
		if c := in.Best.Category; c != "" && !slices.ContainsFunc(l.Plan.Categories, func(known Category) bool { return known.Name == c }) {
			add("body.best.category", "no such category")
		}
		if in.Best.Quantity > maxHeld {
			add("body.best.quantity", "too many")
		}
		return out
	}
	if len(in.Seats) == 0 && len(in.Areas) == 0 {
		add("body", "seats, areas or best is needed")
	}
	seen := make(map[int]bool, len(in.Seats))
	n := len(in.Seats)
	for i, u := range in.Seats {
		where := fmt.Sprintf("body.seats[%d]", i)
		switch _, sold := l.Price(u); {
		case u < 0 || u >= len(l.Seats):
			add(where, "no such seat")
		case !sold:
			add(where, "not for sale")
		case seen[u]:
			add(where, "named twice")
		}
		seen[u] = true
	}
	named := make(map[string]bool, len(in.Areas))
	for i, a := range in.Areas {
		where := fmt.Sprintf("body.areas[%d]", i)
		area := l.area(a.ID)
		if area == nil {
			add(where+".id", "no such area")
			continue
		}
		if _, sold := l.Price(area.First); !sold {
			add(where+".id", "not for sale")
		}
		if named[a.ID] {
			add(where+".id", "named twice")
		}
		named[a.ID] = true
		n += a.Quantity
	}
	if n > maxHeld {
		add("body", "too many seats at once")
	}
	return out
}

// choose cuts runs down to those that the wish allows.
func (b *BestSeats) choose(l *Layout, runs []run) []run {
	var fit []run
	for _, r := range runs {
		price, _ := l.Price(r.first)
		if b.Category != "" && l.Plan.Categories[r.category].Name != b.Category ||
			b.MaxPrice != nil && price > *b.MaxPrice || b.Accessible != r.accessible {
			continue
		}
		fit = append(fit, r)
	}
	return fit
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func seatsTaken(l *Layout, taken, alternative []int) *problem.Problem {
	p := problem.New(http.StatusConflict, "seats-taken", "Some of these seats are not free.").With("taken", taken).With("alternative", nil)
	if len(alternative) > 0 {
		p.With("alternative", l.split(alternative))
	}
	return p
}

func holdLimit(l *Layout) *problem.Problem {
	return problem.New(http.StatusConflict, "hold-limit", "That would be more seats than one buyer may have.").With("max_seats_per_session", l.MaxPerSession)
}

func holdExpired(detail string) *problem.Problem {
	return problem.New(http.StatusGone, "hold-expired", detail)
}

func holdNotFound() *problem.Problem {
	return problem.New(http.StatusNotFound, "hold-not-found", "This is not a hold of yours.")
}

func notOnSale() *problem.Problem {
	return problem.New(http.StatusConflict, "not-on-sale", "This event is not on sale.")
}

// passRequired is what a protected call answers without a valid pass.
func (s *Server) passRequired(room string) *problem.Problem {
	p := problem.New(http.StatusForbidden, "pass-required", "A pass of the event's waiting room is needed.").With("room", nil).With("join_url", nil)
	if room != "" {
		p.With("room", room).With("join_url", "/rooms/"+room)
	}
	return p
}

// saleError is fail for what needs Redis: strangers are told to try again, operators why.
func (s *Server) saleError(ctx context.Context, act string, err error) error {
	if !errors.Is(err, errRedis) {
		return s.fail(ctx, act, err)
	}
	s.log.ErrorContext(ctx, act, "error", err)
	return problem.New(http.StatusServiceUnavailable, "unavailable", "Seats cannot be locked right now. Please try again.").In(2 * time.Second)
}
