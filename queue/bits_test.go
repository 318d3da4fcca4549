package queue

import "testing"

// A set's start moves both ways; members stay as long as there is room for them, and memory is bounded
// wherever a store fell back to.
func TestRebase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name           string
		from, to, rank uint64
		stays          bool
		words          int
	}{
		{"to where it is", 640, 640, 700, true, 1},
		{"on, the member before it", 640, 704, 700, false, 0},
		{"on, the member behind it", 640, 704, 704, true, 1},
		{"back", 640, 0, 700, true, 11},
		{"back by a year", 64 << 30, 0, 64<<30 + 1, false, 0},
		{"back as far as there is room", 64 * (maxWords - 1), 0, 64*maxWords - 1, true, maxWords},
		{"back farther", 64 * maxWords, 0, 64 * maxWords, false, 0},
	} {
		b := bitset{base: test.from}
		b.add(test.rank)
		b.rebase(test.to)
		n := 0
		b.each(func(rank uint64) {
			if n++; rank != test.rank {
				t.Errorf("%s: has %d", test.name, rank)
			}
		})
		if (n == 1) != test.stays || b.size != n || len(b.words) != test.words || b.base != test.to {
			t.Errorf("%s: %d members (said %d) in %d words from %d on", test.name, n, b.size, len(b.words), b.base)
		}
	}
}
