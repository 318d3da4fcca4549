package queue

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
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
