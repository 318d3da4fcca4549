package booking

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"usher/internal/operator"
	"usher/internal/postgres"
)

//go:embed demo/*.json
var demoPlans embed.FS

// DemoEvent is an event of the demo; its room has the event's slug.
type DemoEvent struct {
	Slug, Title string
	// PacePerMin suits the room: the arena's newcomers wait some seconds, the others hardly.
	PacePerMin int
}

// demo is what EnsureDemo makes. Weeks are from the first start to each performance.
var demo = []struct {
	event     DemoEvent
	plan      string
	maxSeats  int
	weeks     []int
	prices    []priceChange
	areaNames map[string]areaChange // by the name on the plan
}{
	{
		event: DemoEvent{Slug: "arena", Title: "Northern Lights: The Arena Night", PacePerMin: 20},
		plan:  "arena", maxSeats: 6, weeks: []int{4},
		prices: []priceChange{
			{"Lower Premium", 12500}, {"Lower", 8900}, {"Club", 10500}, {"Upper", 5500}, {"Standing", 6900}, {"Golden Circle", 14900},
		},
		areaNames: map[string]areaChange{
			"Standing":      {Name: "Standing", Category: "Standing", Capacity: 2500},
			"Golden Circle": {Name: "Golden Circle", Category: "Golden Circle", Capacity: 400},
		},
	},
	{
		event: DemoEvent{Slug: "theatre", Title: "The Lighthouse Keeper", PacePerMin: 600},
		plan:  "theatre", maxSeats: 8, weeks: []int{5, 6},
		prices: []priceChange{
			{"Stalls Premium", 7800}, {"Stalls", 5800}, {"Circle", 4800}, {"Balcony", 2900}, {"Box", 9500}, {"Accessible", 2900},
		},
	},
	{
		event: DemoEvent{Slug: "club", Title: "Late Session at the Cellar", PacePerMin: 600},
		plan:  "club", maxSeats: 4, weeks: []int{6},
		prices:    []priceChange{{"Table", 3900}, {"Standing", 2200}},
		areaNames: map[string]areaChange{"Standing": {Name: "Standing", Category: "Standing", Capacity: 250}},
	},
}

// EnsureDemo makes the demo's venues and events where they are missing, in the name of
// "demo", and returns them. What an operator has changed stays changed.
func EnsureDemo(ctx context.Context, db *pgxpool.Pool, now time.Time) ([]DemoEvent, error) {
	s := &Server{db: db, now: func() time.Time { return now }, catalogue: newCatalogue()}
	ctx = operator.WithPrincipal(ctx, operator.Principal{ID: "demo", Name: "demo", Role: operator.Admin})
	var events []DemoEvent
	for _, d := range demo {
		events = append(events, d.event)
		current, err := findEvent(ctx, db, d.event.Slug)
		if err != nil {
			return nil, err
		}
		if current != nil {
			continue
		}
		raw, err := demoPlans.ReadFile("demo/" + d.plan + ".json")
		if err != nil {
			return nil, fmt.Errorf("demo plan: %w", err)
		}
		plan, faults := parsePlan(raw)
		if len(faults) > 0 {
			return nil, fmt.Errorf("demo plan %s: %v", d.plan, faults)
		}
		document, hash, err := plan.encode()
		if err != nil {
			return nil, fmt.Errorf("demo plan %s: %w", d.plan, err)
		}
		plan.Hash = hash
		change := eventChange{
			Title: given(d.event.Title), Venue: given(d.plan), Currency: given("EUR"), Status: given(statusOnSale),
			Room: given(d.event.Slug), Prices: given(d.prices),
			Limits: given(limitsChange{MaxSeatsPerSession: given(d.maxSeats)}),
		}
		change.Areas.given = true
		for _, a := range plan.Areas {
			if sold, ok := d.areaNames[a.Name]; ok {
				sold.UUID = a.ID
				change.Areas.value = append(change.Areas.value, sold)
			}
		}
		change.Performances.given = true
		for _, weeks := range d.weeks {
			day := now.UTC().AddDate(0, 0, 7*weeks)
			at := time.Date(day.Year(), day.Month(), day.Day(), 19, 30, 0, 0, time.UTC)
			change.Performances.value = append(change.Performances.value, performanceDate{StartsAt: at})
		}
		err = postgres.Retry(ctx, db, func(tx pgx.Tx) error {
			if _, err := s.storePlan(ctx, tx, d.plan, plan, document); err != nil {
				return err
			}
			_, _, err := s.changeEvent(ctx, tx, d.event.Slug, &change)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("make demo event %s: %w", d.event.Slug, err)
		}
	}
	return events, nil
}

func given[T any](v T) optional[T] { return optional[T]{given: true, value: v} }
