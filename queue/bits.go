package queue

import (
	"encoding/binary"
	"math/bits"
)

// bitset is a set of ranks (or numbers) from base on, in Redis' order of bits: the
// first is the highest bit of the first byte. base is a multiple of 64.
type bitset struct {
	base  uint64
	words []uint64
	size  int // members
}

// maxWords bounds a bitset: 2^28 ranks from its base.
const maxWords = 1 << 22

func (b *bitset) add(rank uint64) {
	if rank < b.base {
		return
	}
	w := (rank - b.base) / 64
	if w >= maxWords {
		return
	}
	for uint64(len(b.words)) <= w {
		b.words = append(b.words, make([]uint64, w+1-uint64(len(b.words)))...)
	}
	bit := uint64(1) << (63 - (rank-b.base)%64)
	if b.words[w]&bit == 0 {
		b.words[w] |= bit
		b.size++
	}
}

func (b *bitset) has(rank uint64) bool {
	if rank < b.base {
		return false
	}
	w := (rank - b.base) / 64
	return w < uint64(len(b.words)) && b.words[w]>>(63-(rank-b.base)%64)&1 == 1
}

// common is the bytes of what b and c, of the same base, share; empty for nothing.
func (b *bitset) common(c *bitset) []byte {
	n := min(len(b.words), len(c.words))
	shared := bitset{base: b.base, words: make([]uint64, n)}
	any := uint64(0)
	for i := range n {
		shared.words[i] = b.words[i] & c.words[i]
		any |= shared.words[i]
	}
	if any == 0 {
		return nil
	}
	return shared.bytes()
}

// each visits the members in order.
func (b *bitset) each(visit func(rank uint64)) {
	for i, w := range b.words {
		for w != 0 {
			lead := bits.LeadingZeros64(w)
			visit(b.base + uint64(i)*64 + uint64(lead))
			w &^= 1 << (63 - lead)
		}
	}
}

// rebase moves the start to base, a multiple of 64, dropping what is before it. A start that moves back so far that
// maxWords do not reach the members drops them: they are heard of again within a presence time.
func (b *bitset) rebase(base uint64) {
	switch {
	case base == b.base:
		return
	case base < b.base && (len(b.words) == 0 || (b.base-base)/64+uint64(len(b.words)) > maxWords):
		*b = bitset{}
	case base < b.base:
		b.words = append(make([]uint64, (b.base-base)/64), b.words...)
	default:
		drop := min((base-b.base)/64, uint64(len(b.words)))
		for _, w := range b.words[:drop] {
			b.size -= bits.OnesCount64(w)
		}
		b.words = append([]uint64(nil), b.words[drop:]...)
	}
	b.base = base
}

func (b *bitset) bytes() []byte {
	out := make([]byte, 0, 8*len(b.words))
	for _, w := range b.words {
		out = binary.BigEndian.AppendUint64(out, w)
	}
	return out
}
