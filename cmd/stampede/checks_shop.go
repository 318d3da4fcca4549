package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// checkSessions holds invariant 6: a place gives one session. A repeated claim is the same session with the same end,
// no two fans share one, and every pass is for this room and stands under the published keys.
func checkSessions(h *History) Finding {
	f := Finding{Check: "one session a place", Verdict: Held}
	owners := map[string]int{}
	passes := 0
	for _, fan := range h.Fans {
		for _, c := range fan.Claims {
			passes++
			first := fan.Claims[0]
			if c.Session != first.Session || !c.Expires.Equal(first.Expires) {
				f.breach("fan %d claimed again and got session %s until %s after %s until %s", fan.ID, c.Session, clock(c.Expires), first.Session, clock(first.Expires))
			}
			if !c.Verified {
				f.breach("fan %d's pass does not verify under /.well-known/jwks.json", fan.ID)
			}
			if c.Audience != h.Room {
				f.breach("fan %d's pass is for %q", fan.ID, c.Audience)
			}
			if other, ok := owners[c.Session]; ok && other != fan.ID {
				f.breach("fans %d and %d share session %s", other, fan.ID, c.Session)
			}
			owners[c.Session] = fan.ID
		}
	}
	if passes == 0 {
		return f.notJudged("no pass was claimed")
	}
	f.Figure = fmt.Sprintf("%d sessions, %d passes", len(owners), passes)
	if n := len(h.Samples); n > 0 {
		if given := h.Samples[n-1].AdmittedTotal - h.Samples[0].AdmittedTotal; given < int64(len(owners))-h.claimsAfter() {
			f.breach("operators' figures count %d sessions given, fans claimed %d", given, len(owners))
		}
	}
	return f
}

// claimsAfter counts the fans whose first claim a sample at the end may not have seen, or the first sample had seen.
func (h *History) claimsAfter() int64 {
	first, last := h.Samples[0].At, h.Samples[len(h.Samples)-1].At.Add(-settling)
	var n int64
	for _, fan := range h.Fans {
		if len(fan.Claims) > 0 && (fan.Claims[0].At.Before(first) || fan.Claims[0].At.Add(fan.Claims[0].Took).After(last)) {
			n++
		}
	}
	return n
}

// checkSeats holds invariant 1 from outside: every seat and every ticket of the paid orders is theirs alone, was not
// sold before and is sold now, and an area has no more tickets than units.
func checkSeats(h *History) Finding {
	f := Finding{Check: "no seat sold twice", Verdict: Held}
	type seat struct {
		performance string
		at          string
	}
	indexes, labels, codes := map[seat]string{}, map[seat]string{}, map[string]string{}
	units, paid := map[seat]int{}, map[string][]int{}
	for _, fan := range h.Fans {
		o := fan.Order
		if o == nil || o.State != "paid" {
			continue
		}
		for _, i := range o.Seats {
			s := seat{o.Performance, fmt.Sprint(i)}
			if other, taken := indexes[s]; taken {
				f.breach("seat %d of %s is in the paid orders %s and %s", i, o.Performance, other, o.ID)
			}
			indexes[s] = o.ID
			paid[o.Performance] = append(paid[o.Performance], i)
		}
		for _, t := range o.Tickets {
			if other, taken := codes[t.Code]; taken {
				f.breach("ticket code of order %s is also in order %s", o.ID, other)
			}
			codes[t.Code] = o.ID
			if t.Area != "" { // its units differ in nothing, so only their number tells
				s := seat{o.Performance, t.Area}
				if units[s]++; units[s] == h.Areas[t.Area]+1 {
					f.breach("%s of %s has a capacity of %d and more tickets", t.Area, o.Performance, h.Areas[t.Area])
				}
				continue
			}
			s := seat{o.Performance, t.Label}
			if other, taken := labels[s]; taken {
				f.breach("%s of %s is on tickets of the orders %s and %s", t.Label, o.Performance, other, o.ID)
			}
			labels[s] = o.ID
		}
	}
	if len(codes) == 0 && len(indexes) == 0 {
		return f.notJudged("nothing was paid for")
	}
	f.Figure = fmt.Sprintf("%d seats, %d tickets", len(indexes), len(codes))
	seen := false
	for _, shelf := range h.Shelves {
		if shelf.Before == nil || shelf.After == nil {
			continue
		}
		seen = true
		for _, i := range paid[shelf.Performance] {
			if i >= len(shelf.Before) || i >= len(shelf.After) {
				f.breach("seat %d of %s is paid for, availability has %d seats", i, shelf.Performance, len(shelf.After))
				continue
			}
			if shelf.Before[i] == 2 {
				f.breach("seat %d of %s was sold before the rehearsal and was bought in it", i, shelf.Performance)
			}
			if shelf.After[i] != 2 {
				f.breach("seat %d of %s is paid for, availability says %d", i, shelf.Performance, shelf.After[i])
			}
		}
	}
	if !seen {
		f.Figure += "; availability at the end was not seen"
	}
	return f
}

// checkTickets holds the buyer's half of invariant 2: what was approved is paid, and a paid order has a ticket with a
// code for each of its seats.
func checkTickets(h *History) Finding {
	f := Finding{Check: "paid orders have their tickets", Verdict: Held}
	states := map[string]int{}
	for _, fan := range h.Fans {
		o := fan.Order
		if o == nil {
			continue
		}
		states[o.State]++
		if o.State != "paid" {
			if o.Approved && o.State != "refunded" && o.State != "refunding" {
				f.breach("fan %d's order %s was approved and is %q", fan.ID, o.ID, o.State)
			}
			continue
		}
		if want := len(o.Seats) + o.Units; len(o.Tickets) != want || want == 0 {
			f.breach("fan %d's paid order %s is for %d and has %d tickets", fan.ID, o.ID, want, len(o.Tickets))
		}
		for _, t := range o.Tickets {
			if t.Code == "" || t.ID == "" {
				f.breach("fan %d's order %s has a ticket without a code or id", fan.ID, o.ID)
			}
		}
	}
	if len(states) == 0 {
		return f.notJudged("nothing was ordered")
	}
	for _, state := range slices.SortedFunc(maps.Keys(states), cmp.Compare[string]) {
		f.Figure += fmt.Sprintf("%d %s, ", states[state], cmp.Or(state, "unknown"))
	}
	f.Figure = f.Figure[:len(f.Figure)-2]
	return f
}
