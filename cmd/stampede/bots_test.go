package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// siegeHistory is a good history of enough fans before and beside bots that got little.
func siegeHistory() *History {
	h := goodHistory()
	from := noon.Add(time.Hour)
	h.Siege = &Siege{
		From: from, Flooders: 50, Scripts: 20, Replayers: 5, Sent: 200_100, Flooded: 20 * time.Second, Answers: map[string]int{"403": 190_000, "429": 10_100},
		Replayed: 100, Campus: 300, CampusIn: 300,
	}
	for i := range 2000 {
		at, took := from.Add(-time.Minute), 6*time.Millisecond
		if i%2 == 0 {
			at, took = from.Add(time.Minute), 10*time.Millisecond
		}
		h.Fans = append(h.Fans, &Fan{
			ID: 10 + i, Part: Plain, Joined: true, Outcome: Bought, Join: Timing{At: at, Wire: took}, Answers: []Timing{{At: at, Wire: took}},
			Order: &Order{State: "paid", Seats: []int{100 + i}},
		})
	}
	h.bots(5)
	return h
}

// bots adds so many places of bots, all of which bought two seats.
func (h *History) bots(n int) {
	for range n {
		h.Fans = append(h.Fans, &Fan{ID: -1, Part: Bot, Joined: true, Outcome: Bought, Order: &Order{State: "paid", Seats: []int{1, 2}}})
	}
}

func TestASiegeThatBringsBotsNothingHolds(t *testing.T) {
	t.Parallel()
	for _, f := range JudgeSiege(siegeHistory()) {
		if f.Verdict != Held {
			t.Errorf("%s: %s (%s) %v", f.Check, f.Verdict, f.Figure, f.Breaches)
		}
	}
}

func TestWhatASiegeBringsBotsIsFound(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		check   func(*History) Finding
		tamper  func(h *History)
		verdict Verdict
	}{
		"bots get two percent of the places":           {checkBotPlaces, func(h *History) { h.bots(20) }, Broken},
		"bots get two percent of the seats":            {checkBotSeats, func(h *History) { h.bots(8) }, Broken},
		"a fan is told that it was too fast":           {checkHonestAnswers, func(h *History) { h.Siege.HonestRefusals = map[string]int{"answers: 429": 1} }, Broken},
		"a join takes twice its time":                  {checkHonestJoins, func(h *History) { slower(h, 12*time.Millisecond) }, Broken},
		"a proof is good twice":                        {checkReplays, func(h *History) { h.Siege.Gained = 1 }, Broken},
		"a campus is taken for a bot":                  {checkCampus, func(h *History) { h.Siege.CampusIn = 290 }, Broken},
		"a bot's loss is nobody's":                     {checkNobodyLost, func(h *History) { h.Fans = append(h.Fans, &Fan{Part: Bot, Outcome: Lost}) }, Held},
		"a flood sends less than it has to":            {checkFloods, func(h *History) { h.Siege.Sent = 199_900 }, Broken},
		"a flood that never came":                      {checkFloods, func(h *History) { h.Siege.Flooded = 0 }, Broken},
		"few fans tell nothing of shares":              {checkBotPlaces, func(h *History) { h.Fans = h.Fans[:1900] }, NotJudged},
		"few joins tell nothing of percentiles":        {checkHonestJoins, func(h *History) { h.Fans = h.Fans[:1900] }, NotJudged},
		"a join during which bots came tells nothing":  {checkHonestJoins, func(h *History) { h.straddle(time.Hour) }, Held},
		"places of before the bots are no fans' share": {checkBotPlaces, func(h *History) { h.bots(16) }, Broken},
		"without a replay there is nothing to judge":   {checkReplays, func(h *History) { h.Siege.Replayed = 0 }, NotJudged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := siegeHistory()
			test.tamper(h)
			if f := test.check(h); f.Verdict != test.verdict {
				t.Errorf("%s: %s %v, want %s", f.Check, f.Verdict, f.Breaches, test.verdict)
			}
		})
	}
}

// slower makes every twentieth join beside bots take that long.
func slower(h *History, took time.Duration) {
	for i, f := range h.Fans {
		if i%20 == 0 && !f.Join.At.Before(h.Siege.From) {
			f.Join.Wire = took
		}
	}
}

// straddle adds joins that began before the bots came and ended after.
func (h *History) straddle(took time.Duration) {
	at := h.Siege.From.Add(-time.Second)
	for i := range 500 {
		h.Fans = append(h.Fans, &Fan{ID: 5000 + i, Part: Plain, Joined: true, Join: Timing{At: at, Wire: took}, Answers: []Timing{{At: at, Took: took, Wire: took}}})
	}
}

// The answer is that of ALTCHA's own JavaScript library (altcha-lib 2.8.0) to the same challenge.
func TestAProofIsWhatALTCHAMakesOfIt(t *testing.T) {
	t.Parallel()
	const parameters = `{"algorithm":"PBKDF2/SHA-256","cost":10,"keyLength":32,"keyPrefix":"00","nonce":"000102030405060708090a0b0c0d0e0f","salt":"0f0e0d0c0b0a09080706050403020100"}`
	answer, err := solve(json.RawMessage(`{"provider":"altcha","parameters":` + parameters + `,"signature":"5e"}`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(answer)
	want := `{"challenge":{"parameters":` + parameters + `,"signature":"5e"},"solution":{"counter":156,"derivedKey":"00638d856e12af3ecde997b3a1e9c4de077f10524f934c7311fd4264b6ae3731"}}`
	if err != nil || string(raw) != want {
		t.Errorf("answered %s (%v), want %s", raw, err, want)
	}
	if _, err := solve(json.RawMessage(`{"provider":"turnstile","site_key":"k"}`)); err == nil || !strings.Contains(err.Error(), "turnstile") {
		t.Errorf("a challenge for people: %v", err)
	}
}

// A prover says what solve says, a line each, and goes on after what it cannot read.
func TestAProverAnswersLineByLine(t *testing.T) {
	t.Parallel()
	const challenge = `{"provider":"altcha","parameters":{"algorithm":"PBKDF2/SHA-256","cost":2,"keyLength":32,"keyPrefix":"0","nonce":"00","salt":"01"},"signature":"5e"}`
	want, err := solve(json.RawMessage(challenge))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	ended := make(chan error)
	go func() { ended <- prove(strings.NewReader(`{"provider":"turnstile"}`+"\n"+challenge+"\n"), &out) }()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var first, second provided
	lines := json.NewDecoder(strings.NewReader(out.String()))
	if err := errors.Join(lines.Decode(&first), lines.Decode(&second)); err != nil {
		t.Fatal(err)
	}
	if first.Answer != "" || first.Fault == "" || second.Answer != want || second.Fault != "" {
		t.Errorf("said %+v, then %+v", first, second)
	}
}
