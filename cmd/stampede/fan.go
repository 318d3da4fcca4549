package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// A visit is one fan's day as it happens; it alone writes its Fan.
type visit struct {
	*rehearsal
	fan  *Fan
	c    *client
	rng  *rand.Rand
	path string // /api/v1/rooms/{room}
	// arrives is how long after the start of the rehearsal the fan joins.
	arrives time.Duration
}

// errLapsed ends a visit whose place is gone.
var errLapsed = errors.New("the place lapsed")

// errGone ends a visit by the fan's own will.
var errGone = errors.New("the fan left")

// errSoldOut ends a visit for which nothing is left, as the room says.
var errSoldOut = errors.New("everything is sold")

// live plays the whole visit and records how it ended. Nobody waits past the end of line; who is inside then may
// finish while ctx lasts.
func (v *visit) live(ctx, line context.Context) {
	defer v.c.http.CloseIdleConnections()
	err := v.play(ctx, line)
	switch {
	case err == nil:
	case errors.Is(err, errGone):
		v.fan.Outcome = Gone
	case errors.Is(err, errSoldOut):
		v.fan.Outcome = SoldOut
	case line.Err() != nil && len(v.fan.Claims) == 0:
		v.fan.Outcome = Waiting
	case errors.Is(err, errLapsed):
		v.fan.Outcome, v.fan.Why = Lapsed, err.Error()
	default:
		v.fan.Outcome, v.fan.Why = Lost, err.Error()
	}
}

func (v *visit) play(ctx, line context.Context) error {
	if !pause(line, v.arrives) {
		return line.Err()
	}
	if err := v.join(line); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := v.wait(line); err != nil {
		return err
	}
	if v.event == nil {
		v.fan.Outcome = Passed
		return v.leaveShop(ctx)
	}
	return v.shop(ctx)
}

func (v *visit) join(ctx context.Context) error {
	p, t, status, err := v.enter(ctx)
	if r, ok := asRefusal(err); ok && r.Code == "room-closed" {
		var room struct {
			Phase string `json:"phase"`
		}
		if _, _, asked := v.c.insist(ctx, http.MethodGet, v.path, nil, &room); asked == nil && room.Phase == "sold_out" {
			return errSoldOut
		}
	}
	if err != nil {
		return err
	}
	v.c.http.CloseIdleConnections() // the wait needs one descriptor, not two
	v.c.token = p.Token
	v.fan.Join, v.fan.Joined = t, true
	v.fan.Epoch, v.fan.Number, v.fan.Commitment = p.Epoch, p.Number, p.Commitment
	if status != http.StatusCreated {
		v.fault("joining answered %d for a new visitor, want 201", status)
	}
	if p.Token == "" {
		v.fault("joining gave no token")
	}
	v.see(p, v.c.turn%len(v.c.gateways))
	return nil
}

// maxProofs is how many challenges in a row a fan answers for one place.
const maxProofs = 5

// enter asks for a place, and computes what it is asked to. The time is what the gateway took, over all answers.
func (v *visit) enter(ctx context.Context) (p placeDoc, t Timing, status int, err error) {
	var body any
	for range maxProofs {
		var took Timing
		took, status, err = v.c.insist(ctx, http.MethodPost, v.path+"/places", body, &p)
		if t.At.IsZero() {
			t.At = took.At
		}
		t.Took += took.Took
		t.Wire += took.Wire
		v.fan.Answers = append(v.fan.Answers, took)
		r, ok := asRefusal(err)
		if !ok || r.Challenge == nil {
			return p, t, status, err
		}
		answer, wrong := v.prover.solve(ctx, r.Challenge)
		if wrong != nil {
			return p, t, status, wrong
		}
		body = map[string]any{"challenge": answer}
	}
	return p, t, status, err
}

func (v *visit) fault(format string, args ...any) {
	if len(v.fan.Faults) < maxBreaches {
		v.fan.Faults = append(v.fan.Faults, fmt.Sprintf(format, args...))
	}
}

// maxSights bounds what a fan remembers. Past it only documents that differ from the one before in more than progress
// are kept.
const maxSights = 5000

// see records a Place.
func (v *visit) see(p placeDoc, gateway int) {
	s := Sight{
		At: time.Now(), Gateway: gateway, Now: p.Now, Number: p.Number, Epoch: p.Epoch, State: p.State,
		Rank: -1, Position: -1, Progress: p.Progress,
	}
	if p.Rank != nil {
		s.Rank = *p.Rank
	}
	if p.Position != nil {
		s.Position = *p.Position
		if p.Ahead == nil || *p.Ahead+1 != *p.Position {
			v.fault("a Place of position %d whose ahead is not one less", *p.Position)
		}
	}
	if p.CallExpires != nil {
		s.CallExpires = *p.CallExpires
	}
	if p.Room != v.room {
		v.fault("a Place of room %q", p.Room)
	}
	if p.State == "called" {
		if v.fan.CallTTL == 0 {
			v.fan.CallTTL = v.callTTL()
		}
		if p.CallExpires == nil {
			v.fault("called without call_expires_at")
		}
	}
	if n := len(v.fan.Sights); n >= maxSights {
		if last := v.fan.Sights[n-1]; last.State == s.State && last.Position == s.Position && last.Progress <= s.Progress {
			v.fan.Sights[n-1] = s
			return
		}
	}
	v.fan.Sights = append(v.fan.Sights, s)
}

// wait follows the place until the fan has a pass.
func (v *visit) wait(ctx context.Context) error {
	last := v.fan.Sights[0].State
	quiet := v.quietAt()
	for attempt := 0; ; {
		if last == "called" && v.willClaim() {
			done, err := v.claim(ctx)
			if done || err != nil {
				return err
			}
			last = "waiting"
		}
		s, err := v.c.dialPlace(ctx, v.room, quiet)
		if err != nil {
			if r, ok := asRefusal(err); ok && (r.Code == "place-lapsed" || r.Code == "no-place") {
				return fmt.Errorf("%w: %w", errLapsed, r)
			} else if ok && !r.retryable() {
				return fmt.Errorf("open the socket: %w", r)
			}
			if attempt++; attempt > maxRetries {
				return fmt.Errorf("open the socket: %w", err)
			}
			if r, ok := asRefusal(err); ok {
				v.c.countRefusal(r.Status)
			}
			v.c.retries.add("socket", reason(err))
			v.c.turn++
			if !v.away(ctx, v.between(200*time.Millisecond, 2*time.Second)) {
				return ctx.Err()
			}
			continue
		}
		attempt = 0
		last, err = v.follow(ctx, s)
		s.close()
		switch {
		case err == nil || ctx.Err() != nil:
			if ctx.Err() != nil {
				return ctx.Err()
			}
		case errors.Is(err, errLapsed), errors.Is(err, errSoldOut):
			return err
		case errors.Is(err, errQuiet):
			quiet = time.Time{}
			if v.fan.Part == Leaver {
				return v.leaveLine(ctx)
			}
			v.c.turn++
			if !v.away(ctx, v.absence()) {
				return ctx.Err()
			}
		default:
			v.c.retries.add("socket", reason(err))
			v.c.turn++
			d, asked := returnAfter(err)
			if !asked {
				d = v.between(200*time.Millisecond, 2*time.Second)
			}
			if !v.away(ctx, d) {
				return ctx.Err()
			}
		}
	}
}

// follow reads one socket until the fan is called and means to come, the place is gone, or the socket ends. It
// returns the last state seen.
func (v *visit) follow(ctx context.Context, s *socket) (string, error) {
	last := ""
	for {
		p, err := s.read()
		if err != nil {
			return last, err
		}
		if v.fan.Part == Slow && !pause(ctx, v.between(100*time.Millisecond, time.Second)) {
			return last, ctx.Err()
		}
		v.see(p, s.gateway)
		last = p.State
		switch p.State {
		case "called", "admitted":
			if v.willClaim() {
				return "called", nil
			}
		case "missed":
			if err := v.comeBack(ctx); err != nil {
				return last, err
			}
		case "lapsed", "left":
			return last, fmt.Errorf("%w: state %s", errLapsed, p.State)
		case "waiting", "lobby":
			if p.Phase == "sold_out" {
				return last, errSoldOut
			}
		}
	}
}

// willClaim says whether the fan answers its call: all do, but a blinker lets the first one run out.
func (v *visit) willClaim() bool { return v.fan.Part != Blinker || v.fan.missed() }

// comeBack asks for the second chance of a missed place.
func (v *visit) comeBack(ctx context.Context) error {
	var p placeDoc
	_, _, err := v.c.insist(ctx, http.MethodPost, v.path+"/place/return", nil, &p)
	if r, ok := asRefusal(err); ok && r.Code == "place-lapsed" {
		return fmt.Errorf("%w: return: %w", errLapsed, r)
	} else if ok {
		v.fault("a missed place could not return: %v", r)
		return nil
	}
	if err == nil {
		v.see(p, v.c.turn%len(v.c.gateways))
	}
	return err
}

// claim asks for the pass. It returns false when the fan has to go on waiting.
func (v *visit) claim(ctx context.Context) (bool, error) {
	if v.fan.Part == Slow && !pause(ctx, min(v.between(time.Second, 5*time.Second), v.fan.CallTTL/3)) {
		return false, ctx.Err()
	}
	times := 1
	if v.rng.IntN(10) == 0 {
		times = 2 // a second tab
	}
	for range times {
		var p passDoc
		t, _, err := v.c.insist(ctx, http.MethodPost, v.path+"/pass", nil, &p)
		if r, ok := asRefusal(err); ok {
			switch r.Code {
			case "not-called":
				last := v.fan.Sights[len(v.fan.Sights)-1]
				if last.State == "called" && time.Now().Add(staleness).Before(last.CallExpires) {
					v.fault("called until %s, the claim at %s was refused: %v", clock(last.CallExpires), clock(t.At), r)
				}
				return false, nil
			case "place-lapsed":
				return false, fmt.Errorf("%w: claim: %w", errLapsed, r)
			}
		}
		if err != nil {
			return false, fmt.Errorf("claim: %w", err)
		}
		v.c.pass = p.Pass
		claim, err := v.keys.read(p.Pass)
		if err != nil {
			v.fault("the pass cannot be read: %v", err)
		}
		claim.Timing = t
		if !claim.Expires.Truncate(time.Second).Equal(p.Expires.Truncate(time.Second)) {
			v.fault("the pass ends at %s, expires_at says %s", clock(claim.Expires), clock(p.Expires))
		}
		v.fan.Claims = append(v.fan.Claims, claim)
	}
	return true, nil
}

// leaveLine gives the place up.
func (v *visit) leaveLine(ctx context.Context) error {
	v.fan.LeftAt = time.Now()
	if _, _, err := v.c.insist(ctx, http.MethodDelete, v.path+"/place", nil, nil); err != nil {
		return fmt.Errorf("leave the line: %w", err)
	}
	return errGone
}

// leaveShop gives the session up.
func (v *visit) leaveShop(ctx context.Context) error {
	if v.fan.Ended.IsZero() {
		v.fan.Ended = time.Now()
	}
	if _, _, err := v.c.insist(ctx, http.MethodDelete, v.path+"/pass", nil, nil); err != nil {
		return fmt.Errorf("give the pass back: %w", err)
	}
	return nil
}

// quietAt is when a fan that closes its socket by itself does so; zero: never.
func (v *visit) quietAt() time.Time {
	switch v.fan.Part {
	case Leaver, Closer, Sleeper:
		return time.Now().Add(v.between(500*time.Millisecond, 8*time.Second))
	}
	return time.Time{}
}

// absence is how long a fan stays without its socket: a closer well within the presence time, a sleeper past it.
func (v *visit) absence() time.Duration {
	if v.fan.Part == Sleeper {
		return v.presenceTTL + v.between(v.presenceTTL/4, v.presenceTTL/2)
	}
	return min(v.between(time.Second, 10*time.Second), v.presenceTTL/3)
}

// away stays without a socket for d and records it.
func (v *visit) away(ctx context.Context, d time.Duration) bool {
	v.fan.Away = append(v.fan.Away, Span{From: time.Now()})
	ok := pause(ctx, d)
	v.fan.Away[len(v.fan.Away)-1].To = time.Now()
	return ok
}

func (v *visit) between(least, most time.Duration) time.Duration {
	return least + time.Duration(v.rng.Int64N(int64(max(1, most-least))))
}

// reason names why a connection ended, in a bounded set of words.
func reason(err error) string {
	var ce *websocket.CloseError
	if errors.As(err, &ce) {
		return fmt.Sprintf("close %d", ce.Code)
	}
	if r, ok := asRefusal(err); ok {
		return fmt.Sprintf("%d %s", r.Status, r.Code)
	}
	return "connection"
}
