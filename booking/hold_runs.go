package booking

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"
)

// run is a stretch of neighbouring seats of one row and category, none of them further
// from the next than an aisle's width. Their indexes follow one another.
type run struct {
	first, length int
	category      int
	accessible    bool
	// focus is the place within the run (0…length-1) nearest to the middle of the house.
	focus    int
	distance float64 // from there to the front
}

// maxRuns bounds what one script call looks through (some 100 µs of Redis); the best seats
// of a larger house take several calls. Alternatives look at fewer.
const (
	maxRuns         = 500
	alternativeRuns = 64
)

type runsKey struct {
	event, performance uuid.UUID
	revision           int
}

func newRunsCache() *otter.Cache[runsKey, []run] {
	return otter.Must(&otter.Options[runsKey, []run]{
		MaximumSize: 256, ExpiryCalculator: otter.ExpiryWriting[runsKey, []run](time.Minute), // prices may change
	})
}

// runs are the layout's runs, best seats first: dearer categories before cheaper ones,
// then what is nearer to the front's middle.
func (s *Server) runs(l *Layout) []run {
	key := runsKey{l.EventID, l.PerformanceID, l.Revision}
	if runs, ok := s.sales.runs.GetIfPresent(key); ok {
		return runs
	}
	runs := findRuns(l)
	s.sales.runs.Set(key, runs)
	return runs
}

func findRuns(l *Layout) []run {
	if len(l.Seats) == 0 {
		return nil
	}
	// The front is the top edge's middle, as plans are drawn: the stage is above.
	frontX, frontY := 0.0, math.Inf(1)
	for _, seat := range l.Seats {
		frontX += seat.X / float64(len(l.Seats))
		frontY = min(frontY, seat.Y)
	}
	apart := func(i, j int) float64 {
		return math.Hypot(l.Seats[i].X-l.Seats[j].X, l.Seats[i].Y-l.Seats[j].Y)
	}
	var runs []run
	for from := 0; from < len(l.Seats); {
		to := from + 1
		for to < len(l.Seats) && l.Seats[to].Row == l.Seats[from].Row {
			to++
		}
		var gaps []float64
		for i := from + 1; i < to; i++ {
			gaps = append(gaps, apart(i-1, i))
		}
		aisle := math.Inf(1)
		if len(gaps) > 0 {
			slices.Sort(gaps)
			aisle = 1.6 * gaps[len(gaps)/2]
		}
		for start := from; start < to; {
			end := start + 1
			for end < to && apart(end-1, end) <= aisle &&
				l.Seats[end].Category == l.Seats[start].Category && l.Seats[end].Accessible == l.Seats[start].Accessible {
				end++
			}
			if _, sold := l.Price(start); sold {
				r := run{first: start, length: end - start, category: l.Seats[start].Category, accessible: l.Seats[start].Accessible, distance: math.Inf(1)}
				for i := start; i < end; i++ {
					if d := math.Hypot(l.Seats[i].X-frontX, l.Seats[i].Y-frontY); d < r.distance {
						r.distance, r.focus = d, i-start
					}
				}
				runs = append(runs, r)
			}
			start = end
		}
		from = to
	}
	slices.SortStableFunc(runs, func(a, b run) int {
		pa, _ := l.Price(a.first)
		pb, _ := l.Price(b.first)
		return cmp.Or(cmp.Compare(pb, pa), cmp.Compare(a.distance, b.distance))
	})
	return runs
}

// runText is lua/hold.lua's form of runs, for n seats together.
func runText(runs []run, n int) string {
	var b strings.Builder
	for _, r := range runs {
		fmt.Fprintf(&b, "%d:%d:%d ", r.first, r.length, max(0, r.first+r.focus-(n-1)/2))
	}
	return b.String()
}

// nearbyRuns are those from which an alternative to seats is chosen: the same category
// as the first of them, nearest to it first, each with its focus moved next to it.
func nearbyRuns(runs []run, l *Layout, seats []int) []run {
	wanted := l.Seats[seats[0]]
	var near []run
	for _, r := range runs {
		if r.category != wanted.Category || r.accessible != wanted.Accessible || r.length < len(seats) {
			continue
		}
		// The nearest point of the line from the run's first seat to its last.
		from, to := l.Seats[r.first], l.Seats[r.first+r.length-1]
		dx, dy, t := to.X-from.X, to.Y-from.Y, 0.0
		if length := dx*dx + dy*dy; length > 0 {
			t = min(1, max(0, ((wanted.X-from.X)*dx+(wanted.Y-from.Y)*dy)/length))
		}
		r.focus = int(math.Round(t * float64(r.length-1)))
		r.distance = math.Hypot(from.X+t*dx-wanted.X, from.Y+t*dy-wanted.Y)
		near = append(near, r)
	}
	slices.SortStableFunc(near, func(a, b run) int { return cmp.Compare(a.distance, b.distance) })
	return near[:min(len(near), alternativeRuns)]
}
