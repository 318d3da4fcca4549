package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"usher/gateway/policy"
	"usher/internal/operator"
	"usher/internal/pass"
	"usher/internal/problem"
	"usher/internal/ratelimit"
)

// holder is who has shown a place or a pass: the room and the number or session.
type holder struct{ room, id string }

func placeHolder(room string, number uint64) holder {
	return holder{room, strconv.FormatUint(number, 10)}
}

// limiter asks the policies about requests, and words what they say.
type limiter struct {
	engine *policy.Engine
	passes *pass.Verifier
	auth   *operator.Authenticator
	rescue *rate.Limiter // of operators who are let through in spite of a denial
	// challenge refuses a request that has to solve one first; nil where there is none.
	challenge func(w http.ResponseWriter, r *http.Request, v *visit, over exceeded) *problem.Problem
}

// exceeded is a policy that a request has no quota left of.
type exceeded struct {
	Rule     *policy.Rule
	Decision ratelimit.Decision
}

// refusal is what a request that is denied gets: to the room, or a problem.
type refusal struct {
	room    string
	problem *problem.Problem
}

// arrive charges one request, once it is known who makes it.
func (l *limiter) arrive(w http.ResponseWriter, r *http.Request, v *visit, now time.Time) *refusal {
	if v.class == "" {
		v.class = policy.ClassOf(r.Method, v.path)
	}
	return l.decide(r.Context(), w, r, v, now)
}

// join charges a new place.
func (l *limiter) join(ctx context.Context, w http.ResponseWriter, v *visit, now time.Time) *problem.Problem {
	v.class = policy.Join
	if refused := l.decide(ctx, w, v.request, v, now); refused != nil {
		return refused.problem
	}
	return nil
}

func (l *limiter) decide(ctx context.Context, w http.ResponseWriter, r *http.Request, v *visit, now time.Time) *refusal {
	q := policy.Query{
		Class: v.class, Method: r.Method, Host: v.host, Path: withoutParameters(v.path), Header: r.Header, Addr: v.addr, Room: v.room,
		Shows: policy.Nothing, Audience: v.holder.room, ID: v.holder.id, Clearance: v.cleared, Solved: v.solved,
	}
	switch {
	case v.claims != nil:
		q.Shows = policy.Pass
	case v.place != nil:
		q.Shows = policy.Place
	}
	if l.engine.Asks() {
		q.Ask = asked{l, r, v, now}
	}
	var verdict policy.Verdict
	l.engine.Decide(ctx, &q, now, &verdict)
	writeStates(w.Header(), v, verdict.States())
	v.after, v.allowed = append(v.after, verdict.After...), verdict.Allowed
	switch {
	case verdict.Blocked:
		p := problem.New(http.StatusForbidden, "abnormal-usage-detected", "Requests from this network are not answered.")
		p.Code = "network-blocked"
		return &refusal{problem: p}
	case verdict.Rule == nil:
		return nil
	}
	refused := &refusal{problem: tooMany(&verdict)}
	switch verdict.Rule.Action {
	case policy.ToRoom:
		refused.room = verdict.Rule.Room
	case policy.Challenge:
		if v.path == clearancePath {
			return nil // else nobody could answer
		}
		if l.challenge != nil && !verdict.Refused {
			if p := l.challenge(w, r, v, exceeded{verdict.Rule, verdict.Decision}); p != nil {
				refused.problem = p
			}
		}
	}
	return refused
}

// mends tells that a request that is denied comes from an operator who reads or sets the
// policies: nobody locks themselves out with them. Few are looked at, since who is denied
// may cost little.
func (l *limiter) mends(r *http.Request, v *visit) bool {
	if !under(v.path, policiesPath) || !l.rescue.Allow() {
		return false
	}
	who, refused := l.auth.Authenticate(r)
	return refused == nil && who.May(operator.Operate, "")
}

// rescuesAtOnce bounds them, and are as many a minute.
const rescuesAtOnce = 60

// crowdSpread is the most that is added to when a crowd may come back, besides half of it.
const crowdSpread = 2 * time.Second

// tooMany words a denial, with the problem type and the member that
// draft-ietf-httpapi-ratelimit-headers-10, section 5, gives it. Those who share a quota
// with strangers are sent back at different times.
func tooMany(v *policy.Verdict) *problem.Problem {
	wait := v.Decision.RetryAfter
	if v.Rule.Crowd {
		wait += rand.N(wait/2 + crowdSpread)
	}
	var p *problem.Problem
	switch {
	case v.Refused:
		return problem.New(http.StatusServiceUnavailable, "temporary-reduced-capacity", "This cannot be answered right now. Please try again.").
			With("violated-policies", v.Violated).In(wait)
	case v.Reduced:
		p = problem.New(http.StatusTooManyRequests, "temporary-reduced-capacity", "Fewer requests than usual can be answered right now. Please slow down.")
	case v.Rule.Nested:
		p = problem.New(http.StatusTooManyRequests, "abnormal-usage-detected", "Too many requests from one network in a short time. Please slow down.")
	default:
		p = problem.New(http.StatusTooManyRequests, "quota-exceeded", "Too many requests in a short time. Please slow down.")
	}
	p.Code = "quota-exceeded"
	return p.With("violated-policies", v.Violated).In(wait)
}

// The canonical names of the fields.
const (
	policyField = "Ratelimit-Policy"
	stateField  = "Ratelimit"
)

// writeStates writes the RateLimit-Policy and RateLimit fields: one list each, of every
// policy that looked at the request.
func writeStates(h http.Header, v *visit, states []policy.State) {
	if len(states) == 0 {
		return
	}
	before := h[stateField]
	b := make([]byte, 0, 96)
	if len(before) > 0 {
		b = append(append(b, before[0]...), ", "...)
	}
	for i, s := range states {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = ratelimit.AppendState(b, s.Rule.Name, s.Decision)
	}
	h[stateField] = v.fieldOf(string(b))
	if len(states) == 1 && len(before) == 0 {
		h[policyField] = states[0].Rule.Header
		return
	}
	b = b[:0]
	if len(before) > 0 {
		b = append(append(b, h[policyField][0]...), ", "...)
	}
	for i, s := range states {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, s.Rule.Header[0]...)
	}
	h[policyField] = v.fieldOf(string(b))
}

// withoutParameters is a path as a program reads it that cuts each segment at its
// semicolon: no limit is gone round by one.
func withoutParameters(path string) string {
	if !strings.Contains(path, ";") {
		return path
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i], _, _ = strings.Cut(segment, ";")
	}
	return strings.Join(segments, "/")
}

// asked finds out what few policies want to know of a request.
type asked struct {
	l   *limiter
	r   *http.Request
	v   *visit
	now time.Time
}

// Holds tells whether the request shows a pass of the room.
func (a asked) Holds(room string) bool {
	_, err := a.l.passes.FromRequest(a.r, room, a.now)
	return err == nil
}

// Identity is whom the invitation is for, or the operator.
func (a asked) Identity() string {
	if a.v.identity != "" {
		return "invited " + a.v.identity
	}
	if under(a.v.path, "/api/v1/operate") {
		if who, refused := a.l.auth.Authenticate(a.r); refused == nil {
			return "operator " + who.ID
		}
	}
	return ""
}

// settle charges what the request costs by how it was answered.
func (v *visit) settle(w http.ResponseWriter) {
	if answered, ok := w.(interface{ Status() int }); ok && len(v.after) > 0 {
		v.after.Answered(answered.Status())
	}
}
