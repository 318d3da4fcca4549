package booking

import (
	"fmt"
	"slices"
	"time"

	"github.com/bojanz/currency"
	"github.com/google/uuid"

	"usher/internal/problem"
)

// defaultMaxSeats is limits.max_seats_per_session where nobody set it.
const defaultMaxSeats = 8

// Bounds of an event.
const (
	maxUnits = 200_000 // seats and units of areas together
)

// eventChange is the body of PUT events/{event}.
type eventChange struct {
	Title        optional[string]            `json:"title" required:"false" minLength:"1" maxLength:"200"`
	Venue        optional[string]            `json:"venue" required:"false" pattern:"^[a-z0-9-]{1,40}$"`
	Plan         optional[string]            `json:"plan" required:"false" pattern:"^[0-9a-f]{64}$" doc:"version of the venue's plan; null: its newest"`
	Currency     optional[string]            `json:"currency" required:"false" pattern:"^[A-Z]{3}$"`
	Status       optional[string]            `json:"status" required:"false" enum:"draft,on_sale,ended" doc:"default draft"`
	Room         optional[string]            `json:"room" required:"false" pattern:"^[a-z0-9-]{1,40}$" doc:"default none"`
	Prices       optional[[]priceChange]     `json:"prices" required:"false" maxItems:"200"`
	Areas        optional[[]areaChange]      `json:"areas" required:"false" maxItems:"200" doc:"areas of the plan on sale"`
	Performances optional[[]performanceDate] `json:"performances" required:"false" maxItems:"500" doc:"all of them: one left out is removed"`
	Limits       optional[limitsChange]      `json:"limits" required:"false"`
}

type priceChange struct {
	Category string `json:"category" minLength:"1" maxLength:"80"`
	Amount   int64  `json:"amount" minimum:"0" maximum:"1000000000" doc:"minor units"`
}

type areaChange struct {
	UUID     string `json:"uuid" minLength:"1" maxLength:"64"`
	Name     string `json:"name" minLength:"1" maxLength:"80"`
	Category string `json:"category" minLength:"1" maxLength:"80"`
	Capacity int    `json:"capacity" minimum:"1" maximum:"100000"`
}

type performanceDate struct {
	ID       *string   `json:"id,omitempty" format:"uuid" doc:"absent: the one at this time, else a new one"`
	StartsAt time.Time `json:"starts_at"`
}

type limitsChange struct {
	MaxSeatsPerSession optional[int] `json:"max_seats_per_session" required:"false" minimum:"1" maximum:"100" doc:"default 8"`
}

// merge returns what the change makes of current, the zero record for a new event, and
// the faults that need no look at the plan. Plan, VenueName and Categories are the
// caller's to fill in.
func (c *eventChange) merge(current eventRecord) (eventRecord, []problem.Field) {
	var faults []problem.Field
	fault := func(location, format string, args ...any) {
		faults = append(faults, problem.Field{Location: "body." + location, Message: fmt.Sprintf(format, args...)})
	}
	next := current
	next.Title = c.Title.over(current.Title, "")
	next.Venue = c.Venue.over(current.Venue, "")
	next.Currency = c.Currency.over(current.Currency, "")
	for name, value := range map[string]string{"title": next.Title, "venue": next.Venue, "currency": next.Currency} {
		if value == "" {
			fault(name, "is required")
		}
	}
	if next.Currency != "" && !currency.IsValid(next.Currency) {
		fault("currency", "must be a code of ISO 4217")
	}
	next.Status = c.Status.over(current.Status, statusDraft)
	if next.Status == "" {
		next.Status = statusDraft
	}
	next.Room = c.Room.over(current.Room, "")
	limits := c.Limits.over(limitsChange{}, limitsChange{MaxSeatsPerSession: optional[int]{given: true, null: true}})
	next.MaxPerSession = limits.MaxSeatsPerSession.over(current.MaxPerSession, defaultMaxSeats)
	if next.MaxPerSession == 0 {
		next.MaxPerSession = defaultMaxSeats
	}
	if c.Prices.given {
		next.Prices = nil
		for i, p := range c.Prices.value {
			if _, again := next.price(p.Category); again {
				fault(fmt.Sprintf("prices[%d].category", i), "is priced twice")
			}
			next.Prices = append(next.Prices, priceRecord(p))
		}
	}
	if c.Areas.given {
		next.Areas = nil
		for i, a := range c.Areas.value {
			if slices.ContainsFunc(next.Areas, func(other areaRecord) bool { return other.UUID == a.UUID }) {
				fault(fmt.Sprintf("areas[%d].uuid", i), "is on sale twice")
			}
			next.Areas = append(next.Areas, areaRecord(a))
		}
	}
	if c.Performances.given {
		next.Performances = mergePerformances(current.Performances, c.Performances.value, fault)
	}
	if next.Status == statusOnSale && len(next.Performances) == 0 {
		fault("performances", "an event on sale needs one")
	}
	return next, faults
}

// mergePerformances matches dates to the performances there are: by id, or without one
// by time, so that sending the same body again makes nothing new.
func mergePerformances(current []performanceRecord, dates []performanceDate, fault func(string, string, ...any)) []performanceRecord {
	taken := map[uuid.UUID]bool{}
	next := make([]performanceRecord, len(dates))
	for i, d := range dates {
		if d.StartsAt.Year() < 1970 || d.StartsAt.Year() > 9000 {
			fault(fmt.Sprintf("performances[%d].starts_at", i), "is not a time that can be")
		}
		next[i].StartsAt = d.StartsAt.UTC().Truncate(time.Microsecond)
		if d.ID == nil {
			continue
		}
		id, err := uuid.Parse(*d.ID)
		if err != nil || id == uuid.Nil || taken[id] {
			fault(fmt.Sprintf("performances[%d].id", i), "must be a UUID that the list has once")
			continue
		}
		taken[id] = true
		next[i].ID = id
	}
	for i := range next {
		for _, p := range current {
			if next[i].ID == p.ID || next[i].ID == uuid.Nil && !taken[p.ID] && p.StartsAt.Equal(next[i].StartsAt) {
				next[i].ID, next[i].Plan, next[i].Layout = p.ID, p.Plan, p.Layout
				taken[p.ID] = true
				break
			}
		}
		if next[i].ID == uuid.Nil {
			next[i].ID = uuid.Must(uuid.NewV7())
		}
	}
	return next
}

// check returns the faults of e against its plan.
func (e *eventRecord) check(plan *Plan) []problem.Field {
	var faults []problem.Field
	fault := func(location, format string, args ...any) {
		faults = append(faults, problem.Field{Location: "body." + location, Message: fmt.Sprintf(format, args...)})
	}
	inPlan, inUse := map[string]bool{}, map[string]bool{}
	for _, c := range plan.Categories {
		inPlan[c.Name] = true
		inUse[c.Name] = c.Seats > 0
	}
	units := len(plan.Seats)
	for i, a := range e.Areas {
		if !slices.ContainsFunc(plan.Areas, func(drawn PlanArea) bool { return drawn.ID == a.UUID }) {
			fault(fmt.Sprintf("areas[%d].uuid", i), "is not an area of the venue's plan")
		}
		if !inPlan[a.Category] {
			fault(fmt.Sprintf("areas[%d].category", i), "is not a category of the venue's plan")
		}
		inUse[a.Category] = true
		units += a.Capacity
	}
	if units > maxUnits {
		fault("areas", "seats and capacities together are more than %d", maxUnits)
	}
	for i, p := range e.Prices {
		if !inPlan[p.Category] {
			fault(fmt.Sprintf("prices[%d].category", i), "is not a category of the venue's plan")
		}
	}
	if len(e.Prices) == 0 && e.Status == statusDraft {
		return faults // a draft may wait for its prices, but not have half of them
	}
	for _, c := range plan.Categories {
		if _, priced := e.price(c.Name); inUse[c.Name] && !priced {
			fault("prices", "category %q is in use and has no price", c.Name)
		}
	}
	return faults
}

// pinned tells whether the change from current to e is one that orders forbid: of what
// an index means, of the currency, or back to a draft that buyers could not see.
func (e *eventRecord) pinned(current *eventRecord) bool {
	same := func(a, b areaRecord) bool { return a.UUID == b.UUID && a.Capacity == b.Capacity }
	return e.Plan != current.Plan || e.Venue != current.Venue || e.Currency != current.Currency ||
		!slices.EqualFunc(e.Areas, current.Areas, same) ||
		e.Status == statusDraft && current.Status != statusDraft
}
