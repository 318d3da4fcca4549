package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// checkFrontier holds the room's half of invariant 3: of two figures, from whichever gateways, the one of the later room
// time has the greater frontier or the same, and the totals never fall either.
func checkFrontier(h *History) Finding {
	f := Finding{Check: "the frontier never goes back", Verdict: Held}
	var figures []Sample
	for _, s := range h.Samples {
		if s.Frontier >= 0 && !s.Now.IsZero() {
			figures = append(figures, s)
		}
	}
	if len(figures) < 2 {
		return f.notJudged("no frontier was told")
	}
	slices.SortStableFunc(figures, func(a, b Sample) int { return a.Now.Compare(b.Now) })
	for i, s := range figures[1:] {
		if before := figures[i]; s.Now.After(before.Now) && (s.Frontier < before.Frontier || s.AdmittedTotal < before.AdmittedTotal) {
			f.breach("%s: frontier %d and %d sessions given after %d and %d at %s", clock(s.Now), s.Frontier, s.AdmittedTotal, before.Frontier, before.AdmittedTotal, clock(before.Now))
		}
	}
	f.Figure = fmt.Sprintf("%d to %d", figures[0].Frontier, figures[len(figures)-1].Frontier)
	return f
}

// checkCapacity holds invariant 5 on the operators' figures: sessions + open calls rise above capacity at no sample.
// Capacity lowered below what is there breaks nothing as long as the sum does not grow.
func checkCapacity(h *History) Finding {
	f := Finding{Check: "sessions and calls within capacity (operators' figures)", Verdict: Held}
	if len(h.Samples) == 0 {
		return f.notJudged("no live figures were read")
	}
	peak, peakOf, before := int64(0), int64(0), int64(0)
	for i, s := range h.Samples {
		sum := s.Sessions + s.Called
		allowed := s.Capacity
		for _, earlier := range slices.Backward(h.Samples[:i]) {
			if s.At.Sub(earlier.At) > settling {
				break
			}
			allowed = max(allowed, earlier.Capacity)
		}
		if sum > allowed && (i == 0 || sum > before) && s.State != "bypass" {
			f.breach("%s: %d sessions + %d calls with a capacity of %d", clock(s.At), s.Sessions, s.Called, allowed)
		}
		if sum > peak {
			peak, peakOf = sum, s.Capacity
		}
		before = sum
	}
	f.Figure = fmt.Sprintf("peak %d of %d in %d samples", peak, peakOf, len(h.Samples))
	return f
}

// checkOccupancy holds invariant 5 on the fans' own record: from its call until the first moment at which it could
// have ended (its order's approval or its leaving was sent, the call or the pass ran out) a fan certainly takes a
// unit of capacity; at no time do more than capacity.
func checkOccupancy(h *History) Finding {
	f := Finding{Check: "sessions and calls within capacity (fans' record)", Verdict: Held}
	if len(h.Samples) == 0 {
		return f.notJudged("capacity is unknown: no live figures were read")
	}
	capacity := int64(0)
	for _, s := range h.Samples {
		capacity = max(capacity, s.Capacity)
		if s.State == "bypass" {
			return f.notJudged("the room was in bypass")
		}
	}
	type edge struct {
		at   time.Time
		step int
	}
	var edges []edge
	for _, fan := range h.Fans {
		for _, stay := range fan.stays(h.ClockAhead) {
			if stay.To.After(stay.From) {
				edges = append(edges, edge{stay.From, 1}, edge{stay.To, -1})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(a.at.Compare(b.at), a.step-b.step) })
	taken, peak := 0, 0
	for _, e := range edges {
		taken += e.step
		peak = max(peak, taken)
		if e.step > 0 && int64(taken) > capacity {
			f.breach("%s: %d fans were called or inside, capacity was never above %d", clock(e.at), taken, capacity)
		}
	}
	if len(edges) == 0 {
		return f.notJudged("no call was seen")
	}
	f.Figure = fmt.Sprintf("peak at least %d of %d", peak, capacity)
	return f
}

// stays are the stretches of room time in which the fan certainly took a unit of capacity.
func (f *Fan) stays(ahead time.Duration) []Span {
	calls := f.calls()
	var stays []Span
	for i, at := range calls {
		to := at.Add(f.CallTTL)
		if i == len(calls)-1 && len(f.Claims) > 0 {
			to = f.Claims[0].Expires
			if !f.Ended.IsZero() {
				to = earlier(to, f.Ended.Add(-ahead))
			}
		}
		if !f.LeftAt.IsZero() {
			to = earlier(to, f.LeftAt.Add(-ahead))
		}
		// A call is seen to stand until the last sight of it at least, and no stretch is claimed beyond what was seen
		// unless a pass was given.
		if len(f.Claims) == 0 || i < len(calls)-1 {
			to = earlier(to, f.lastCalled(at))
		}
		stays = append(stays, Span{at, to})
	}
	return stays
}

func (f *Fan) lastCalled(call time.Time) time.Time {
	last := call
	for _, s := range f.Sights {
		if s.State == "called" && s.Now.After(last) && f.callAt(s).Sub(call).Abs() < time.Second {
			last = s.Now
		}
	}
	return last
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// granularity is the coarsest of a second, a millisecond and a microsecond that all times are multiples of: what a
// time may have lost by being written down.
func granularity(at []time.Time) time.Duration {
	for _, g := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if !slices.ContainsFunc(at, func(t time.Time) bool { return t.Nanosecond()%int(g) != 0 }) {
			return g
		}
	}
	return 0
}

// checkPace holds the other half of invariant 5: over every stretch of time, calls are at most
// pace × time + max(1, one second's worth), with the highest pace in force around it. An operator's `admit` during the
// rehearsal is beyond pace and shows up here.
func checkPace(h *History) Finding {
	f := Finding{Check: "calls within pace", Verdict: Held}
	type call struct {
		at  time.Time
		fan *Fan
	}
	var calls []call
	var at []time.Time
	for _, fan := range h.Fans {
		for _, t := range fan.calls() {
			calls = append(calls, call{t, fan})
			at = append(at, t)
		}
	}
	if len(h.Samples) == 0 || len(calls) == 0 {
		return f.notJudged("no live figures or no calls were seen")
	}
	slices.SortFunc(calls, func(a, b call) int { return a.at.Compare(b.at) })
	lost := granularity(at).Seconds()
	// A bucket that leaks at the pace: an excess over some window ending at a call is an overflow at that call.
	level, fullest := 0.0, 0.0
	for i, c := range calls {
		from := c.at
		if i > 0 {
			from = calls[i-1].at
		}
		perSecond := h.paceBetween(from, c.at) / 60
		level = max(0, level-perSecond*c.at.Sub(from).Seconds()) + 1
		burst := max(1, perSecond)
		fullest = max(fullest, level/burst)
		if level > burst+perSecond*lost+1e-6 {
			f.breach("%s: the call of fan %d is %.1f beyond a pace of %.0f a minute", clock(c.at), c.fan.ID, level-burst, perSecond*60)
		}
	}
	f.Figure = fmt.Sprintf("%d calls, the bucket at most %.0f %% full", len(calls), 100*fullest)
	if span := calls[len(calls)-1].at.Sub(calls[0].at); span > time.Second {
		f.Figure += fmt.Sprintf(", %.0f a minute seen of %.0f", float64(len(calls)-1)/span.Minutes(), h.paceBetween(calls[0].at, calls[len(calls)-1].at))
	}
	return f
}

// paceBetween is the highest pace a minute that may have been in force between two room times.
func (h *History) paceBetween(from, to time.Time) float64 {
	from, to = from.Add(h.ClockAhead-settling), to.Add(h.ClockAhead+settling)
	pace, last := 0.0, 0.0
	for _, s := range h.Samples {
		if s.At.Before(from) {
			last = s.PacePerMin
			continue
		}
		if s.At.After(to) {
			break
		}
		pace = max(pace, s.PacePerMin)
	}
	return max(pace, last)
}

// checkMoving holds that an open line with room inside and somebody there moves: no stretch without a call in which
// the room was open below capacity and one fan waited throughout with its socket open, longer than three calls' time
// and ten seconds.
func checkMoving(h *History) Finding {
	f := Finding{Check: "an open line moves", Verdict: Held}
	if len(h.Samples) < 2 {
		return f.notJudged("no live figures were read")
	}
	var calls []time.Time
	for _, fan := range h.Fans {
		for _, t := range fan.calls() {
			calls = append(calls, t.Add(h.ClockAhead))
		}
	}
	slices.SortFunc(calls, time.Time.Compare)
	waits := h.waits()
	var longest time.Duration
	start := time.Time{}
	for i, s := range h.Samples {
		free := s.Phase == "open" && s.Sessions+s.Called < s.Capacity && s.PacePerMin > 0
		gap := i > 0 && s.At.Sub(h.Samples[i-1].At) > staleness
		if !free || gap {
			start = time.Time{}
			continue
		}
		if start.IsZero() || anyBetween(calls, start, s.At) {
			start = s.At
		}
		limit := max(10*time.Second, time.Duration(math.Ceil(180/s.PacePerMin))*time.Second)
		still := s.At.Sub(start)
		if still <= longest || !slices.ContainsFunc(waits, func(w Span) bool { return w.From.Before(start) && w.To.After(s.At) }) {
			continue
		}
		longest = still
		if still > limit {
			f.breach("%s: nobody was called for %s with %d of %d inside and fans in line", clock(s.At), still.Round(time.Second), s.Sessions+s.Called, s.Capacity)
			start = s.At
		}
	}
	f.Figure = fmt.Sprintf("longest stop with room inside: %s", longest.Round(100*time.Millisecond))
	return f
}

func anyBetween(sorted []time.Time, from, to time.Time) bool {
	i, _ := slices.BinarySearchFunc(sorted, from, time.Time.Compare)
	return i < len(sorted) && sorted[i].Before(to)
}

// waits are the stretches in which a fan waited with its socket open all the time, by this machine's clock. Fans that
// were away or missed have none: whether they are owed a call is another check's matter.
func (h *History) waits() []Span {
	var waits []Span
	for _, fan := range h.Fans {
		if fan.wasAway(time.Nanosecond) || fan.missed() {
			continue
		}
		i := slices.IndexFunc(fan.Sights, func(s Sight) bool { return s.State == "waiting" })
		if i < 0 {
			continue
		}
		// It waited until its call, whenever it read of it; without one until the last word that it waits, or the end.
		last, _ := fan.lastWaiting()
		to := last.Now.Add(h.ClockAhead)
		if calls := fan.calls(); len(calls) > 0 {
			to = calls[0].Add(h.ClockAhead)
		} else if fan.Outcome == Waiting {
			to = h.Ended
		}
		waits = append(waits, Span{fan.Sights[i].At, to})
	}
	return waits
}
