package queue

import (
	"math"
	"strconv"
	"time"
)

// Why a place waits for longer than the pace alone would make it.
var (
	etaPaused = "paused"
	etaSlowed = "slowed"
)

// A measured pace means something once it was looked at for so long.
const measuredAfter = 20 * time.Second

// eta is when a place with so many ahead is called, in the caller's band, and why that is
// later than the pace says; it is nil where nobody can tell. Those who return go before it,
// but take a quarter of the calls at most.
func (v *View) eta(ahead uint64, band *Band) (*Band, *string) {
	pace := float64(v.settings.PacePerMin) * float64(v.share) / 1000
	if v.phase == Paused || v.phase == Open && v.Phase() == Paused {
		return nil, &etaPaused
	}
	if v.Phase() != Open || v.Bypass() || v.settings.PacePerMin == 0 {
		return nil, nil
	}
	if v.share == 0 {
		return nil, &etaSlowed
	}
	fast, slow, why := pace, pace, (*string)(nil)
	if v.share < 900 {
		why = &etaSlowed
	}
	if v.full() {
		// Places in the shop become free as they do, not as the pace wishes.
		if slow = min(pace, 60*float64(v.settings.Capacity)/float64(v.settings.SessionTTL)); v.measured {
			slow = min(pace, v.pace)
		}
		if slow == 0 || v.settings.Capacity == 0 {
			return nil, &etaSlowed
		}
		if slow < 0.7*pace {
			fast, why = min(pace, 1.5*slow), &etaSlowed
		}
	}
	seconds := func(n, perMin float64) int { return int(math.Min(math.Ceil(n*60/perMin), 1e6)) }
	last := 1.2*float64(ahead+1) + min(float64(v.returning), float64(ahead+1)/3)
	*band = Band{Low: seconds(float64(ahead), fast), High: seconds(last, slow)}
	return band, why
}

// full tells that the capacity holds the calls back, not the pace.
func (v *View) full() bool {
	second := uint64(v.settings.PacePerMin/60) + 1
	return v.sessions+v.called+second > uint64(v.settings.Capacity)
}

// limit is what holds the pace back, or nil.
func (v *View) limit() *PaceLimit {
	if v.share >= 1000 {
		return nil
	}
	share := float64(v.share) / 1000
	return &PaceLimit{Origin: deref(v.settings.Origin), Reason: v.shareReason, Share: share, PacePerMin: share * float64(v.settings.PacePerMin)}
}

// word is what this gateway says of the origin's share, in thousandths, and why; "" when it
// does not know, or nobody has anything but the best to say.
func (v *View) word() (share, reason string) {
	if v == nil || !v.origin.Known || v.origin.Share >= 1 && v.share >= 1000 {
		return "", ""
	}
	return strconv.Itoa(int(1000 * v.origin.Share)), v.origin.Reason
}

// measure keeps a minute of calls and gives v the pace of it. Time in which nobody could
// be called says nothing.
func (l *Line) measure(v *View) {
	if n := len(l.samples); v.Phase() != Open || v.present == 0 || n > 0 && v.calledTotal < l.samples[n-1].called {
		l.samples = nil // the last: another epoch, or figures from before a loss
	}
	if n := len(l.samples); n == 0 || v.now.Sub(l.samples[n-1].at) >= time.Second {
		l.samples = append(l.samples, sample{at: v.now, called: v.calledTotal})
		if len(l.samples) > paceSamples {
			l.samples = append([]sample(nil), l.samples[1:]...)
		}
	}
	first := l.samples[0]
	for _, s := range l.samples {
		if v.now.Sub(s.at) > time.Minute {
			first = s
		}
	}
	if span := v.now.Sub(first.at); span > 0 {
		calls := float64(v.calledTotal - first.called)
		v.pace = calls / max(span.Minutes(), 1)
		if v.measured = span >= measuredAfter; v.measured {
			v.pace = calls / span.Minutes()
		}
	}
}
