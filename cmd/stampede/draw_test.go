package main

import (
	"slices"
	"testing"
)

// The vectors are public: compute_shuffled_index of ten indexes under these seeds, as the test suites of two consensus
// clients have them (Erigon index by index; Prysm as the shuffled list, which is the inverse).
func TestShuffledMatchesThePublicVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		seed [32]byte
		want []uint64
	}{
		{[32]byte{1, 128, 12}, []uint64{0, 9, 8, 4, 6, 7, 3, 1, 2, 5}},
		{[32]byte{2, 128, 12}, inverse([]uint64{0, 5, 2, 1, 6, 8, 7, 3, 4, 9})},
	} {
		var got []uint64
		for i := range uint64(10) {
			got = append(got, shuffled(i, 10, v.seed))
		}
		if !slices.Equal(got, v.want) {
			t.Errorf("seed %x: %v, want %v", v.seed[:3], got, v.want)
		}
	}
}

func inverse(list []uint64) []uint64 {
	inv := make([]uint64, len(list))
	for i, v := range list {
		inv[v] = uint64(i)
	}
	return inv
}

func TestShuffledIsAPermutation(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 2, 255, 256, 257, 1000} {
		seen := map[uint64]bool{}
		for i := range n {
			seen[shuffled(i, n, [32]byte{byte(n)})] = true
		}
		if uint64(len(seen)) != n {
			t.Errorf("%d indexes went to %d", n, len(seen))
		}
	}
}
