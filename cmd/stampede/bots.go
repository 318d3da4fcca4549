package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"usher/internal/child"
)

// Beside every 2,000 fans, at least one of each.
const (
	floodersPer = 40  // fans for one address that sends floodRate requests a second (flood.go), with fresh cookies each
	scriptsPer  = 100 // fans for one headless script that wants scriptPlaces places; every other one solves challenges
	replayerPer = 400 // fans for one that has a place of its own and sends its proof and its token again and again

	scriptPlaces = 500
	replays      = 20

	saleOver = 0.95 // of the fans have gone: what bots do then is nobody's harm

	earlyPer  = 2 // fans beside bots for one that comes before them, to compare with
	campusPer = 7 // fans for one who comes before them from a single address, with all the others of a campus
)

// A Siege is what the bots did, what it brought them, and what was seen before they came.
type Siege struct {
	From                         time.Time // when the bots came
	Flooders, Scripts, Replayers int
	Sent                         int            // requests of the flooders
	Flooded                      time.Duration  // in this time
	Late                         time.Duration  // after their time, at most, were 99 of 100 of them sent
	Answers                      map[string]int // to them, by status
	Tried                        int            // places that scripts asked for
	Replayed                     int            // proofs and places sent again
	Gained                       int            // places that a proof already spent brought
	Campus, CampusIn             int            // how many came from one address, and how many of them had a place
	HonestRefusals               map[string]int // 429s and 5xxs that fans met, by status
}

// A siege is a Siege under way.
type siege struct {
	*rehearsal
	performance string // "" where nothing is sold
	retries     *tally // the bots' own
	computing   *prover

	mu    sync.Mutex // guards the rest
	seen  Siege
	bots  []*Fan
	lives sync.WaitGroup // of the places that bots got
}

func newSiege(r *rehearsal, fans int) *siege {
	s := &siege{rehearsal: r, retries: &tally{n: map[string]int{}}, seen: Siege{
		Flooders: max(1, fans/floodersPer), Scripts: max(2, fans/scriptsPer), Replayers: max(1, fans/replayerPer), Answers: map[string]int{},
		Campus: max(2, fans/campusPer),
	}}
	if len(r.performances) > 0 {
		s.performance = r.performances[0]
	}
	return s
}

// before plays what only a room without bots can show: a campus behind one address, with the room as it is by itself.
// They give their places back. Then the room is guarded.
func (s *siege) before(ctx context.Context) error {
	if err := s.guard(ctx, "auto"); err != nil {
		return err
	}
	s.campus(ctx, s.address(1<<20))
	return s.guard(ctx, "always")
}

// guard sets when the room asks for challenges; in force everywhere within a second.
func (s *siege) guard(ctx context.Context, when string) error {
	c := newClient(s.gateways, nil, true, s.rehearsal.retries)
	defer c.http.CloseIdleConnections()
	if _, _, err := c.call(ctx, http.MethodPut, "/api/v1/operate/rooms/"+s.room, map[string]any{"challenge": when}, nil, "Authorization", "Bearer "+s.operatorKey); err != nil {
		return fmt.Errorf("guard the room: %w", err)
	}
	pause(ctx, settling)
	return ctx.Err()
}

// campus lets fans of one address join over ten seconds and leave again.
func (s *siege) campus(ctx context.Context, address net.Addr) {
	const over = 10 * time.Second
	var fans sync.WaitGroup
	for i := range s.seen.Campus {
		fans.Go(func() {
			if !pause(ctx, over*time.Duration(i)/time.Duration(s.seen.Campus)) {
				return
			}
			c := newClient(s.gateways, address, false, s.rehearsal.retries)
			defer c.http.CloseIdleConnections()
			v := &visit{rehearsal: s.rehearsal, fan: &Fan{ID: -1}, c: c, path: "/api/v1/rooms/" + s.room}
			if v.join(ctx) != nil {
				return
			}
			s.mu.Lock()
			s.seen.CampusIn++
			s.mu.Unlock()
			_, _, _ = c.insist(ctx, http.MethodDelete, v.path+"/place", nil, nil) // only so that it does not stand in the way
		})
	}
	fans.Wait()
}

// run plays all bots until ctx ends, and what their places bring them until inside ends.
func (s *siege) run(ctx, inside context.Context, seed uint64) error {
	computing, stop := context.WithCancel(ctx)
	var err error
	if s.computing, err = startProver(computing); err != nil {
		stop()
		return err
	}
	defer s.computing.stop()
	defer stop() // first
	s.mu.Lock()
	s.seen.From = time.Now()
	s.mu.Unlock()
	var all sync.WaitGroup
	next := 1 << 21
	each := func(n int, play func(rng *rand.Rand, address net.Addr, i int)) {
		for i := range n {
			address, rng := s.address(next), rand.New(rand.NewPCG(seed, uint64(next)))
			next++
			all.Go(func() { play(rng, address, i) })
		}
	}
	var floods []string
	for range s.seen.Flooders {
		floods = append(floods, s.address(next).(*net.TCPAddr).IP.String())
		next++
	}
	var flooding error
	all.Go(func() { flooding = s.flood(ctx, inside, seed, floods) })
	each(s.seen.Scripts, func(rng *rand.Rand, address net.Addr, i int) { s.script(ctx, inside, rng, address, i%2 == 0) })
	each(s.seen.Replayers, func(rng *rand.Rand, address net.Addr, _ int) { s.replay(ctx, inside, rng, address) })
	all.Wait()
	s.lives.Wait()
	return flooding
}

// flood lets a process of its own flood from all these addresses until ctx ends. It stands for machines elsewhere, but
// does not run behind everything else: it would send what it could not send for a while all at once, as no 50 machines do.
func (s *siege) flood(ctx, inside context.Context, seed uint64, addresses []string) error {
	c, err := child.Start(inside, "flood")
	if err != nil {
		return fmt.Errorf("start the floods: %w", err)
	}
	defer c.Stop()
	told := flooding{Gateway: hostPort(s.gateways[0]), Room: s.room, Addresses: addresses, Seed: seed}
	if s.performance != "" {
		told.Holds = eventsPath + s.event.Slug + "/performances/" + s.performance + "/holds"
	}
	first, err := json.Marshal(told)
	if err != nil {
		return err
	}
	if err := c.Say(string(first)); err != nil {
		return fmt.Errorf("tell the floods: %w", err)
	}
	defer context.AfterFunc(ctx, c.Close)()
	rng := rand.New(rand.NewPCG(seed, 2))
	for {
		line, err := c.Hear()
		if err != nil {
			return fmt.Errorf("hear of the floods: %w", err)
		}
		var said flooded
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			return fmt.Errorf("hear of the floods: %w", err)
		}
		if said.Token != "" {
			s.settle(ctx, inside, rng, &net.TCPAddr{IP: net.ParseIP(said.Address)}, said.Token, nil)
			continue
		}
		s.mu.Lock()
		s.seen.Sent, s.seen.Flooded, s.seen.Late, s.seen.Answers = said.Sent, seconds(said.Seconds), time.Duration(said.LateMS)*time.Millisecond, said.Answers
		s.mu.Unlock()
		return nil
	}
}

// settle lets a bot use a place that it got as a fan would: it waits until ctx ends, claims, and buys. claimed, if any,
// is called before it buys.
func (s *siege) settle(ctx, inside context.Context, rng *rand.Rand, address net.Addr, token string, claimed func(v *visit)) {
	s.mu.Lock()
	bot := &Fan{ID: -1 - len(s.bots), Part: Bot, Joined: true}
	s.bots = append(s.bots, bot)
	s.mu.Unlock()
	c := newClient(s.gateways, address, true, s.retries)
	c.token = token
	v := &visit{rehearsal: s.rehearsal, fan: bot, c: c, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)), path: "/api/v1/rooms/" + s.room}
	s.lives.Go(func() {
		defer c.http.CloseIdleConnections()
		v.fan.Outcome = Gone // unless it buys: what becomes of a bot is nobody's loss
		var p placeDoc
		if _, _, err := c.insist(ctx, http.MethodGet, v.path+"/place", nil, &p); err != nil {
			return
		}
		bot.Epoch, bot.Number, bot.Commitment = p.Epoch, p.Number, p.Commitment
		v.see(p, 0)
		if v.wait(ctx) != nil {
			return
		}
		if claimed != nil {
			claimed(v)
		}
		if s.event == nil {
			return
		}
		if v.shop(inside) != nil {
			v.fan.Outcome = Gone
		}
	})
}

// script is a headless program that wants many places, one at a time, each with fresh cookies.
func (s *siege) script(ctx, inside context.Context, rng *rand.Rand, address net.Addr, solves bool) {
	for places := 0; places < scriptPlaces && ctx.Err() == nil; {
		s.mu.Lock()
		s.seen.Tried++
		s.mu.Unlock()
		token, proof, err := s.enter(ctx, address, "")
		if err == nil && token == "" && solves {
			var answer string
			if answer, err = s.computing.solve(ctx, proof); err == nil {
				token, _, err = s.enter(ctx, address, answer)
			}
		}
		if token != "" {
			places++
			s.settle(ctx, inside, rng, address, token, nil)
			continue
		}
		wait := 100 * time.Millisecond
		if r, ok := asRefusal(err); ok {
			wait = max(wait, min(r.retryAfter, time.Second))
		}
		pause(ctx, wait)
	}
}

// enter asks for a place with fresh cookies. Where a proof is wanted it returns the challenge instead.
func (s *siege) enter(ctx context.Context, address net.Addr, answer string) (token string, proof json.RawMessage, err error) {
	c := newClient(s.gateways, address, true, s.retries)
	defer c.http.CloseIdleConnections()
	var body any
	if answer != "" {
		body = map[string]any{"challenge": answer}
	}
	var p placeDoc
	_, _, err = c.call(ctx, http.MethodPost, "/api/v1/rooms/"+s.room+"/places", body, &p)
	if r, ok := asRefusal(err); ok && r.Code == "challenge-required" {
		return "", r.Challenge, nil
	}
	return p.Token, nil, err
}

// replay pays for one place, and tries to make more of it: the same proof again, and the same place from elsewhere.
func (s *siege) replay(ctx, inside context.Context, rng *rand.Rand, address net.Addr) {
	_, proof, err := s.enter(ctx, address, "")
	if err != nil || proof == nil {
		return
	}
	answer, err := s.computing.solve(ctx, proof)
	if err != nil {
		return
	}
	tokens := make(chan string, replays)
	var all sync.WaitGroup
	for range replays {
		all.Go(func() {
			token, _, _ := s.enter(ctx, address, answer)
			tokens <- token
		})
	}
	all.Wait()
	close(tokens)
	var got []string
	for token := range tokens {
		if token != "" {
			got = append(got, token)
		}
	}
	s.mu.Lock()
	s.seen.Replayed += replays - 1
	s.seen.Gained += max(0, len(got)-1)
	s.mu.Unlock()
	for _, token := range got {
		s.settle(ctx, inside, rng, address, token, func(v *visit) { s.claimElsewhere(inside, v) })
	}
}

// claimElsewhere claims with a copy of a bot's place from other addresses. checkSessions judges what came of it.
func (s *siege) claimElsewhere(ctx context.Context, v *visit) {
	for i := range replays {
		c := newClient(s.gateways, s.address(1<<22+i), true, s.retries)
		c.token = v.c.token
		var p passDoc
		t, _, err := c.call(ctx, http.MethodPost, v.path+"/pass", nil, &p)
		c.http.CloseIdleConnections()
		s.mu.Lock()
		s.seen.Replayed++
		s.mu.Unlock()
		if err != nil {
			continue
		}
		if claim, err := v.keys.read(p.Pass); err == nil {
			claim.Timing = t
			v.fan.Claims = append(v.fan.Claims, claim)
		}
	}
}

// hostPort is where a gateway listens.
func hostPort(gateway *url.URL) string {
	return net.JoinHostPort(gateway.Hostname(), cmp.Or(gateway.Port(), "80"))
}
