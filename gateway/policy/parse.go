package policy

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Bounds of what is set.
const (
	// MaxBody of a change, in bytes.
	MaxBody = 512 << 10
	// maxFill is the longest that a spent burst may take to fill: what is remembered of a key
	// lives as long.
	maxFill = 30 * 24 * time.Hour

	maxPolicies = 100
	maxNetworks = 10_000 // in all lists of a set
	maxWords    = 32     // in one member of a match
	maxPattern  = 200
	maxQuota    = 1_000_000_000
	maxBurst    = 1_000_000
	maxWindow   = 24 * 60 * 60
	maxCost     = 1_000_000
)

// Fault is something wrong with what was written.
type Fault struct {
	// Path is where it is, such as policies[2].quota; Line the same in the text.
	Path    string
	Line    int
	Message string
}

func (f Fault) Error() string { return fmt.Sprintf("line %d: %s %s", f.Line, f.Path, f.Message) }

// Change is what an operator wants otherwise. What is absent keeps its value, null
// restores the default.
type Change struct {
	policies, lists, candidate member
	// Version is the one that the change was made for, 0 for any.
	Version int64
}

type member struct {
	given, null bool
	set         Set // of the candidate; of the others the part that they are
}

// Apply makes the change.
func (c Change) Apply(to, fallback Document) Document {
	switch {
	case c.policies.null:
		to.Policies = fallback.Policies
	case c.policies.given:
		to.Policies = c.policies.set.Policies
	}
	switch {
	case c.lists.null:
		to.Lists = fallback.Lists
	case c.lists.given:
		to.Lists = c.lists.set.Lists
	}
	switch {
	case c.candidate.null:
		to.Candidate = nil
	case c.candidate.given:
		to.Candidate = &c.candidate.set
	}
	return to
}

// Parse reads a change from YAML or JSON: the members policies, lists, candidate and
// version of a mapping. It reports all faults at once.
func Parse(text []byte) (Change, []Fault) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return Change{}, []Fault{{Path: "body", Line: 1, Message: "is not well formed"}}
	}
	if root.Kind == 0 || len(root.Content) != 1 {
		return Change{}, []Fault{{Path: "body", Line: 1, Message: "must be an object"}}
	}
	var c Change
	r := &reader{}
	r.object(root.Content[0], "body", fields{
		"policies":  func(n *yaml.Node, at string) { c.policies = r.member(n, at, r.policies) },
		"lists":     func(n *yaml.Node, at string) { c.lists = r.member(n, at, r.lists) },
		"candidate": func(n *yaml.Node, at string) { c.candidate = r.member(n, at, r.set) },
		"version":   func(n *yaml.Node, at string) { c.Version = r.whole(n, at, 0, math.MaxInt64) },
	})
	return c, r.faults
}

// ParseNodes reads the same members where they stand in a larger file; a zero node is one
// that is absent.
func ParseNodes(policies, lists, candidate *yaml.Node) (Change, []Fault) {
	var c Change
	r := &reader{}
	for _, m := range []struct {
		node *yaml.Node
		into *member
		at   string
		read func(*yaml.Node, string, *Set)
	}{{policies, &c.policies, "policies", r.policies}, {lists, &c.lists, "lists", r.lists}, {candidate, &c.candidate, "candidate", r.set}} {
		if m.node.Kind != 0 {
			*m.into = r.member(m.node, m.at, m.read)
		}
	}
	return c, r.faults
}

// reader reads nodes and collects what is wrong with them.
type reader struct{ faults []Fault }

type fields map[string]func(n *yaml.Node, at string)

func (r *reader) fault(n *yaml.Node, at, format string, args ...any) {
	r.faults = append(r.faults, Fault{Path: at, Line: n.Line, Message: fmt.Sprintf(format, args...)})
}

// object reads a mapping whose members are all known.
func (r *reader) object(n *yaml.Node, at string, known fields) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, at, "must be an object")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, path := n.Content[i], at+"."+n.Content[i].Value
		read, ok := known[name.Value]
		switch {
		case !ok:
			r.fault(name, at, "has an unknown field; known are %s", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case seen[name.Value]:
			r.fault(name, path, "is given twice")
		default:
			read(n.Content[i+1], path)
		}
		seen[name.Value] = true
	}
}

// list reads a sequence of at most most; one value alone is a sequence of one, null of none.
func (r *reader) list(n *yaml.Node, at string, most int, read func(n *yaml.Node, at string)) {
	switch {
	case n.Tag == "!!null":
	case n.Kind == yaml.ScalarNode:
		read(n, at)
	case n.Kind != yaml.SequenceNode:
		r.fault(n, at, "must be a list")
	case len(n.Content) > most:
		r.fault(n, at, "has more than %d entries", most)
	default:
		for i, entry := range n.Content {
			read(entry, at+"["+strconv.Itoa(i)+"]")
		}
	}
}

func (r *reader) text(n *yaml.Node, at string, most int) string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || len(n.Value) > most {
		r.fault(n, at, "must be text of at most %d bytes", most)
		return ""
	}
	return n.Value
}

func (r *reader) whole(n *yaml.Node, at string, least, most int64) int64 {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < least || v > most {
		r.fault(n, at, "must be a whole number from %d to %d", least, most)
		return least
	}
	return v
}

func word[T ~string](r *reader, n *yaml.Node, at string, known ...T) T {
	if v := T(n.Value); n.Kind == yaml.ScalarNode && slices.Contains(known, v) {
		return v
	}
	all := make([]string, len(known))
	for i, k := range known {
		all[i] = string(k)
	}
	r.fault(n, at, "must be one of %s", strings.Join(all, ", "))
	return ""
}

func words[T ~string](r *reader, n *yaml.Node, at string, known ...T) (out []T) {
	r.list(n, at, maxWords, func(n *yaml.Node, at string) { out = append(out, word(r, n, at, known...)) })
	return out
}

func (r *reader) member(n *yaml.Node, at string, read func(*yaml.Node, string, *Set)) (m member) {
	m.given = true
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		m.null = true
		return m
	}
	read(n, at, &m.set)
	m.set.Lists.fill()
	if m.set.Policies == nil {
		m.set.Policies = []Policy{}
	}
	return m
}

func (r *reader) set(n *yaml.Node, at string, s *Set) {
	r.object(n, at, fields{
		"policies": func(n *yaml.Node, at string) { r.policies(n, at, s) },
		"lists":    func(n *yaml.Node, at string) { r.lists(n, at, s) },
	})
}

func (r *reader) policies(n *yaml.Node, at string, s *Set) {
	names := map[string]bool{}
	if n.Kind != yaml.SequenceNode {
		r.fault(n, at, "must be a list")
		return
	}
	r.list(n, at, maxPolicies, func(n *yaml.Node, at string) {
		p := r.policy(n, at)
		if names[p.Name] {
			r.fault(n, at+".name", "is the name of another policy too")
		}
		names[p.Name] = true
		s.Policies = append(s.Policies, p)
	})
}

var slug = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

func (r *reader) slug(n *yaml.Node, at string) string {
	if !slug.MatchString(n.Value) {
		r.fault(n, at, "must be 1 to 40 of a-z, 0-9 and -")
	}
	return n.Value
}

func (r *reader) policy(n *yaml.Node, at string) Policy {
	var p Policy
	given := map[string]bool{}
	known := fields{
		"name":     func(n *yaml.Node, at string) { p.Name = r.slug(n, at) },
		"match":    func(n *yaml.Node, at string) { p.Match = r.match(n, at) },
		"key":      func(n *yaml.Node, at string) { p.Key = r.key(n, at) },
		"quota":    func(n *yaml.Node, at string) { p.Quota = r.whole(n, at, 1, maxQuota) },
		"window_s": func(n *yaml.Node, at string) { p.Window = r.whole(n, at, 1, maxWindow) },
		"burst":    func(n *yaml.Node, at string) { p.Burst = r.whole(n, at, 1, maxBurst) },
		"cost":     func(n *yaml.Node, at string) { p.Cost = r.cost(n, at) },
		"action":   func(n *yaml.Node, at string) { p.Action = word(r, n, at, Deny, Challenge, ToRoom) },
		"room":     func(n *yaml.Node, at string) { p.Room = r.slug(n, at) },
		"mode":     func(n *yaml.Node, at string) { p.Mode = word(r, n, at, Enforce, Shadow, Off) },
		"scope":    func(n *yaml.Node, at string) { p.Scope = word(r, n, at, AllGateways, OneGateway) },
		"away":     func(n *yaml.Node, at string) { p.Away = word(r, n, at, Share, Allow, Refuse) },
	}
	for name, read := range known {
		known[name] = func(n *yaml.Node, at string) {
			if n.Tag != "!!null" { // null is the default, as if it were absent
				given[name] = true
				read(n, at)
			}
		}
	}
	before := len(r.faults)
	r.object(n, at, known)
	for _, name := range []string{"name", "key", "quota", "window_s"} {
		if n.Kind == yaml.MappingNode && !given[name] {
			r.fault(n, at+"."+name, "is required")
		}
	}
	p.fill()
	if len(r.faults) > before {
		return p
	}
	switch dearest := max(p.Cost.Base, slices.Max(append(slices.Collect(maps.Values(p.Cost.Status)), 0))); {
	case p.Window*1_000_000 < p.Quota:
		r.fault(n, at+".quota", "is more than one request a microsecond")
	case p.Burst > maxBurst:
		r.fault(n, at+".burst", "is required where the quota is over %d", maxBurst)
	case p.Window*1_000_000/p.Quota*p.Burst > maxFill.Microseconds():
		r.fault(n, at+".burst", "takes longer than %d days to fill", int(maxFill.Hours()/24))
	case dearest > p.Burst:
		r.fault(n, at+".cost", "is over the burst: such a request would never pass")
	}
	if (p.Action == ToRoom) != (p.Room != "") {
		r.fault(n, at+".room", "must be given with the action room, and with no other")
	}
	return p
}

var parts = []Part{ByPrefix, ByPrefix56, ByPrefix48, BySession, ByVisitor, ByIdentity, ByRoom, ByHost, ByPath, Global}

func (r *reader) key(n *yaml.Node, at string) []Part {
	key := words(r, n, at, parts...)
	for _, one := range [][]Part{{ByPrefix, ByPrefix56, ByPrefix48}, {BySession, ByVisitor, ByIdentity}} {
		if among := slices.DeleteFunc(slices.Clone(key), func(p Part) bool { return !slices.Contains(one, p) }); len(among) > 1 {
			r.fault(n, at, "may have only one of %s, %s and %s", one[0], one[1], one[2])
		}
	}
	if sorted := slices.Sorted(slices.Values(key)); len(slices.Compact(sorted)) < len(key) {
		r.fault(n, at, "has a part twice")
	}
	if len(key) == 0 {
		r.fault(n, at, "must have at least one part; global counts everyone together")
	}
	if slices.Contains(key, Global) && len(key) > 1 {
		r.fault(n, at, "has global, which goes with no other part")
	}
	return key
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

func (r *reader) match(n *yaml.Node, at string) (m Match) {
	pattern := func(valid func(string) bool, what string) func(n *yaml.Node, at string) string {
		return func(n *yaml.Node, at string) string {
			v := r.text(n, at, maxPattern)
			if v != "" && !valid(v) {
				r.fault(n, at, "must be %s", what)
			}
			return v
		}
	}
	host := pattern(func(v string) bool {
		v = strings.TrimSuffix(strings.TrimPrefix(v, "*."), "*")
		return v == strings.ToLower(v) && !strings.ContainsAny(v, "*/: ")
	}, "a host in lower case without port, perhaps with *. before or * behind it")
	path := pattern(func(v string) bool { return v[0] == '/' && !strings.Contains(v[:len(v)-1], "*") }, "a path from / on, perhaps with * at its end")
	value := pattern(func(v string) bool {
		return !strings.ContainsFunc(v, unicode.IsControl) && !strings.Contains(v[:len(v)-1], "*")
	}, "a header's value, perhaps with * at its end")
	r.object(n, at, fields{
		"class":  func(n *yaml.Node, at string) { m.Class = words(r, n, at, Classes...) },
		"method": func(n *yaml.Node, at string) { m.Method = words(r, n, at, methods...) },
		"shows":  func(n *yaml.Node, at string) { m.Shows = words(r, n, at, Nothing, Place, Pass) },
		"host": func(n *yaml.Node, at string) {
			r.list(n, at, maxWords, func(n *yaml.Node, at string) { m.Host = append(m.Host, host(n, at)) })
		},
		"path": func(n *yaml.Node, at string) {
			r.list(n, at, maxWords, func(n *yaml.Node, at string) { m.Path = append(m.Path, path(n, at)) })
		},
		"header": func(n *yaml.Node, at string) {
			if n.Kind != yaml.MappingNode || len(n.Content) > 2*maxWords {
				r.fault(n, at, "must be an object of at most %d headers", maxWords)
				return
			}
			m.Header = map[string]string{}
			for i := 0; i+1 < len(n.Content); i += 2 {
				name := n.Content[i].Value
				if !headerName.MatchString(name) {
					r.fault(n.Content[i], at, "has a name that no header can have")
					continue
				}
				m.Header[http.CanonicalHeaderKey(name)] = value(n.Content[i+1], at+"."+name)
			}
		},
	})
	return m
}

// headerName is a token of RFC 9110, section 5.6.2, of bounded length.
var headerName = regexp.MustCompile("^[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,100}$")

var statusKey = regexp.MustCompile(`^([1-5][0-9][0-9]|[1-5]xx|default)$`)

func (r *reader) cost(n *yaml.Node, at string) (c Cost) {
	if n.Kind != yaml.MappingNode {
		c.Base = r.whole(n, at, 1, maxCost)
		return c
	}
	c.Base, c.Status = 1, map[string]int64{}
	if len(n.Content) > 2*maxWords {
		r.fault(n, at, "has more than %d entries", maxWords)
		return c
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		status := n.Content[i].Value
		cost := r.whole(n.Content[i+1], at+"."+status, 0, maxCost)
		switch {
		case !statusKey.MatchString(status):
			r.fault(n.Content[i], at, "has a field that is no status, such as 404 or 4xx, nor default")
		case status == "default":
			c.Base = cost
		default:
			c.Status[status] = cost
		}
	}
	return c
}

func (r *reader) lists(n *yaml.Node, at string, s *Set) {
	seen := map[netip.Prefix]bool{}
	read := func(into *[]string) func(n *yaml.Node, at string) {
		return func(n *yaml.Node, at string) {
			r.list(n, at, maxNetworks, func(n *yaml.Node, at string) {
				prefix, err := network(n.Value)
				switch {
				case n.Kind != yaml.ScalarNode || err != nil:
					r.fault(n, at, "must be a network such as 192.0.2.0/24 or an address")
				case prefix.Bits() == 0:
					r.fault(n, at, "is everyone")
				case seen[prefix]:
					r.fault(n, at, "is listed twice")
				}
				seen[prefix] = true
				*into = append(*into, prefix.String())
			})
		}
	}
	r.object(n, at, fields{"allow": read(&s.Lists.Allow), "block": read(&s.Lists.Block)})
	if len(seen) > maxNetworks {
		r.fault(n, at, "have more than %d networks", maxNetworks)
	}
}

// network reads a network or a single address; IPv4 written as IPv6 is IPv4.
func network(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err == nil && prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("an IPv4 network in IPv6")
	}
	return prefix.Masked(), err
}
