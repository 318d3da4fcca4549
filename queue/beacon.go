package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/queue/drand"
)

const (
	// beaconLead is how far after the opening, and after the lobby's size is on record, a
	// round must fall: more than clocks are apart.
	beaconLead = 5 * time.Second
	// beaconRetry is how soon a beacon is asked again, beaconGrace how late a round may be
	// before the room is paused.
	beaconRetry = time.Second
	beaconGrace = 5 * time.Second
	// beaconsAtOnce bounds how many rooms ask at the same time.
	beaconsAtOnce = 8
)

// beacons are the draws that wait for a beacon. They are followed apart from the steps of the
// Recorder: a host that hangs holds up no other room.
type beacons struct {
	client *drand.Client
	asking errgroup.Group // one goroutine a room

	mu      sync.Mutex // guards the rest
	waiting map[string]map[string]string
	chains  map[string]drand.Chain // by address; they never change
	asked   map[string]time.Time   // by room, the last try
	failing map[string]bool        // rooms whose last try failed
	busy    map[string]bool        // rooms that are being asked for
}

func newBeacons(hosts []string) *beacons {
	b := &beacons{
		client: drand.NewClient(hosts), waiting: map[string]map[string]string{}, chains: map[string]drand.Chain{},
		asked: map[string]time.Time{}, failing: map[string]bool{}, busy: map[string]bool{},
	}
	b.asking.SetLimit(beaconsAtOnce)
	return b
}

// maxChains bounds the chains that are remembered.
const maxChains = 1000

// awaits notes whether a room's draw waits for its beacon.
func (b *beacons) awaits(room string, state map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if state["beacon_url"] == "" || state["method"] != string(Random) || state["lobby_size"] != "" {
		delete(b.waiting, room)
		delete(b.asked, room)
		delete(b.failing, room)
		return
	}
	b.waiting[room] = state
}

// due are the rooms to look at now: soon after the opening, at the round, and else seldom.
func (b *beacons) due(now time.Time) map[string]map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	due := map[string]map[string]string{}
	for room, state := range b.waiting {
		at, last := millis(uint64(number(state, "round_at"))), b.asked[room]
		soon := state["sealed"] != "" && (state["sealed_durable"] != "1" || !now.Before(at) && last.Before(at))
		if !b.busy[room] && (soon && !b.failing[room] || now.Sub(last) >= beaconRetry) {
			due[room] = state
		}
	}
	return due
}

func (b *beacons) began(room string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy[room] = true
}

// ended tells that a room was asked for at a time, and returns whether that is the first failure.
func (b *beacons) ended(room string, at time.Time, failed bool) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	news = failed && !b.failing[room]
	delete(b.busy, room)
	b.asked[room], b.failing[room] = at, failed
	return news
}

// followBeacons lets each of those draws be brought on a step; it waits for none.
func (r *Recorder) followBeacons(ctx context.Context) {
	now := r.roomNow()
	for room, state := range r.beacons.due(now) {
		r.beacons.began(room)
		started := r.beacons.asking.TryGo(func() error {
			err := r.followBeacon(ctx, room, state)
			if news := r.beacons.ended(room, now, err != nil); news && ctx.Err() == nil {
				r.cfg.Log.ErrorContext(ctx, "beacon of a draw", "room", room, "error", err)
			}
			return nil
		})
		if !started {
			r.beacons.ended(room, time.Time{}, false)
			return
		}
	}
}

// followBeacon brings one draw on: before the opening the round is published; then the
// lobby's size is recorded, only then the round is chosen for good, and once the round is
// there the draw is recorded with it. Whatever it was doing when it was killed, the next
// one does the rest.
func (r *Recorder) followBeacon(ctx context.Context, room string, state map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	lobby, err := r.sealLobby(ctx, room, state)
	if err != nil {
		return err
	}
	address := state["beacon_url"]
	chain, err := r.chain(ctx, address)
	if err != nil {
		return errors.Join(err, r.tellBeacon(ctx, room, state, lobby, err))
	}
	var planned uint64
	if opens := number(state, "opens_at"); opens > 0 {
		planned = chain.After(time.UnixMilli(opens).Add(beaconLead))
	}
	if state["sealed"] == "" {
		return r.tellBeacon(ctx, room, state, sealed{Round: planned, RoundAt: chain.At(planned)}, nil)
	}
	if lobby.Round == 0 {
		fixed := r.roomNow()
		if at := roomTime(state); at.After(fixed) { // of two clocks the later one: neither may take a round for later than it is
			fixed = at
		}
		if planned == 0 || !chain.At(planned).After(fixed) {
			planned = chain.After(fixed.Add(beaconLead))
		}
		lobby, err = r.record.choose(ctx, room, state["epoch"], sealed{Round: planned, RoundAt: chain.At(planned), FixedAt: fixed})
		if err != nil {
			return err
		}
	}
	late := r.roomNow().Sub(lobby.RoundAt)
	if late < 0 {
		return r.tellBeacon(ctx, room, state, lobby, nil)
	}
	round, err := r.beacons.client.Round(ctx, address, chain, lobby.Round)
	if err == nil {
		return r.drawBy(ctx, room, state, chain, lobby, round)
	}
	if late < beaconGrace {
		return r.tellBeacon(ctx, room, state, lobby, nil)
	}
	return errors.Join(err, r.tellBeacon(ctx, room, state, lobby, err))
}

// sealLobby records the size of a lobby that is over.
func (r *Recorder) sealLobby(ctx context.Context, room string, state map[string]string) (sealed, error) {
	if state["sealed"] == "" {
		return sealed{}, nil
	}
	lobby, err := r.record.seal(ctx, room, state["epoch"], number(state, "sealed"))
	if err != nil {
		return sealed{}, err
	}
	if lobby.Size != number(state, "sealed") {
		return sealed{}, fmt.Errorf("epoch %s had another lobby (%d) before: reset the room", state["epoch"], lobby.Size)
	}
	return lobby, nil
}

// drawBy records the draw with its round.
func (r *Recorder) drawBy(ctx context.Context, room string, state map[string]string, chain drand.Chain, lobby sealed, round drand.Round) error {
	beacon, err := round.Randomness()
	if err != nil {
		return err
	}
	return r.drawn(ctx, room, state, drawn{Size: lobby.Size, Beacon: beacon, at: r.roomNow(), Source: &BeaconSource{
		URL: state["beacon_url"], Chain: chain, Round: lobby.Round, Signature: round.Signature, RoundAt: lobby.RoundAt, LobbyFixedAt: lobby.FixedAt,
	}})
}

// tellBeacon tells the room how its beacon stands; fault is for the operator.
func (r *Recorder) tellBeacon(ctx context.Context, room string, state map[string]string, s sealed, fault error) error {
	var round, at, why any = "", "", ""
	if s.Round > 0 {
		round, at = s.Round, s.RoundAt.UnixMilli()
	}
	if fault != nil {
		why = fmt.Sprintf("%.300s", fault)
	}
	if err := beaconScript.Run(ctx, r.cfg.Redis, keysOf(room), r.now(), state["epoch"], state["beacon_url"], state["sealed"], round, at, why).Err(); err != nil {
		return fmt.Errorf("say how the beacon stands: %w", err)
	}
	return nil
}

// chain is the chain of an address, read once.
func (r *Recorder) chain(ctx context.Context, address string) (drand.Chain, error) {
	b := r.beacons
	b.mu.Lock()
	known, ok := b.chains[address]
	b.mu.Unlock()
	if ok {
		return known, nil
	}
	read, err := b.client.Chain(ctx, address)
	if err != nil {
		return drand.Chain{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.chains) < maxChains {
		b.chains[address] = read
	}
	return read, nil
}
