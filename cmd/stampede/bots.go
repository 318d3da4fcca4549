package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Beside every 2,000 fans, at least one of each.
const (
	floodersPer = 40  // fans for one address that sends floodRate requests a second, with fresh cookies each
	scriptsPer  = 100 // fans for one headless script that wants scriptPlaces places; every other one solves challenges
	replayerPer = 400 // fans for one that has a place of its own and sends its proof and its token again and again

	floodRate     = 200
	botProcessors = 2 // on which all bots compute together
	scriptPlaces  = 500
	replays       = 20

	saleOver = 0.95 // of the fans have gone: what bots do then is nobody's harm

	quietPer  = 5 // fans for one honest join before the bots come, to compare with
	campusPer = 7 // fans for one who comes before them from a single address, with all the others of a campus
)

// A Siege is what the bots did, what it brought them, and what was seen before they came.
type Siege struct {
	Flooders, Scripts, Replayers int
	Sent                         int             // requests of the flooders
	Answers                      map[string]int  // to them, by status and code
	Tried                        int             // places that scripts asked for
	Replayed                     int             // proofs and places sent again
	Gained                       int             // places that a proof already spent brought
	Quiet                        []time.Duration // joins before the bots came: what the gateway took to answer
	Campus, CampusIn             int             // how many came from one address, and how many of them had a place
	HonestRefusals               map[string]int  // 429s and 5xxs that fans met, by status
}

// A siege is a Siege under way.
type siege struct {
	*rehearsal
	performance string // "" where nothing is sold
	retries     *tally // the bots' own
	provers     chan *prover

	mu    sync.Mutex // guards the rest
	seen  Siege
	bots  []*Fan
	lives sync.WaitGroup // of the places that bots got
}

func newSiege(r *rehearsal, fans int) *siege {
	s := &siege{rehearsal: r, retries: &tally{n: map[string]int{}}, provers: make(chan *prover, botProcessors), seen: Siege{
		Flooders: max(1, fans/floodersPer), Scripts: max(2, fans/scriptsPer), Replayers: max(1, fans/replayerPer), Answers: map[string]int{},
	}}
	if len(r.performances) > 0 {
		s.performance = r.performances[0]
	}
	return s
}

// before plays what honest fans meet while there is no bot: a campus behind one address, with the room as it is by
// itself, and joins to compare with, in the room as it is guarded. They give their places back.
func (s *siege) before(ctx context.Context, o options) error {
	if err := s.guard(ctx, "auto"); err != nil {
		return err
	}
	one := s.address(o.Fans)
	s.seen.Campus = max(2, o.Fans/campusPer)
	s.meanwhile(ctx, s.seen.Campus, 10*time.Second, one, func(took time.Duration, err error) {
		if err == nil {
			s.seen.CampusIn++
		}
	})
	if err := s.guard(ctx, "always"); err != nil {
		return err
	}
	n := max(10, o.Fans/quietPer)
	s.meanwhile(ctx, n, o.Arrive*time.Duration(n)/time.Duration(o.Fans), nil, func(took time.Duration, err error) {
		if err == nil {
			s.seen.Quiet = append(s.seen.Quiet, took)
		}
	})
	return ctx.Err()
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

// meanwhile lets n fans join over a time and leave again; from is their common address, or nil for one each. done is
// called for one at a time.
func (s *siege) meanwhile(ctx context.Context, n int, over time.Duration, from net.Addr, done func(took time.Duration, err error)) {
	var fans sync.WaitGroup
	for i := range n {
		address := from
		if address == nil {
			address = s.address(1<<20 + i)
		}
		fans.Go(func() {
			if !pause(ctx, over*time.Duration(i)/time.Duration(n)) {
				return
			}
			c := newClient(s.gateways, address, false, s.rehearsal.retries)
			defer c.http.CloseIdleConnections()
			v := &visit{rehearsal: s.rehearsal, fan: &Fan{ID: -1}, c: c, path: "/api/v1/rooms/" + s.room}
			err := v.join(ctx)
			if err == nil {
				_, _, err = c.insist(ctx, http.MethodDelete, v.path+"/place", nil, nil)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			done(v.fan.Join.Took, err)
		})
	}
	fans.Wait()
}

// run plays all bots until ctx ends, and what their places bring them until inside ends.
func (s *siege) run(ctx, inside context.Context, seed uint64) error {
	computing, stop := context.WithCancel(ctx)
	defer stop()
	for range botProcessors {
		p, err := startProver(computing)
		if err != nil {
			return fmt.Errorf("start a prover: %w", err)
		}
		defer p.stop()
		s.provers <- p
	}
	var all sync.WaitGroup
	next := 1 << 21
	each := func(n int, play func(rng *rand.Rand, address net.Addr, i int)) {
		for i := range n {
			address, rng := s.address(next), rand.New(rand.NewPCG(seed, uint64(next)))
			next++
			all.Go(func() { play(rng, address, i) })
		}
	}
	each(s.seen.Flooders, func(rng *rand.Rand, address net.Addr, _ int) { s.flood(ctx, inside, rng, address) })
	each(s.seen.Scripts, func(rng *rand.Rand, address net.Addr, i int) { s.script(ctx, inside, rng, address, i%2 == 0) })
	each(s.seen.Replayers, func(rng *rand.Rand, address net.Addr, _ int) { s.replay(ctx, inside, rng, address) })
	all.Wait()
	s.lives.Wait()
	return nil
}

// flood sends floodRate requests a second over one connection, with fresh cookies each, and reads the answers. Where the
// gateway is slower than that it does not catch up.
func (s *siege) flood(ctx, inside context.Context, rng *rand.Rand, address net.Addr) {
	const burst = 2
	every := time.Second * burst / floodRate
	if !pause(ctx, rand.N(every)) { // bots keep no common beat
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var conn net.Conn
	var answers *bufio.Reader
	stop := func() bool { return true }
	hangUp := func() {
		if stop(); conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer hangUp()
	for n := 0; ; {
		for range burst {
			if conn == nil {
				d := net.Dialer{LocalAddr: address, Timeout: requestTimeout}
				made, err := d.DialContext(ctx, "tcp4", hostPort(s.gateways[0]))
				if err != nil {
					s.answered("no connection")
					break
				}
				conn, stop = made, context.AfterFunc(ctx, func() { made.Close() })
				answers = bufio.NewReaderSize(conn, 4096)
			}
			n++
			word, token, keep := s.knock(conn, answers, s.request(rng, n))
			if ctx.Err() != nil {
				return
			}
			s.answered(word)
			if token != "" {
				s.settle(ctx, inside, rng, address, token, nil)
			}
			if !keep {
				hangUp()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// request is one of what bots send: half of them joins, the rest forged places and passes.
func (s *siege) request(rng *rand.Rand, n int) string {
	room, forged := s.room, fmt.Sprintf("%016x%016x", rng.Uint64(), rng.Uint64())
	method, path, body := http.MethodPost, "/api/v1/rooms/"+room+"/places", "{}"
	switch n % 4 {
	case 1:
		method, path, body = http.MethodGet, "/api/v1/rooms/"+room+"/place", ""
	case 3:
		if s.performance != "" {
			path, body = eventsPath+s.event.Slug+"/performances/"+s.performance+"/holds", `{"best":{"quantity":2,"adjacent":true}}`
		}
	}
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nCookie: usher-place-%s=%s; usher-pass-%s=%s; usher-check=%s\r\n\r\n%s",
		method, path, s.gateways[0].Host, len(body), room, forged, room, forged, forged, body)
}

// knock sends one request and returns a word for the answer, the place that it brought, and whether the connection
// lasts.
func (s *siege) knock(conn net.Conn, answers *bufio.Reader, request string) (word, token string, keep bool) {
	if _, err := io.WriteString(conn, request); err != nil {
		return "connection lost", "", false
	}
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		return "connection lost", "", false
	}
	defer answer.Body.Close()
	word = fmt.Sprint(answer.StatusCode)
	if answer.StatusCode != http.StatusCreated {
		_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer))
		return word, "", err == nil && !answer.Close
	}
	var p placeDoc
	err = json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&p)
	return word, p.Token, err == nil && !answer.Close
}

func (s *siege) answered(word string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Sent++
	s.seen.Answers[word]++
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

// compute solves a challenge for a bot, once a prover is free.
func (s *siege) compute(ctx context.Context, challenge json.RawMessage) (string, error) {
	select {
	case p := <-s.provers:
		answer, err := p.solve(challenge)
		s.provers <- p
		return answer, err
	case <-ctx.Done():
		return "", ctx.Err()
	}
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
			if answer, err = s.compute(ctx, proof); err == nil {
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
	answer, err := s.compute(ctx, proof)
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
