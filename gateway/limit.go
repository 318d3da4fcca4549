package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"usher/internal/problem"
	"usher/internal/ratelimit"
	"usher/internal/telemetry"
)

// Limits are the quotas of the edge; doc.go says why the defaults are what they
// are. A zero Quota takes its default.
type Limits struct {
	// Visit is what one client prefix may ask for without a place or a pass, a
	// process. Default 50 a second, 200 at once.
	Visit ratelimit.Quota
	// Visitor is what one place or session may ask for, a process. Default 20 a
	// second, 100 at once.
	Visitor ratelimit.Quota
	// Joins are the new places of one client prefix, all gateways together, but for a
	// fiftieth of the burst that each may let pass unasked. Default 120 a minute, 200 at once.
	Joins ratelimit.Quota
	// Origin is what one session may ask of protected paths, all gateways together, but
	// for a fiftieth of the burst as above. Default 600 a minute, 300 at once.
	Origin ratelimit.Quota
}

func (l *Limits) setDefaults() {
	for q, fallback := range map[*ratelimit.Quota]ratelimit.Quota{
		&l.Visit:   {Requests: 50, Window: time.Second, Burst: 200},
		&l.Visitor: {Requests: 20, Window: time.Second, Burst: 100},
		&l.Joins:   {Requests: 120, Window: time.Minute, Burst: 200},
		&l.Origin:  {Requests: 600, Window: time.Minute, Burst: 300},
	} {
		if *q == (ratelimit.Quota{}) {
			*q = fallback
		}
	}
}

func (l Limits) validate() []error {
	l.setDefaults()
	var faults []error
	for name, q := range map[string]ratelimit.Quota{"visit": l.Visit, "visitor": l.Visitor, "joins": l.Joins, "origin": l.Origin} {
		if err := (ratelimit.Policy{Name: name, Quota: q}).Validate(); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

// Bounds of the in-process tables: about 150 bytes a key.
const (
	maxPrefixes = 100_000
	maxHolders  = 200_000
)

// holder is who has shown a place or a pass: the room and the number or session.
type holder struct{ room, id string }

type limiter struct {
	visit   *ratelimit.Local[netip.Prefix]
	visitor *ratelimit.Local[holder]

	joins  *ratelimit.Leased[netip.Prefix]
	origin *ratelimit.Leased[holder]
	// What stands in for the shared store while Redis is away.
	localJoins  *ratelimit.Local[netip.Prefix]
	localOrigin *ratelimit.Local[holder]
	// away is until when the shared store is not asked after it failed, in Unix
	// milliseconds, so that an outage costs a visitor no wait.
	away atomic.Int64
	log  *slog.Logger
}

// awayTime is how long one failure speaks for the next callers.
const awayTime = time.Second

func newLimiter(l Limits, rdb redis.UniversalClient, log *slog.Logger) *limiter {
	joins, origin := ratelimit.Policy{Name: "joins", Quota: l.Joins}, ratelimit.Policy{Name: "origin", Quota: l.Origin}
	shared := ratelimit.NewRedis(rdb)
	return &limiter{
		visit:       ratelimit.NewLocal[netip.Prefix](ratelimit.Policy{Name: "visit", Quota: l.Visit}, maxPrefixes),
		visitor:     ratelimit.NewLocal[holder](ratelimit.Policy{Name: "visitor", Quota: l.Visitor}, maxHolders),
		joins:       ratelimit.NewLeased(shared, joins, maxPrefixes, netip.Prefix.String),
		origin:      ratelimit.NewLeased(shared, origin, maxHolders, func(h holder) string { return h.room + " " + h.id }),
		localJoins:  ratelimit.NewLocal[netip.Prefix](joins, maxPrefixes),
		localOrigin: ratelimit.NewLocal[holder](origin, maxHolders),
		log:         log,
	}
}

// arrive charges one request: to its holder if it showed a place or a pass, else to
// the prefix it came from. It costs no round trip.
func (l *limiter) arrive(w http.ResponseWriter, v *visit, now time.Time) *problem.Problem {
	if v.holder != (holder{}) {
		return settle(w, l.visitor.Policy(), l.visitor.Take(v.holder, now))
	}
	return settle(w, l.visit.Policy(), l.visit.Take(v.prefix, now))
}

// join charges a new place to the prefix it came from.
func (l *limiter) join(ctx context.Context, w http.ResponseWriter, v *visit, now time.Time) *problem.Problem {
	return settle(w, l.joins.Policy(), ask(ctx, l, l.joins, l.localJoins, v.prefix, now))
}

// protected charges a request to a protected path to its session.
func (l *limiter) protected(ctx context.Context, w http.ResponseWriter, v *visit, now time.Time) *problem.Problem {
	return settle(w, l.origin.Policy(), ask(ctx, l, l.origin, l.localOrigin, v.holder, now))
}

// ask asks the quota of all gateways, and this one's own while Redis is away.
func ask[K comparable](ctx context.Context, l *limiter, leased *ratelimit.Leased[K], local *ratelimit.Local[K], key K, now time.Time) ratelimit.Decision {
	if now.UnixMilli() < l.away.Load() {
		return local.Take(key, now)
	}
	d, err := leased.Take(ctx, key, now)
	if err != nil {
		l.away.Store(now.Add(awayTime).UnixMilli())
		l.log.WarnContext(ctx, "limits are local: Redis does not answer", "policy", leased.Policy().Name, "error", err)
		return local.Take(key, now)
	}
	return d
}

type outcomes struct{ allowed, denied prometheus.Counter }

// decisions are the counters of the policies, found once.
var decisions = func() map[string]outcomes {
	m := map[string]outcomes{}
	for _, name := range []string{"visit", "visitor", "joins", "origin"} {
		m[name] = outcomes{telemetry.LimitDecisions.WithLabelValues(name, "allowed"), telemetry.LimitDecisions.WithLabelValues(name, "denied")}
	}
	return m
}()

func settle(w http.ResponseWriter, p ratelimit.Policy, d ratelimit.Decision) *problem.Problem {
	ratelimit.SetHeaders(w.Header(), p, d)
	if d.Allowed {
		decisions[p.Name].allowed.Inc()
		return nil
	}
	decisions[p.Name].denied.Inc()
	return ratelimit.Exceeded(p, d)
}

func placeHolder(room string, number uint64) holder {
	return holder{room, strconv.FormatUint(number, 10)}
}
