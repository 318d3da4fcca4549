package gateway

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"usher/internal/problem"
)

const (
	// inFlightWait is how long a request waits for one of its session's to end: a browser
	// that speaks HTTP/2 asks for all parts of a page at once.
	inFlightWait = 1500 * time.Millisecond
	// inFlightQueue bounds how many of one session wait.
	inFlightQueue = 100
)

// inFlight bounds the requests and WebSockets of a session that are under way to what a
// room protects, so that one pass cannot feed a hundred bots. It holds only sessions with
// something under way.
type inFlight struct {
	most int
	wait time.Duration

	mu sync.Mutex // guards all below
	of map[holder]*underWay
}

type underWay struct {
	n       int
	waiting []chan struct{} // closed when its turn has come, the first first
}

func newInFlight(most int) *inFlight {
	return &inFlight{most: most, wait: inFlightWait, of: map[holder]*underWay{}}
}

// begin counts one more, waiting for its turn; false when it has none in time. Whoever has
// begun must end.
func (f *inFlight) begin(ctx context.Context, h holder) bool {
	f.mu.Lock()
	u := f.of[h]
	if u == nil {
		u = &underWay{}
		f.of[h] = u
	}
	switch {
	case u.n < f.most:
		u.n++
		f.mu.Unlock()
		return true
	case len(u.waiting) >= inFlightQueue:
		f.mu.Unlock()
		return false
	}
	turn := make(chan struct{})
	u.waiting = append(u.waiting, turn)
	f.mu.Unlock()
	timer := time.NewTimer(f.wait)
	defer timer.Stop()
	select {
	case <-turn:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(u.waiting, turn); i >= 0 {
		u.waiting = slices.Delete(u.waiting, i, i+1)
		return false
	}
	return true // its turn came in the same moment
}

func (f *inFlight) end(h holder) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u := f.of[h]
	if len(u.waiting) > 0 { // the turn is handed on
		close(u.waiting[0])
		u.waiting = slices.Delete(u.waiting, 0, 1)
		return
	}
	if u.n--; u.n == 0 {
		delete(f.of, h)
	}
}

// begin counts v's request as under way for its session until v ends.
func (s *Server) begin(r *http.Request, v *visit) *problem.Problem {
	session := v.holder
	if !s.inFlight.begin(r.Context(), session) {
		p := problem.New(http.StatusTooManyRequests, "abnormal-usage-detected", "Too many requests of this pass are under way at once.")
		p.Code = "quota-exceeded" // as of every 429
		return p.With("violated-policies", []string{"in-flight"}).In(inFlightWait)
	}
	v.ends = func() { s.inFlight.end(session) }
	return nil
}

// end says that the request is over; a connection that outlives it has taken v.ends along.
func (v *visit) end() {
	if v.ends != nil {
		v.ends()
	}
}
