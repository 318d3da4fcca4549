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
			presence: seconds("presence", 2, 4, 20), phonePresence: seconds("phones' presence", 1, 10, 60), pending: [2]map[int]bool{{}, {}}, phones: [2]map[int]bool{{}, {}},
		}
		// durable lets do wait for the ceiling of a new epoch.
		durable := func(do func() error) {
			done := make(chan error, 1)
			go func() { done <- do() }()
			for {
				select {
				case err := <-done:
					if err != nil {
						r.Fatal(err)
					}
					return
				case <-time.After(time.Millisecond):
					epoch, _ := rdb.HGet(ctx, keyOf(name, "state"), "epoch").Result()
					if err := durableScript.Run(ctx, rdb, keysOf(name), "0", epoch, 1<<20, "").Err(); err != nil {
						r.Fatal(err)
					}
				}
			}
		}
		ownPhonePresence := int(m.phonePresence / 1000)
		m.phonePresence = max(m.phonePresence, m.presence)
		durable(func() error {
			_, _, err := hall.Configure(ctx, name, Patch{
				PhonePresenceTTL: opt(ownPhonePresence),
				PacePerMin:       opt(int(m.pace)), Capacity: opt(int(m.capacity)), SessionTTL: opt(int(m.ttl / 1000)), CallTTL: opt(int(m.callTTL / 1000)),
				ReturnWindow: opt(int(m.window / 1000)), PresenceTTL: opt(int(m.presence / 1000)),
			}, Actor{})
			return err
		})
		first, ok := hall.Line(name)
		if !ok {
			r.Fatal("no line")
		}
		lines := [2]*Line{first, newLine(cfg, name)}
		m.tick(0, 0) // the room has ticked while it was made
		// Of all places, of those that another device has taken over, and of all in m.past.
		var tokens, taken, over []Token
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
		join := func(g int) {
			tok, err := lines[g].Join(ctx)
			if err != nil {
				r.Fatal(err)
			}
			if tok.Number != uint64(len(tokens)) {
				r.Fatalf("number %d after %d places", tok.Number, len(tokens))
			}
			m.turn()
			tok.Phone = rapid.Bool().Draw(r, "phone")
			p := &modelPlace{state: "waiting", counted: true, phone: tok.Phone, heldBy: -9}
			m.mark(p)
			m.places = append(m.places, p)
			tokens = append(tokens, tok)
		}
		// ended tells that a gateway gives nothing for a place of an epoch before.
		ended := func(g int, tok Token) {
			_, claimed := lines[g].Claim(ctx, tok)
			_, extended := lines[g].Extend(ctx, tok)
			left := lines[g].Leave(ctx, tok)
			if !errors.Is(claimed, ErrLapsed) || !errors.Is(extended, ErrLapsed) || left != nil {
				r.Fatalf("place %d of an epoch before: claim %v, extend %v, leave %v", tok.Number, claimed, extended, left)
			}
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
					if m.soldOut && !m.bypass {
						if _, err := lines[g].Join(ctx); !errors.Is(err, ErrClosed) {
							r.Fatalf("join a room that is sold out: %v", err)
						}
						m.turn()
						continue
					}
					join(g)
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
						m.seen(g, i)
					}
				}
				tick(g)
				tick(1 - g)
			},
			"move": func(r *rapid.T) {
				g, i := gateway(), one()
				code, _, err := lines[g].ResumeCode(ctx, tokens[i])
				if err != nil {
					r.Fatal(err)
				}
				want := m.move(i)
				fresh, err := lines[1-g].Resume(ctx, code)
				if !errors.Is(err, want) {
					r.Fatalf("move %d: %v, the model says %v", i, err, want)
				}
				if err == nil {
					taken = append(taken, tokens[i])
					tokens[i] = fresh
				}
				if _, err := lines[g].Resume(ctx, code); err == nil {
					r.Fatalf("place %d was moved twice by one code", i)
				}
				m.turn()
				tick(0)
				tick(1)
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
				m.seen(g, i)
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
					m.seen(g, i)
				}
			},
			"release": func(r *rapid.T) {
				all, places := slices.Concat(over, tokens), slices.Concat(m.past, m.places)
				if len(all) == 0 {
					r.Skip("nobody yet")
				}
				i := rapid.IntRange(0, len(all)-1).Draw(r, "session")
				if err := lines[gateway()].Release(ctx, ring.SessionID(name, all[i].Epoch, all[i].Number)); err != nil {
					r.Fatal(err)
				}
				if places[i].state == "admitted" {
					places[i].state = "lapsed"
				}
			},
			"reset": func(r *rapid.T) {
				if len(tokens) < 4 {
					r.Skip("nothing to end")
				}
				before := first.View().epoch
				code, _, err := lines[1].ResumeCode(ctx, tokens[0])
				if err != nil {
					r.Fatal(err)
				}
				durable(func() error {
					_, err := hall.Reset(ctx, name, Actor{})
					return err
				})
				m.reset()
				m.tick(0, 0)
				if epoch := first.View().epoch; epoch <= before {
					r.Fatalf("epoch %s follows %s", epoch, before)
				}
				// The other gateway has not heard of it yet.
				for _, tok := range tokens {
					ended(1, tok)
				}
				if _, err := lines[1].Resume(ctx, code); !errors.Is(err, ErrLapsed) {
					r.Fatalf("a code of an epoch before: %v", err)
				}
				for _, tok := range taken {
					ended(0, tok)
				}
				over, tokens, taken = append(over, tokens...), nil, nil
				if rapid.Bool().Draw(r, "it hears by a join") {
					join(1)
				}
				tick(1)
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
			"stock": func(r *rapid.T) {
				word := rapid.SampledFrom([]string{"0", "0", "1"}).Draw(r, "sold out")
				news, err := stockScript.Run(ctx, rdb, keysOf(name), first.now(), word).Int()
				if err != nil || (news == 1) != (m.soldOut != (word == "1")) {
					r.Fatalf("sold out %s, %v before: %d %v", word, m.soldOut, news, err)
				}
				if news == 1 {
					m.turn()
				}
				m.soldOut = word == "1"
				tick(0)
				tick(1)
			},
			"admit": func(r *rapid.T) {
				n := rapid.IntRange(1, 5).Draw(r, "count")
				if m.soldOut && !m.bypass {
					if _, err := hall.Admit(ctx, name, n, Actor{}); err == nil {
						r.Fatal("an operator admits into a room that is sold out")
					}
					return
				}
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
				want := []int{m.frontier, 0, m.count("called"), m.sessions(), m.called, m.admitted, m.count("missed", "absent"), m.lapsed, m.left}
				for i, p := range m.places {
					if p.state == "returning" || i >= m.frontier && p.state == "waiting" {
						want[1]++
					}
				}
				if !slices.Equal(figures, want) {
					r.Fatalf("frontier, waiting, called, sessions, totals called and admitted, missed, lapsed, left: %v, the model says %v", figures, want)
				}
				for i, tok := range over {
					p, _, err := lines[i%2].Place(ctx, tok)
					back, err2 := lines[i%2].Return(ctx, tok)
					if err := errors.Join(err, err2); err != nil || p.State != Lapsed || p.Rank != nil || back.State != Lapsed {
						r.Fatalf("place %d of an epoch before: %s with rank %v, %s after a return, %v", tok.Number, p.State, p.Rank, back.State, err)
					}
					ended(i%2, tok)
				}
				for i, tok := range taken {
					p, _, err := lines[i%2].Place(ctx, tok)
					_, claimed := lines[i%2].Claim(ctx, tok)
					left := lines[i%2].Leave(ctx, tok)
					if err != nil || p.State != Moved || !errors.Is(claimed, ErrMoved) || !errors.Is(left, ErrMoved) {
						r.Fatalf("place %d is another's: %s %v, claim %v, leave %v", tok.Number, p.State, err, claimed, left)
					}
				}
				for i, tok := range tokens {
					g := i % 2
					p, _, err := lines[g].Place(ctx, tok)
					if err != nil {
						r.Fatal(err)
					}
					m.seen(g, i)
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
