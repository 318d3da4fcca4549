package challenge

import (
	"math/bits"
	"time"
)

// The tariff. Work is counted in rounds of PBKDF2, as a power of two: a server's core
// makes about 2.5 million a second, a phone's half a million to two million, on several.
const (
	baseBits = 15 // the first place of a prefix: a hundredth of a second of a server, a tenth of a phone
	mostBits = 26 // the most that is ever asked: half a minute
)

// workOf splits 2^bits rounds into tries of cost rounds each, of which one in 16^len(prefix)
// succeeds. More rounds a try make checking dearer, fewer favour programs over browsers,
// which pay for every try beside its rounds.
func workOf(bits int) (cost int, prefix string) {
	switch {
	case bits <= 20:
		return 1 << (bits - 8), "00"
	case bits <= 24:
		return 1 << (bits - 12), "000"
	}
	return 1 << (bits - 16), "0000"
}

// slope says how a debt drains, and what it adds to the price.
type slope struct {
	unit  time.Duration // in which one proof is forgotten
	most  int           // what is remembered at most, in proofs
	level func(units int) int
}

var (
	// steep is for a room under attack: the second place of a prefix within five minutes
	// costs 16 times the first, the third 256 times, every further one the most.
	steep = slope{5 * time.Minute, 4, func(units int) int { return min(maxLevel, 4*units) }}
	// gentle is for a prefix that came too often, which may be a campus: what one proof
	// costs grows with how many came, and half a million rounds are reached by 120.
	gentle = slope{2 * time.Second, 1024, func(units int) int { return bits.Len(uint(units / 8)) }}
	// wide is what an IPv6 /48 adds, through which one customer may walk: gently, because
	// it may also be a carrier's.
	wide = slope{20 * time.Second, 1024, func(units int) int { return min(7, 2*bits.Len(uint(units/16))) }}
	// crowd is of the whole room: more than 2,000 proofs a minute make all of them dearer,
	// four times at most.
	crowd = slope{30 * time.Millisecond, 4000, func(units int) int { return min(2, bits.Len(uint(units/1000))) }}
)

// allows is the largest debt at which a proof of that level is enough.
func (s slope) allows(level int) int {
	units := s.most
	for units > 0 && s.level(units) > level {
		units--
	}
	return units
}

// maxLevel is where the most is reached.
const maxLevel = mostBits - baseBits

// levelOf is what prefix and network add to the base price.
func levelOf(near slope, nearUnits, wideUnits int) int {
	return max(near.level(nearUnits), wide.level(wideUnits))
}
