package policy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/ratelimit"
	"usher/internal/telemetry"
)

// Config is what an Engine needs.
type Config struct {
	Redis redis.UniversalClient
	Log   *slog.Logger
	// Fallback is what is in force where no operator has set anything: the configuration's,
	// or Defaults.
	Fallback Document
}

// Engine decides by the policies in force. It is safe for concurrent use. Run must run
// beside it: it keeps the policies up to date, and finds that Redis is back.
type Engine struct {
	cfg     Config
	id      string // of this gateway among the others
	store   *ratelimit.Store
	current atomic.Pointer[inForce]
	// gateways is how many there were when Redis was last heard of.
	gateways atomic.Int64
	// awayUntil is not 0 while Redis is not asked, in Unix milliseconds: from a failure on
	// until Run has heard of it again, and for awayTime at least.
	awayUntil atomic.Int64

	mu sync.Mutex // guards the replacement of current
	// telling is held while counts are told to Redis.
	telling sync.Mutex
	round   int // of sweeping; Run's
}

// awayTime is how long one failure speaks for all requests.
const awayTime = time.Second

// inForce is a document ready to be asked.
type inForce struct {
	version   int64 // 0: the fallback
	origin    origin
	document  Document
	live      *ruleSet
	candidate *ruleSet // nil without one
}

// NewEngine makes an Engine that decides by the fallback until Run has heard of another.
func NewEngine(cfg Config) *Engine {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	e := &Engine{cfg: cfg, id: hex.EncodeToString(id[:]), store: ratelimit.NewStore(cfg.Redis)}
	e.gateways.Store(1)
	e.put(0, cfg.Fallback, origin{})
	return e
}

// put puts a document into force, unless a later one is.
func (e *Engine) put(version int64, d Document, from origin) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.current.Load()
	if before == nil {
		before = &inForce{version: -1}
	}
	if version <= before.version {
		return
	}
	next := &inForce{version: version, origin: from, document: d, live: compile(d.Set, true, before.live)}
	before.live.forget(next.live)
	if d.Candidate != nil {
		next.candidate = compile(*d.Candidate, false, before.candidate)
	}
	before.candidate.forget(next.candidate)
	e.current.Store(next)
}

// Verdict is what came out for one request.
type Verdict struct {
	// Allowed and Blocked tell that the request comes from a network that is listed so.
	Allowed, Blocked bool
	// Rule is the one that denies the request for longest; nil when it may go on.
	Rule     *Rule
	Decision ratelimit.Decision
	// Violated are the names of all that deny it.
	Violated []string
	// Reduced tells that Redis is away and the limit therefore a part of the usual one;
	// Refused that the rule then lets nobody through.
	Reduced, Refused bool
	// After is what is yet to be charged by how the request is answered.
	After Unsettled

	states [maxStates]State
	looked int
}

// maxStates bounds the rules that headers speak of.
const maxStates = 8

// State is what one rule says of a request.
type State struct {
	Rule     *Rule
	Decision ratelimit.Decision
}

// States are the enforced rules that looked at the request, for headers.
func (v *Verdict) States() []State { return v.states[:v.looked] }

// Unsettled are turns whose cost depends on the answer.
type Unsettled []afterwards

type afterwards struct {
	turn ratelimit.Turn
	rule *Rule
}

// Answered charges what the request costs by how it was answered.
func (u Unsettled) Answered(status int) {
	for i := range u {
		if more := u[i].rule.Cost.of(status) - u[i].rule.Cost.Base; more != 0 {
			u[i].turn.Charge(more)
		}
	}
}

// Asks tells that some policy in force wants Query.Ask.
func (e *Engine) Asks() bool {
	f := e.current.Load()
	return f.live.asks || f.candidate != nil && f.candidate.asks
}

// usualTurns is for how many rules that look at a request room is kept.
const usualTurns = 16

// look is what one rule has to do with a request, beside its turn.
type look struct {
	rule    *Rule
	refused bool // the rule lets nobody through while Redis is away
	unasked bool // another rule had denied the request already
}

// looks are all rules that have to do with a request.
type looks struct {
	turns []ratelimit.Turn
	looks []look
}

// reuse keeps looks that are over.
var reuse = sync.Pool{New: func() any {
	return &looks{turns: make([]ratelimit.Turn, 0, usualTurns), looks: make([]look, 0, usualTurns)}
}}

// Decide asks all policies about a request. A request that is denied is charged to none of
// those in force; a candidate, and what is in the shadow, charges all that arrive.
func (e *Engine) Decide(ctx context.Context, q *Query, now time.Time, v *Verdict) {
	f := e.current.Load()
	l := reuse.Get().(*looks)
	defer reuse.Put(l)
	l.turns, l.looks = l.turns[:0], l.looks[:0]
	moment := moment{at: now.UnixMicro(), processes: e.gateways.Load(), away: e.awayUntil.Load() != 0}

	v.Allowed, v.Blocked = f.live.listed(q.Addr)
	if v.Blocked {
		f.live.blocked.Add(1)
	}
	if !v.Allowed && !v.Blocked {
		l.take(f.live, q, moment)
	}
	candidateBlocks := false
	if c := f.candidate; c != nil {
		allow, block := c.listed(q.Addr)
		if candidateBlocks = block; block {
			c.blocked.Add(1)
		}
		if !allow && !block {
			l.take(c, q, moment)
		}
	}
	if l.toAsk() {
		e.ask(ctx, l, moment)
	}
	l.judge(q, v)
	if f.candidate != nil && v.Rule == nil && !v.Blocked {
		if candidateBlocks || l.candidateDenies() {
			f.candidate.newlyDenied.Add(1)
			if q.Shows == Pass {
				f.candidate.newlyDeniedWithPass.Add(1)
			}
		}
	}
}

// moment is when a request is decided, and among how many.
type moment struct {
	at, processes int64
	away          bool
}

// take begins the turns of a set's rules.
func (l *looks) take(s *ruleSet, q *Query, m moment) {
	for _, r := range s.by[q.Class][q.shown()] {
		if !r.matches(q) {
			continue
		}
		key, ok := r.key(q)
		if !ok {
			continue
		}
		away := m.away && r.Scope == AllGateways
		if away && r.Away == Allow {
			continue
		}
		l.turns, l.looks = append(l.turns, ratelimit.Turn{}), append(l.looks, look{rule: r})
		i := len(l.turns) - 1
		if away && r.Away == Refuse {
			l.refuse(i)
			continue
		}
		r.table.Take(&l.turns[i], key, m.at, r.Cost.Base, m.processes)
		if away && l.turns[i].Open() {
			l.turns[i].Alone(m.processes)
		}
	}
}

func (l *looks) refuse(i int) {
	l.turns[i].Decision = ratelimit.Decision{RetryAfter: awayTime}
	l.looks[i].refused = true
}

// toAsk tells whether Redis is to be asked. A request that a rule in force denies as it is
// needs no more answers from the others in force.
func (l *looks) toAsk() bool {
	open, denied := false, false
	for i := range l.turns {
		open = open || l.turns[i].Open()
		denied = denied || !l.turns[i].Open() && !l.turns[i].Decision.Allowed && l.looks[i].rule.enforced()
	}
	if !open || !denied {
		return open
	}
	open = false
	for i := range l.turns {
		switch {
		case !l.turns[i].Open():
		case l.looks[i].rule.enforced():
			l.turns[i].Cancel()
			l.looks[i].unasked = true
		default:
			open = true
		}
	}
	return open
}

// ask asks Redis; without it each rule goes on as it is set to.
func (e *Engine) ask(ctx context.Context, l *looks, m moment) {
	err := e.store.Ask(ctx, l.turns)
	if err == nil {
		return
	}
	e.lost(ctx, m.at/1000, err)
	for i := range l.turns {
		if !l.turns[i].Open() {
			continue
		}
		switch l.looks[i].rule.Away {
		case Share:
			l.turns[i].Alone(m.processes)
		case Allow:
			l.turns[i].Cancel()
			l.turns[i].Decision.Allowed, l.looks[i].unasked = true, true
		case Refuse:
			l.turns[i].Cancel()
			l.refuse(i)
		}
	}
}

// lost notes that Redis does not answer.
func (e *Engine) lost(ctx context.Context, now int64, err error) {
	if e.awayUntil.Swap(now+awayTime.Milliseconds()) == 0 {
		telemetry.LimitsAlone.Set(1)
		e.cfg.Log.WarnContext(ctx, "limits are each gateway's share: Redis does not answer", "gateways", e.gateways.Load(), "error", err)
	}
}

// found notes that it does.
func (e *Engine) found(ctx context.Context, now int64) {
	if until := e.awayUntil.Load(); until != 0 && now >= until && e.awayUntil.CompareAndSwap(until, 0) {
		telemetry.LimitsAlone.Set(0)
		e.cfg.Log.InfoContext(ctx, "limits are shared again: Redis answers")
	}
}

// judge counts what came out, and gives back what a denied request has taken.
func (l *looks) judge(q *Query, v *Verdict) {
	for i := range l.turns {
		look, turn := &l.looks[i], &l.turns[i]
		if look.unasked || !look.rule.enforced() {
			continue
		}
		if v.looked < maxStates {
			v.states[v.looked] = State{look.rule, turn.Decision}
			v.looked++
		}
		if turn.Decision.Allowed {
			continue
		}
		v.Violated = append(v.Violated, look.rule.Name)
		if v.Rule == nil || turn.Decision.RetryAfter > v.Decision.RetryAfter {
			v.Rule, v.Decision, v.Reduced, v.Refused = look.rule, turn.Decision, turn.ByShare(), look.refused
		}
	}
	for i := range l.turns {
		look, turn := &l.looks[i], &l.turns[i]
		r := look.rule
		switch {
		case look.unasked:
		case !turn.Decision.Allowed:
			r.deny(q)
		case v.Rule != nil && r.enforced():
			turn.Charge(-r.Cost.Base)
		default:
			r.counts.allowed.Add(1)
			r.outcomes.allowed.Inc()
			if len(r.Cost.Status) > 0 {
				v.After = append(v.After, afterwards{*turn, r})
			}
		}
	}
}

func (r *Rule) deny(q *Query) {
	all, withPass, outcome := &r.counts.denied, &r.counts.deniedWithPass, r.outcomes.denied
	if !r.enforced() {
		all, withPass, outcome = &r.counts.wouldDeny, &r.counts.wouldDenyWithPass, r.outcomes.wouldDeny
	}
	all.Add(1)
	outcome.Inc()
	if q.Shows == Pass {
		withPass.Add(1)
	}
}

// candidateDenies tells whether the candidate would deny the request.
func (l *looks) candidateDenies() bool {
	for i := range l.turns {
		if look := &l.looks[i]; !look.rule.live && look.rule.Mode == Enforce && !look.unasked && !l.turns[i].Decision.Allowed {
			return true
		}
	}
	return false
}
