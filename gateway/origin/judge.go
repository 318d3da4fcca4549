package origin

import "time"

// Reasons why an origin takes less than the whole pace.
const (
	Slow    = "slow"    // answers take long
	Failing = "failing" // answers are errors, or none
	Busy    = "busy"    // requests were refused, there were too many at once
	Down    = "down"    // no server can be reached
)

// Bounds of a judgement.
const (
	minAnswers = 5    // fewer say nothing
	maxLooks   = 10   // of about a second, that answers are gathered for
	tolerated  = 0.1  // share of faults
	leastShare = 0.05 // of the pace, while the origin answers at all
	fall       = 0.5  // of the way down, a look
	rise       = 0.05 // of the whole, a look: twenty seconds from nothing to all
)

// sample is what a gateway saw of an origin since it last judged.
type sample struct {
	looks    int           // how many ticks it was gathered for
	answers  int           // requests that came to an end, one way or the other
	faults   int           // of them: errors from 500 on, 429, none at all
	overload int           // of them: 429, 502 to 504, none at all
	refused  int           // requests that were not sent because there were too many
	latency  time.Duration // sum over the answers
	peak     int           // most that were in flight at once
	down     bool          // no server is up
}

// judgement is what follows from it.
type judgement struct {
	limit  float64       // requests that may be in flight at once
	share  float64       // of the pace, 0 to 1
	reason string        // of a share below 1
	usual  time.Duration // latency that is normal here; 0 is not known yet
}

// enough tells whether a sample can be judged: with few answers, only after a while.
func (s sample) enough() bool {
	return s.answers+s.refused >= minAnswers || s.looks >= maxLooks || s.down
}

// next judges a sample. The limit follows additive increase and multiplicative decrease
// (Chiu and Jain 1989) on latency and overload; the share falls fast and rises slowly.
func (j judgement) next(s sample, most int, slow time.Duration) judgement {
	if s.down {
		j.share, j.reason = 0, Down
		return j
	}
	if j.reason == Down && j.usual == 0 { // it never answered yet: this is a start, no recovery
		j.share, j.reason = 1, ""
	}
	want, reason := 1.0, ""
	lower := func(to float64, why string) {
		if to < want {
			want, reason = max(to, leastShare), why
		}
	}
	overloaded := false
	if s.answers >= minAnswers {
		mean := s.latency / time.Duration(s.answers)
		if j.usual == 0 {
			j.usual = min(mean, 4*slow)
		}
		if line := max(slow, 2*j.usual); mean > line {
			overloaded = true
			lower(float64(line)/float64(mean), Slow)
		}
		// Up by a thousandth a second: what lasts for a quarter of an hour is usual.
		j.usual = min(mean, j.usual+time.Duration(s.looks)*max(j.usual, slow/2)/1000)
		if share := float64(s.faults) / float64(s.answers); share > tolerated {
			lower(1-(share-tolerated)/(0.5-tolerated), Failing)
		}
		overloaded = overloaded || float64(s.overload)/float64(s.answers) > tolerated
	}
	if s.refused > 0 {
		lower(float64(s.answers)/float64(s.answers+s.refused), Busy)
	}
	if overloaded {
		j.limit = max(float64(most)/50, 1, 0.9*min(j.limit, float64(s.peak)))
	} else {
		j.limit = min(float64(most), j.limit+float64(s.looks)*(0.05*j.limit+1))
	}
	if want < j.share {
		j.share -= fall * (j.share - want)
		j.reason = reason
		return j
	}
	if j.share = min(want, j.share+rise*float64(max(1, s.looks))); j.share >= 1 {
		j.reason = ""
	} else if reason != "" {
		j.reason = reason
	}
	return j
}
