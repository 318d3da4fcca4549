package ratelimit

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/devstack"
	"usher/internal/devstack/devtest"
	"usher/internal/redisx"
)

func TestStoreRemembersWhatDecideSays(t *testing.T) {
	t.Parallel()
	rdb, ctx := devtest.Redis(t), context.Background()
	store := NewStore(rdb)
	ask := func(cost, owed int64) Decision {
		var turns [1]Turn
		fresh := NewTable(perDay, 100, true) // that denies nothing by itself
		fresh.Take(&turns[0], Key{ID: "k"}, time.Now().UnixMicro(), cost, 1)
		turns[0].debt += owed
		turns[0].shard.find(turns[0].digest).asked += owed
		if err := store.Ask(ctx, turns[:]); err != nil {
			t.Fatal(err)
		}
		return turns[0].Decision
	}
	key := "usher:limit:{0}:day:k"
	ahead := func() int64 {
		tat, err := rdb.Get(ctx, key).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return tat - time.Now().UnixMicro()
	}
	if d := ask(3, 0); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	if n := ahead(); n > 3*hour {
		t.Errorf("arrival time is %d µs ahead, want at most 3 h", n)
	}
	if ttl := rdb.PTTL(ctx, key).Val(); ttl <= 0 || ttl > 3*time.Hour {
		t.Errorf("the key lives for %v, want at most 3 h", ttl)
	}
	before := rdb.Get(ctx, key).Val()
	if d := ask(6, 0); d.Allowed || rdb.Get(ctx, key).Val() != before {
		t.Errorf("a denied request moved the arrival time: %+v", d)
	}
	if d := ask(1, 100); d.Allowed || ahead() > 10*hour || ahead() < 5*hour {
		t.Errorf("a debt is charged whatever comes of it, up to a second burst: %d µs ahead, %+v", ahead(), d)
	}
	if d := ask(1, -100); !d.Allowed || ahead() > hour {
		t.Errorf("what is given back is there: %d µs ahead, %+v", ahead(), d)
	}
}

func TestStoreStorm(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	p := Policy{"storm", Quota{Requests: 1, Window: time.Hour, Burst: 30}}
	stores := []*Store{NewStore(rdb), NewStore(rdb)}
	tables := []*Table{NewTable(p, 100, true), NewTable(p, 100, true)}
	now := time.Now()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			if one(t, tables[i%2], stores[i%2], 1, now, 2).Allowed {
				allowed.Add(1)
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 30 {
		t.Errorf("%d of 400 passed, want 30", allowed.Load())
	}
}

// One round trip decides several policies, several keys, and one key several times.
func TestOneRoundTripForAll(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	store := NewStore(rdb)
	other := Policy{"other", Quota{Requests: 1, Window: time.Minute, Burst: 2}}
	var turns []Turn
	for _, table := range []*Table{NewTable(perMinute, 100, true), NewTable(other, 100, true)} {
		for _, id := range []string{"a", "b", "a"} {
			var turn Turn
			table.Take(&turn, Key{ID: id}, time.Now().UnixMicro(), 1, 1)
			turns = append(turns, turn)
		}
	}
	before := calls(t, store)
	if err := store.Ask(context.Background(), turns); err != nil {
		t.Fatal(err)
	}
	if n := calls(t, store) - before; n != 1 {
		t.Errorf("six questions took %d calls", n)
	}
	for i, left := range []int64{4, 4, 3, 1, 1, 0} {
		if d := turns[i].Decision; !d.Allowed || d.Remaining != left {
			t.Errorf("question %d: %+v, want %d left", i, d, left)
		}
	}
}

// calls counts the scripts that this store's server ran.
func calls(t *testing.T, s *Store) int {
	t.Helper()
	stats := s.rdb.Info(context.Background(), "commandstats").Val()
	n := 0
	for _, command := range []string{"evalsha", "eval"} {
		_, rest, _ := strings.Cut(stats, "cmdstat_"+command+":calls=")
		count, _, _ := strings.Cut(rest, ",")
		failed := 0
		_, line, _ := strings.Cut(rest, "failed_calls=")
		if end := strings.IndexAny(line, "\r\n"); end > 0 {
			failed, _ = strconv.Atoi(line[:end])
		}
		if calls, err := strconv.Atoi(count); err == nil {
			n += calls - failed
		}
	}
	return n
}

// On a cluster the keys of one request may be anywhere: it is decided all the same.
func TestClusterSharesKeys(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	set, err := devstack.StartCluster(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Kill)
	rdb, err := redisx.Open(ctx, set.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	store := NewStore(rdb)
	table := NewTable(Policy{"cluster", Quota{Requests: 1, Window: time.Hour, Burst: 3}}, 10_000, true)
	for round := range 4 {
		turns := make([]Turn, 100)
		for id := range turns {
			table.Take(&turns[id], Key{ID: strconv.Itoa(id)}, time.Now().UnixMicro(), 1, 1)
		}
		if err := store.Ask(ctx, turns); err != nil {
			t.Fatal(err)
		}
		for id := range turns {
			if turns[id].Decision.Allowed != (round < 3) {
				t.Fatalf("round %d, key %d: %+v", round, id, turns[id].Decision)
			}
		}
	}
}
