package ratelimit

import (
	"math"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Local limits within one process, one token bucket a key, at most a fixed
// number of keys. It is safe for concurrent use.
type Local[K comparable] struct {
	policy  Policy
	buckets *otter.Cache[K, *rate.Limiter]
}

// NewLocal returns a table of at most keys buckets for the policy.
func NewLocal[K comparable](p Policy, keys int) *Local[K] {
	return &Local[K]{policy: p, buckets: otter.Must(&otter.Options[K, *rate.Limiter]{
		MaximumSize: keys,
		// After this long without a request a bucket is full again and worth nothing.
		ExpiryCalculator: otter.ExpiryAccessing[K, *rate.Limiter](micros(p.tolerance()) + time.Second),
	})}
}

// Policy is what the table enforces.
func (l *Local[K]) Policy() Policy { return l.policy }

// Take spends one of the key's quota at now.
func (l *Local[K]) Take(key K, now time.Time) Decision {
	bucket, _ := l.buckets.ComputeIfAbsent(key, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(l.rate(), int(l.policy.burst())), false
	})
	allowed := bucket.AllowN(now, 1)
	tokens := bucket.TokensAt(now)
	d := Decision{
		Allowed:    allowed,
		Remaining:  max(0, int64(math.Floor(tokens))),
		ResetAfter: l.timeFor(float64(l.policy.burst()) - tokens),
	}
	if !allowed {
		d.RetryAfter = max(l.timeFor(1-tokens), time.Microsecond)
	}
	return d
}

func (l *Local[K]) rate() rate.Limit {
	return rate.Limit(float64(l.policy.Requests) / l.policy.Window.Seconds())
}

func (l *Local[K]) timeFor(tokens float64) time.Duration {
	return time.Duration(max(0, tokens) / float64(l.rate()) * float64(time.Second))
}
