package challenge

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"

	"usher/internal/telemetry"
)

// Config of a Checker.
type Config struct {
	Redis redis.UniversalClient // required
	// Secret signs challenges; required, the same for all gateways.
	Secret string
	Log    *slog.Logger // required
	// Wait is how long one has to wait who cannot compute, and the time between two such
	// places of one client prefix; default 5 minutes.
	Wait time.Duration
	// Outside asks another service first; nil for proof of work alone.
	Outside *Outside
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

const (
	// life is how long a challenge is good: the dearest takes a slow phone minutes.
	life = 10 * time.Minute
	// maxWaits bounds the turns that a prefix may have taken in advance.
	maxWaits = 6
	// grace is how long after its time a turn is good.
	grace = 30 * time.Minute
	// clearTime is how long a clearance is good.
	clearTime = 30 * time.Minute

	maxBurnt = 100_000
	maxLooks = 50_000
	lookTime = time.Second
)

// Elsewhere is the room of challenges that are no room's: those of a policy.
const Elsewhere = "_"

// Checker makes challenges and judges answers. It is safe for concurrent use.
type Checker struct {
	cfg Config
	// burnt are challenges whose answer was wrong, so that one is derived once.
	burnt *otter.Cache[string, struct{}]
	looks *otter.Cache[debtor, int]
	// deriving bounds the answers that are computed at the same time.
	deriving chan struct{}
	// away is until when Redis is not asked what is owed, in Unix milliseconds.
	away atomic.Int64
}

// New makes a Checker.
func New(cfg Config) *Checker {
	if cfg.Wait <= 0 {
		cfg.Wait = 5 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Checker{
		cfg: cfg,
		burnt: otter.Must(&otter.Options[string, struct{}]{
			MaximumSize: maxBurnt, ExpiryCalculator: otter.ExpiryWriting[string, struct{}](life),
		}),
		looks: otter.Must(&otter.Options[debtor, int]{
			MaximumSize: maxLooks, ExpiryCalculator: otter.ExpiryWriting[debtor, int](lookTime),
		}),
		deriving: make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
}

// Asker is who is challenged, and where.
type Asker struct {
	Room    string
	Steep   bool         // the room is under attack: each further place of a prefix is much dearer
	Prefix  netip.Prefix // an IPv4 address, an IPv6 /64
	Visitor string       // the browser's cookie; never empty where an offer is made
	Host    string       // that the visitor asked for
}

func (a Asker) slope() slope {
	if a.Steep {
		return steep
	}
	return gentle
}

// debtor is whose debt sets a price.
type debtor struct {
	room, from, wide string
	steep            bool
}

// buckets that a proof fills; level is what it is good for.
func (d debtor) buckets(near slope, level int) []bucket {
	b := []bucket{
		{debtKey(d.room, d.steep, d.from), near, near.allows(level)},
		{crowdKey(d.room), crowd, crowd.most}, // what a crowd adds is no reason to refuse who came before it
	}
	if d.wide != "" {
		b = append(b, bucket{wideKey(d.room, d.wide), wide, wide.allows(level)})
	}
	return b
}

// digest of whatever a challenge is bound to, so that it can be shown around.
func (c *Checker) digest(kind, of string) string {
	return base64.RawURLEncoding.EncodeToString(mac(c.cfg.Secret, []byte(kind+"\x00"+of))[:12])
}

func (c *Checker) debtor(a Asker) debtor {
	d := debtor{room: a.Room, from: c.digest("prefix", a.Prefix.String()), steep: a.Steep}
	if a.Prefix.Addr().Is6() {
		if net, err := a.Prefix.Addr().Prefix(48); err == nil {
			d.wide = c.digest("wide", net.String())
		}
	}
	return d
}

// Offer is a challenge as the visitor gets it.
type Offer struct {
	Provider string `json:"provider"`
	// Of altcha.
	Parameters *Parameters `json:"parameters,omitempty"`
	Signature  string      `json:"signature,omitempty"`
	// Of the others.
	SiteKey string `json:"site_key,omitempty"`
	Action  string `json:"action,omitempty"`
	// SlowPath is for who can solve none.
	SlowPath *SlowPath `json:"slow_path,omitempty"`
}

// SlowPath tells where to ask for a turn.
type SlowPath struct {
	URL   string `json:"url"`
	WaitS int    `json:"wait_s"` // at least
}

// Offer makes a challenge. It never fails: without Redis it is the cheapest.
func (c *Checker) Offer(ctx context.Context, a Asker) Offer {
	slow := &SlowPath{URL: "/api/v1/rooms/" + a.Room + "/check", WaitS: int(c.cfg.Wait / time.Second)}
	if c.cfg.Outside.ready(c.cfg.Now()) {
		telemetry.Challenges.WithLabelValues(c.cfg.Outside.Provider, "offered").Inc()
		return Offer{Provider: c.cfg.Outside.Provider, SiteKey: c.cfg.Outside.SiteKey, Action: Action, SlowPath: slow}
	}
	d := c.debtor(a)
	price := c.price(ctx, d, a.slope())
	level := price & 0xff
	s := sign(c.cfg.Secret, Bound{
		From: d.from, Level: level, Room: a.Room, Visitor: c.digest("visitor", a.Visitor), Wide: d.wide,
	}, min(mostBits, baseBits+level+price>>8), c.cfg.Now().Add(life).Unix())
	telemetry.Challenges.WithLabelValues(Altcha, "offered").Inc()
	return Offer{Provider: Altcha, Parameters: &s.Parameters, Signature: s.Signature, SlowPath: slow}
}

// price is the level of the debtor, and in the next byte what the crowd adds. It is as
// old as lookTime, so that who only asks costs Redis nothing.
func (c *Checker) price(ctx context.Context, d debtor, near slope) int {
	if known, ok := c.looks.GetIfPresent(d); ok {
		return known
	}
	now := c.cfg.Now()
	if now.UnixMilli() < c.away.Load() {
		return 0
	}
	units, err := look(context.WithoutCancel(ctx), c.cfg.Redis, d.buckets(near, 0))
	if err != nil {
		c.away.Store(now.Add(lookTime).UnixMilli())
		c.cfg.Log.WarnContext(ctx, "challenges are of the first price: Redis does not answer", "error", err)
		return 0
	}
	wideUnits := 0
	if len(units) > 2 {
		wideUnits = units[2]
	}
	price := levelOf(near, units[0], wideUnits) | crowd.level(units[1])<<8
	c.looks.Set(d, price)
	return price
}

// Refused is an answer that is worth nothing, and why in one word for the metrics.
type Refused struct{ Provider, Outcome string }

func (r *Refused) Error() string { return r.Provider + " answer: " + r.Outcome }

// Check spends an answer: nil when the visitor has passed, *Refused when the answer is
// no good, another error when nothing could be decided.
func (c *Checker) Check(ctx context.Context, a Asker, answer string) error {
	provider, err := c.check(ctx, a, answer)
	outcome := "passed"
	var refused *Refused
	switch {
	case errors.As(err, &refused):
		outcome = refused.Outcome
	case err != nil:
		outcome = "undecided"
	}
	telemetry.Challenges.WithLabelValues(provider, outcome).Inc()
	return err
}

func (c *Checker) check(ctx context.Context, a Asker, answer string) (provider string, err error) {
	if strings.HasPrefix(answer, turnWord+".") {
		return Wait, c.checkTurn(ctx, a, answer)
	}
	p, err := parseAnswer(answer)
	switch {
	case err == nil:
		return Altcha, c.checkProof(ctx, a, p)
	case c.cfg.Outside == nil:
		return Altcha, &Refused{Altcha, "unreadable"}
	}
	return c.cfg.Outside.Provider, c.checkOutside(ctx, a, answer)
}

// The providers.
const (
	Altcha = "altcha"
	Wait   = "wait"
)

func (c *Checker) checkProof(ctx context.Context, a Asker, p payload) error {
	q, now := p.Challenge.Parameters, c.cfg.Now()
	switch {
	case !p.ours(c.cfg.Secret):
		return &Refused{Altcha, "forged"}
	case now.Unix() > q.ExpiresAt:
		return &Refused{Altcha, "expired"}
	case q.Data.Room != a.Room || !c.bound(a, q.Data.From, q.Data.Visitor):
		return &Refused{Altcha, "foreign"}
	}
	if _, burnt := c.burnt.GetIfPresent(q.Nonce); burnt {
		return &Refused{Altcha, "wrong"}
	}
	select {
	case c.deriving <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	right := p.right()
	<-c.deriving
	if !right {
		c.burnt.Set(q.Nonce, struct{}{})
		return &Refused{Altcha, "wrong"}
	}
	nonce, err := hex.DecodeString(q.Nonce)
	if err != nil || len(nonce) != nonceLen {
		return &Refused{Altcha, "wrong"} // unreachable: we made it
	}
	// The debt is of the prefix that asked for the challenge, wherever it is spent.
	d := debtor{room: a.Room, from: q.Data.From, wide: q.Data.Wide, steep: a.Steep}
	return c.settle(ctx, Altcha, ticket{a.Room, q.ExpiresAt / 60, binary.BigEndian.Uint64(nonce)}, 2*life, d, d.buckets(a.slope(), q.Data.Level))
}

func (c *Checker) bound(a Asker, from, visitor string) bool {
	return from == c.digest("prefix", a.Prefix.String()) || a.Visitor != "" && visitor == c.digest("visitor", a.Visitor)
}

func (c *Checker) settle(ctx context.Context, provider string, t ticket, keep time.Duration, d debtor, buckets []bucket) error {
	err := spend(ctx, c.cfg.Redis, t, keep, buckets)
	c.looks.Invalidate(d) // it is another one now, or was not what we thought
	switch {
	case errors.Is(err, errSpent):
		return &Refused{provider, "spent"}
	case errors.Is(err, errCheap):
		return &Refused{provider, "cheap"}
	}
	return err
}

// ErrFull tells that too many wait behind the prefix already.
var ErrFull = errors.New("too many wait behind this prefix")

// Turn gives one who cannot compute an answer that is good from ready on. A turn that the
// visitor has already is given back.
func (c *Checker) Turn(ctx context.Context, a Asker, had string) (answer string, ready time.Time, err error) {
	if t, ok := c.openTurn(a, had); ok {
		return had, t.ready(), nil
	}
	d := c.debtor(a)
	wait, ok, err := takeTurn(ctx, c.cfg.Redis, a.Room, d.from, c.cfg.Wait)
	switch {
	case err != nil:
		return "", time.Time{}, err
	case !ok:
		return "", time.Time{}, ErrFull
	}
	ready = c.cfg.Now().Add(wait)
	t := turn{Room: a.Room, From: d.from, Visitor: c.digest("visitor", a.Visitor), ReadyAt: ready.UnixMilli(), Expires: ready.Add(grace).UnixMilli(), Serial: serial()}
	telemetry.Challenges.WithLabelValues(Wait, "offered").Inc()
	return seal(c.cfg.Secret, turnWord, t), ready, nil
}

// ReadyAt reads a turn of this visitor; false for what is none, or is over.
func (c *Checker) ReadyAt(a Asker, answer string) (time.Time, bool) {
	t, ok := c.openTurn(a, answer)
	return t.ready(), ok
}

func (c *Checker) openTurn(a Asker, answer string) (turn, bool) {
	var t turn
	if answer == "" || unseal(c.cfg.Secret, turnWord, answer, &t) != nil {
		return turn{}, false
	}
	return t, t.Room == a.Room && c.bound(a, t.From, t.Visitor) && c.cfg.Now().UnixMilli() <= t.Expires
}

func (c *Checker) checkTurn(ctx context.Context, a Asker, answer string) error {
	t, ok := c.openTurn(a, answer)
	switch {
	case !ok:
		return &Refused{Wait, "forged"}
	case c.cfg.Now().Before(t.ready()):
		return &Refused{Wait, "early"}
	}
	return c.settle(ctx, Wait, ticket{a.Room, t.Expires / 60_000, t.Serial}, 2*grace, debtor{}, nil)
}

// Clear gives a browser that solved a challenge of Elsewhere a clearance, and its id.
func (c *Checker) Clear() (sealed string, life time.Duration) {
	return seal(c.cfg.Secret, clearanceWord, clearance{ID: NewVisitor(), Expires: c.cfg.Now().Add(clearTime).UnixMilli()}), clearTime
}

// Cleared is the id of a clearance; "" for what is none.
func (c *Checker) Cleared(sealed string) string {
	var t clearance
	if unseal(c.cfg.Secret, clearanceWord, sealed, &t) != nil || c.cfg.Now().UnixMilli() > t.Expires {
		return ""
	}
	return t.ID
}
