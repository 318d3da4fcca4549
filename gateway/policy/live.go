package policy

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"usher/internal/deadline"
	"usher/internal/redisx"
)

var (
	//go:embed tick.lua
	tickSource string
	//go:embed put.lua
	putSource string
	//go:embed restore.lua
	restoreSource string

	tickScript    = redisx.NewScript(tickSource)
	putScript     = redisx.NewScript(putSource)
	restoreScript = redisx.NewScript(restoreSource)
)

// Keys, all of one slot.
const (
	setKey      = "usher:{policies}:set"
	gatewaysKey = "usher:{policies}:gateways"
	changesKey  = "usher:{policies}:changes"
)

// statsKey is where the counts of a version are.
func statsKey(version int64) string {
	return "usher:{policies}:stats:" + strconv.FormatInt(version, 10)
}

const (
	// tickEvery is how often Redis is heard: a change is in force everywhere within a second.
	tickEvery = 400 * time.Millisecond
	// gatewayLife is how long a gateway counts that says nothing.
	gatewayLife = 4 * time.Second
	// callTime bounds one call.
	callTime = 500 * time.Millisecond
	// putTries bounds how often a change is tried against concurrent ones.
	putTries = 5
)

// Run keeps the policies up to date, tells Redis what came out, and counts the gateways,
// until ctx ends. A Redis that does not answer is no reason to stop.
func (e *Engine) Run(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		if err := e.tick(ctx, e.id); err != nil && ctx.Err() == nil {
			e.lost(ctx, time.Now().UnixMilli(), err)
		}
		e.sweep()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			e.leave(context.WithoutCancel(ctx))
			return
		}
	}
}

// leave tells what was counted last, and that this gateway is none any more.
func (e *Engine) leave(ctx context.Context) {
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	err := errors.Join(e.tick(ctx, e.id), e.cfg.Redis.ZRem(ctx, gatewaysKey, e.id).Err())
	if err != nil {
		e.cfg.Log.DebugContext(ctx, "the last counts of policies are lost", "error", err)
	}
}

// sweep forgets idle keys, a part of each table at a time.
func (e *Engine) sweep() {
	f, now := e.current.Load(), time.Now().UnixMicro()
	e.round++
	for _, s := range []*ruleSet{f.live, f.candidate} {
		if s == nil {
			continue
		}
		for _, r := range s.rules {
			r.table.Sweep(e.round, now)
		}
	}
}

// tick is one word to Redis and its answer.
func (e *Engine) tick(ctx context.Context, id string) error {
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	e.telling.Lock()
	defer e.telling.Unlock()
	f := e.current.Load()
	news := f.news()
	args := []any{id, gatewayLife.Milliseconds(), f.version}
	for _, n := range news {
		args = append(args, n.name, n.more)
	}
	answer, err := tickScript.Run(ctx, e.cfg.Redis, []string{setKey, gatewaysKey, statsKey(f.version)}, args...).Slice()
	if err != nil {
		return fmt.Errorf("tell and hear of policies: %w", err)
	}
	for _, n := range news {
		n.tally.told += n.more
	}
	e.found(ctx, time.Now().UnixMilli())
	gateways, _ := answer[0].(int64)
	e.gateways.Store(max(1, gateways))
	text, _ := answer[1].(string)
	version, _ := strconv.ParseInt(text, 10, 64) // ours; '' is 0
	document, _ := answer[2].(string)
	switch {
	case version < f.version: // Redis has lost what we know
		return e.restore(ctx, f)
	case document != "":
		change, faults := Parse([]byte(document))
		if len(faults) > 0 {
			return fmt.Errorf("policies of version %d: %w", version, faults[0])
		}
		at, _ := answer[3].(string)
		by, _ := answer[4].(string)
		e.put(version, change.Apply(Document{}, Document{}), origin{at, by})
	}
	return nil
}

func (e *Engine) restore(ctx context.Context, f *inForce) error {
	document, err := json.Marshal(f.document)
	if err != nil {
		return fmt.Errorf("bring policies back: %w", err)
	}
	if err := restoreScript.Run(ctx, e.cfg.Redis, []string{setKey}, f.version, document, f.origin.at, f.origin.by).Err(); err != nil {
		return fmt.Errorf("bring policies back: %w", err)
	}
	e.cfg.Log.WarnContext(ctx, "policies that Redis lost are brought back", "version", f.version)
	return nil
}

// origin is when a version was set, in Unix milliseconds, and by whom.
type origin struct{ at, by string }

// Actor is who changes policies, for the audit log.
type Actor struct{ ID, Name, RequestID string }

// ErrConflict says that the policies are not those any more that a change was made for.
var ErrConflict = errors.New("others have changed the policies")

// Document is what is in force, and its version; 0 where no operator has set anything.
func (e *Engine) Document() (Document, int64) {
	f := e.current.Load()
	return f.document, f.version
}

// Change puts an operator's change into force, here at once and elsewhere within a second.
// The error is ErrConflict, or that of a Redis that does not answer.
func (e *Engine) Change(ctx context.Context, c Change, by Actor) error {
	for range putTries {
		if err := e.tick(ctx, e.id); err != nil { // knows the newest, or brings it back
			return err
		}
		f := e.current.Load()
		if c.Version != 0 && c.Version != f.version {
			return ErrConflict
		}
		after := c.Apply(f.document, e.cfg.Fallback)
		document, err := json.Marshal(after)
		if err != nil {
			return fmt.Errorf("change policies: %w", err)
		}
		before, err := json.Marshal(f.document)
		if err != nil {
			return fmt.Errorf("change policies: %w", err)
		}
		version, err := putScript.Run(ctx, e.cfg.Redis, []string{setKey, changesKey}, f.version, document,
			uuid.Must(uuid.NewV7()).String(), by.Name, by.ID, by.RequestID, before).Text()
		if err != nil {
			return fmt.Errorf("change policies: %w", err)
		}
		if version != "" {
			return e.tick(ctx, e.id)
		}
	}
	return ErrConflict
}

// news is what a count has become since Redis was told.
type news struct {
	name  string
	more  int64
	tally *tally
}

// The names of counts, after the label of a rule; a set's own have no label.
const (
	countAllowed           = "allowed"
	countDenied            = "denied"
	countDeniedWithPass    = "denied_with_pass"
	countWouldDeny         = "would_deny"
	countWouldDenyWithPass = "would_deny_with_pass"
	countBlocked           = "blocked"
	countNewly             = "newly_denied"
	countNewlyWithPass     = "newly_denied_with_pass"
)

func (f *inForce) news() (out []news) {
	add := func(label, what string, t *tally) {
		if more := t.Load() - t.told; more != 0 {
			out = append(out, news{label + "|" + what, more, t})
		}
	}
	for _, s := range []*ruleSet{f.live, f.candidate} {
		if s == nil {
			continue
		}
		for _, r := range s.rules {
			add(r.label, countAllowed, &r.counts.allowed)
			add(r.label, countDenied, &r.counts.denied)
			add(r.label, countDeniedWithPass, &r.counts.deniedWithPass)
			add(r.label, countWouldDeny, &r.counts.wouldDeny)
			add(r.label, countWouldDenyWithPass, &r.counts.wouldDenyWithPass)
		}
		label := ""
		if s == f.candidate {
			label = candidateLabel
		}
		add(label, countBlocked, &s.blocked)
		add(label, countNewly, &s.newlyDenied)
		add(label, countNewlyWithPass, &s.newlyDeniedWithPass)
	}
	return out
}

// RuleStats are what one policy has decided, over all gateways, since the policies were
// set last.
type RuleStats struct {
	Name              string `json:"name"`
	Mode              Mode   `json:"mode"`
	Allowed           int64  `json:"allowed"`
	Denied            int64  `json:"denied"`
	DeniedWithPass    int64  `json:"denied_with_pass" doc:"of these, requests that showed a valid pass"`
	WouldDeny         int64  `json:"would_deny" doc:"in the shadow"`
	WouldDenyWithPass int64  `json:"would_deny_with_pass"`
}

// SetStats are what a set has decided.
type SetStats struct {
	Policies []RuleStats `json:"policies"`
	Blocked  int64       `json:"blocked" doc:"requests from blocked networks"`
}

// CandidateStats are what the candidate would have decided.
type CandidateStats struct {
	SetStats
	NewlyDenied         int64 `json:"newly_denied" doc:"requests that the policies in force let through and the candidate would not have"`
	NewlyDeniedWithPass int64 `json:"newly_denied_with_pass"`
}

// Stats are what came out since the policies were set last.
type Stats struct {
	Version   int64           `json:"version" doc:"0 where no operator has set policies"`
	Since     *time.Time      `json:"since" doc:"when they were set"`
	By        string          `json:"by"`
	Gateways  int64           `json:"gateways" doc:"that are running"`
	Alone     bool            `json:"alone" doc:"this gateway does not hear Redis, and allows its share of the quotas"`
	Live      SetStats        `json:"live"`
	Candidate *CandidateStats `json:"candidate"`
}

// Stats tells what came out over all gateways.
func (e *Engine) Stats(ctx context.Context) (Stats, error) {
	if err := e.tick(ctx, e.id); err != nil {
		return Stats{}, err
	}
	f := e.current.Load()
	ctx, cancel := deadline.In(ctx, callTime)
	defer cancel()
	counts, err := e.cfg.Redis.HGetAll(ctx, statsKey(f.version)).Result()
	if err != nil {
		return Stats{}, fmt.Errorf("read what policies decided: %w", err)
	}
	count := func(label, what string) int64 {
		n, _ := strconv.ParseInt(counts[label+"|"+what], 10, 64) // ours; absent is 0
		return n
	}
	of := func(s *ruleSet, label string) SetStats {
		out := SetStats{Policies: make([]RuleStats, 0, len(s.rules)), Blocked: count(label, countBlocked)}
		for _, r := range s.rules {
			out.Policies = append(out.Policies, RuleStats{
				Name: r.Name, Mode: r.Mode, Allowed: count(r.label, countAllowed),
				Denied: count(r.label, countDenied), DeniedWithPass: count(r.label, countDeniedWithPass),
				WouldDeny: count(r.label, countWouldDeny), WouldDenyWithPass: count(r.label, countWouldDenyWithPass),
			})
		}
		return out
	}
	s := Stats{Version: f.version, By: f.origin.by, Gateways: e.gateways.Load(), Alone: e.awayUntil.Load() != 0, Live: of(f.live, "")}
	if ms, _ := strconv.ParseInt(f.origin.at, 10, 64); ms > 0 {
		at := time.UnixMilli(ms).UTC()
		s.Since = &at
	}
	if f.candidate != nil {
		s.Candidate = &CandidateStats{
			SetStats: of(f.candidate, candidateLabel), NewlyDenied: count(candidateLabel, countNewly), NewlyDeniedWithPass: count(candidateLabel, countNewlyWithPass),
		}
	}
	return s, nil
}
