package gateway

import (
	"net/netip"
	"sync"
)

// openings counts the connections of a kind that are open: all of them, and those of
// one client prefix, so that one client cannot take the rest's.
type openings struct {
	most, perPrefix int

	mu       sync.Mutex
	open     int                  // guarded by mu
	byPrefix map[netip.Prefix]int // guarded by mu; holds only prefixes with something open
}

// newOpenings allows most in all and a quarter of them to one prefix.
func newOpenings(most int) *openings {
	return &openings{most: most, perPrefix: max(1, most/4), byPrefix: map[netip.Prefix]int{}}
}

// take counts one more and returns what ends it, or nil when no more may be open.
func (o *openings) take(prefix netip.Prefix) (end func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open >= o.most || o.byPrefix[prefix] >= o.perPrefix {
		return nil
	}
	o.open++
	o.byPrefix[prefix]++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.open--
		if o.byPrefix[prefix]--; o.byPrefix[prefix] == 0 {
			delete(o.byPrefix, prefix)
		}
	}
}
