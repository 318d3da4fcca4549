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
	return []Finding{checkBotPlaces(h), checkBotSeats(h), checkHonestAnswers(h), checkHonestJoins(h), checkReplays(h), checkCampus(h)}
}

// checkBotPlaces holds that bots get next to none of the places that are given out.
func checkBotPlaces(h *History) Finding {
	f := Finding{Check: "places go to fans, not to bots", Verdict: Held}
	fans, bots := 0, 0
	for _, fan := range h.Fans {
		switch {
		case fan.Part == Bot:
			bots++
		case fan.Joined:
			fans++
		}
	}
	figure := fmt.Sprintf("%s of %d; %d floods sent %d requests, %d scripts asked %d times", share(bots, fans+bots), fans+bots,
		h.Siege.Flooders, h.Siege.Sent, h.Siege.Scripts, h.Siege.Tried)
	return f.boundedShare(bots, fans, figure)
}

// checkBotSeats holds the same of the seats that were paid for.
func checkBotSeats(h *History) Finding {
	f := Finding{Check: "seats go to fans, not to bots", Verdict: Held}
	fans, bots := 0, 0
	for _, fan := range h.Fans {
		if o := fan.Order; o != nil && o.State == "paid" {
			if n := len(o.Seats) + o.Units; fan.Part == Bot {
				bots += n
			} else {
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
	f := Finding{Check: "fans beside bots meet no 429 and no 5xx", Verdict: Held, Figure: "bots were answered " + counts(h.Siege.Answers)}
	for status, n := range h.Siege.HonestRefusals {
		f.breach("fans met %d %s", n, status)
	}
	return f
}

// checkHonestJoins holds that bots do not slow those who join: the 99th percentile of what the gateway took.
func checkHonestJoins(h *History) Finding {
	f := Finding{Check: "bots do not slow a join", Verdict: Held}
	quiet, beside := slices.Clone(h.Siege.Quiet), []time.Duration(nil)
	for _, fan := range h.Fans {
		if fan.Part != Bot && fan.Joined {
			beside = append(beside, fan.Join.Took)
		}
	}
	if len(quiet) == 0 || len(beside) == 0 {
		return f.notJudged("nobody joined before the bots, or beside them")
	}
	slices.Sort(quiet)
	slices.Sort(beside)
	before, during := percentile(quiet, 0.99), percentile(beside, 0.99)
	ratio := float64(during) / float64(max(1, before))
	figure := fmt.Sprintf("p99 %.1f ms, without bots %.1f ms: %.2f times", during.Seconds()*1000, before.Seconds()*1000, ratio)
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
