package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// A Draw is what the room reveals after its draw.
type Draw struct {
	Commitment string `json:"commitment"`
	Secret     string `json:"secret"`
	Beacon     string `json:"beacon"`
	LobbySize  uint64 `json:"lobby_size"`
	Seed       string `json:"seed"`
	Algorithm  string `json:"algorithm"`
}

const drawRounds = 90

// seed recomputes the draw's seed from the revealed secret: SHA-256(secret ‖ N, 8 bytes little-endian ‖ beacon). It
// fails when the secret is not the one committed to, or the published seed is another.
func (d Draw) seed() ([32]byte, error) {
	var none [32]byte
	if d.Algorithm != "swap-or-not-90-sha256" {
		return none, fmt.Errorf("unknown algorithm %q", d.Algorithm)
	}
	secret, err := hex.DecodeString(d.Secret)
	if err != nil {
		return none, fmt.Errorf("secret is not hex: %w", err)
	}
	if c := sha256.Sum256(secret); hex.EncodeToString(c[:]) != d.Commitment {
		return none, fmt.Errorf("secret's hash %x is not the commitment %s", c, d.Commitment)
	}
	h := sha256.New()
	h.Write(secret)
	h.Write(binary.LittleEndian.AppendUint64(nil, d.LobbySize))
	h.Write([]byte(d.Beacon))
	seed := [32]byte(h.Sum(nil))
	if hex.EncodeToString(seed[:]) != d.Seed {
		return none, fmt.Errorf("seed is %x by the public values, %s was published", seed, d.Seed)
	}
	return seed, nil
}

// shuffled is compute_shuffled_index of the Ethereum consensus specification with 90 rounds, written once more from
// the text of the specification, so that a rehearsal does not check the queue's code with itself.
func shuffled(index, count uint64, seed [32]byte) uint64 {
	for round := range byte(drawRounds) {
		p := sha256.Sum256(append(seed[:], round))
		pivot := binary.LittleEndian.Uint64(p[:8]) % count
		flip := (pivot + count - index) % count
		position := max(index, flip)
		source := sha256.Sum256(binary.LittleEndian.AppendUint32(append(seed[:], round), uint32(position/256)))
		if source[position%256/8]>>(position%8)&1 == 1 {
			index = flip
		}
	}
	return index
}
