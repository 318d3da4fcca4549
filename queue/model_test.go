package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
)

// model is the room told plainly: a slice of places, walked from end to end. Two real
// gateways on a real Redis must always say the same.
type model struct {
	now, time, clock, ptime, slotEnds int64
	slot                              int
	phoneSlot                         int
	phoneEnds, phonePresence          int64
	bucket, credit                    int64
	pace, capacity                    int64
	ttl, callTTL, window, presence    int64
	paused, bypass                    bool
	frontier                          int
	places                            []*modelPlace
	called, admitted, lapsed, left    int
	pending                           [2]map[int]bool
}

type modelPlace struct {
	state    string // waiting, called, admitted, missed, absent, returning, lapsed, left
	till     int64  // room time for admitted, else clock
	once     bool
	recalled bool
	extended bool
	live     bool
	counted  bool
	marked   int // slot
	phone    bool
	heldBy   int // phone slot
	taken    bool
}

func (m *model) open() bool { return !m.paused && !m.bypass }

func (m *model) turn() {
	dt := min(m.now-m.time, 5000)
	m.ptime += dt
	if !m.paused {
		m.clock += dt
	}
	if m.open() {
		m.bucket = min(m.bucket+dt*m.pace, max(60_000, m.pace*1000))
	}
	m.time = m.now
}

func (m *model) expire() {
	for _, p := range m.places {
		if p.state == "called" && p.till <= m.clock {
			if p.recalled {
				p.state = "lapsed"
				m.lapsed++
			} else {
				p.state, p.till = "missed", p.till+m.window
			}
		}
	}
	for _, p := range m.places {
		if (p.state == "missed" || p.state == "absent") && p.till <= m.clock {
			p.state = "lapsed"
			m.lapsed++
		}
		if p.state == "admitted" && p.till <= m.now {
			p.state = "lapsed" // its session is over; no figure counts it
		}
	}
}

func (m *model) count(states ...string) (n int) {
	for _, p := range m.places {
		if slices.Contains(states, p.state) {
			n++
		}
	}
	return n
}

func (m *model) mark(p *modelPlace) { p.live, p.marked = true, m.slot }

// tick is advance.lua after the marks of one gateway.
func (m *model) tick(gateway int, admit int) (made int) {
	for i := range m.pending[gateway] {
		if m.places[i].state != "left" && !m.places[i].taken {
			m.mark(m.places[i])
			if m.places[i].phone && m.phonePresence > m.presence {
				m.places[i].heldBy = m.phoneSlot
			}
		}
	}
	clear(m.pending[gateway])
	m.turn()
	m.expire()
	if m.ptime >= m.slotEnds {
		length := max(1, m.presence/2)
		m.slot += int(min(3, 1+(m.ptime-m.slotEnds)/length))
		m.slotEnds = m.ptime + length
		if m.ptime >= m.phoneEnds {
			m.phoneSlot += int(min(2, 1+(m.ptime-m.phoneEnds)/m.phonePresence))
			m.phoneEnds = m.ptime + m.phonePresence
		}
		for _, p := range m.places {
			p.live = p.live && (p.marked >= m.slot-2 || p.heldBy >= m.phoneSlot-1)
			p.counted = p.counted && p.live
		}
	}
	if !m.open() && !(m.paused && admit > 0) {
		return 0
	}
	room := int(m.capacity) - m.count("admitted", "called")
	paced := 0
	if m.open() && m.pace > 0 {
		paced = max(0, min(int(m.bucket/60_000), room))
	}
	want := paced + max(0, min(admit, room-paced))
	if want == 0 {
		return 0
	}
	back := m.recall(min(want, (int(m.credit)+want)/4))
	others := m.callNext(want - back)
	m.credit = min(3, m.credit+int64(others-3*back))
	if back+others < want {
		back += m.recall(want - back - others)
		m.credit = 0
	}
	m.credit = max(0, m.credit)
	made = back + others
	m.called += made
	m.bucket -= 60_000 * int64(min(made, paced))
	return made
}

func (m *model) recall(n int) (made int) {
	for _, p := range m.places {
		if made >= n {
			break
		}
		if p.state != "returning" {
			continue
		}
		if p.live {
			p.state, p.till, p.recalled, p.extended = "called", m.clock+m.callTTL, true, false
			made++
		} else {
			p.state = "lapsed"
			m.lapsed++
		}
	}
	return made
}

func (m *model) callNext(n int) (made int) {
	last := -1
	for i := m.frontier; i < len(m.places) && made < n; i++ {
		if p := m.places[i]; p.live && p.state == "waiting" {
			made, last = made+1, i
		}
	}
	for i := m.frontier; i <= last; i++ {
		p := m.places[i]
		switch {
		case p.state != "waiting":
		case p.live:
			p.state, p.till = "called", m.clock+m.callTTL
		default:
			p.state, p.till = "absent", m.clock+m.window
		}
	}
	m.frontier = max(m.frontier, last+1)
	return made
}

// backFrom brings a missed place back if it may.
func (m *model) backFrom(i int, states ...string) {
	if p := m.places[i]; slices.Contains(states, p.state) && !p.once {
		p.state, p.once = "returning", true
		m.mark(p)
	}
}

// look is what places.lua does to a place that the View cannot answer.
func (m *model) look(i int) {
	if i < m.frontier || m.bypass {
		m.turn()
		m.expire()
		m.backFrom(i, "absent")
	}
}

func (m *model) claim(i int) error {
	m.turn()
	m.expire()
	p := m.places[i]
	switch {
	case p.state == "admitted":
		return nil
	case p.state == "lapsed" || p.state == "left":
		return ErrLapsed
	case p.state != "called" && !m.bypass:
		return ErrNotCalled
	}
	if p.state == "waiting" {
		p.counted, p.live, p.taken = false, false, true
	}
	p.state, p.till = "admitted", m.now+m.ttl
	m.admitted++
	return nil
}

func (m *model) extend(i int) error {
	m.turn()
	m.expire()
	p := m.places[i]
	switch {
	case p.state == "lapsed" || p.state == "left":
		return ErrLapsed
	case p.state != "called":
		return ErrNotCalled
	case p.extended:
		return ErrExtended
	}
	p.extended = true
	p.till += m.callTTL
	return nil
}

func (m *model) leave(i int) {
	m.turn()
	m.expire()
	p := m.places[i]
	if p.state == "admitted" || p.state == "lapsed" || p.state == "left" {
		return
	}
	p.state, p.live, p.counted, p.marked, p.heldBy = "left", false, false, -9, -9
	m.left++
}

// says is what a visitor is told.
func (m *model) says(i int) (State, int) {
	p := m.places[i]
	switch p.state {
	case "admitted":
		return Admitted, 0
	case "lapsed":
		return Lapsed, 0
	case "left":
		return Left, 0
	}
	if m.bypass {
		return Called, 0
	}
	switch p.state {
	case "called":
		return Called, 0
	case "missed", "absent":
		return Missed, 0
	case "returning":
		return Waiting, 1
	}
	ahead := 0
	for _, q := range m.places[m.frontier:i] {
		if q.counted {
			ahead++
		}
	}
	return Waiting, ahead + 1
}

// TestRoomAgainstAPlainModel drives two gateways on a real Redis and the model through
// the same random story and compares every answer.
func TestRoomAgainstAPlainModel(t *testing.T) {
	t.Parallel()
	rdb, ring := devtest.Redis(t), keyring.Generate(start)
	ctx := context.Background()
	if err := rdb.Set(ctx, recordedKey, 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	stories := 0
	rapid.Check(t, func(r *rapid.T) {
		stories++
		name := fmt.Sprintf("room-%d", stories)
		clock := &atomic.Int64{}
		clock.Store(start.UnixMilli())
		cfg := Config{Redis: rdb, Ring: ring, Log: quietLog(), clock: clock.Load}
		hall, err := NewHall(cfg)
		if err != nil {
			r.Fatal(err)
		}
		seconds := func(what string, values ...int64) int64 { return 1000 * rapid.SampledFrom(values).Draw(r, what) }
		m := &model{
			now: start.UnixMilli(), time: start.UnixMilli(), bucket: 60_000,
			pace: rapid.SampledFrom([]int64{0, 20, 60, 600}).Draw(r, "pace"), capacity: rapid.Int64Range(0, 8).Draw(r, "capacity"),
			ttl: seconds("session ttl", 3, 20, 60), callTTL: seconds("call ttl", 2, 5, 30), window: seconds("window", 0, 4, 20),
			presence: seconds("presence", 2, 4, 20), phonePresence: seconds("phones' presence", 1, 10, 60), pending: [2]map[int]bool{{}, {}},
		}
		made := make(chan error, 1)
		ownPhonePresence := int(m.phonePresence / 1000)
		m.phonePresence = max(m.phonePresence, m.presence)
		go func() {
			_, _, err := hall.Configure(ctx, name, Patch{
				PhonePresenceTTL: opt(ownPhonePresence),
				PacePerMin:       opt(int(m.pace)), Capacity: opt(int(m.capacity)), SessionTTL: opt(int(m.ttl / 1000)), CallTTL: opt(int(m.callTTL / 1000)),
				ReturnWindow: opt(int(m.window / 1000)), PresenceTTL: opt(int(m.presence / 1000)),
			}, Actor{})
			made <- err
		}()
		for waiting := true; waiting; {
			select {
			case err := <-made:
				if err != nil {
					r.Fatal(err)
				}
				waiting = false
			case <-time.After(time.Millisecond):
				epoch, _ := rdb.HGet(ctx, keyOf(name, "state"), "epoch").Result()
				if err := durableScript.Run(ctx, rdb, keysOf(name), "0", epoch, 1<<20, "").Err(); err != nil {
					r.Fatal(err)
				}
			}
		}
		first, ok := hall.Line(name)
		if !ok {
			r.Fatal("no line")
		}
		lines := [2]*Line{first, newLine(cfg, name)}
		m.tick(0, 0) // the room has ticked while it was made
		var tokens []Token
		tick := func(g int) {
			if err := lines[g].tick(ctx); err != nil {
				r.Fatal(err)
			}
			m.tick(g, 0)
		}
		tick(0)
		tick(1)
		gateway := func() int { return rapid.IntRange(0, 1).Draw(r, "gateway") }
		one := func() int {
			if len(tokens) == 0 {
				r.Skip("nobody yet")
			}
			return rapid.IntRange(0, len(tokens)-1).Draw(r, "place")
		}
		configure := func(p Patch, change func()) {
			m.turn()
			change()
			if _, _, err := hall.Configure(ctx, name, p, Actor{}); err != nil {
				r.Fatal(err)
			}
			m.tick(0, 0)
			tick(1)
		}
		r.Repeat(map[string]func(*rapid.T){
			"join": func(r *rapid.T) {
				g := gateway()
				for range rapid.IntRange(1, 6).Draw(r, "joins") {
					tok, err := lines[g].Join(ctx)
					if err != nil {
						r.Fatal(err)
					}
					m.turn()
					tok.Phone = rapid.Bool().Draw(r, "phone")
					p := &modelPlace{state: "waiting", counted: true, phone: tok.Phone, heldBy: -9}
					m.mark(p)
					m.places = append(m.places, p)
					tokens = append(tokens, tok)
				}
			},
			"pass": func(r *rapid.T) {
				d := rapid.SampledFrom([]int64{1, 100, 250, 1000, 2500, 5000, 20_000}).Draw(r, "ms")
				clock.Add(d)
				m.now += d
				g := gateway()
				tick(g)
				tick(1 - g)
			},
			"seen": func(r *rapid.T) {
				g := gateway()
				odd := rapid.IntRange(0, 2).Draw(r, "who")
				for i, tok := range tokens {
					if i%3 != odd {
						lines[g].Seen(tok)
						m.pending[g][i] = true
					}
				}
				tick(g)
				tick(1 - g)
			},
			"leave": func(r *rapid.T) {
				g, i := gateway(), one()
				if err := lines[g].Leave(ctx, tokens[i]); err != nil {
					r.Fatal(err)
				}
				m.leave(i)
			},
			"claim": func(r *rapid.T) {
				g, i := gateway(), one()
				want := m.claim(i)
				s, err := lines[g].Claim(ctx, tokens[i])
				if !errors.Is(err, want) {
					r.Fatalf("claim %d: %v, the model says %v", i, err, want)
				}
				if err == nil && s.Expires.UnixMilli() != m.places[i].till {
					r.Fatalf("claim %d: until %v, the model says %d", i, s.Expires, m.places[i].till)
				}
			},
			"return": func(r *rapid.T) {
				g, i := gateway(), one()
				m.turn()
				m.expire()
				m.backFrom(i, "missed", "absent")
				if _, err := lines[g].Return(ctx, tokens[i]); err != nil {
					r.Fatal(err)
				}
				m.pending[g][i] = true
				m.look(i)
			},
			"extend": func(r *rapid.T) {
				g, i := gateway(), one()
				want := m.extend(i)
				_, err := lines[g].Extend(ctx, tokens[i])
				if !errors.Is(err, want) {
					r.Fatalf("extend %d: %v, the model says %v", i, err, want)
				}
				if err == nil {
					m.pending[g][i] = true
				}
			},
			"release": func(r *rapid.T) {
				i := one()
				if err := lines[gateway()].Release(ctx, ring.SessionID(name, tokens[i].Epoch, tokens[i].Number)); err != nil {
					r.Fatal(err)
				}
				if m.places[i].state == "admitted" {
					m.places[i].state = "lapsed"
				}
			},
			"pace": func(r *rapid.T) {
				pace := rapid.SampledFrom([]int64{0, 30, 120, 3000}).Draw(r, "pace")
				configure(Patch{PacePerMin: opt(int(pace))}, func() { m.pace = pace })
			},
			"capacity": func(r *rapid.T) {
				capacity := rapid.Int64Range(0, 12).Draw(r, "capacity")
				configure(Patch{Capacity: opt(int(capacity))}, func() { m.capacity = capacity })
			},
			"state": func(r *rapid.T) {
				mode := rapid.SampledFrom([]Mode{ModeAuto, ModeAuto, ModePaused, ModeBypass}).Draw(r, "mode")
				configure(Patch{State: opt(mode)}, func() { m.paused, m.bypass = mode == ModePaused, mode == ModeBypass })
			},
			"admit": func(r *rapid.T) {
				n := rapid.IntRange(1, 5).Draw(r, "count")
				want := m.tick(0, n)
				got, err := hall.Admit(ctx, name, n, Actor{})
				if err != nil || got != want {
					r.Fatalf("admit %d: %d %v, the model says %d", n, got, err, want)
				}
			},
			"": func(r *rapid.T) {
				tick(0)
				tick(1)
				v := lines[1].View()
				figures := []int{int(v.frontier), int(v.waiting), int(v.called), int(v.sessions), int(v.calledTotal), int(v.admittedTotal), int(v.missed), int(v.lapsedTotal), int(v.leftTotal)}
				want := []int{m.frontier, 0, m.count("called"), m.count("admitted"), m.called, m.admitted, m.count("missed", "absent"), m.lapsed, m.left}
				for i, p := range m.places {
					if p.state == "returning" || i >= m.frontier && p.state == "waiting" {
						want[1]++
					}
				}
				if !slices.Equal(figures, want) {
					r.Fatalf("frontier, waiting, called, sessions, totals called and admitted, missed, lapsed, left: %v, the model says %v", figures, want)
				}
				for i, tok := range tokens {
					g := i % 2
					p, _, err := lines[g].Place(ctx, tok)
					if err != nil {
						r.Fatal(err)
					}
					m.pending[g][i] = true
					m.look(i)
					state, position := m.says(i)
					got := 0
					if p.Position != nil {
						got = int(*p.Position)
					}
					if p.State != state || got != position {
						r.Fatalf("place %d: %s at %d, the model says %s at %d", i, p.State, got, state, position)
					}
				}
			},
		})
	})
}
