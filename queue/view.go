package queue

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// View is one gateway's copy of a room, taken at one tick and never changed. Visitors
// who wait are answered from it.
type View struct {
	room       string
	epoch      string
	commitment string
	revision   string
	settings   Settings
	phase      Phase     // as the scripts see it
	now        time.Time // room time
	taken      time.Time // by this process' clock
	quietUntil time.Time
	// lost says that Redis did not answer at the last tick: the rest is of before.
	lost bool

	frontier, next, ceiling, base uint64
	// drawn tells that ranks are published, inForce that the store knows of it.
	drawn, inForce bool
	// shown tells that ranks were shown before the room went back to its lobby.
	shown       bool
	drawDurable bool
	// claimsDue tells that what was lost of claims, moves and invitations is not back yet.
	claimsDue bool
	lobbySize *uint64
	// beacon and source are those of the draw, on record once drawDurable is set.
	beacon string
	source *BeaconSource
	// A draw that waits for its beacon: the lobby's size once it is on record, the round
	// and its time, and why it cannot be had.
	sealed      *uint64
	round       uint64
	roundAt     time.Time
	beaconFault string
	ranks       []uint32 // by number; nil without a draw in force
	draw        *Draw

	// counted holds the ranks from the frontier on that count as ahead of others; nil while
	// that is not known. It tells of those before countedNext: later ones joined in the quiet time.
	counted     *pieces
	countedNext uint64
	passed      uint64 // bits of counted before the frontier
	left        *pieces

	waiting, present, sessions, called                  uint64
	calledTotal, admittedTotal, missed                  uint64
	lapsedTotal, leftTotal, presenceMillis, phoneMillis uint64
	// outOfLine counts the bits of left: who left, or took a session in bypass.
	outOfLine uint64
	// moved holds the generations of places that have moved, moves how many moves it knows.
	moved map[uint64]uint64
	moves uint64
	// returning are missed places that are back, and are called among the first.
	returning uint64
	// pace is the calls of the last minute; measured tells that a minute's worth of
	// looking stands behind it.
	pace     float64
	measured bool
	origin   OriginStatus
	// share is how much of the pace the origin can take, in thousandths, shareReason why
	// that is less than all.
	share       uint64
	shareReason string
}

// viewOf reads the answer of advance.lua. before holds what is not sent again.
func viewOf(room string, answer []any, before *View) (*View, error) {
	if len(answer) < 7 {
		return nil, fmt.Errorf("advance %s: short answer", room)
	}
	state := make(map[string]string, 64)
	for i := 7; i+1 < len(answer); i += 2 {
		name, _ := answer[i].(string)
		state[name], _ = answer[i+1].(string)
	}
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return 0 // absent: a field that this epoch has not needed yet
		}
		return n
	}
	field := func(name string) uint64 { return number(state[name]) }
	head := func(i int) uint64 { s, _ := answer[i].(string); return number(s) }
	phase, _ := answer[2].(string)
	v := &View{
		room: room, epoch: state["epoch"], commitment: state["commitment"], revision: state["rev"],
		phase: Phase(phase), now: millis(head(1)), taken: time.Now(),
		waiting: head(3), present: head(4), sessions: head(5),
		frontier: field("frontier"), next: field("next"), ceiling: field("ceiling"), base: field("base"),
		drawn: state["drawn"] == "1", drawDurable: state["draw_durable"] == "1",
		called: field("open"), calledTotal: field("called_total"), admittedTotal: field("admitted_total"),
		missed: field("missed"), lapsedTotal: field("lapsed_total"), leftTotal: field("left_total"),
		presenceMillis: field("presence_ttl"), phoneMillis: field("phone_ttl"), outOfLine: field("out_of_line"), moves: field("moves"), returning: field("returning"),
	}
	v.share, v.shareReason = 1000, state["share_reason"]
	if said, ok := state["share"]; ok {
		v.share = number(said)
	}
	v.inForce, v.shown, v.claimsDue = v.drawn, state["ranked"] == "1", state["claims_due"] == "1"
	if q := field("quiet_until"); q > 0 {
		v.quietUntil = millis(q)
	}
	if size, ok := state["lobby_size"]; ok {
		n := number(size)
		v.lobbySize = &n
	}
	v.beacon = state["beacon"]
	if recorded, ok := state["draw_beacon"]; ok {
		v.beacon = recorded
	}
	if text := state["draw_source"]; text != "" {
		if err := json.Unmarshal([]byte(text), &v.source); err != nil {
			return nil, fmt.Errorf("source of the beacon of %s: %w", room, err)
		}
	}
	if state["sealed_durable"] == "1" {
		size := field("sealed")
		v.sealed = &size
	}
	v.round, v.beaconFault = field("round"), state["beacon_fault"]
	if at := field("round_at"); at > 0 {
		v.roundAt = millis(at)
	}
	if before != nil && before.epoch == v.epoch && before.drawn && !v.drawn { // a store that was set back takes no rank back
		v.drawn, v.lobbySize, v.beacon, v.source = true, before.lobbySize, before.beacon, before.source
	}
	if text, ok := state["settings"]; ok {
		v.settings = Defaults() // for what was not a setting yet when they were written
		if err := json.Unmarshal([]byte(text), &v.settings); err != nil {
			return nil, fmt.Errorf("settings of %s: %w", room, err)
		}
	} else if before != nil {
		v.settings = before.settings
	}
	return v, nil
}

func millis(ms uint64) time.Time { return time.UnixMilli(int64(ms)).UTC() }

func (v *View) quiet() bool { return v.now.Before(v.quietUntil) }

// Settings are those in force.
func (v *View) Settings() Settings { return v.settings }

// Bypass tells that everyone is admitted.
func (v *View) Bypass() bool { return v.phase == bypass }

// Phase is what the room is doing, as everybody sees it.
func (v *View) Phase() Phase {
	switch {
	case v.phase == Closed || v.phase == SoldOut:
		return v.phase
	case v.lost:
		return Paused
	case v.phase == bypass:
		return Open
	case v.phase == Open && v.quiet():
		return Paused
	case v.phase == Open && !v.ranked() && v.next > 0 && v.beaconFault != "":
		return Paused
	case v.phase == Open && !v.ranked() && v.next > 0: // an empty lobby is never drawn
		return Lobby // the draw is being made
	}
	return v.phase
}

// ranked tells that places have ranks.
func (v *View) ranked() bool {
	if v.settings.Method == Random {
		return v.drawn
	}
	return v.phase != Scheduled && v.phase != Lobby || v.frontier > 0 || v.shown
}

// numbers tells that the bitmaps go by number still.
func (v *View) numbers() bool { return v.settings.Method == Random && v.lobbySize == nil }

// rank of a number; in the lobby its number.
func (v *View) rank(number uint64) uint64 {
	if number < uint64(len(v.ranks)) {
		return uint64(v.ranks[number])
	}
	return number
}

// ahead counts the places before rank, which is not before the frontier, that still count.
func (v *View) ahead(rank uint64) uint64 {
	if v.counted == nil {
		return rank - v.frontier
	}
	return v.counted.upTo(rank) - v.passed
}

// uncounted is a bitmap, from a byte of the room's bitmaps on, of the ranks that are
// known to count no longer.
func (v *View) uncounted() (first uint64, gone []byte) {
	if v.counted == nil || v.counted.base() < v.base {
		return 0, nil
	}
	set := bitset{base: v.counted.base()}
	for rank := max(v.frontier, set.base); rank < v.countedNext; rank++ {
		if v.counted.lacks(rank) {
			set.add(rank)
		}
	}
	return (set.base - v.base) / 8, set.bytes()
}

// Room is the public document.
func (v *View) Room() Room {
	r := Room{
		Room: v.room, Title: v.settings.Title, Phase: v.Phase(), LobbyAt: v.settings.LobbyAt, OpensAt: v.settings.OpensAt,
		Waiting: v.waiting, Present: v.present, PacePerMin: v.settings.PacePerMin, Message: v.settings.Message, InviteOnly: v.settings.InviteOnly,
		Draw: RoomDraw{Commitment: v.commitment, Beacon: v.settings.Beacon, BeaconURL: v.settings.BeaconURL, LobbySize: v.sealed},
	}
	if v.settings.BeaconURL != "" && v.round > 0 {
		r.Draw.Round, r.Draw.RoundAt = v.round, &v.roundAt
	}
	if v.draw != nil {
		r.Draw.Beacon, r.Draw.LobbySize, r.Draw.Secret, r.Draw.Seed = v.draw.Beacon, &v.draw.LobbySize, v.draw.Secret, v.draw.Seed
	}
	return r
}

// Live is the operators' document.
func (v *View) Live() Live {
	l := Live{
		Room: v.room, Epoch: v.epoch, Phase: v.Phase(), Settings: v.settings,
		Waiting: v.waiting, Present: v.present, Called: v.called, Sessions: v.sessions, Frontier: v.frontier,
		CalledTotal: v.calledTotal, AdmittedTotal: v.admittedTotal, Missed: v.missed, Lapsed: v.lapsedTotal, Left: v.leftTotal,
		PaceActualPerMin: v.pace, OriginStatus: v.origin, BeaconFault: v.beaconFault, Now: v.now,
	}
	if v.quiet() {
		l.QuietUntil = &v.quietUntil
	}
	l.PaceLimitedBy = v.limit()
	return l
}

// place is the document of a place in state. until is when its call or pass ends.
func (v *View) place(t Token, state State, until time.Time) Place {
	p := Place{
		Room: v.room, Epoch: t.Epoch, Number: t.Number, Phase: v.Phase(), State: state, Waiting: v.waiting,
		Message: v.settings.Message, JoinedAt: t.IssuedAt, LobbyAt: v.settings.LobbyAt, OpensAt: v.settings.OpensAt, Now: v.now,
	}
	if t.Epoch != v.epoch || !v.ranked() && !v.Bypass() {
		return p
	}
	rank, figures := v.rank(t.Number), new(struct { // one piece of memory
		rank, ahead, position uint64
		eta                   Band
	})
	if v.ranked() {
		figures.rank = rank
		p.Rank = &figures.rank
		p.Progress = progress(v.frontier, t.Frontier, rank)
	}
	switch state {
	case Called:
		p.Progress = 1
		if !until.IsZero() {
			ends := until // itself stays off the heap where nobody asks for it
			p.CallExpiresAt = &ends
		}
	case Admitted:
		p.Progress = 1
		ends := until
		p.PassExpiresAt = &ends
	case Waiting:
		if v.quiet() && rank >= v.countedNext {
			return p // joined in the quiet time: its position is not known yet
		}
		if rank >= v.frontier {
			figures.ahead = v.ahead(rank)
		}
		figures.position = figures.ahead + 1
		p.Ahead, p.Position = &figures.ahead, &figures.position
		p.ETA, p.ETAReason = v.eta(figures.ahead, &figures.eta)
	}
	return p
}

// progress is how much of the way from the frontier at issue to its rank is done.
func progress(frontier, issued, rank uint64) float64 {
	switch {
	case frontier > rank:
		return 1
	case rank <= issued || frontier <= issued:
		return 0
	}
	return float64(frontier-issued) / float64(rank-issued)
}

// askAgain is when a poller should come back: the sooner, the nearer it is.
func (v *View) askAgain(p Place) time.Duration {
	longest := time.Duration(v.presenceMillis) * time.Millisecond / 3
	within := func(d, low, high time.Duration) time.Duration {
		return max(min(d, high, longest), min(low, longest), time.Second)
	}
	switch p.State {
	case Waiting:
		if p.ETA != nil {
			return within(time.Duration(p.ETA.Low)*time.Second/8, 2*time.Second, 15*time.Second)
		}
		return within(5*time.Second, 2*time.Second, 15*time.Second)
	case InLobby:
		if p.OpensAt != nil {
			return within(p.OpensAt.Sub(v.now), 2*time.Second, 10*time.Second)
		}
		return within(5*time.Second, 2*time.Second, 10*time.Second)
	case Called, Missed:
		return 2 * time.Second
	case Admitted:
		return 30 * time.Second
	}
	return 0
}

// drawOf makes the record of a draw; it is public from here on.
func drawOf(secret [32]byte, lobbySize uint64, beacon string) (*Draw, [32]byte) {
	seed := Seed(secret, lobbySize, beacon)
	return &Draw{
		Commitment: Commitment(secret), Secret: hex.EncodeToString(secret[:]), Beacon: beacon, LobbySize: lobbySize,
		Seed: hex.EncodeToString(seed[:]), Algorithm: DrawAlgorithm,
	}, seed
}
