package queue

import (
	"encoding/binary"
	"math/bits"
)

// pieceRanks is what a piece of a line's bitmap holds: 128 KiB.
const pieceRanks = 1 << 20

// pieces is an immutable bitmap of a line with prefix sums: it counts the bits of any range
// at once. Each piece is as old as its own reading. Ranks that were not there when it was
// read have joined since, and count.
type pieces struct {
	first  uint64 // number of the first piece, which is its first rank ÷ pieceRanks
	list   []*sums
	before []uint64 // bits before each
}

// with is p with newer pieces, and without those that end before rank from. p may be nil.
func (p *pieces) with(news []*sums, from uint64) *pieces {
	q := &pieces{first: from / pieceRanks}
	if p != nil {
		q.list = append(q.list, p.list[min(q.first-p.first, uint64(len(p.list))):]...)
	}
	unread := func() { q.list = append(q.list, sumsOf((q.first+uint64(len(q.list)))*pieceRanks, nil, 0)) }
	for _, s := range news {
		if n := s.base / pieceRanks; n >= q.first {
			for q.first+uint64(len(q.list)) <= n {
				unread()
			}
			q.list[n-q.first] = s
		}
	}
	if len(q.list) == 0 {
		unread()
	}
	q.before = make([]uint64, len(q.list))
	for i, s := range q.list[:len(q.list)-1] {
		q.before[i+1] = q.before[i] + s.upTo((q.first+uint64(i)+1)*pieceRanks)
	}
	return q
}

// base is the first rank that p tells of.
func (p *pieces) base() uint64 { return p.list[0].base }

// piece is the one with number n; nil where there is none.
func (p *pieces) piece(n uint64) *sums {
	if p == nil || n < p.first || n-p.first >= uint64(len(p.list)) {
		return nil
	}
	return p.list[n-p.first]
}

// upTo counts the bits of ranks before rank.
func (p *pieces) upTo(rank uint64) uint64 {
	i := min(max(rank/pieceRanks, p.first)-p.first, uint64(len(p.list)-1))
	return p.before[i] + p.list[i].upTo(rank)
}

// has tells that a rank's bit was read, and set; lacks, that it was read and not set.
func (p *pieces) has(rank uint64) bool {
	set, read := p.piece(rank / pieceRanks).bit(rank)
	return read && set
}

func (p *pieces) lacks(rank uint64) bool {
	set, read := p.piece(rank / pieceRanks).bit(rank)
	return read && !set
}

// sums is an immutable run of bits with prefix sums.
type sums struct {
	base   uint64   // a multiple of 64
	raw    []byte   // as Redis has it, whole words
	before []uint32 // bits before each word; one longer than there are words
	// outOfLine is the View's when it was read.
	outOfLine uint64
}

// sumsOf takes raw over, which is whole words, and sets the bits of ranks from next on.
func sumsOf(base uint64, raw []byte, next uint64) *sums {
	if n := max(base, next) - base; n < uint64(len(raw))*8 {
		raw[n/8] |= 0xff >> (n % 8)
		for i := n/8 + 1; i < uint64(len(raw)); i++ {
			raw[i] = 0xff
		}
	}
	s := &sums{base: base, raw: raw, before: make([]uint32, len(raw)/8+1)}
	sum, before := uint32(0), s.before[1:]
	for i := range before {
		sum += uint32(bits.OnesCount64(binary.NativeEndian.Uint64(raw[i*8 : i*8+8]))) // in any order
		before[i] = sum
	}
	return s
}

func (s *sums) word(i uint64) uint64 { return binary.BigEndian.Uint64(s.raw[i*8:]) }

// end is the first rank that it says nothing about.
func (s *sums) end() uint64 { return s.base + uint64(len(s.raw))*8 }

// upTo counts the bits of ranks before rank; those from its end on are set.
func (s *sums) upTo(rank uint64) uint64 {
	if rank <= s.base {
		return 0
	}
	i := (rank - s.base) / 64
	if i >= uint64(len(s.raw)/8) {
		return uint64(s.before[len(s.before)-1]) + rank - s.end()
	}
	n := uint64(s.before[i])
	if r := (rank - s.base) % 64; r > 0 {
		n += uint64(bits.OnesCount64(s.word(i) >> (64 - r)))
	}
	return n
}

// bit is a rank's; read is false where s, which may be nil, says nothing of it.
func (s *sums) bit(rank uint64) (set, read bool) {
	if s == nil || rank < s.base || rank >= s.end() {
		return false, false
	}
	i := rank - s.base
	return s.word(i/64)>>(63-i%64)&1 == 1, true
}
