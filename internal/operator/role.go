package operator

import (
	"context"
	"slices"
)

// Role is what an account or key may do at most.
type Role string

// The roles, from most to least.
const (
	Admin    Role = "admin"    // everything
	Operator Role = "operator" // runs its events
	Viewer   Role = "viewer"   // reads its events
	Gate     Role = "gate"     // checks tickets in at its events
)

// Act is a kind of deed that needs permission.
type Act string

// The acts. Their values are the scopes of the "operator" security scheme.
const (
	View       Act = "view"
	Operate    Act = "operate"
	Administer Act = "administer" // keys, users, audit
	CheckIn    Act = "checkin"
)

var allowed = map[Role][]Act{
	Admin:    {View, Operate, Administer, CheckIn},
	Operator: {View, Operate, CheckIn},
	Viewer:   {View},
	Gate:     {CheckIn},
}

// Principal is whoever made an authenticated request.
type Principal struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Events limits the principal to these slugs (of events, and of rooms of the same
	// name); empty means all. An admin is never limited.
	Events []string `json:"events,omitempty"`
	// Via is "key" or "session".
	Via string `json:"via,omitempty"`
}

// May tells whether p may do act to the event or room named by slug. The empty slug
// stands for what belongs to no single event: it needs a principal who is not limited.
func (p Principal) May(act Act, slug string) bool {
	if !slices.Contains(allowed[p.Role], act) {
		return false
	}
	limits := p.Limits()
	return limits == nil || slices.Contains(limits, slug)
}

// Limits returns the slugs that p is limited to, nil for all.
func (p Principal) Limits() []string {
	if p.Role == Admin || len(p.Events) == 0 {
		return nil
	}
	return p.Events
}

// Sees tells whether p may do act to at least one event, so that a list cut down to
// those may be shown.
func (p Principal) Sees(act Act) bool {
	return slices.Contains(allowed[p.Role], act)
}

type principalKey struct{}

// WithPrincipal puts p where PrincipalFrom finds it.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalFrom returns who made the request; ok is false where nobody was authenticated.
func PrincipalFrom(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(principalKey{}).(Principal)
	return p, ok
}
