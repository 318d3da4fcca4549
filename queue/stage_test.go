package queue

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
)

// stage is a site for one test: a real Redis, virtual room time, halls that tick by hand.
type stage struct {
	t     *testing.T
	rdb   redis.UniversalClient
	ring  *keyring.Ring
	clock *atomic.Int64
	halls []*Hall
}

var start = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func newStage(t *testing.T, gateways int) *stage {
	t.Helper()
	s := &stage{t: t, rdb: devtest.Redis(t), ring: keyring.Generate(start), clock: &atomic.Int64{}}
	s.clock.Store(start.UnixMilli())
	if err := s.rdb.Set(context.Background(), recordedKey, 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range gateways {
		s.gateway()
	}
	return s
}

// gateway adds a Hall that has no memory yet.
func (s *stage) gateway() *Hall {
	s.t.Helper()
	h, err := NewHall(Config{
		Redis: s.rdb, Ring: s.ring, BeaconHosts: beaconHosts, Log: quietLog(), clock: s.clock.Load,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.halls = append(s.halls, h)
	return h
}

func ptr[T any](v T) *T { return &v }

func opt[T any](v T) Opt[T] { return Opt[T]{Sent: true, Value: &v} }

// room makes or changes the room "r" and gives it numbers, as the Recorder would.
func (s *stage) room(p Patch) {
	s.t.Helper()
	ctx := context.Background()
	s.recorded(func() error { // a new room waits for its ceiling
		_, _, err := s.halls[0].Configure(ctx, "r", p, Actor{ID: "k1", Name: "Ada"})
		return err
	})
	for _, h := range s.halls {
		if err := h.look(ctx); err != nil {
			s.t.Fatal(err)
		}
	}
	s.tick()
}

// renew begins the next epoch at the first gateway.
func (s *stage) renew() {
	s.t.Helper()
	s.recorded(func() error {
		_, err := s.halls[0].Reset(context.Background(), "r", Actor{Name: "Ada"})
		return err
	})
}

// recorded runs act, with numbers made free meanwhile, as the Recorder would.
func (s *stage) recorded(act func() error) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- act() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				s.t.Fatal(err)
			}
			return
		case <-time.After(time.Millisecond):
			s.durable("")
		}
	}
}

// durable raises the ceiling and records the draw, without a database.
func (s *stage) durable(lobbySize string) {
	ctx := context.Background()
	epoch, err := s.rdb.HGet(ctx, keyOf("r", "state"), "epoch").Result()
	if err == nil {
		err = durableScript.Run(ctx, s.rdb, keysOf("r"), "0", epoch, 1<<20, lobbySize).Err()
	}
	if err != nil && err != redis.Nil {
		s.t.Fatal(err)
	}
}

// resume lets the room go on after a loss from 1<<20 on, as the Recorder would.
func (s *stage) resume() {
	ctx := context.Background()
	state, err := s.rdb.HGetAll(ctx, keyOf("r", "state")).Result()
	if err == nil {
		err = resumeScript.Run(ctx, s.rdb, keysOf("r"), "0", state["epoch"], state["lineage"], state["reserved"], 1<<20, 1<<21, 0, "", "", "", "", 0, 0, "").Err()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) line(gateway int) *Line {
	s.t.Helper()
	l, ok := s.halls[gateway].Line("r")
	if !ok {
		s.t.Fatal("the gateway does not know the room")
	}
	return l
}

func (s *stage) lines() []*Line {
	out := make([]*Line, len(s.halls))
	for i := range s.halls {
		out[i] = s.line(i)
	}
	return out
}

// tick runs one tick of every gateway without letting time pass.
func (s *stage) tick() {
	s.t.Helper()
	for _, l := range s.lines() {
		if err := l.tick(context.Background()); err != nil {
			s.t.Fatalf("tick: %v", err)
		}
	}
}

// pass lets time pass in steps of 250 ms, all gateways ticking, and those of seen
// being present.
func (s *stage) pass(d time.Duration, seen ...Token) {
	s.t.Helper()
	for ; d > 0; d -= 250 * time.Millisecond {
		s.clock.Add(min(d, 250*time.Millisecond).Milliseconds())
		for _, t := range seen {
			s.line(int(t.Number) % len(s.halls)).Seen(t)
		}
		s.tick()
	}
}

func (s *stage) join(gateway, n int) []Token {
	s.t.Helper()
	out := make([]Token, n)
	for i := range out {
		t, err := s.line(gateway).Join(context.Background())
		if err != nil {
			s.t.Fatalf("join: %v", err)
		}
		out[i] = t
	}
	return out
}

func (s *stage) place(gateway int, t Token) Place {
	s.t.Helper()
	p, _, err := s.line(gateway).Place(context.Background(), t)
	if err != nil {
		s.t.Fatalf("place %d: %v", t.Number, err)
	}
	return p
}

func (s *stage) states(ts []Token) (out []State) {
	s.t.Helper()
	for i, t := range ts {
		out = append(out, s.place(i%len(s.halls), t).State)
	}
	return out
}

func sprint(v any) string { return fmt.Sprint(v) }

func releaseOf(room, session string) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: releasesKey, Values: []string{"room", room, "session", session}}
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// onEachRecord runs a test with the record in Postgres and with the record in a folder.
func onEachRecord(t *testing.T, test func(t *testing.T, recorder func(*stage) *Recorder)) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		db, _ := devtest.Postgres(t)
		test(t, func(s *stage) *Recorder { return s.newRecorder(db) })
	})
	t.Run("folder", func(t *testing.T) {
		t.Parallel()
		folder := openFolder(t, t.TempDir())
		test(t, func(s *stage) *Recorder {
			return NewRecorder(RecorderConfig{Redis: s.rdb, Folder: folder, Ring: s.ring, BeaconHosts: beaconHosts, Log: quietLog(), clock: s.clock.Load})
		})
	})
}

func openFolder(t *testing.T, dir string) *Folder {
	t.Helper()
	folder, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	return folder
}

// beaconHosts is where the tests' chains are.
var beaconHosts = []string{"127.0.0.1"}
