package ratelimit

import (
	"context"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
)

// Leased is a policy kept by a Redis store that is not asked each time. Of each key a
// process lets a few requests pass that it still owes to the store, and asks when there
// are more: the debt is paid with the question. So a crowd of which everyone comes once
// costs Redis nothing, and who comes often is charged in full, some requests later.
// A key that is known to have nothing left is refused without asking.
//
// What the processes owe together is the overshoot: n of them let pass at most
// n × (burst ÷ 50) more than the quota, and a policy with a burst under 50 is exact.
// A key that the table had to drop, and one that was idle for as long as its whole
// burst takes to fill, is forgiven what it owes.
type Leased[K comparable] struct {
	policy Policy
	store  *Redis
	name   func(K) string // of a key, for the store
	owing  int64          // the most that one key may owe
	leases *otter.Cache[K, *lease]
}

// leasedPart of a burst is what a key may owe.
const leasedPart = 50

type lease struct {
	mu sync.Mutex // guards the rest
	// tat is the theoretical arrival time that the store would have if all were paid: what
	// it said last and what is owed. Others' requests can only have moved it on.
	tat    int64
	owed   int64
	asking int // questions under way
}

// NewLeased returns a table of at most keys leases of p on store.
func NewLeased[K comparable](store *Redis, p Policy, keys int, name func(K) string) *Leased[K] {
	return &Leased[K]{policy: p, store: store, name: name, owing: p.burst() / leasedPart, leases: otter.Must(&otter.Options[K, *lease]{
		MaximumSize:      keys,
		ExpiryCalculator: otter.ExpiryAccessing[K, *lease](micros(p.tolerance()) + time.Second),
	})}
}

// Policy is what the leases are of.
func (l *Leased[K]) Policy() Policy { return l.policy }

// Take spends one of the key's quota at now. On an error nothing was decided.
func (l *Leased[K]) Take(ctx context.Context, key K, now time.Time) (Decision, error) {
	e, _ := l.leases.ComputeIfAbsent(key, func() (*lease, bool) { return &lease{}, false })
	at := now.UnixMicro()
	d, cost := l.spend(e, at)
	if cost == 0 {
		return d, nil
	}
	d, err := l.store.Take(ctx, l.policy, l.name(key), cost)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asking--
	if err != nil || !d.Allowed {
		e.owed += cost - 1
	}
	if err == nil {
		e.tat = max(e.tat, at+d.ResetAfter.Microseconds()+e.owed*l.policy.interval())
	}
	return d, err
}

// spend decides without the store; where it cannot, it returns what the store is to be
// asked for, with all that is owed.
func (l *Leased[K]) spend(e *lease, at int64) (d Decision, cost int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next, d := Decide(l.policy.Quota, e.tat, at, 1)
	switch {
	case !d.Allowed: // the store knows at least of as much
		return d, 0
	case e.asking == 0 && e.owed < l.owing: // what a question under way carries may come back
		e.owed, e.tat = e.owed+1, next
		return d, 0
	}
	cost = 1 + e.owed
	e.owed = 0
	e.asking++
	return Decision{}, cost
}
