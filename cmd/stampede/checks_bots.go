package main

import (
	"fmt"
	"slices"
	"time"
)

const (
	mostForBots  = 0.02 // of the places and of the seats
	mostSlower   = 2.0  // p99 of a join beside bots ÷ without them
	mostOfCampus = 0.01 // of those behind one address may stay outside
	// enoughFans is from how many fans on shares and percentiles tell something: with fewer one bot is percents.
	enoughFans = 1000
)

// JudgeSiege runs the checks of a rehearsal with bots.
func JudgeSiege(h *History) []Finding {
	return []Finding{checkFloods(h), checkBotPlaces(h), checkBotSeats(h), checkHonestAnswers(h), checkHonestJoins(h), checkReplays(h), checkCampus(h)}
}

// A Time of a rehearsal with bots, to which a fan belongs by its join.
type Time int

const (
	Peace    Time = iota + 1 // it was over before the bots came
	Between                  // they came meanwhile
	Besieged                 // they were there already
)

func (s *Siege) timeOf(f *Fan) Time {
	if !f.Join.At.Before(s.From) {
		return Besieged
	}
	if n := len(f.Answers); n > 0 && f.Answers[n-1].At.Add(f.Answers[n-1].Took).After(s.From) {
		return Between
	}
	return Peace
}

// checkFloods holds that the floods sent what they had to: what they did not send has slowed nobody.
func checkFloods(h *History) Finding {
	f := Finding{Check: "each flood sends 200 requests a second", Verdict: Held}
	s := h.Siege
	if s.Flooders == 0 || s.Flooded <= 0 {
		f.breach("nothing was sent")
		return f
	}
	rate := float64(s.Sent) / s.Flooded.Seconds() / float64(s.Flooders)
	f.Figure = fmt.Sprintf("%d sent %.1f a second each for %.0f s, 99 of 100 within %s of their time, answered %s",
		s.Flooders, rate, s.Flooded.Seconds(), s.Late, counts(s.Answers))
	if rate < floodRate {
		f.breach("%.1f a second each", rate)
	}
	return f
}

// checkBotPlaces holds that bots get next to none of the places that are given out.
func checkBotPlaces(h *History) Finding {
	f := Finding{Check: "places go to fans, not to bots", Verdict: Held}
	fans, bots := 0, 0
	for _, fan := range h.Fans {
		switch {
		case fan.Part == Bot:
			bots++
		case fan.Joined && h.Siege.timeOf(fan) == Besieged:
			fans++
		}
	}
	figure := fmt.Sprintf("%s of %d given beside them; %d scripts asked %d times", share(bots, fans+bots), fans+bots, h.Siege.Scripts, h.Siege.Tried)
	return f.boundedShare(bots, fans, figure)
}

// checkBotSeats holds the same of the seats that were paid for.
func checkBotSeats(h *History) Finding {
	f := Finding{Check: "seats go to fans, not to bots", Verdict: Held}
	fans, bots := 0, 0
	for _, fan := range h.Fans {
		if o := fan.Order; o != nil && o.State == "paid" {
			switch n := len(o.Seats) + o.Units; {
			case fan.Part == Bot:
				bots += n
			case h.Siege.timeOf(fan) == Besieged:
				fans += n
			}
		}
	}
	return f.boundedShare(bots, fans, fmt.Sprintf("%s of %d", share(bots, fans+bots), fans+bots))
}

// boundedShare ends a check of what bots got beside fans.
func (f *Finding) boundedShare(bots, fans int, figure string) Finding {
	if fans < enoughFans {
		return f.notJudged(fmt.Sprintf("%s: too few to tell", figure))
	}
	f.Figure = figure
	if float64(bots) >= mostForBots*float64(fans+bots) {
		f.breach("bots got %s", figure)
	}
	return *f
}

func share(part, all int) string {
	return fmt.Sprintf("%d (%.2f %%)", part, 100*float64(part)/float64(max(1, all)))
}

// checkHonestAnswers holds that no fan is told that it was too fast, or that something is broken.
func checkHonestAnswers(h *History) Finding {
	f := Finding{Check: "fans beside bots meet no 429 and no 5xx", Verdict: Held, Figure: fmt.Sprintf("%d fans", len(h.Fans))}
	for status, n := range h.Siege.HonestRefusals {
		f.breach("fans met %d %s", n, status)
	}
	return f
}

// joins are how long joins of a time took, sorted: what the gateway took over all its answers, proofs not counted.
func (h *History) joins(when Time) []time.Duration {
	var all []time.Duration
	for _, fan := range h.Fans {
		if fan.Part != Bot && fan.Joined && fan.Join.Wire > 0 && h.Siege.timeOf(fan) == when {
			all = append(all, fan.Join.Wire)
		}
	}
	slices.Sort(all)
	return all
}

// checkHonestJoins holds that bots do not slow those who join: the 99th percentile of what the gateway took, beside
// bots and before them, in one sale, of fans who come as fast and compute as much.
func checkHonestJoins(h *History) Finding {
	f := Finding{Check: "bots do not slow a join", Verdict: Held}
	quiet, beside := h.joins(Peace), h.joins(Besieged)
	if len(quiet) == 0 || len(beside) == 0 {
		return f.notJudged("nobody joined before the bots, or beside them")
	}
	before, during := percentile(quiet, 0.99), percentile(beside, 0.99)
	ratio := float64(during) / float64(max(1, before))
	figure := fmt.Sprintf("p99 of %d: %.1f ms, of %d before the bots: %.1f ms: %.2f times",
		len(beside), during.Seconds()*1000, len(quiet), before.Seconds()*1000, ratio)
	if len(beside) < enoughFans {
		return f.notJudged(figure + ": too few to tell")
	}
	f.Figure = figure
	if ratio >= mostSlower {
		f.breach("%s", figure)
	}
	return f
}

// checkReplays holds that what was spent once is worth nothing. That a place sent from elsewhere gives no second
// session is checkSessions'.
func checkReplays(h *History) Finding {
	f := Finding{Check: "replays gain nothing", Verdict: Held}
	if h.Siege.Replayed == 0 {
		return f.notJudged("nothing was replayed")
	}
	f.Figure = fmt.Sprintf("%d proofs and places sent again", h.Siege.Replayed)
	if h.Siege.Gained > 0 {
		f.breach("proofs that were spent brought %d places", h.Siege.Gained)
	}
	return f
}

// checkCampus holds that many behind one address are not taken for a bot.
func checkCampus(h *History) Finding {
	f := Finding{Check: "a campus behind one address is let in", Verdict: Held}
	out := h.Siege.Campus - h.Siege.CampusIn
	f.Figure = fmt.Sprintf("%d of %d had a place", h.Siege.CampusIn, h.Siege.Campus)
	if float64(out) > mostOfCampus*float64(h.Siege.Campus) {
		f.breach("%d of %d were kept out", out, h.Siege.Campus)
	}
	return f
}
