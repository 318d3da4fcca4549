package main

import (
	"time"
)

// A History is all that one rehearsal saw. Checks read it and nothing else.
type History struct {
	Room, Event    string
	Gateways       []string
	Started, Ended time.Time
	// ClockAhead is how far this machine's clock is ahead of the room's, at most: the smallest difference between
	// receiving a Place and its "now". Subtracting it from a local time never gives a later room time.
	ClockAhead  time.Duration
	PresenceTTL time.Duration
	Fans        []*Fan
	Samples     []Sample // in the order of At
	Shelves     []Shelf
	Areas       map[string]int // capacities of the standing areas, by name
	Draw        *Draw          // what GET …/draw revealed, nil without a draw
	Retries     map[string]int
	Siege       *Siege // nil without bots
}

// A Part is what a fan was cast to do.
type Part string

const (
	Plain    Part = "plain"    // joins, waits, buys
	Leaver   Part = "leaver"   // leaves the line while waiting
	Closer   Part = "closer"   // closes the socket and is back within the presence time
	Sleeper  Part = "sleeper"  // closes the socket for longer than the presence time
	Slow     Part = "slow"     // reads its socket late, thinks long
	Blinker  Part = "blinker"  // lets its call run out once, then returns
	Windower Part = "windower" // holds seats, gives them back and goes
	Bot      Part = "bot"      // a place that a bot got: it waits and buys like a fan
)

// An Outcome is how a fan's day ended.
type Outcome string

const (
	Bought  Outcome = "bought"
	Passed  Outcome = "passed" // got a pass where nothing is sold (no event)
	Gone    Outcome = "left"   // went by its own will
	SoldOut Outcome = "sold out"
	Waiting Outcome = "still waiting" // the rehearsal's time was up
	Lapsed  Outcome = "lapsed"
	Lost    Outcome = "lost"
)

// A Fan is what one fan recorded. Times without a comment are of this machine's clock.
type Fan struct {
	ID         int
	Part       Part
	Join       Timing   // all answers to it together
	Answers    []Timing // to its join, in turn: with a challenge there are two
	Joined     bool
	Epoch      string
	Number     uint64
	Commitment string
	CallTTL    time.Duration // of the room when the fan was called
	Sights     []Sight       // in the order of receipt, over all connections
	Away       []Span        // times without a socket, chosen or not, while it waited
	LeftAt     time.Time     // when the request to leave was sent
	Claims     []Claim
	Ended      time.Time // the request that could first end its session was sent then (approve, DELETE pass); zero if none
	Looked     []Timing
	Holds      []HoldTry
	Order      *Order
	Outcome    Outcome
	Why        string   // of Lost and Lapsed
	Faults     []string // breaches of the contract met on the way, in words
}

// A Sight is one Place document as a fan saw it.
type Sight struct {
	At          time.Time
	Gateway     int
	Now         time.Time // the document's own, room time
	Number      uint64
	Epoch       string
	State       string
	Rank        int64 // −1: null
	Position    int64 // −1: null
	Progress    float64
	CallExpires time.Time // zero: null
}

// Timing is when something was asked and how long the answer took.
type Timing struct {
	At   time.Time
	Took time.Duration
	// Wire is Took without what the client waited for a processor: from the request's first byte written to the last of
	// the answer arrived. 0: not known.
	Wire time.Duration
}

// A Span is a stretch of time; an open one has a zero To.
type Span struct{ From, To time.Time }

// A Claim is a pass as it was given.
type Claim struct {
	Timing
	Session  string // the pass's sub
	Audience string
	Expires  time.Time // the pass's exp
	Verified bool      // its signature stands under the published keys
}

// A HoldTry is one attempt to hold seats.
type HoldTry struct {
	Timing
	Performance string
	Status      int
	Seats       []int
}

// An Order is a purchase as its buyer saw it.
type Order struct {
	Timing
	ID          string
	Performance string
	Seats       []int // of the hold it was made from
	Units       int   // of standing areas, which differ in nothing
	State       string
	PaidAfter   time.Duration // from the approval to the first answer that said paid
	Approved    bool
	Tickets     []Ticket
}

// A Ticket of a paid order.
type Ticket struct {
	ID, Label, Code string
	Area            string // empty for a numbered seat
}

// A Sample is the operators' live figures at one moment, with the settings then in force.
type Sample struct {
	At            time.Time
	Took          time.Duration
	Now           time.Time // the figures' own, room time
	Phase, State  string
	Frontier      int64 // −1: not told
	Waiting       int64
	Present       int64
	Called        int64
	Sessions      int64
	AdmittedTotal int64
	Missed        int64
	LapsedTotal   int64
	Left          int64
	PacePerMin    float64
	Capacity      int64
	CallTTL       time.Duration
}

// A Shelf is a performance's seats before the first sale of the rehearsal and after the last.
type Shelf struct {
	Performance   string
	Before, After []byte // a state a numbered seat: 0 free, 1 held, 2 sold, 3 blocked; nil: not seen
}

// callAt is the room time at which the i-th sight's call was made, by the contract's call_expires_at.
func (f *Fan) callAt(s Sight) time.Time { return s.CallExpires.Add(-f.CallTTL) }

// calls are the room times of this fan's calls: one, or two for a place that missed its first and returned.
func (f *Fan) calls() []time.Time {
	var at []time.Time
	called := false
	for _, s := range f.Sights {
		if s.State != "called" {
			if s.State != "admitted" {
				called = false
			}
			continue
		}
		if !called && !s.CallExpires.IsZero() {
			at = append(at, f.callAt(s))
			called = true
		}
	}
	return at
}

// missed says whether the fan was ever passed over, absent or late.
func (f *Fan) missed() bool {
	for _, s := range f.Sights {
		if s.State == "missed" {
			return true
		}
	}
	return false
}
