package queue

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
	"usher/internal/problem"
)

// copyRoom gives to what from has of the room "r", in place of what to had.
func copyRoom(t *testing.T, from map[string]string, to redis.UniversalClient) {
	t.Helper()
	ctx := context.Background()
	if err := to.Del(ctx, keysOf("r")...).Err(); err != nil {
		t.Fatal(err)
	}
	for key, dump := range from {
		if err := to.Restore(ctx, key, 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func dumpRoom(rdb redis.UniversalClient) map[string]string {
	out := map[string]string{}
	for _, key := range keysOf("r") {
		if dump, err := rdb.Dump(context.Background(), key).Result(); err == nil { // others are not there
			out[key] = dump
		}
	}
	return out
}

// TestLossOfTheDrawTakesNoRankBack: the store falls back to before the draw, after ranks
// were shown and the first were called.
func TestLossOfTheDrawTakesNoRankBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	patch := drawPatch(1)
	patch.PresenceTTL = opt(20)
	s.configure(r, patch)
	fans := append(s.join(0, 200), s.join(1, 200)...)
	s.pass(59*time.Second, fans...)
	old := dumpRoom(s.rdb)
	s.pass(time.Second, fans...)
	record(t, r)
	s.tick()
	s.pass(3*time.Second, fans...)
	late := s.join(0, 3)
	s.tick()
	shown := map[uint64]Place{}
	for i, f := range append(fans, late...) {
		p := s.place(i%2, f)
		if p.Rank == nil {
			t.Fatalf("no rank is shown: %+v", p)
		}
		shown[f.Number] = p
	}
	if shown[late[2].Number].State != Waiting || s.line(0).View().frontier < 20 {
		t.Fatal("the drill needs some who were called and some who wait")
	}

	copyRoom(t, old, s.rdb)
	check := func() {
		t.Helper()
		for i, f := range append(fans, late...) {
			p, before := s.place(i%2, f), shown[f.Number]
			if p.Rank == nil || *p.Rank != *before.Rank || p.Progress < before.Progress {
				t.Fatalf("place %d was %+v and is %+v", f.Number, before, p)
			}
			if before.Position != nil && p.Position != nil && *p.Position > *before.Position {
				t.Fatalf("place %d rises from %d to %d", f.Number, *before.Position, *p.Position)
			}
			shown[f.Number] = p
		}
	}
	s.tick()
	check()
	for range 40 {
		s.pass(time.Second, append(fans, late...)...)
		record(t, r)
		check()
	}
	s.pass(time.Minute, append(fans, late...)...)
	for _, f := range append(fans, late...) {
		if p := s.place(0, f); p.State != Called {
			t.Errorf("place %d is %s in the end", f.Number, p.State)
		}
	}
}

// TestTwoPrimariesGiveDifferentNumbers: a replica was promoted while the old primary lives
// on, with gateways and a Recorder on either side.
func TestTwoPrimariesGiveDifferentNumbers(t *testing.T) {
	t.Parallel()
	old := newStage(t, 1)
	db, _ := devtest.Postgres(t)
	r := old.newRecorder(db)
	old.configure(r, Patch{})
	old.join(0, 10)
	var promoted *stage
	t.Run("promoted", func(t *testing.T) {
		promoted = newStage(t, 1) // its Redis lives as long as this
		promoted.ring, promoted.halls[0].cfg.Ring, promoted.clock = old.ring, old.ring, old.clock
		ctx := context.Background()
		copyRoom(t, dumpRoom(old.rdb), promoted.rdb)
		if err := promoted.rdb.SAdd(ctx, roomsKey, "r").Err(); err != nil {
			t.Fatal(err)
		}
		sides := []*stage{old, promoted}
		recorders := []*Recorder{r, promoted.newRecorder(db)}
		if err := promoted.halls[0].look(ctx); err != nil {
			t.Fatal(err)
		}
		type run struct{ first, end uint64 }
		var runs []run
		for round := range 12 {
			for side, s := range sides {
				answer, err := s.line(0).giveNumbers(ctx, 30_000)
				if err != nil {
					t.Fatal(err)
				}
				if answer[0] == "ok" {
					first, _ := strconv.ParseUint(answer[1].(string), 10, 64)
					runs = append(runs, run{first, first + uint64(answer[2].(int64))})
				} else if round > 2 && answer[0] != "ceiling" {
					t.Fatal(answer...)
				}
				old.clock.Add(250)
				s.tick()
				record(t, recorders[side])
			}
		}
		if len(runs) < 12 {
			t.Errorf("only %d runs of numbers were given", len(runs))
		}
		slices.SortFunc(runs, func(a, b run) int { return int(a.first) - int(b.first) })
		for i := 1; i < len(runs); i++ {
			if runs[i].first < runs[i-1].end {
				t.Errorf("numbers are given twice: %v and %v", runs[i-1], runs[i])
			}
		}
	})
}

// reset begins the next epoch at the first gateway.
func (s *stage) reset(r *Recorder) {
	s.t.Helper()
	s.recording(r, func() error {
		_, err := s.halls[0].Reset(context.Background(), "r", Actor{Name: "Ada"})
		return err
	})
}

// TestResetInTheQuietTimeForgetsNoSession: sessions outlast the epoch, and so must the time
// in which gateways tell of those that a loss made unknown.
func TestResetInTheQuietTimeForgetsNoSession(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	s.configure(r, Patch{PacePerMin: opt(600), Capacity: opt(2), PresenceTTL: opt(8), SessionTTL: opt(600)})
	shop := s.join(1, 2)
	s.pass(time.Second, shop...)
	for _, f := range shop { // and no checkpoint knows of them
		if _, err := s.line(1).Claim(context.Background(), f); err != nil {
			t.Fatal(err)
		}
	}
	s.lose()
	record(t, r)
	s.reset(r)
	s.pass(20*time.Second, s.join(0, 2)...)
	s.expect("sessions and open calls", []uint64{s.live().Sessions, s.live().Called}, []uint64{2, 0})
}

// TestResetThatIsNotOnRecordSaysSo: it is in force all the same, and on record as soon as
// somebody keeps the record again.
func TestResetThatIsNotOnRecordSaysSo(t *testing.T) { onEachRecord(t, unrecordedReset) }

func unrecordedReset(t *testing.T, recorder func(*stage) *Recorder) {
	s := newStage(t, 2)
	r := recorder(s)
	s.configure(r, Patch{})
	fan, before := s.join(0, 1)[0], s.live().Epoch

	// It waits until this test loses patience: once it has looked at the new epoch again.
	ctx, enough := context.WithCancel(context.Background())
	defer enough()
	done := make(chan error, 1)
	go func() {
		_, err := s.halls[0].Reset(ctx, "r", Actor{Name: "Ada"})
		done <- err
	}()
	for ticks := 0; ticks < 2; {
		changed := s.line(0).Changed()
		if s.live().Epoch != before {
			ticks++
		}
		select {
		case <-changed:
		case err := <-done:
			t.Fatalf("a reset that nobody records ends by itself: %v", err)
		}
	}
	enough()
	if p, ok := problem.From(<-done); !ok || p.Status != http.StatusServiceUnavailable || p.Code != "not-recorded" {
		t.Fatalf("a reset that nobody records: %v", p)
	}
	s.tick()
	if p := s.place(1, fan); p.State != Lapsed {
		t.Errorf("an old place is %s", p.State)
	}
	again := (*Unavailable)(nil)
	if _, err := s.line(1).Join(context.Background()); !errors.As(err, &again) {
		t.Errorf("a join before the epoch is on record: %v", err)
	}
	record(t, r)
	s.tick()
	fresh := s.join(1, 1)[0]
	s.lose()
	record(t, r)
	s.tick()
	if s.live().Epoch != fresh.Epoch || s.place(0, fan).State != Lapsed {
		t.Errorf("after a loss the epoch is %s, not %s", s.live().Epoch, fresh.Epoch)
	}
}

// TestResetTwiceKeepsSessionsOnRecord: the figures of the two epochs are the same.
func TestResetTwiceKeepsSessionsOnRecord(t *testing.T) { onEachRecord(t, resetTwiceKeepsSessions) }

func resetTwiceKeepsSessions(t *testing.T, recorder func(*stage) *Recorder) {
	s := newStage(t, 1)
	r := recorder(s)
	ctx := context.Background()
	s.configure(r, Patch{PacePerMin: opt(600), SessionTTL: opt(600)})
	fan := s.join(0, 1)[0]
	s.pass(time.Second, fan)
	if _, err := s.line(0).Claim(ctx, fan); err != nil {
		t.Fatal(err)
	}
	s.reset(r)
	s.reset(r)
	kept, err := r.record.reserve(ctx, "r", "another")
	if err != nil {
		t.Fatal(err)
	}
	s.expect("sessions on record", []any{kept.Epoch, kept.figure("sessions")}, []any{s.live().Epoch, int64(1)})
}
