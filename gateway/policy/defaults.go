package policy

// Defaults is the set that is in force where nobody has set another. The unit matters more
// than the numbers, because a campus or a carrier puts thousands of people behind one
// address; doc.go says why each is what it is.
func Defaults() Document {
	arrivals := func(name string, by Part, quota int64) Policy {
		return Policy{Name: name, Match: Match{Shows: []Shown{Nothing}}, Key: []Part{by}, Quota: quota, Window: 1, Burst: 4 * quota, Scope: OneGateway}
	}
	joins := func(name string, by Part, quota, burst int64) Policy {
		return Policy{Name: name, Match: Match{Class: []Class{Join}}, Key: []Part{by}, Quota: quota, Window: 60, Burst: burst}
	}
	d := Document{Set: Set{Policies: []Policy{
		arrivals("visit", ByPrefix, 50),
		arrivals("visit-56", ByPrefix56, 200),
		arrivals("visit-48", ByPrefix48, 800),
		{Name: "visitor", Match: Match{Shows: []Shown{Place, Pass}}, Key: []Part{ByVisitor}, Quota: 20, Window: 1, Burst: 100, Scope: OneGateway},
		joins("joins", ByPrefix, 120, 200),
		joins("joins-56", ByPrefix56, 480, 800),
		joins("joins-48", ByPrefix48, 1920, 3200),
		{Name: "claims", Match: Match{Class: []Class{Claim}}, Key: []Part{ByVisitor}, Quota: 120, Window: 60, Burst: 60, Scope: OneGateway},
		{Name: "origin", Match: Match{Class: []Class{Origin, Availability, Hold, Order, Authz}}, Key: []Part{BySession}, Quota: 600, Window: 60, Burst: 300},
		{Name: "holds", Match: Match{Class: []Class{Hold}, Method: []string{"POST"}}, Key: []Part{BySession}, Quota: 120, Window: 60, Burst: 100},
		{Name: "orders", Match: Match{Class: []Class{Order}, Method: []string{"POST"}}, Key: []Part{BySession}, Quota: 60, Window: 60, Burst: 60},
		{Name: "sign-in", Match: Match{Class: []Class{SignIn}}, Key: []Part{ByPrefix}, Quota: 10, Window: 60, Burst: 30,
			Cost: Cost{Base: 1, Status: map[string]int64{"2xx": 0}}},
	}}}
	for i := range d.Policies {
		d.Policies[i].fill()
	}
	d.Lists.fill()
	return d
}

// fill gives what is left out its default.
func (p *Policy) fill() {
	if p.Burst == 0 {
		p.Burst = p.Quota
	}
	if p.Cost.Base == 0 && p.Cost.Status == nil {
		p.Cost.Base = 1
	}
	setDefault(&p.Action, Deny)
	setDefault(&p.Mode, Enforce)
	setDefault(&p.Scope, AllGateways)
	setDefault(&p.Away, Share)
}

func setDefault[T ~string](value *T, fallback T) {
	if *value == "" {
		*value = fallback
	}
}

// fill makes lists that JSON shows as lists.
func (l *Lists) fill() {
	if l.Allow == nil {
		l.Allow = []string{}
	}
	if l.Block == nil {
		l.Block = []string{}
	}
}
