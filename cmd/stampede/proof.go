package main

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// A proofOffer is a challenge in ALTCHA's second format: of the counters from 0 on, find one whose
// PBKDF2-SHA-256(nonce ‖ counter as 4 bytes big-endian, salt, cost) begins with keyPrefix.
type proofOffer struct {
	Provider   string          `json:"provider"`
	Parameters json.RawMessage `json:"parameters"` // sent back as it came: its bytes are signed
	Signature  string          `json:"signature"`
}

// A prover pauses for a breath after each stint. A processor that always has something to do, be it behind everything
// else, is one to which Linux moves nothing from the other's queue: what waited there waited for milliseconds.
const (
	stint  = 2 * time.Millisecond
	breath = time.Millisecond
)

// solve computes the answer to a challenge, as the visitor's browser does.
func solve(raw json.RawMessage) (string, error) {
	var offer proofOffer
	if err := json.Unmarshal(raw, &offer); err != nil {
		return "", fmt.Errorf("read the challenge: %w", err)
	}
	var p struct {
		Algorithm string `json:"algorithm"`
		Cost      int    `json:"cost"`
		KeyLength int    `json:"keyLength"`
		KeyPrefix string `json:"keyPrefix"`
		Nonce     string `json:"nonce"`
		Salt      string `json:"salt"`
	}
	if err := json.Unmarshal(offer.Parameters, &p); err != nil {
		return "", fmt.Errorf("read the challenge of %q: %w", offer.Provider, err)
	}
	nonce, err1 := hex.DecodeString(p.Nonce)
	salt, err2 := hex.DecodeString(p.Salt)
	if p.Algorithm != "PBKDF2/SHA-256" || err1 != nil || err2 != nil {
		return "", fmt.Errorf("a challenge of %q with algorithm %q is not for programs", offer.Provider, p.Algorithm)
	}
	rested := time.Now()
	for counter := range uint32(math.MaxUint32) {
		key, err := pbkdf2.Key(sha256.New, string(binary.BigEndian.AppendUint32(nonce[:len(nonce):len(nonce)], counter)), salt, p.Cost, p.KeyLength)
		if err != nil {
			return "", fmt.Errorf("compute the proof: %w", err)
		}
		if derived := hex.EncodeToString(key); strings.HasPrefix(derived, p.KeyPrefix) {
			answer, err := json.Marshal(map[string]any{
				"challenge": map[string]any{"parameters": offer.Parameters, "signature": offer.Signature},
				"solution":  map[string]any{"counter": counter, "derivedKey": derived},
			})
			return base64.StdEncoding.EncodeToString(answer), err
		}
		if time.Since(rested) > stint {
			time.Sleep(breath)
			rested = time.Now()
		}
	}
	return "", fmt.Errorf("no counter answers the challenge")
}
