// Package drandtest is a drand chain for tests: one key, a server on a loopback address.
package drandtest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/bls"

	"usher/queue/drand"
)

// Server is a chain and its host.
type Server struct {
	drand.Chain
	URL string // of the chain
	// Misbehave answers in place of the chain until it returns false; nil behaves.
	Misbehave atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// Asked counts the rounds that were asked for.
	Asked atomic.Int64

	key *bls.PrivateKey[bls.KeyG2SigG1]
	now func() time.Time
}

// New starts a chain with a period of three seconds. It gives the rounds that are due at now.
func New(t testing.TB, now func() time.Time) *Server {
	t.Helper()
	key, err := bls.KeyGen[bls.KeyG2SigG1]([]byte("thirty-two bytes that are no secret"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{key: key, now: now, Chain: drand.Chain{
		PublicKey: hex.EncodeToString(public), Period: 3, Genesis: now().Unix() - 3000, GroupHash: strings.Repeat("ab", 32), BeaconID: "test",
	}}
	hash, err := s.Hash()
	if err != nil {
		t.Fatal(err)
	}
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, hash) }))
	t.Cleanup(host.Close)
	s.URL = host.URL + "/" + hash
	return s
}

// Sign is the signature of a round, in hex.
func (s *Server) Sign(round uint64) string {
	message := sha256.Sum256(binary.BigEndian.AppendUint64(nil, round))
	return hex.EncodeToString(bls.Sign(s.key, message[:]))
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, hash string) {
	if act := s.Misbehave.Load(); act != nil && (*act)(w, r) {
		return
	}
	path, ours := strings.CutPrefix(r.URL.Path, "/"+hash)
	var round uint64
	switch {
	case !ours:
		http.NotFound(w, r)
	case path == "/info":
		fmt.Fprintf(w, `{"public_key":%q,"period":%d,"genesis_time":%d,"hash":%q,"groupHash":%q,"schemeID":"bls-unchained-g1-rfc9380","metadata":{"beaconID":%q}}`,
			s.PublicKey, s.Period, s.Genesis, hash, s.GroupHash, s.BeaconID)
	default:
		s.Asked.Add(1)
		if _, err := fmt.Sscanf(path, "/public/%d", &round); err != nil || s.now().Before(s.At(round)) {
			http.Error(w, "too early", http.StatusTooEarly)
			return
		}
		signature := s.Sign(round)
		randomness, err := drand.Round{Round: round, Signature: signature}.Randomness()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, `{"round":%d,"randomness":%q,"signature":%q}`, round, randomness, signature)
	}
}
