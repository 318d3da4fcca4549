package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

const (
	maxHolds    = 30 // attempts before a buyer gives up on a shop that still shows free seats
	paidWithin  = time.Minute
	hotSeats    = 200 // half of the buyers want one of the first so many free seats
	eventsPath  = "/api/v1/events/"
	maxPollWait = 2 * time.Second
)

// shop plays a fan with a pass: look, hold, order, pay, read the tickets.
func (v *visit) shop(ctx context.Context) error {
	performance := v.performances[v.rng.IntN(len(v.performances))]
	path := eventsPath + v.event.Slug + "/performances/" + performance
	hold, err := v.hold(ctx, path, performance)
	if err != nil {
		return err
	}
	if hold == nil {
		v.fan.Outcome = SoldOut
		return v.leaveShop(ctx)
	}
	if v.fan.Part == Windower {
		if !pause(ctx, v.between(200*time.Millisecond, 3*time.Second)) {
			return ctx.Err()
		}
		if _, _, err := v.c.insist(ctx, http.MethodDelete, path+"/holds/"+hold.ID, nil, nil); err != nil {
			return fmt.Errorf("give the hold back: %w", err)
		}
		v.fan.Outcome = Gone
		return v.leaveShop(ctx)
	}
	if v.fan.Part == Slow && !pause(ctx, v.between(time.Second, 5*time.Second)) {
		return ctx.Err()
	}
	if err := v.buy(ctx, performance, hold); err != nil {
		return err
	}
	v.fan.Outcome = Bought
	return nil
}

// hold takes seats, others when those are taken; nil without an error when the performance has none left.
func (v *visit) hold(ctx context.Context, path, performance string) (*holdDoc, error) {
	var offered []int
	for attempt := range maxHolds {
		wish := map[string]any{"seats": offered}
		if len(offered) == 0 {
			var a availabilityDoc
			t, _, err := v.c.insist(ctx, http.MethodGet, path+"/availability", nil, &a)
			if err != nil {
				return nil, fmt.Errorf("look at the seats: %w", err)
			}
			v.fan.Looked = append(v.fan.Looked, t)
			v.shelfBefore(performance, a.Seats)
			if wish = v.choose(a); wish == nil {
				return nil, nil
			}
		}
		var h holdDoc
		t, status, err := v.c.insist(ctx, http.MethodPost, path+"/holds", wish, &h)
		v.fan.Holds = append(v.fan.Holds, HoldTry{t, performance, status, h.Seats})
		if err == nil {
			if status != http.StatusCreated {
				v.fault("a hold answered %d, want 201", status)
			}
			return &h, nil
		}
		r, refused := asRefusal(err)
		if !refused || r.Code != "seats-taken" {
			return nil, fmt.Errorf("hold: %w", err)
		}
		offered = nil
		if attempt%2 == 0 { // every other time the fan looks again instead
			offered = alternative(r.Alternative)
		}
	}
	return nil, fmt.Errorf("hold: seats were free and taken %d times", maxHolds)
}

// alternative reads the seats that a refused hold was offered: null, a list, or an object with the list.
func alternative(raw json.RawMessage) []int {
	var seats []int
	if json.Unmarshal(raw, &seats) == nil {
		return seats
	}
	var wrapped struct {
		Seats []int `json:"seats"`
	}
	if json.Unmarshal(raw, &wrapped) == nil {
		return wrapped.Seats
	}
	return nil
}

// choose picks a run of free seats, or units of an area; nil: nothing is free.
func (v *visit) choose(a availabilityDoc) map[string]any {
	var free []int
	for i, state := range a.Seats {
		if state == 0 {
			free = append(free, i)
		}
	}
	want := v.seats
	if m := v.event.Limits.MaxSeats; m > 0 {
		want = min(want, m)
	}
	if len(free) >= want {
		from := len(free) - want + 1
		if v.rng.IntN(2) == 0 {
			from = min(from, hotSeats)
		}
		at := v.rng.IntN(from)
		return map[string]any{"seats": free[at : at+want]}
	}
	for _, area := range a.Areas {
		if area.Free >= want {
			return map[string]any{"areas": []areaWish{{area.ID, want}}}
		}
	}
	if len(free) > 0 {
		return map[string]any{"seats": free}
	}
	return nil
}

// buy orders what is held and pays, and waits for the tickets.
func (v *visit) buy(ctx context.Context, performance string, hold *holdDoc) error {
	orders := eventsPath + v.event.Slug + "/orders"
	body := map[string]any{
		"hold":     hold.ID,
		"buyer":    map[string]string{"email": fmt.Sprintf("fan-%d@stampede.example", v.fan.ID), "name": fmt.Sprintf("Fan %d", v.fan.ID)},
		"provider": "sandbox",
	}
	key := uuid.NewString()
	var o orderDoc
	t, status, err := v.c.insist(ctx, http.MethodPost, orders, body, &o, "Idempotency-Key", key)
	if err != nil {
		return fmt.Errorf("order: %w", err)
	}
	order := &Order{Timing: t, ID: o.ID, Performance: performance, Seats: hold.Seats, State: o.State}
	for _, area := range hold.Areas {
		order.Units += area.Quantity
	}
	v.fan.Order = order
	if status != http.StatusCreated {
		v.fault("an order answered %d, want 201", status)
	}
	if v.rng.IntN(20) == 0 {
		var again orderDoc
		if _, _, err := v.c.insist(ctx, http.MethodPost, orders, body, &again, "Idempotency-Key", key); err != nil {
			v.fault("the same order sent again was refused: %v", err)
		} else if again.ID != o.ID {
			v.fault("the same order sent again is order %s after %s", again.ID, o.ID)
		}
	}
	approved := time.Now()
	v.fan.Ended = approved // a paid order frees its session
	if _, _, err := v.c.insist(ctx, http.MethodPost, "/sandbox/payments/"+o.Payment.ID+"/approve", nil, nil); err != nil {
		return fmt.Errorf("approve payment: %w", err)
	}
	order.Approved = true
	for wait := 50 * time.Millisecond; ; wait = min(wait*3/2, maxPollWait) {
		var now orderDoc
		if _, _, err := v.c.insist(ctx, http.MethodGet, orders+"/"+o.ID, nil, &now, "X-Order-Access", o.Access); err != nil {
			return fmt.Errorf("read the order: %w", err)
		}
		order.State = now.State
		if now.State == "paid" {
			order.PaidAfter = time.Since(approved)
			for _, t := range now.Tickets {
				order.Tickets = append(order.Tickets, Ticket{ID: t.ID, Label: t.SeatLabel, Code: t.Code, Area: t.Area})
			}
			return nil
		}
		if now.State != "pending" || time.Since(approved) > paidWithin {
			return fmt.Errorf("the approved order is %s after %s", cmp.Or(now.State, "without a state"), time.Since(approved).Round(time.Second))
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}
