package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A Verdict of one check.
type Verdict string

const (
	Held      Verdict = "held"
	Broken    Verdict = "BROKEN"
	NotJudged Verdict = "not judged"
)

// A Finding is what one check has to say.
type Finding struct {
	Check    string   `json:"check"`
	Verdict  Verdict  `json:"verdict"`
	Figure   string   `json:"figure"`             // what was counted, or what was missing
	Breaches []string `json:"breaches,omitempty"` // the first maxBreaches of them
	Count    int      `json:"count,omitempty"`    // all of them
}

const maxBreaches = 10

// breach records one broken case in words.
func (f *Finding) breach(format string, args ...any) {
	f.Verdict = Broken
	f.Count++
	if len(f.Breaches) < maxBreaches {
		f.Breaches = append(f.Breaches, fmt.Sprintf(format, args...))
	}
}

// notJudged says what a check lacked.
func (f *Finding) notJudged(why string) Finding {
	f.Verdict, f.Figure = NotJudged, why
	return *f
}

// staleness is how old the view behind a Place may be: a gateway's slowest tick, and the way to the fan.
const staleness = 2 * time.Second

// settling is how long a change of settings may take to be in force everywhere, with a sample's own width.
const settling = 1500 * time.Millisecond

// Judge runs every check.
func Judge(h *History) []Finding {
	findings := []Finding{
		checkOrder(h), checkPositions(h), checkNumbers(h), checkFrontier(h), checkCapacity(h), checkOccupancy(h), checkPace(h), checkMoving(h),
		checkDraw(h), checkSessions(h), checkSeats(h), checkTickets(h), checkNobodyLost(h), checkContract(h),
	}
	if h.Siege != nil {
		findings = append(findings, JudgeSiege(h)...)
	}
	return findings
}

// rank is the last rank that the fan was told, or −1.
func (f *Fan) rank() int64 {
	for _, s := range slices.Backward(f.Sights) {
		if s.Rank >= 0 {
			return s.Rank
		}
	}
	return -1
}

// checkOrder holds invariant 4: calls follow rank. Of two fans that were there all the time, the one of smaller rank
// was called no later. A fan that was missed, or away for half the presence time or more, may come later or earlier;
// one that was still shown as waiting well after a larger rank's call was skipped.
func checkOrder(h *History) Finding {
	f := Finding{Check: "calls follow rank", Verdict: Held}
	type turn struct {
		fan      *Fan
		rank     int64
		at       time.Time // of its call; zero: never called
		notUntil time.Time // its call was no earlier than this
	}
	var turns []turn
	judged := 0
	for _, fan := range h.Fans {
		rank := fan.rank()
		if rank < 0 || fan.wasMissedFirst() || fan.wasAway(h.PresenceTTL/2) {
			continue
		}
		t := turn{fan: fan, rank: rank}
		if calls := fan.calls(); len(calls) > 0 {
			t.at, t.notUntil = calls[0], calls[0]
			judged++
		} else if last, ok := fan.lastWaiting(); ok {
			t.notUntil = last.Now.Add(-staleness)
		}
		turns = append(turns, t)
	}
	slices.SortFunc(turns, func(a, b turn) int { return int(a.rank - b.rank) })
	var latest turn
	for _, t := range turns {
		if !t.at.IsZero() && latest.fan != nil && t.at.Before(latest.notUntil) {
			how := "was called"
			if latest.at.IsZero() {
				how = "was still waiting"
			}
			f.breach("fan %d of rank %d was called at %s, fan %d of rank %d %s at %s", t.fan.ID, t.rank, clock(t.at),
				latest.fan.ID, latest.rank, how, clock(latest.notUntil))
		}
		if latest.fan == nil || t.notUntil.After(latest.notUntil) {
			latest = t
		}
	}
	if judged < 2 {
		return f.notJudged("fewer than two calls seen")
	}
	f.Figure = fmt.Sprintf("%d first calls", judged)
	return f
}

// wasMissedFirst says whether the fan was passed over before it was ever called.
func (f *Fan) wasMissedFirst() bool {
	for _, s := range f.Sights {
		switch s.State {
		case "missed":
			return true
		case "called", "admitted":
			return false
		}
	}
	return false
}

// wasAway says whether the fan had no socket for as long as d, while it waited.
func (f *Fan) wasAway(d time.Duration) bool {
	for _, away := range f.Away {
		if away.To.IsZero() || away.To.Sub(away.From) >= d {
			return true
		}
	}
	return false
}

func (f *Fan) lastWaiting() (Sight, bool) {
	for _, s := range slices.Backward(f.Sights) {
		if s.State == "waiting" {
			return s, true
		}
	}
	return Sight{}, false
}

// checkPositions holds invariant 3 for each visitor: over all its connections and gateways position never rises while
// waiting, progress never falls and stays within 0..1, and number, epoch and a rank once told never change.
func checkPositions(h *History) Finding {
	f := Finding{Check: "positions never rise, progress never falls", Verdict: Held}
	documents := 0
	for _, fan := range h.Fans {
		position, rank, progress := int64(math.MaxInt64), int64(-1), 0.0
		for i, s := range fan.Sights {
			documents++
			if s.Number != fan.Number || s.Epoch != fan.Epoch {
				f.breach("fan %d: place %s/%d became %s/%d", fan.ID, fan.Epoch, fan.Number, s.Epoch, s.Number)
			}
			if rank >= 0 && s.Rank != rank {
				f.breach("fan %d: rank %d became %d at %s", fan.ID, rank, s.Rank, clock(s.At))
			}
			rank = max(rank, s.Rank)
			if s.Progress < progress || s.Progress < 0 || s.Progress > 1 {
				f.breach("fan %d: progress went from %g to %g (gateway %d to %d, %s)", fan.ID, progress, s.Progress,
					fan.Sights[max(0, i-1)].Gateway, s.Gateway, clock(s.At))
			}
			progress = max(progress, s.Progress)
			switch {
			case s.State == "missed": // it returns to the head of the line, and starts anew there
				position = math.MaxInt64
			case s.State == "waiting" && s.Position >= 0:
				if s.Position > position {
					f.breach("fan %d: position rose from %d to %d (gateway %d to %d, %s)", fan.ID, position, s.Position,
						fan.Sights[max(0, i-1)].Gateway, s.Gateway, clock(s.At))
				}
				position = s.Position
			}
		}
	}
	if documents == 0 {
		return f.notJudged("no Place was seen")
	}
	f.Figure = fmt.Sprintf("%d documents", documents)
	return f
}

// checkNumbers holds that no number of an epoch is given twice, and no two places share a rank.
func checkNumbers(h *History) Finding {
	f := Finding{Check: "no number and no rank twice", Verdict: Held}
	type place struct {
		epoch string
		n     uint64
	}
	numbers, ranks := map[place]int{}, map[place]int{}
	for _, fan := range h.Fans {
		if !fan.Joined {
			continue
		}
		if other, taken := numbers[place{fan.Epoch, fan.Number}]; taken {
			f.breach("fans %d and %d both have number %d", other, fan.ID, fan.Number)
		}
		numbers[place{fan.Epoch, fan.Number}] = fan.ID
		if rank := fan.rank(); rank >= 0 {
			if other, taken := ranks[place{fan.Epoch, uint64(rank)}]; taken {
				f.breach("fans %d and %d both have rank %d", other, fan.ID, rank)
			}
			ranks[place{fan.Epoch, uint64(rank)}] = fan.ID
		}
	}
	if len(numbers) == 0 {
		return f.notJudged("nobody joined")
	}
	f.Figure = fmt.Sprintf("%d places, %d ranks", len(numbers), len(ranks))
	return f
}

// checkDraw recomputes the rank of every lobby place from the revealed values.
func checkDraw(h *History) Finding {
	f := Finding{Check: "ranks are the draw's", Verdict: Held}
	if h.Draw == nil {
		return f.notJudged("the room held no draw")
	}
	seed, err := h.Draw.seed()
	if err != nil {
		f.breach("the draw does not verify: %v", err)
		return f
	}
	lobby, later := 0, 0
	for _, fan := range h.Fans {
		rank := fan.rank()
		if !fan.Joined || rank < 0 {
			continue
		}
		if fan.Commitment != "" && fan.Commitment != h.Draw.Commitment {
			f.breach("fan %d's place carries commitment %s, the draw was made with %s", fan.ID, fan.Commitment, h.Draw.Commitment)
		}
		want := fan.Number
		if fan.Number < h.Draw.LobbySize {
			want = shuffled(fan.Number, h.Draw.LobbySize, seed)
			lobby++
		} else {
			later++
		}
		if uint64(rank) != want {
			f.breach("fan %d of number %d has rank %d, the draw gives %d", fan.ID, fan.Number, rank, want)
		}
	}
	f.Figure = fmt.Sprintf("%d ranks of a lobby of %d recomputed, %d joined later", lobby, h.Draw.LobbySize, later)
	return f
}

// checkNobodyLost holds that every fan that waited got what the line owed it.
func checkNobodyLost(h *History) Finding {
	f := Finding{Check: "nobody who waited was lost", Verdict: Held}
	waiting := 0
	for _, fan := range h.Fans {
		if fan.Part == Bot {
			continue // its loss is nobody's
		}
		switch fan.Outcome {
		case Lost, Lapsed, "":
			f.breach("fan %d (%s) %s: %s", fan.ID, fan.Part, fan.Outcome, fan.Why)
		case Waiting:
			waiting++
		}
	}
	if len(h.Fans) == 0 {
		return f.notJudged("there were no fans")
	}
	f.Figure = fmt.Sprintf("%d fans, %d still waiting at the end", len(h.Fans), waiting)
	return f
}

// checkContract collects what single fans met that the contract excludes.
func checkContract(h *History) Finding {
	f := Finding{Check: "answers kept to the contract", Verdict: Held}
	for _, fan := range h.Fans {
		for _, fault := range fan.Faults {
			f.breach("fan %d: %s", fan.ID, fault)
		}
	}
	f.Figure = fmt.Sprintf("%d fans", len(h.Fans))
	return f
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
