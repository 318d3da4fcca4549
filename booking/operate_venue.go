package booking

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"usher/internal/operator"
	"usher/internal/postgres"
	"usher/internal/problem"
)

// Venue is a hall with its newest seating plan.
type Venue struct {
	Venue      string      `json:"venue"`
	Name       string      `json:"name"`
	Plan       string      `json:"plan" doc:"version of the seating plan: SHA-256 of its content"`
	Seats      int         `json:"seats"`
	Categories []Category  `json:"categories"`
	Areas      []VenueArea `json:"areas,omitempty" doc:"shapes that an event may sell as standing areas"`
}

// VenueArea is a shape of a plan that an event may sell.
type VenueArea struct {
	UUID string `json:"uuid"`
	Name string `json:"name"`
}

// VenueList is all venues.
type VenueList struct {
	Venues []Venue `json:"venues"`
}

func (s *Server) registerVenues() {
	put := operate(http.MethodPut, "/venues/{venue}/plan", "put-plan",
		"Import a seating plan in the layout of the pretix seat editor", operator.Operate, 413, 422)
	put.MaxBodyBytes = maxPlanBody + 1
	put.SkipValidateBody = true // by parsePlan, which is bounded
	put.Responses = putResponses[Venue](s.api)
	put.BodyReadTimeout = 30 * time.Second
	huma.Register(s.api, put, s.putPlan)
	huma.Register(s.api, operate(http.MethodGet, "/venues", "list-venues", "Venues", operator.View), s.listVenues)
}

type venueAnswer struct {
	Status int
	Body   Venue
}

func (s *Server) putPlan(ctx context.Context, in *struct {
	Venue   string `path:"venue" pattern:"^[a-z0-9-]{1,40}$"`
	RawBody []byte `contentType:"application/json"`
}) (*venueAnswer, error) {
	plan, faults := parsePlan(in.RawBody)
	if len(faults) > 0 {
		return nil, problem.Invalid(faults...)
	}
	document, hash, err := plan.encode()
	if err != nil {
		return nil, s.fail(ctx, "put plan", err)
	}
	plan.Hash = hash
	created := false
	err = postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		var err error
		created, err = s.storePlan(ctx, tx, in.Venue, plan, document)
		return err
	})
	if err != nil {
		return nil, s.fail(ctx, "put plan", err)
	}
	v := Venue{Venue: in.Venue, Name: plan.Name, Plan: hash, Seats: len(plan.Seats), Categories: plan.Categories}
	for _, a := range plan.Areas {
		v.Areas = append(v.Areas, VenueArea{UUID: a.ID, Name: a.Name})
	}
	return &venueAnswer{Status: made(created), Body: v}, nil
}

// storePlan makes plan the newest of venue. Events keep the plans that they have.
func (s *Server) storePlan(ctx context.Context, tx pgx.Tx, venue string, plan *Plan, document []byte) (created bool, err error) {
	categories, err := json.Marshal(plan.Categories)
	if err != nil {
		return false, fmt.Errorf("store plan: %w", err)
	}
	now := s.now()
	_, err = tx.Exec(ctx, `
		INSERT INTO plans (venue, plan, document, categories, seats, created_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (venue, plan) DO NOTHING`,
		venue, plan.Hash, document, categories, len(plan.Seats), now)
	if err != nil {
		return false, fmt.Errorf("store plan: %w", err)
	}
	var before *string
	err = tx.QueryRow(ctx, `SELECT plan FROM venues WHERE venue = $1 FOR UPDATE`, venue).Scan(&before)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("store plan: %w", err)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO venues (venue, name, plan, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
		ON CONFLICT (venue) DO UPDATE SET name = EXCLUDED.name, plan = EXCLUDED.plan, updated_at = EXCLUDED.updated_at`,
		venue, plan.Name, plan.Hash, now)
	if err != nil {
		return false, fmt.Errorf("store plan: %w", err)
	}
	type version struct {
		Plan  string `json:"plan"`
		Seats int    `json:"seats,omitempty"`
	}
	if before == nil {
		return true, s.record(ctx, tx, "venue.create", "venue/"+venue, nil, version{plan.Hash, len(plan.Seats)})
	}
	return false, s.record(ctx, tx, "venue.plan", "venue/"+venue, version{Plan: *before}, version{plan.Hash, len(plan.Seats)})
}

// maxVenues bounds the list.
const maxVenues = 1000

func (s *Server) listVenues(ctx context.Context, _ *struct{}) (*struct{ Body VenueList }, error) {
	rows, err := s.db.Query(ctx, `
		SELECT v.venue, v.name, v.plan, p.seats, p.categories
		FROM venues v JOIN plans p ON p.venue = v.venue AND p.plan = v.plan ORDER BY v.venue LIMIT $1`, maxVenues)
	if err != nil {
		return nil, s.fail(ctx, "list venues", err)
	}
	venues, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v Venue, err error) {
		return v, row.Scan(&v.Venue, &v.Name, &v.Plan, &v.Seats, &v.Categories)
	})
	if err != nil {
		return nil, s.fail(ctx, "list venues", err)
	}
	return &struct{ Body VenueList }{VenueList{Venues: venues}}, nil
}
