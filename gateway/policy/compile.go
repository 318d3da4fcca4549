package policy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"github.com/prometheus/client_golang/prometheus"

	"usher/internal/ratelimit"
	"usher/internal/telemetry"
)

// maxKeys bounds the keys that all tables of a set remember together: about 300 bytes
// each. No table needs more than maxTableKeys.
const (
	maxKeys      = 600_000
	maxTableKeys = 100_000
)

// Rule is a policy ready to be asked.
type Rule struct {
	Policy
	// Crowd tells that those who share a key are many, so that they must not all come back
	// in the same moment.
	Crowd bool
	// Nested tells that it counts by a network of networks: one client who exceeds it walks
	// through addresses.
	Nested bool
	// Header is the RateLimit-Policy field of an answer that only this rule has to do with.
	Header []string

	label    string // under which metrics and Redis know it
	methods  []string
	table    *ratelimit.Table
	live     bool // of the set in force, not of the candidate
	counts   *counts
	outcomes outcomes
}

// candidateLabel precedes the names of a candidate's policies in metrics and in Redis.
const candidateLabel = "candidate/"

// counts are what happened since this process knows of a rule.
type counts struct{ allowed, denied, deniedWithPass, wouldDeny, wouldDenyWithPass tally }

// tally is a count that Redis is told of.
type tally struct {
	atomic.Int64
	told int64 // of the count; the Engine's Run owns it
}

type outcomes struct{ allowed, denied, wouldDeny prometheus.Counter }

func (r *Rule) enforced() bool { return r.live && r.Mode == Enforce }

// ruleSet is a Set ready to be asked.
type ruleSet struct {
	rules []*Rule
	// by class and what is shown, in the order of the set: what can match at all.
	by    map[Class]*[3][]*Rule
	lists *bart.Table[bool] // true: allowed, false: blocked; nil: nobody is listed
	asks  bool              // some rule wants to know what costs something to find out

	// blocked counts requests that the lists refuse. Of a candidate: those that it would
	// refuse, and all that it would deny while the set in force let them through.
	blocked, newlyDenied, newlyDeniedWithPass tally
}

// compile makes a set ready. A rule that counts as it did in before goes on with what it
// remembers, and so do the counts of one with the same name.
func compile(s Set, live bool, before *ruleSet) *ruleSet {
	c := &ruleSet{by: map[Class]*[3][]*Rule{}}
	for _, class := range Classes {
		c.by[class] = &[3][]*Rule{}
	}
	keys := min(maxTableKeys, maxKeys/max(1, len(s.Policies)))
	for _, p := range s.Policies {
		if p.Mode == Off {
			continue
		}
		r := newRule(p, live, keys, before)
		c.rules = append(c.rules, r)
		c.asks = c.asks || p.Action == ToRoom || slices.Contains(p.Key, ByIdentity)
		for _, class := range Classes {
			// A new place is one thing, the request that asks for it another.
			if len(p.Match.Class) > 0 && !slices.Contains(p.Match.Class, class) || len(p.Match.Class) == 0 && class == Join {
				continue
			}
			for i, shown := range []Shown{Nothing, Place, Pass} {
				if len(p.Match.Shows) == 0 || slices.Contains(p.Match.Shows, shown) {
					c.by[class][i] = append(c.by[class][i], r)
				}
			}
		}
	}
	for _, list := range []struct {
		networks []string
		allow    bool
	}{{s.Lists.Allow, true}, {s.Lists.Block, false}} {
		for _, text := range list.networks {
			prefix, err := network(text)
			if err != nil { // Parse has read it before
				continue
			}
			if c.lists == nil {
				c.lists = &bart.Table[bool]{}
			}
			c.lists.Insert(prefix, list.allow)
		}
	}
	return c
}

func newRule(p Policy, live bool, keys int, before *ruleSet) *Rule {
	r := &Rule{Policy: p, live: live, label: p.Name, methods: p.Match.Method}
	if !live {
		r.label = candidateLabel + p.Name
	}
	if slices.Contains(r.methods, http.MethodGet) {
		r.methods = append([]string{http.MethodHead}, r.methods...)
	}
	has := func(parts ...Part) bool {
		return slices.ContainsFunc(p.Key, func(part Part) bool { return slices.Contains(parts, part) })
	}
	r.Crowd = !has(BySession, ByVisitor, ByIdentity)
	r.Nested = has(ByPrefix56, ByPrefix48)
	limit := ratelimit.Policy{Name: r.label, Quota: ratelimit.Quota{Requests: p.Quota, Window: time.Duration(p.Window) * time.Second, Burst: p.Burst}}
	r.Header = []string{limit.Field()}
	r.counts = &counts{}
	metric := func(outcome string) prometheus.Counter {
		return telemetry.LimitDecisions.WithLabelValues(r.label, outcome)
	}
	r.outcomes = outcomes{metric("allowed"), metric("denied"), metric("would_deny")}
	if old := before.find(p.Name); old != nil {
		r.counts = old.counts
		if old.table.Policy() == limit && old.Scope == p.Scope && slices.Equal(old.Key, p.Key) {
			r.table = old.table
		}
	}
	if r.table == nil {
		r.table = ratelimit.NewTable(limit, keys, p.Scope == AllGateways)
	}
	return r
}

func (c *ruleSet) find(name string) *Rule {
	if c != nil {
		for _, r := range c.rules {
			if r.Name == name {
				return r
			}
		}
	}
	return nil
}

// forget drops the metrics of rules that are there no more.
func (c *ruleSet) forget(after *ruleSet) {
	if c == nil {
		return
	}
	for _, r := range c.rules {
		if after.find(r.Name) == nil {
			telemetry.LimitDecisions.DeletePartialMatch(prometheus.Labels{"policy": r.label})
		}
	}
}

// listed tells what the lists say of an address.
func (c *ruleSet) listed(addr netip.Addr) (allow, block bool) {
	if c.lists == nil || !addr.IsValid() {
		return false, false
	}
	verdict, ok := c.lists.Lookup(addr)
	return ok && verdict, ok && !verdict
}

// Query is one request as policies see it.
type Query struct {
	Class              Class
	Method, Host, Path string
	Header             http.Header
	Addr               netip.Addr
	Room               string // of the path, or in front of it
	Shows              Shown
	// Audience and ID name the session, or the place where there is none.
	Audience, ID string
	// Clearance is what the client got for a challenge that it solved: it is charged in
	// place of the prefix.
	Clearance string
	// Solved tells that this very request shows a solved challenge: no prefix is charged.
	Solved bool
	Ask    Asker
}

// Asker finds out what few policies want to know.
type Asker interface {
	// Holds tells whether the request shows a valid pass of a room.
	Holds(room string) bool
	// Identity is who the operator is, or whom the invitation is for; "" for nobody.
	Identity() string
}

func (q *Query) shown() int {
	switch q.Shows {
	case Place:
		return 1
	case Pass:
		return 2
	}
	return 0
}

// matches tells whether the rest of what a rule says is true of a request.
func (r *Rule) matches(q *Query) bool {
	m := &r.Match
	if len(r.methods) > 0 && !slices.Contains(r.methods, q.Method) ||
		len(m.Host) > 0 && !slices.ContainsFunc(m.Host, func(pattern string) bool { return hostMatches(pattern, q.Host) }) ||
		len(m.Path) > 0 && !slices.ContainsFunc(m.Path, func(pattern string) bool { return pathMatches(pattern, q.Path) }) {
		return false
	}
	for name, pattern := range m.Header {
		value := ""
		if values := q.Header[name]; len(values) > 0 {
			value = values[0]
		}
		if !textMatches(pattern, value) {
			return false
		}
	}
	return r.Action != ToRoom || q.Ask == nil || !q.Ask.Holds(r.Room)
}

func textMatches(pattern, text string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(text, start) && (start != "" || text != "")
	}
	return pattern == text
}

// pathMatches folds case, as some sites do: a limit must not be gone round by it.
func pathMatches(pattern, path string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return len(path) >= len(start) && strings.EqualFold(path[:len(start)], start)
	}
	return strings.EqualFold(pattern, path)
}

func hostMatches(pattern, host string) bool {
	if under, ok := strings.CutPrefix(pattern, "*."); ok {
		return strings.HasSuffix(host, under) && len(host) > len(under) && host[len(host)-len(under)-1] == '.'
	}
	return textMatches(pattern, host)
}

// cleared is the audience of those who are charged by a solved challenge.
const cleared = "cleared"

// key is by what the request counts; false when it lacks a part of it.
func (r *Rule) key(q *Query) (k ratelimit.Key, ok bool) {
	for _, part := range r.Key {
		switch part {
		case ByPrefix, ByPrefix56, ByPrefix48:
			switch {
			case q.Solved, part != ByPrefix && (q.Clearance != "" || q.Addr.Is4()):
				return k, false
			case q.Clearance == "":
				k.Prefix = prefix(q.Addr, part)
			case k.ID == "": // who is known besides is charged alone anyway
				k.Audience, k.ID = cleared, q.Clearance
			}
		case BySession:
			if q.Shows != Pass {
				return k, false
			}
			k.Audience, k.ID = q.Audience, q.ID
		case ByVisitor:
			if q.Shows == Nothing || q.Shows == "" {
				return k, false
			}
			k.Audience, k.ID = q.Audience, q.ID
		case ByIdentity:
			if q.Ask == nil {
				return k, false
			}
			if k.Audience, k.ID = "identity", q.Ask.Identity(); k.ID == "" {
				return k, false
			}
		case ByRoom:
			if k.Room = q.Room; k.Room == "" {
				return k, false
			}
		case ByHost:
			k.Host = q.Host
		case ByPath:
			k.Path = q.Path
		}
	}
	return k, true
}

// prefix is the network of a client that a part counts by.
func prefix(addr netip.Addr, part Part) netip.Prefix {
	bits := 64
	switch {
	case addr.Is4():
		bits = 32
	case part == ByPrefix56:
		bits = 56
	case part == ByPrefix48:
		bits = 48
	}
	p, _ := addr.Prefix(bits) // the zero Addr has the zero Prefix
	return p
}
