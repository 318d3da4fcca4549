package queue

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// reference is compute_shuffled_index of the Ethereum consensus specification (phase 0,
// beacon-chain.md, "compute_shuffled_index"), transcribed line by line and without any
// of draw.go, whose form differs.
func reference(index, count uint64, seed []byte) uint64 {
	if index >= count {
		panic("index < index_count")
	}
	hash := func(parts ...[]byte) []byte {
		sum := sha256.Sum256(bytes.Join(parts, nil))
		return sum[:]
	}
	for current := range 90 {
		round := []byte{byte(current)}
		first8 := hash(seed, round)[0:8]
		var bigEndian []byte
		for i := range first8 {
			bigEndian = append(bigEndian, first8[7-i])
		}
		pivot := new(big.Int).Mod(new(big.Int).SetBytes(bigEndian), new(big.Int).SetUint64(count)).Uint64()
		flip := (pivot + count - index) % count
		position := max(index, flip)
		source := hash(seed, round, binary.LittleEndian.AppendUint32(nil, uint32(position/256)))
		b := source[(position%256)/8]
		if bit := (b >> (position % 8)) % 2; bit != 0 {
			index = flip
		}
	}
	return index
}

// published are vectors of the consensus specification's test suite
// (ethereum/consensus-spec-tests, tests/mainnet/phase0/shuffling/core/shuffle/
// shuffle_0x<seed>_<count>/mapping.yaml): seed, count and the SHA-256 of the file, as
// its LFS pointer gives it.
var published = []struct {
	seed  string
	count uint64
	file  string
}{
	{"075de2b906dbd7066da008cab735bee896370154603579a50122f9b88545bd45", 2, "3ede99381e9212ba792e0cd774be88860aeb7845e19882cdef3d9e630178ad58"},
	{"17fa9c7f5e9039a2d46e73e17d8e094a796ee4c313199bad42db4ee1dc30d865", 5, "f4737cc3a0f5f6ad95b066d3ddc42fd3b2ee6904f683f4c15966b9dcc75489de"},
	{"01b4f6bd5d6a06a7b74a8565ceb4f845afe0ae96a0ac05cf5e86066bf7b538ec", 33, "a014701e692faf6390f43a5b32470689ffdec35891f58bcd7572eb8226b19488"},
	{"0623ccb9b1619bd388284a438034d8cb6431964ba727d8b1c450303105735488", 100, "5b6ee6048c54dc7934d1067d81d09441a33178cc96bbea059f56ced1e69ac42f"},
	{"075de2b906dbd7066da008cab735bee896370154603579a50122f9b88545bd45", 1000, "3757efae15f8878b09d708a95be533adacaff97f20748d392f5f01b27be67395"},
	{"097328e8c957de2428283954f6a1ee8ff7ad7def12e100a600178407f5decf24", 9999, "7c74bc2bfc1418babbdd6eb4be9a5c5c5e7825e5a149f235a4df678dcb8afc39"},
}

// mappingFile writes a vector as the test suite does: YAML with the list wrapped after
// column 80.
func mappingFile(seed string, mapping []uint32) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed: '0x%s'\ncount: %d\n", seed, len(mapping))
	line := "mapping: ["
	for i, x := range mapping {
		if i > 0 {
			line += ","
			if len(line) > 80 {
				b.WriteString(line + "\n")
				line = "  "
			} else {
				line += " "
			}
		}
		line += fmt.Sprint(x)
	}
	b.WriteString(line + "]\n")
	return b.String()
}

func TestDrawMatchesThePublishedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range published {
		seed := [32]byte(appendFromHex(nil, v.seed, 32))
		sum := sha256.Sum256([]byte(mappingFile(v.seed, ranks(seed, v.count))))
		if got := hex.EncodeToString(sum[:]); got != v.file {
			t.Errorf("count %d: our mapping file has digest %s, the published one %s", v.count, got, v.file)
		}
	}
}

func TestRankAndRanksAgreeWithTheSpecification(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 2, 3, 7, 8, 255, 256, 257, 511, 1000} {
		seed := Seed([32]byte{byte(n), 7}, n, "a word nobody knew")
		all := ranks(seed, n)
		seen := make([]bool, n)
		for i := range n {
			want := reference(i, n, seed[:])
			if got := Rank(seed, n, i); got != want || uint64(all[i]) != want {
				t.Fatalf("n %d number %d: Rank %d, ranks %d, specification %d", n, i, got, all[i], want)
			}
			if seen[want] {
				t.Fatalf("n %d: rank %d twice", n, want)
			}
			seen[want] = true
		}
		if got := Rank(seed, n, n+5); got != n+5 {
			t.Errorf("a place that joined after the draw has rank %d, not its number %d", got, n+5)
		}
	}
}

func FuzzRank(f *testing.F) {
	f.Add([]byte("seed"), uint64(100), uint64(7))
	f.Add([]byte{}, uint64(1), uint64(0))
	f.Add([]byte{0xff}, uint64(65_537), uint64(65_536))
	f.Fuzz(func(t *testing.T, s []byte, n, number uint64) {
		n = n%(1<<32-1) + 1
		number %= n
		seed := sha256.Sum256(s)
		if got, want := Rank(seed, n, number), reference(number, n, seed[:]); got != want {
			t.Errorf("Rank(%x, %d, %d) = %d, specification %d", seed, n, number, got, want)
		}
	})
}

func TestSeedIsThePublishedFormula(t *testing.T) {
	t.Parallel()
	secret := [32]byte{1, 2, 3}
	msg := append(bytes.Clone(secret[:]), 0x39, 0x30, 0, 0, 0, 0, 0, 0) // 12345, little-endian
	want := sha256.Sum256(append(msg, "beacon é"...))
	if got := Seed(secret, 12345, "beacon é"); got != want {
		t.Errorf("seed %x, want %x", got, want)
	}
}

func TestPermuteMovesBitsToRanks(t *testing.T) {
	t.Parallel()
	const n = 77
	to := ranks([32]byte{9}, n)
	in := make([]byte, 10)
	for _, number := range []int{0, 1, 8, 31, 76} {
		in[number/8] |= 0x80 >> (number % 8)
	}
	out := sumsOf(0, append(permute(in, to), make([]byte, 6)...), 128)
	if got := out.upTo(n); got != 5 {
		t.Errorf("%d bits, want 5", got)
	}
	for _, number := range []int{0, 1, 8, 31, 76} {
		if set, _ := out.bit(uint64(to[number])); !set {
			t.Errorf("number %d is not at its rank %d", number, to[number])
		}
	}
}

func BenchmarkRanksOfAMillion(b *testing.B) {
	for b.Loop() {
		ranks([32]byte{1}, 1_000_000)
	}
}
