package challenge

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

const testSecret = "00112233445566778899aabbccddeeff"

func TestSolveAndCheck(t *testing.T) {
	t.Parallel()
	s := sign(testSecret, Bound{From: "a", Room: "gala", Visitor: "v"}, 8+4, time.Now().Add(time.Minute).Unix())
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := Solve(context.Background(), raw)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseAnswer(answer)
	if err != nil || !p.ours(testSecret) || !p.right() {
		t.Fatalf("our own answer is refused: %v %+v", err, p)
	}
	for name, change := range map[string]func(*payload){
		"cost":      func(p *payload) { p.Challenge.Parameters.Cost = 1 },
		"prefix":    func(p *payload) { p.Challenge.Parameters.KeyPrefix = "" },
		"room":      func(p *payload) { p.Challenge.Parameters.Data.Room = "other" },
		"level":     func(p *payload) { p.Challenge.Parameters.Data.Level = 11 },
		"expiry":    func(p *payload) { p.Challenge.Parameters.ExpiresAt += 3600 },
		"signature": func(p *payload) { p.Challenge.Signature = strings.Repeat("00", 32) },
		"no sign":   func(p *payload) { p.Challenge.Signature = "" },
	} {
		q := p
		change(&q)
		if q.ours(testSecret) {
			t.Errorf("a challenge with another %s is taken for ours", name)
		}
	}
	for name, change := range map[string]func(*payload){
		"counter":  func(p *payload) { p.Solution.Counter++ },
		"negative": func(p *payload) { p.Solution.Counter = -1 },
		"too high": func(p *payload) { p.Solution.Counter = 1 << 32 },
		"key":      func(p *payload) { p.Solution.DerivedKey = strings.Repeat("00", 32) },
		"short":    func(p *payload) { p.Solution.DerivedKey = p.Solution.DerivedKey[:4] },
	} {
		q := p
		change(&q)
		if q.right() {
			t.Errorf("a solution with another %s is taken for right", name)
		}
	}
}

// The work that is asked for is the power of two that the price says, and checking it
// stays cheap.
func TestWorkOf(t *testing.T) {
	t.Parallel()
	for bits := baseBits; bits <= mostBits; bits++ {
		cost, prefix := workOf(bits)
		if rounds := cost << (4 * len(prefix)); rounds != 1<<bits {
			t.Errorf("%d bits are %d rounds", bits, rounds)
		}
		if cost < 128 || cost > 4096 {
			t.Errorf("%d bits cost %d rounds to check", bits, cost)
		}
	}
}

func TestTariff(t *testing.T) {
	t.Parallel()
	for units, want := range []int{0, 4, 8, 11, 11, 11} {
		if level := levelOf(steep, units, 0); level != want {
			t.Errorf("steep, %d owed: level %d, want %d", units, level, want)
		}
	}
	// Three hundred behind one address are never asked for more than two million rounds.
	if level := levelOf(gentle, 300, 0); baseBits+level != 21 {
		t.Errorf("the last of a campus pays 2^%d", baseBits+level)
	}
	for _, s := range []slope{steep, gentle, wide} {
		for level := 0; level <= maxLevel; level++ {
			n := s.allows(level)
			if s.level(n) > level || n < s.most && s.level(n+1) <= level {
				t.Errorf("level %d of unit %v allows %d", level, s.unit, n)
			}
		}
		if s.allows(maxLevel) != s.most {
			t.Errorf("who pays the most is refused at a debt over %d of unit %v", s.allows(maxLevel), s.unit)
		}
		for units := range s.most {
			if s.level(units+1) < s.level(units) {
				t.Errorf("the price falls at %d of unit %v", units, s.unit)
			}
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	s := sign(testSecret, Bound{Room: "gala"}, 12, 1)
	raw, err := json.Marshal(payload{Challenge: s, Solution: solution{Counter: 3, DerivedKey: "00"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(base64.StdEncoding.EncodeToString(raw))
	f.Add("")
	f.Add("e30=")
	f.Add(base64.StdEncoding.EncodeToString([]byte(`{"challenge":{"parameters":{"algorithm":"x","cost":1e9,"nonce":"zz"}}}`)))
	f.Add("wait.e30.AAAA")
	f.Fuzz(func(t *testing.T, answer string) {
		p, err := parseAnswer(answer)
		if err == nil && p.ours(testSecret) {
			// Nothing but what we signed bears our signature, however it was written.
			if p.Challenge.Parameters != s.Parameters {
				t.Errorf("a forged challenge verifies: %+v", p.Challenge.Parameters)
			}
		}
		var turned turn
		if unseal(testSecret, turnWord, answer, &turned) == nil {
			t.Errorf("a forged turn: %q", answer)
		}
	})
}
