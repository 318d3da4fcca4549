package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func after(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }

// goodHistory is a rehearsal without a fault: six fans of a fifo room are called every half second from the second
// second on, claim at once, buy two seats each and leave two seconds later. Pace 120 a minute, capacity 5.
func goodHistory() *History {
	h := &History{Room: "arena", Event: "arena", PresenceTTL: 60 * time.Second, Started: noon, Ended: after(10)}
	shelf := Shelf{Performance: "p", Before: make([]byte, 20), After: make([]byte, 20)}
	for i := range 6 {
		call := 2 + 0.5*float64(i)
		expires := after(call + 120)
		f := &Fan{
			ID: i, Part: Plain, Joined: true, Epoch: "e", Number: uint64(i), CallTTL: 120 * time.Second,
			Join: Timing{At: after(0.1 * float64(i)), Took: 5 * time.Millisecond}, Outcome: Bought,
		}
		at := func(s float64, state string, position int64, progress float64) {
			sight := Sight{At: after(s), Now: after(s), Number: f.Number, Epoch: "e", State: state, Rank: int64(i), Position: position, Progress: progress}
			if state == "called" {
				sight.CallExpires = expires
			}
			f.Sights = append(f.Sights, sight)
		}
		at(0.1*float64(i), "waiting", int64(i)+1, 0)
		at(call-0.1, "waiting", 1, 0.9)
		at(call+0.02, "called", -1, 1)
		f.Claims = []Claim{{Timing: Timing{At: after(call + 0.05), Took: time.Millisecond}, Session: fmt.Sprintf("s%d", i), Audience: "arena", Expires: after(600 + call), Verified: true}}
		f.Ended = after(call + 2)
		seats := []int{2 * i, 2*i + 1}
		f.Order = &Order{ID: fmt.Sprintf("o%d", i), Performance: "p", Seats: seats, State: "paid", Approved: true}
		for _, s := range seats {
			shelf.After[s] = 2
			f.Order.Tickets = append(f.Order.Tickets, Ticket{ID: fmt.Sprintf("t%d", s), Label: fmt.Sprintf("seat %d", s), Code: fmt.Sprintf("code %d", s)})
		}
		h.Fans = append(h.Fans, f)
	}
	for tenth := range 100 {
		s := float64(tenth) / 10
		sample := Sample{At: after(s), Now: after(s), Phase: "open", State: "auto", PacePerMin: 120, Capacity: 5, CallTTL: 120 * time.Second}
		for _, f := range h.Fans {
			call := f.callAt(f.Sights[2])
			switch {
			case sample.At.Before(call):
				sample.Waiting++
			case sample.At.Before(f.Ended):
				sample.Sessions++
			}
			if !sample.At.Before(call) {
				sample.AdmittedTotal++
				sample.Frontier++
			}
		}
		h.Samples = append(h.Samples, sample)
	}
	h.Shelves = []Shelf{shelf}
	return h
}

// drawn turns a history's fans into a lobby and gives them the ranks of a draw.
func drawn(h *History) {
	secret := sha256.Sum256([]byte("secret"))
	commitment := sha256.Sum256(secret[:])
	h.Draw = &Draw{
		Commitment: hex.EncodeToString(commitment[:]), Secret: hex.EncodeToString(secret[:]), Beacon: "beacon",
		LobbySize: uint64(len(h.Fans)), Algorithm: "swap-or-not-90-sha256",
	}
	text := binary.LittleEndian.AppendUint64(slices.Clone(secret[:]), h.Draw.LobbySize)
	seed := sha256.Sum256(append(text, "beacon"...))
	h.Draw.Seed = hex.EncodeToString(seed[:])
	// The i-th to be called has rank i: give it the number that the draw maps there.
	for n := range h.Draw.LobbySize {
		f := h.Fans[shuffled(n, h.Draw.LobbySize, seed)]
		f.Number = n
		for i := range f.Sights {
			f.Sights[i].Number = n
		}
	}
}

func TestAGoodHistoryHolds(t *testing.T) {
	t.Parallel()
	h := goodHistory()
	drawn(h)
	for _, f := range Judge(h) {
		if f.Verdict != Held {
			t.Errorf("%s: %s (%s) %v", f.Check, f.Verdict, f.Figure, f.Breaches)
		}
	}
}

func TestBrokenHistoriesAreFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		check   func(*History) Finding
		tamper  func(h *History)
		mention string // part of the first breach
	}{
		{"a larger rank is called first", checkOrder, func(h *History) { shiftCall(h.Fans[4], -2*time.Second) }, "rank 4 was called"},
		{"a smaller rank is called late by a millisecond", checkOrder, func(h *History) { shiftCall(h.Fans[1], 501*time.Millisecond) }, "fan 1 of rank 1 was called"},
		{"a present place is passed over for good", checkOrder, func(h *History) {
			f := h.Fans[0]
			f.Sights = append(f.Sights[:2], Sight{At: after(9), Now: after(9), Epoch: "e", State: "waiting", Rank: 0, Position: 1, Progress: 0.9})
			f.Claims, f.Order, f.Outcome = nil, nil, Waiting
		}, "was still waiting"},
		{"a position rises", checkPositions, func(h *History) { h.Fans[3].Sights[1].Position = 5 }, "position rose from 4 to 5"},
		{"a position rises after a reconnect to another gateway", checkPositions, func(h *History) {
			f := h.Fans[3]
			again := f.Sights[0]
			again.Gateway = 1
			f.Sights = slices.Insert(f.Sights, 2, again)
		}, "(gateway 0 to 1"},
		{"progress falls", checkPositions, func(h *History) { h.Fans[2].Sights[2].Progress = 0.5 }, "progress went from 0.9 to 0.5"},
		{"progress is above one", checkPositions, func(h *History) { h.Fans[2].Sights[2].Progress = 1.01 }, "to 1.01"},
		{"a rank changes", checkPositions, func(h *History) { h.Fans[2].Sights[2].Rank = 7 }, "rank 2 became 7"},
		{"a rank is taken back", checkPositions, func(h *History) { h.Fans[2].Sights[2].Rank = -1 }, "rank 2 became -1"},
		{"a place becomes another", checkPositions, func(h *History) { h.Fans[2].Sights[1].Epoch = "f" }, "place e/2 became f/2"},
		{"a number is given twice", checkNumbers, func(h *History) { h.Fans[5].Number = 1 }, "fans 1 and 5 both have number 1"},
		{"a rank is given twice", checkNumbers, func(h *History) { h.Fans[5].Sights[2].Rank = 1 }, "both have rank 1"},
		{"the frontier goes back", checkFrontier, func(h *History) { h.Samples[60].Frontier = 1 }, "frontier 1"},
		{"sessions and calls above capacity", checkCapacity, func(h *History) { h.Samples[40].Called = 3 }, "3 calls with a capacity of 5"},
		{"a call made above a lowered capacity", checkCapacity, func(h *History) {
			for i := 15; i < len(h.Samples); i++ {
				h.Samples[i].Capacity = 2
			}
		}, "capacity of 2"},
		{"more inside by the fans' record than by the figures", checkOccupancy, func(h *History) {
			for i := range h.Samples {
				h.Samples[i].Capacity = 3
			}
		}, "capacity was never above 3"},
		{"an open call counts too", checkOccupancy, func(h *History) {
			for _, f := range h.Fans { // all are called and none claims
				f.Claims, f.Ended = nil, time.Time{}
				last := f.Sights[2]
				last.At, last.Now = after(9), after(9)
				f.Sights = append(f.Sights, last)
			}
		}, "6 fans were called or inside"},
		{"two calls in a moment at two a second with a full bucket before", checkPace, func(h *History) {
			shiftCall(h.Fans[2], -499*time.Millisecond)
			shiftCall(h.Fans[3], -998*time.Millisecond)
		}, "beyond a pace of 120"},
		{"all calls at once", checkPace, func(h *History) {
			for i, f := range h.Fans {
				shiftCall(f, -time.Duration(i)*500*time.Millisecond)
			}
		}, "beyond a pace"},
		{"pace slightly exceeded for long", checkPace, func(h *History) {
			for i := range h.Samples {
				h.Samples[i].PacePerMin = 60
			}
		}, "beyond a pace of 60"},
		{"the line stops with room inside", checkMoving, func(h *History) {
			h.Fans[5].Sights = h.Fans[5].Sights[:2]
			h.Fans[5].Outcome = Waiting
			h.Ended = after(30)
			for tenth := range 190 {
				s := h.Samples[99]
				s.At = after(10 + float64(tenth)/10)
				h.Samples = append(h.Samples, s)
			}
		}, "nobody was called"},
		{"a rank is not the draw's", checkDraw, func(h *History) {
			drawn(h)
			h.Fans[0].Number, h.Fans[1].Number = h.Fans[1].Number, h.Fans[0].Number
		}, "the draw gives"},
		{"the secret is not the committed one", checkDraw, func(h *History) { drawn(h); h.Draw.Secret = strings.Repeat("ab", 32) }, "not the commitment"},
		{"the lobby was counted anew after the secret was known", checkDraw, func(h *History) { drawn(h); h.Draw.LobbySize++ }, "seed is"},
		{"a place was promised another draw", checkDraw, func(h *History) { drawn(h); h.Fans[2].Commitment = "00" }, "carries commitment 00"},
		{"a second claim is another session", checkSessions, func(h *History) {
			c := h.Fans[1].Claims[0]
			c.Session = "other"
			h.Fans[1].Claims = append(h.Fans[1].Claims, c)
		}, "got session other"},
		{"a second claim renews the pass", checkSessions, func(h *History) {
			c := h.Fans[1].Claims[0]
			c.Expires = c.Expires.Add(time.Second)
			h.Fans[1].Claims = append(h.Fans[1].Claims, c)
		}, "claimed again"},
		{"two fans in one session", checkSessions, func(h *History) { h.Fans[1].Claims[0].Session = "s0" }, "share session s0"},
		{"a pass that does not verify", checkSessions, func(h *History) { h.Fans[1].Claims[0].Verified = false }, "does not verify"},
		{"a pass for another room", checkSessions, func(h *History) { h.Fans[1].Claims[0].Audience = "club" }, `is for "club"`},
		{"sessions that no figure counts", checkSessions, func(h *History) {
			for i := range h.Samples {
				h.Samples[i].AdmittedTotal = 0
			}
		}, "count 0 sessions given"},
		{"a seat in two paid orders", checkSeats, func(h *History) { h.Fans[1].Order.Seats[0] = 0 }, "seat 0 of p is in the paid orders o0 and o1"},
		{"a label on two tickets", checkSeats, func(h *History) { h.Fans[1].Order.Tickets[0].Label = "seat 0" }, "seat 0 of p is on tickets"},
		{"more tickets of an area than it holds", checkSeats, func(h *History) {
			h.Areas = map[string]int{"Floor": 3}
			for _, f := range h.Fans[:2] {
				for i := range f.Order.Tickets {
					f.Order.Tickets[i].Area = "Floor"
				}
			}
		}, "Floor of p has a capacity of 3"},
		{"a code on two tickets", checkSeats, func(h *History) { h.Fans[1].Order.Tickets[0].Code = "code 0" }, "ticket code"},
		{"a seat that was sold before", checkSeats, func(h *History) { h.Shelves[0].Before[3] = 2 }, "was sold before"},
		{"a paid seat that is free at the end", checkSeats, func(h *History) { h.Shelves[0].After[3] = 0 }, "availability says 0"},
		{"a paid seat that does not exist", checkSeats, func(h *History) { h.Shelves[0].After = h.Shelves[0].After[:11] }, "availability has 11 seats"},
		{"a ticket missing", checkTickets, func(h *History) { h.Fans[1].Order.Tickets = h.Fans[1].Order.Tickets[:1] }, "is for 2 and has 1 tickets"},
		{"a ticket without a code", checkTickets, func(h *History) { h.Fans[1].Order.Tickets[1].Code = "" }, "without a code"},
		{"an approved order that stays pending", checkTickets, func(h *History) { h.Fans[1].Order.State = "pending" }, `approved and is "pending"`},
		{"a fan lost", checkNobodyLost, func(h *History) { h.Fans[1].Outcome, h.Fans[1].Why = Lost, "hold: 500" }, "hold: 500"},
		{"a fan whose place lapsed", checkNobodyLost, func(h *History) { h.Fans[1].Outcome = Lapsed }, "lapsed"},
		{"a fan without an end", checkNobodyLost, func(h *History) { h.Fans[1].Outcome = "" }, "fan 1"},
		{"an answer against the contract", checkContract, func(h *History) { h.Fans[1].Faults = []string{"joining gave no token"} }, "no token"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := goodHistory()
			test.tamper(h)
			f := test.check(h)
			if f.Verdict != Broken || f.Count == 0 {
				t.Fatalf("%s: %s (%s), want broken", f.Check, f.Verdict, f.Figure)
			}
			if !strings.Contains(f.Breaches[0], test.mention) {
				t.Errorf("breach %q does not mention %q", f.Breaches[0], test.mention)
			}
		})
	}
}

// shiftCall moves a fan's call, claim and end by d.
func shiftCall(f *Fan, d time.Duration) {
	f.Sights[2].CallExpires = f.Sights[2].CallExpires.Add(d)
}

func TestWhatTheContractAllowsIsNoBreach(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		check  func(*History) Finding
		change func(h *History)
	}{
		{"one missed while absent is called after larger ranks", checkOrder, func(h *History) {
			f := h.Fans[0]
			missed := f.Sights[1]
			missed.State, missed.Position = "missed", -1
			f.Sights = slices.Insert(f.Sights, 2, missed)
			f.Sights[3].CallExpires = f.Sights[3].CallExpires.Add(3 * time.Second)
		}},
		{"one passed while absent, seen only when called again", checkOrder, func(h *History) {
			h.Fans[0].Away = []Span{{after(1), after(40)}}
			shiftCall(h.Fans[0], 40*time.Second)
		}},
		{"one who left is not waited for", checkOrder, func(h *History) {
			f := h.Fans[0]
			f.Sights, f.LeftAt, f.Outcome = f.Sights[:1], after(0.5), Gone
		}},
		{"times cut to whole seconds keep their order", checkOrder, func(h *History) {
			for _, f := range h.Fans {
				f.Sights[2].CallExpires = f.Sights[2].CallExpires.Truncate(time.Second)
			}
		}},
		{"times cut to whole seconds keep to the pace", checkPace, func(h *History) {
			for _, f := range h.Fans {
				f.Sights[2].CallExpires = f.Sights[2].CallExpires.Truncate(time.Second)
			}
		}},
		{"a burst of one second's worth", checkPace, func(h *History) { shiftCall(h.Fans[1], -500*time.Millisecond) }},
		{"the head of the line begins anew after a miss", checkPositions, func(h *History) {
			f := h.Fans[3]
			missed, back := f.Sights[1], f.Sights[1]
			missed.State, missed.Position = "missed", -1
			back.Position = 3
			f.Sights = slices.Insert(f.Sights, 2, missed, back)
		}},
		{"capacity lowered below what is inside", checkCapacity, func(h *History) {
			for i := 45; i < len(h.Samples); i++ {
				h.Samples[i].Capacity = 1
			}
		}},
		{"a fan that read late of its call did not wait longer", checkMoving, func(h *History) {
			h.Fans[5].Sights[1].At, h.Fans[5].Sights[2].At = after(29), after(29)
			h.Ended = after(30)
			for tenth := range 190 {
				s := h.Samples[99]
				s.At = after(10 + float64(tenth)/10)
				h.Samples = append(h.Samples, s)
			}
		}},
		{"a pause is no stop", checkMoving, func(h *History) {
			h.Fans[5].Sights = h.Fans[5].Sights[:2]
			h.Fans[5].Outcome, h.Ended = Waiting, after(30)
			for tenth := range 190 {
				s := h.Samples[99]
				s.At, s.Phase = after(10+float64(tenth)/10), "paused"
				h.Samples = append(h.Samples, s)
			}
		}},
		{"an order that was declined has no tickets", checkTickets, func(h *History) {
			h.Fans[1].Order = &Order{ID: "o1", State: "cancelled"}
		}},
		{"units of an area share their label", checkSeats, func(h *History) {
			h.Areas = map[string]int{"Floor": 4}
			for _, f := range h.Fans[:2] {
				f.Order.Seats, f.Order.Units = nil, 2
				for i := range f.Order.Tickets {
					f.Order.Tickets[i].Label, f.Order.Tickets[i].Area = "Floor", "Floor"
				}
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := goodHistory()
			test.change(h)
			if f := test.check(h); f.Verdict != Held {
				t.Errorf("%s: %s (%s) %v", f.Check, f.Verdict, f.Figure, f.Breaches)
			}
		})
	}
}

func TestAnEmptyHistoryIsNotJudged(t *testing.T) {
	t.Parallel()
	for _, f := range Judge(&History{}) {
		if f.Verdict == Held && f.Check != "answers kept to the contract" {
			t.Errorf("%s: held without anything seen", f.Check)
		}
	}
}
