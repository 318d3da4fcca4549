package ratelimit

import (
	"fmt"
	"time"
)

// Quota says how much is allowed: Requests a Window in the long run, and up to
// Burst at once.
type Quota struct {
	// Requests in a Window, at least 1.
	Requests int64
	// Window is a whole number of seconds, at least one.
	Window time.Duration
	// Burst is the most that may come at once; 0 means Requests.
	Burst int64
}

// Policy is a Quota with the name under which headers, problems and metrics speak of it.
type Policy struct {
	// Name is a short slug; it becomes a metric label and an HTTP structured string.
	Name string
	Quota
}

// Validate reports why the policy cannot be used, or nil.
func (p Policy) Validate() error {
	switch {
	case p.Name == "":
		return fmt.Errorf("rate limit policy without a name")
	case p.Requests < 1:
		return fmt.Errorf("rate limit policy %q: requests must be at least 1", p.Name)
	case p.Window < time.Second || p.Window > 24*time.Hour || p.Window%time.Second != 0:
		return fmt.Errorf("rate limit policy %q: window must be whole seconds, up to a day", p.Name)
	case p.Window.Microseconds() < p.Requests:
		return fmt.Errorf("rate limit policy %q: more than one request a microsecond", p.Name)
	case p.Burst < 0 || p.burst() > maxBurst:
		return fmt.Errorf("rate limit policy %q: burst must be between 1 and %d", p.Name, int64(maxBurst))
	}
	return nil
}

// maxBurst keeps interval × burst of the longest window far below 2^53, where
// Redis' Lua still counts exactly.
const maxBurst = 10_000

func (q Quota) burst() int64 {
	if q.Burst == 0 {
		return q.Requests
	}
	return q.Burst
}

// interval is the time that one request costs, in microseconds.
func (q Quota) interval() int64 { return q.Window.Microseconds() / q.Requests }

// tolerance is how far ahead of now a key's arrival time may run, in microseconds.
func (q Quota) tolerance() int64 { return q.interval() * q.burst() }

// Decision is the answer to one request.
type Decision struct {
	Allowed bool
	// Remaining is how many requests would be allowed right now after this one.
	Remaining int64
	// RetryAfter is when this request would be allowed; 0 when it was.
	RetryAfter time.Duration
	// ResetAfter is when the whole burst is there again.
	ResetAfter time.Duration
}

// debtLimit is how many whole bursts a key may be in debt by at most: requests that were
// charged unasked come on top of a burst that is spent. What is remembered from a wider
// quota, or from a clock that went back, denies no longer than that.
const debtLimit = 2

// Decide is the generic cell rate algorithm (ITU-T I.371, annex A; in the form of
// Boulder's ratelimits/gcra.go): tat is the theoretical arrival time that the
// store remembers for the key, 0 for an unknown key; tat and now are microseconds
// of the store's clock; cost is at least 0. It returns the arrival time to
// remember, which is tat itself, within its limits, when the request is denied. A
// cost above the burst is never allowed.
func Decide(q Quota, tat, now, cost int64) (int64, Decision) {
	return decide(q.interval(), q.tolerance(), tat, now, cost)
}

func decide(interval, tolerance, tat, now, cost int64) (int64, Decision) {
	tat = min(max(tat, now), now+debtLimit*tolerance)
	next := tat + cost*interval
	room := now + tolerance - next
	if room < 0 {
		return tat, Decision{
			Remaining:  max(0, (now+tolerance-tat)/interval),
			RetryAfter: micros(-room),
			ResetAfter: micros(tat - now),
		}
	}
	return next, Decision{Allowed: true, Remaining: room / interval, ResetAfter: micros(next - now)}
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
