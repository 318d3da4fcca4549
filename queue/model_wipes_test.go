package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
)

// sale is the room as its fans know it: what each was told, and so what may be told no more.
// Two gateways and a Recorder keep the room; Redis is wiped at any moment.
type sale struct {
	*rapid.T
	ctx      context.Context
	rdb      redis.UniversalClient
	clock    *atomic.Int64
	halls    [2]*Hall
	lines    [2]*Line
	record   *Recorder
	epoch    string
	fans     []*told
	over     []*told // of epochs before
	given    int64   // greatest number
	frontier uint64
	presence time.Duration
	looks    int
}

// told is what one fan was told.
type told struct {
	token    Token
	taken    []Token // on the devices before
	rank     *uint64
	position uint64
	progress float64
	session  *Session
	// back tells that it was called or passed before, and came back: the next time is the last.
	back bool
	left bool
	// steady fans look all the time; others come and go.
	steady bool
}

const (
	maxFans    = 20
	maxStories = 30
)

// TestRoomKeepsItsPromisesThroughWipes tells random stories of two gateways and a Redis that
// is emptied now and then, and holds what was said against what is said: no number twice,
// no position or progress or frontier that goes back, no rank changed, nobody's place or
// session lost, no place admitted twice, the capacity kept. An operator may reset the room at
// any moment: then these places are over, for good, and only sessions go on. In the end all
// get in.
func TestRoomKeepsItsPromisesThroughWipes(t *testing.T) {
	t.Parallel()
	rdb, ring := devtest.Redis(t), keyring.Generate(start)
	stories := 0
	rapid.Check(t, func(r *rapid.T) {
		if stories++; stories > maxStories {
			return // each takes up to a second
		}
		s := newSale(t, r, rdb, ring)
		gateway := func() int { return rapid.IntRange(0, 1).Draw(r, "gateway") }
		fan := func() *told {
			if len(s.fans) == 0 {
				r.Skip("nobody yet")
			}
			return s.fans[rapid.IntRange(0, len(s.fans)-1).Draw(r, "fan")]
		}
		wiped := false
		r.Repeat(map[string]func(*rapid.T){
			"join": func(r *rapid.T) {
				if len(s.fans) >= maxFans {
					r.Skip("enough")
				}
				g := gateway()
				for range rapid.IntRange(1, 4).Draw(r, "joins") {
					s.join(g, rapid.Bool().Draw(r, "steady"))
				}
			},
			"pass": func(r *rapid.T) {
				s.pass(rapid.SampledFrom([]time.Duration{100 * time.Millisecond, time.Second, 3 * time.Second, 15 * time.Second}).Draw(r, "time"))
			},
			"record": func(*rapid.T) { s.write() },
			"wipe": func(r *rapid.T) {
				wiped = true
				s.wipe(gateway(), rapid.IntRange(0, 2).Draw(r, "ticks before the record"), rapid.IntRange(0, 3).Draw(r, "reset") == 3)
			},
			"reset": func(r *rapid.T) {
				if len(s.fans) < 3 {
					r.Skip("nothing to end")
				}
				s.reset(gateway())
			},
			"claim": func(r *rapid.T) { s.claim(gateway(), fan()) },
			"leave": func(r *rapid.T) {
				f := fan()
				err := s.lines[gateway()].Leave(s.ctx, f.token)
				if s.unless(err); err == nil && !s.inside(f) {
					f.left = true
				}
			},
			"move": func(r *rapid.T) { s.move(gateway(), fan()) },
			"look": func(*rapid.T) {
				for _, f := range s.fans {
					s.look(f)
				}
			},
			"": func(*rapid.T) {
				for _, f := range s.fans {
					if f.steady {
						s.look(f)
					}
				}
				s.judge()
			},
		})
		if wiped {
			s.finish()
		}
	})
}

func newSale(t *testing.T, r *rapid.T, rdb redis.UniversalClient, ring *keyring.Ring) *sale {
	s := &sale{T: r, ctx: context.Background(), rdb: rdb, clock: &atomic.Int64{}, given: -1}
	s.clock.Store(start.UnixMilli())
	if err := rdb.FlushAll(s.ctx).Err(); err != nil { // the record of another story
		r.Fatal(err)
	}
	folder, err := OpenFolder(t.TempDir())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { folder.Close() })
	s.record = NewRecorder(RecorderConfig{Redis: rdb, Folder: folder, Ring: ring, Log: quietLog(), clock: s.clock.Load})
	for i := range s.halls {
		if s.halls[i], err = NewHall(Config{Redis: rdb, Ring: ring, Log: quietLog(), clock: s.clock.Load}); err != nil {
			r.Fatal(err)
		}
	}
	s.presence = time.Duration(rapid.SampledFrom([]int{4, 8}).Draw(r, "presence")) * time.Second
	err = s.recording(func() error {
		_, _, err := s.halls[0].Configure(s.ctx, "r", Patch{
			PacePerMin: opt(rapid.SampledFrom([]int{60, 240, 600}).Draw(r, "pace")), Capacity: opt(rapid.IntRange(2, 8).Draw(r, "capacity")),
			PresenceTTL: opt(int(s.presence / time.Second)), SessionTTL: opt(10), CallTTL: opt(3600), ReturnWindow: opt(3600),
		}, Actor{})
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	s.write()
	for i, h := range s.halls {
		if err := h.look(s.ctx); err != nil {
			r.Fatal(err)
		}
		s.lines[i], _ = h.Line("r")
		s.epoch = s.lines[i].View().epoch
		s.tick(i)
	}
	return s
}

// unless fails the story but for an answer that says to ask again.
func (s *sale) unless(err error) {
	if again := (*Unavailable)(nil); err != nil && !errors.As(err, &again) {
		s.Fatal(err)
	}
}

// recording does what waits for the record, as a new epoch for its ceiling.
func (s *sale) recording(do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
			s.write()
		}
	}
}

// write lets the Recorder look, and write a checkpoint.
func (s *sale) write() {
	for _, known := range s.record.rooms {
		known.checkpointed = time.Time{}
	}
	if err := s.record.step(s.ctx); err != nil {
		s.Fatal(err)
	}
}

// tick fails only while the store knows no room.
func (s *sale) tick(gateway int) {
	l := s.lines[gateway]
	if err := l.tick(s.ctx); err != nil {
		if !errors.Is(err, errNoRoom) {
			s.Fatal(err)
		}
		return
	}
	v := l.View()
	if v.epoch != s.epoch {
		s.Fatalf("epoch %s has become %s", s.epoch, v.epoch)
	}
	if v.frontier < s.frontier {
		s.Fatalf("the frontier fell from %d to %d", s.frontier, v.frontier)
	}
	s.frontier = v.frontier
}

// pass lets time pass, the steady looking on.
func (s *sale) pass(d time.Duration) {
	for step := s.presence / 4; d > 0; d -= step {
		s.clock.Add(min(d, step).Milliseconds())
		for i, f := range s.fans {
			if f.steady && !f.left {
				s.lines[i%2].Seen(f.token)
			}
		}
		s.tick(s.looks % 2)
		s.tick(1 - s.looks%2)
	}
}

// wipe empties Redis. Gateways may tick, and an operator reset the room, before the Recorder
// finds out, and again before the gateways have told what they remember.
func (s *sale) wipe(first, ticks int, reset bool) {
	s.clock.Add(1)
	if err := s.rdb.FlushAll(s.ctx).Err(); err != nil {
		s.Fatal(err)
	}
	for i := range ticks {
		s.tick((first + i) % 2)
	}
	if again := (*Unavailable)(nil); reset {
		if _, err := s.halls[first].Reset(s.ctx, "r", Actor{}); !errors.As(err, &again) {
			s.Fatalf("reset of a room that the store has lost: %v", err)
		}
	}
	s.write() // brings the room back,
	if reset {
		s.reset(first)
	}
	s.write() // and who was admitted or has moved
	for i := range s.halls {
		if err := s.halls[(first+i)%2].look(s.ctx); err != nil {
			s.Fatal(err)
		}
		s.tick((first + i) % 2)
	}
}

// reset begins the next epoch. The other gateway gives nothing for places of the last one,
// though it has not heard of it yet.
func (s *sale) reset(gateway int) {
	err := s.recording(func() error {
		_, err := s.halls[gateway].Reset(s.ctx, "r", Actor{})
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	s.epoch, s.frontier, s.given = s.lines[gateway].View().epoch, 0, -1
	s.over, s.fans = append(s.over, s.fans...), nil
	for _, f := range s.over {
		if _, err := s.lines[1-gateway].Claim(s.ctx, f.token); !errors.Is(err, ErrLapsed) {
			s.Fatalf("place %d of an epoch before: claim %v", f.token.Number, err)
		}
	}
	s.tick(1 - gateway)
}

func (s *sale) join(gateway int, steady bool) {
	token, err := s.lines[gateway].Join(s.ctx)
	if s.unless(err); err != nil {
		return
	}
	if int64(token.Number) <= s.given {
		s.Fatalf("number %d was given after %d", token.Number, s.given)
	}
	s.given = int64(token.Number)
	s.fans = append(s.fans, &told{token: token, steady: steady})
}

func (s *sale) claim(gateway int, f *told) {
	session, err := s.lines[gateway].Claim(s.ctx, f.token)
	switch {
	case errors.Is(err, ErrNotCalled), errors.Is(err, ErrLapsed):
		if s.inside(f) {
			s.Fatalf("place %d has a session and hears %v", f.token.Number, err)
		}
	case err != nil:
		s.unless(err)
	case f.session != nil && (session.ID != f.session.ID || !session.Expires.Equal(f.session.Expires)):
		s.Fatalf("place %d had %+v and gets %+v", f.token.Number, f.session, session)
	case f.session == nil:
		f.session = &session
	}
}

// move takes the place to another device by the other gateway.
func (s *sale) move(gateway int, f *told) {
	code, _, err := s.lines[gateway].ResumeCode(s.ctx, f.token)
	if s.unless(err); err != nil {
		return
	}
	fresh, err := s.lines[1-gateway].Resume(s.ctx, code)
	if errors.Is(err, ErrInShop) && f.session != nil {
		return
	}
	if s.unless(err); err != nil {
		return
	}
	f.taken, f.token = append(f.taken, f.token), fresh
	s.tick(0)
	s.tick(1)
	s.write()
}

// inside tells that the fan's session lasts.
func (s *sale) inside(f *told) bool {
	return f.session != nil && f.session.Expires.UnixMilli() > s.clock.Load()
}

// look asks where the fan stands and compares it with what it was told before.
func (s *sale) look(f *told) {
	s.looks++
	l := s.lines[s.looks%2]
	for _, old := range f.taken {
		if p, _, err := l.Place(s.ctx, old); err == nil && p.State != Moved {
			s.Fatalf("place %d was taken over and is %s", old.Number, p.State)
		}
	}
	if f.left {
		return
	}
	p, _, err := l.Place(s.ctx, f.token)
	if s.unless(err); err != nil {
		return
	}
	n, v := f.token.Number, l.View()
	switch {
	case f.rank != nil && (p.Rank == nil || *p.Rank != *f.rank):
		s.Fatalf("place %d had rank %d: %+v", n, *f.rank, p)
	case p.Position != nil && f.position > 0 && *p.Position > f.position:
		s.Fatalf("place %d rose from %d to %d", n, f.position, *p.Position)
	case p.Progress < f.progress:
		s.Fatalf("place %d went back from %g to %g", n, f.progress, p.Progress)
	case s.inside(f):
		if p.State != Admitted || !p.PassExpiresAt.Equal(f.session.Expires) {
			s.Fatalf("place %d was admitted until %s and is %s until %v", n, f.session.Expires, p.State, p.PassExpiresAt)
		}
	case f.session != nil:
		if p.State != Lapsed {
			s.Fatalf("place %d has had its session and is %s", n, p.State)
		}
	case p.State == Lapsed && !f.back, p.State == Left, p.State == Moved:
		s.Fatalf("place %d is lost: %s", n, p.State)
	case p.State == Missed && f.steady && !v.quiet():
		s.Fatalf("place %d looked all the time and has missed its call", n)
	}
	if p.Position != nil {
		f.position = *p.Position
	}
	f.back = f.back || p.State == Waiting && *p.Rank < v.frontier
	f.rank, f.progress = p.Rank, p.Progress
}

// judge holds what is true of all fans together.
func (s *sale) judge() {
	inside, capacity := 0, s.lines[0].View().settings.Capacity
	for _, f := range slices.Concat(s.fans, s.over) {
		if s.inside(f) {
			inside++
		}
	}
	for i, f := range s.over {
		p, _, err := s.lines[i%2].Place(s.ctx, f.token)
		_, claimed := s.lines[i%2].Claim(s.ctx, f.token)
		if err != nil || p.State != Lapsed || !errors.Is(claimed, ErrLapsed) {
			s.Fatalf("place %d of an epoch before is %s, %v; claim %v", f.token.Number, p.State, err, claimed)
		}
	}
	if inside > capacity {
		s.Fatalf("%d sessions with capacity %d", inside, capacity)
	}
}

// finish lets everybody in.
func (s *sale) finish() {
	left := ""
	for range 20 * maxFans { // each may need the others' sessions to end
		left = ""
		for _, f := range s.fans {
			f.steady = true
			s.look(f)
			s.claim(s.looks%2, f)
			if f.session == nil && !f.left {
				p, _, err := s.lines[0].Place(s.ctx, f.token)
				if s.unless(err); err != nil || p.State != Lapsed { // who came back before and was away again
					left += fmt.Sprintf(" %d:%s", f.token.Number, p.State)
				}
			}
		}
		s.judge()
		if left == "" {
			return
		}
		s.pass(s.presence)
	}
	s.Fatalf("never called:%s; the room: %+v", left, s.lines[0].View().Live())
}
