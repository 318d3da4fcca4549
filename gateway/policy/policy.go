package policy

import (
	"encoding/json"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// Policy is one rate-limit rule, as operators write it. docs/policies.md is its manual.
type Policy struct {
	// Name is a slug, unique in its set: headers, problems and metrics speak of it.
	Name  string `json:"name"`
	Match Match  `json:"match"`
	// Key is what it counts by, all parts together. A request that lacks one of them is
	// none of its business.
	Key []Part `json:"key"`
	// Quota is how many requests a Window, from 1 on.
	Quota int64 `json:"quota"`
	// Window in seconds, up to a day.
	Window int64 `json:"window_s"`
	// Burst is the most that may come at once; as many as Quota by default.
	Burst int64 `json:"burst"`
	Cost  Cost  `json:"cost"`
	// Action on who has no quota left; deny by default.
	Action Action `json:"action"`
	// Room is where the action "room" sends them.
	Room string `json:"room,omitempty"`
	// Mode is enforce by default.
	Mode Mode `json:"mode"`
	// Scope is all by default.
	Scope Scope `json:"scope"`
	// Away is what stands while Redis does not answer; share by default.
	Away Away `json:"away"`
}

// Match tells which requests a policy is about: those that meet everything that is
// given, in one of the ways given.
type Match struct {
	Class  []Class  `json:"class,omitempty"`
	Method []string `json:"method,omitempty"`
	// Host and Path are exact, or begin with what stands before a final *; a host may
	// instead begin with "*." for all that are under a name.
	Host []string `json:"host,omitempty"`
	Path []string `json:"path,omitempty"`
	// Header values are exact, or begin with what stands before a final *; "" is a header
	// that is not there.
	Header map[string]string `json:"header,omitempty"`
	Shows  []Shown           `json:"shows,omitempty"`
}

// Part is one part of a key.
type Part string

// The parts of a key.
const (
	ByPrefix   Part = "prefix"   // the client's IPv4 address or IPv6 /64
	ByPrefix56 Part = "prefix56" // its IPv6 /56; no IPv4 client has one
	ByPrefix48 Part = "prefix48" // its IPv6 /48
	BySession  Part = "session"  // of a valid pass
	ByVisitor  Part = "visitor"  // the session, or the place where there is none
	ByIdentity Part = "identity" // the operator, or whom an invitation is for
	ByRoom     Part = "room"     // of the path, or in front of it
	ByHost     Part = "host"
	ByPath     Part = "path"
	Global     Part = "global" // everyone together
)

// Shown is what a request shows of who makes it.
type Shown string

// What a request may show.
const (
	Nothing Shown = "nothing"
	Place   Shown = "place"
	Pass    Shown = "pass"
)

// Action is what happens to who has no quota left.
type Action string

// The actions.
const (
	Deny      Action = "deny"      // 429
	Challenge Action = "challenge" // 403 challenge-required; 429 where no challenge is to be had
	ToRoom    Action = "room"      // to the waiting room; who has its pass is let through uncounted
)

// Mode is whether a policy is in force.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Shadow  Mode = "shadow" // counts and denies nobody
	Off     Mode = "off"
)

// Scope is over what a policy counts.
type Scope string

// The scopes.
const (
	AllGateways Scope = "all"
	OneGateway  Scope = "gateway" // each for itself, without asking Redis
)

// Away is what a policy over all gateways does while Redis does not answer.
type Away string

// The ways to go on.
const (
	Share  Away = "share"  // each gateway allows the quota divided by the gateways
	Allow  Away = "allow"  // everyone passes
	Refuse Away = "refuse" // nobody does: 503
)

// Cost is how much of the quota a request takes. It is a number in JSON, or an object of
// numbers by status.
type Cost struct {
	// Before the answer, 1 by default.
	Base int64
	// Status is what the request costs after all, by "404" or "4xx".
	Status map[string]int64
}

// MarshalJSON writes what was read.
func (c Cost) MarshalJSON() ([]byte, error) {
	if len(c.Status) == 0 {
		return strconv.AppendInt(nil, c.Base, 10), nil
	}
	doc := map[string]int64{"default": c.Base}
	for status, cost := range c.Status {
		doc[status] = cost
	}
	return json.Marshal(doc)
}

// Schema describes both ways to write it.
func (c Cost) Schema(huma.Registry) *huma.Schema {
	number := &huma.Schema{Type: huma.TypeInteger}
	return &huma.Schema{
		OneOf:       []*huma.Schema{number, {Type: huma.TypeObject, AdditionalProperties: number}},
		Description: `how much of the quota a request takes; or an object by status: {"default": 1, "404": 5, "2xx": 0}`,
	}
}

// of is what a request that was answered with status costs.
func (c Cost) of(status int) int64 {
	code := strconv.Itoa(status)
	for _, key := range []string{code, code[:1] + "xx"} {
		if cost, ok := c.Status[key]; ok {
			return cost
		}
	}
	return c.Base
}

// Lists are networks whose requests are judged by where they come from. Where several
// contain an address the narrowest counts.
type Lists struct {
	// Allow: no policy applies to them.
	Allow []string `json:"allow"`
	// Block: they are refused.
	Block []string `json:"block"`
}

// Set is what is in force together.
type Set struct {
	Policies []Policy `json:"policies"`
	Lists    Lists    `json:"lists"`
}

// Document is all that operators set: what is in force, and what only runs along to tell
// whom it would have denied.
type Document struct {
	Set
	Candidate *Set `json:"candidate"`
}
