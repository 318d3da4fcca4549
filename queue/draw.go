package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// DrawAlgorithm names how ranks follow from numbers in a draw.
const DrawAlgorithm = "swap-or-not-90-sha256"

// rounds is SHUFFLE_ROUND_COUNT of the Ethereum consensus specification.
const rounds = 90

// Commitment is what is published before a draw: the SHA-256 of its secret.
func Commitment(secret [32]byte) string {
	sum := sha256.Sum256(secret[:])
	return hex.EncodeToString(sum[:])
}

// Seed is SHA-256(secret ‖ N as 8 bytes little-endian ‖ beacon).
func Seed(secret [32]byte, lobbySize uint64, beacon string) [32]byte {
	b := make([]byte, 0, 40+len(beacon))
	b = append(b, secret[:]...)
	b = binary.LittleEndian.AppendUint64(b, lobbySize)
	b = append(b, beacon...)
	return sha256.Sum256(b)
}

// Rank is the rank of one number in a lobby of size n: compute_shuffled_index of the
// Ethereum consensus specification (phase 0), which is the swap-or-not shuffle of
// Hoang, Morris and Rogaway, "An Enciphering Scheme Based on a Card Shuffle" (2012).
// Numbers from n on keep their number as rank.
func Rank(seed [32]byte, n, number uint64) uint64 {
	if number >= n {
		return number
	}
	index := number
	var buf [37]byte
	copy(buf[:], seed[:])
	for round := range rounds {
		buf[32] = byte(round)
		pivot := pivotOf(buf[:33], n)
		flip := (pivot + n - index) % n
		position := max(index, flip)
		binary.LittleEndian.PutUint32(buf[33:], uint32(position/256))
		source := sha256.Sum256(buf[:])
		if source[position%256/8]>>(position%8)&1 == 1 {
			index = flip
		}
	}
	return index
}

func pivotOf(seedAndRound []byte, n uint64) uint64 {
	sum := sha256.Sum256(seedAndRound)
	return binary.LittleEndian.Uint64(sum[:8]) % n
}

// ranks returns the rank of every number of a lobby of size n (< 2^32). A round maps
// index and flip to each other or to themselves, so it is its own inverse: run over
// the list of numbers in place, rounds in reverse order yield ranks by number. 256
// positions share one hash.
func ranks(seed [32]byte, n uint64) []uint32 {
	list := make([]uint32, n)
	for i := range list {
		list[i] = uint32(i)
	}
	if n < 2 {
		return list
	}
	var buf [37]byte
	copy(buf[:], seed[:])
	for round := rounds - 1; round >= 0; round-- {
		buf[32] = byte(round)
		pivot := pivotOf(buf[:33], n)
		// Pairs (i, flip) with i + flip = pivot, and with i + flip = pivot + n; the larger
		// of the two is the position that decides.
		swapPairs(list, &buf, 0, pivot)
		swapPairs(list, &buf, pivot+1, n-1)
	}
	return list
}

// swapPairs swaps list[low+k] with list[high-k] where the bit of the larger index is set.
func swapPairs(list []uint32, buf *[37]byte, low, high uint64) {
	if low >= high {
		return
	}
	var source [32]byte
	block := uint64(1) << 63 // none
	for i, j := low, high; i < j; i, j = i+1, j-1 {
		if j/256 != block {
			block = j / 256
			binary.LittleEndian.PutUint32(buf[33:], uint32(block))
			source = sha256.Sum256(buf[:])
		}
		bit := uint32(source[j%256/8]>>(j%8)) & 1
		d := (list[i] ^ list[j]) & -bit
		list[i] ^= d
		list[j] ^= d
	}
}

// permute returns bits moved from numbers to ranks, both from the first bit of the
// first byte on. Numbers beyond the lobby stay where they are.
func permute(bits []byte, to []uint32) []byte {
	out := make([]byte, max((len(to)+7)/8, len(bits)))
	for i, b := range bits {
		for ; b != 0; b &= b - 1 {
			number := i*8 + leading(b)
			rank := uint32(number)
			if number < len(to) {
				rank = to[number]
			}
			out[rank/8] |= 0x80 >> (rank % 8)
		}
	}
	return out
}

// leading is the place, in Redis' order, of the lowest bit that is set in b.
func leading(b byte) int {
	n := 7
	for b&1 == 0 {
		b >>= 1
		n--
	}
	return n
}
