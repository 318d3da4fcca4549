package ratelimit

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

// perDay is for a store, whose clock is Redis': nothing comes back while a machine stands
// still for some seconds. A request costs an hour, five at once.
var perDay = Policy{Name: "day", Quota: Quota{Requests: 24, Window: 24 * time.Hour, Burst: 5}}

const hour = 3600 * second

// one asks a table for one request of a key, with a store behind it or not.
func one(t *testing.T, table *Table, store *Store, id int, now time.Time, processes int64) Decision {
	t.Helper()
	var turns [1]Turn
	table.Take(&turns[0], Key{ID: strconv.Itoa(id)}, now.UnixMicro(), 1, processes)
	if turns[0].Open() {
		if err := store.Ask(context.Background(), turns[:]); err != nil {
			t.Error(err)
			turns[0].Alone(processes)
		}
	}
	return turns[0].Decision
}

// One behaviour, three memories.
func TestStoresAgree(t *testing.T) {
	t.Parallel()
	store := NewStore(devtest.Redis(t))
	local, leased := NewTable(perDay, 100, false), NewTable(perDay, 100, true)
	clock := time.Now()
	tats := map[int]int64{}
	for name, take := range map[string]func(id int) Decision{
		"Decide": func(id int) (d Decision) {
			tats[id], d = Decide(perDay.Quota, tats[id], clock.UnixMicro(), 1)
			return d
		},
		"a table": func(id int) Decision { return one(t, local, nil, id, clock, 1) },
		"a store": func(id int) Decision { return one(t, leased, store, id, clock, 1) },
	} {
		for i := range int64(5) {
			if d := take(1); !d.Allowed || d.Remaining != 4-i || d.RetryAfter != 0 {
				t.Errorf("%s: request %d: %+v", name, i+1, d)
			}
		}
		if d := take(1); d.Allowed || d.Remaining != 0 || d.RetryAfter <= 0 || d.RetryAfter > 2*time.Hour {
			t.Errorf("%s: request 6: %+v", name, d)
		}
		if d := take(2); !d.Allowed || d.Remaining != 4 {
			t.Errorf("%s: another key: %+v", name, d)
		}
	}
}

// Many processes together overshoot by a twentieth of the burst, and not by one more.
func TestOvershootIsBounded(t *testing.T) {
	t.Parallel()
	store := NewStore(devtest.Redis(t))
	for processes, burst := range map[int64]int64{4: 400, 2: 100, 10: 100, 1: 200} {
		p := Policy{fmt.Sprintf("leased-%d", processes), Quota{Requests: 1, Window: time.Hour, Burst: burst}}
		tables := make([]*Table, processes)
		for i := range tables {
			tables[i] = NewTable(p, 1000, true)
		}
		now := time.Now()
		var allowed atomic.Int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for range burst / 4 {
					d := one(t, tables[i%int(processes)], store, 7, now, processes)
					if d.Allowed {
						allowed.Add(1)
					} else if d.RetryAfter <= 0 {
						t.Errorf("denied without a time: %+v", d)
					}
				}
			})
		}
		wg.Wait()
		// In the crowd a request may be denied that came while others were being asked for.
		for _, table := range tables {
			for one(t, table, store, 7, now, processes).Allowed {
				allowed.Add(1)
			}
		}
		most := burst + burst/owedPart
		if processes == 1 {
			most = burst
		}
		if n := allowed.Load(); n < burst || n > most {
			t.Errorf("%d of %d passed over %d processes, want from %d to %d", n, 4*burst, processes, burst, most)
		}
	}
}

// Who comes once costs the store nothing; what is owed is paid with the next question; a
// key that is spent asks no more.
func TestTablesAskSeldom(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	p := Policy{"seldom", Quota{Requests: 60, Window: time.Hour, Burst: 200}}
	table, store, now, ctx := NewTable(p, 1000, true), NewStore(rdb), time.Now(), context.Background()
	for id := range 100 {
		one(t, table, store, id, now, 1)
	}
	if n := rdb.DBSize(ctx).Val(); n != 0 {
		t.Errorf("a hundred who came once left %d keys", n)
	}
	for range 5 {
		one(t, table, store, 1, now, 1)
	}
	tat, err := rdb.Get(ctx, "usher:limit:{0}:seldom:1").Int64()
	if ahead := tat - time.Now().UnixMicro(); err != nil || ahead <= 5*60*second || ahead > 6*60*second {
		t.Errorf("after six requests the store is %d µs ahead, want just under six minutes (%v)", ahead, err)
	}
	asked := 0
	for i := range 1000 {
		var turn Turn
		table.Take(&turn, Key{ID: "1"}, now.UnixMicro(), 1, 1)
		if turn.Open() {
			asked++
			if err := store.Ask(ctx, []Turn{turn}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 500 {
			asked = 0
		}
	}
	if asked != 0 {
		t.Errorf("a key that is spent asked %d times", asked)
	}
}

// A denied key asks again exactly when its time has come.
func TestDeniedUntilTheExactTime(t *testing.T) {
	t.Parallel()
	store := NewStore(devtest.Redis(t))
	table, now := NewTable(perDay, 100, true), time.Now()
	for range 5 {
		one(t, table, store, 1, now, 1)
	}
	d := one(t, table, store, 1, now, 1)
	if d.Allowed {
		t.Fatalf("%+v", d)
	}
	var turn Turn
	table.Take(&turn, Key{ID: "1"}, now.Add(d.RetryAfter-time.Microsecond).UnixMicro(), 1, 1)
	if turn.Open() || turn.Decision.Allowed {
		t.Errorf("a microsecond early: open %v, %+v", turn.Open(), turn.Decision)
	}
	table.Take(&turn, Key{ID: "1"}, now.Add(d.RetryAfter).UnixMicro(), 1, 1)
	if !turn.Open() {
		t.Errorf("at its time: %+v", turn.Decision)
	}
}

// Without the store each process grants its share, and tells the store when it is back:
// nobody has a second burst.
func TestStoreAwayAndBack(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	const processes, burst = 4, 40
	p := Policy{"away", Quota{Requests: 1, Window: time.Hour, Burst: burst}}
	store, broken := NewStore(rdb), NewStore(rdb)
	broken.queue, broken.flying = make([]*asking, backlogLimit), true // there is no room to wait
	var tables []*Table
	for range processes {
		tables = append(tables, NewTable(p, 100, true))
	}
	now := time.Now()
	passed := 0
	for _, table := range tables {
		for range burst {
			var turns [1]Turn
			table.Take(&turns[0], Key{ID: "1"}, now.UnixMicro(), 1, processes)
			if turns[0].Open() {
				if broken.Ask(context.Background(), turns[:]) == nil {
					t.Fatal("a store without room answered")
				}
				turns[0].Alone(processes)
			}
			if turns[0].Decision.Allowed {
				passed++
			}
		}
	}
	if passed != burst {
		t.Errorf("%d passed while the store was away, want the %d of the quota", passed, burst)
	}
	passed = 0
	for range burst {
		for _, table := range tables {
			if one(t, table, store, 1, now, processes).Allowed {
				passed++
			}
		}
	}
	// The store cannot know of a process' debt before that process asks.
	if passed >= processes {
		t.Errorf("%d more passed when it was back", passed)
	}
}

func TestGivenBackAndChargedMore(t *testing.T) {
	t.Parallel()
	store := NewStore(devtest.Redis(t))
	for name, table := range map[string]*Table{"local": NewTable(perDay, 100, false), "leased": NewTable(perDay, 100, true)} {
		now := time.Now()
		take := func() *Turn {
			var turns [1]Turn
			table.Take(&turns[0], Key{ID: name}, now.UnixMicro(), 1, 1)
			if turns[0].Open() {
				if err := store.Ask(context.Background(), turns[:]); err != nil {
					t.Fatal(err)
				}
			}
			return &turns[0]
		}
		for range 50 {
			if turn := take(); !turn.Decision.Allowed {
				t.Fatalf("%s: %+v although all is given back", name, turn.Decision)
			} else {
				turn.Charge(-1)
			}
		}
		take().Charge(4)
		if d := take().Decision; d.Allowed {
			t.Errorf("%s: %+v after an answer that cost five", name, d)
		}
	}
}

func TestStoreAway(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	if err := rdb.Close(); err != nil {
		t.Fatal(err)
	}
	store, table := NewStore(rdb), NewTable(perMinute, 100, true)
	for range 2 { // the second must not wait for a lead that never comes
		var turns [1]Turn
		table.Take(&turns[0], Key{ID: "k"}, time.Now().UnixMicro(), 1, 1)
		if err := store.Ask(context.Background(), turns[:]); err == nil || !turns[0].Open() {
			t.Errorf("decided %+v without Redis", turns[0].Decision)
		}
		turns[0].Alone(1)
	}
}

// A flood of new keys makes no table grow, and frees nobody who has spent the quota.
func TestTablesAreBounded(t *testing.T) {
	t.Parallel()
	table, now := NewTable(perMinute, 8192, false), time.Now()
	for range 5 {
		one(t, table, nil, -1, now, 1)
	}
	for id := range 100_000 {
		one(t, table, nil, id, now, 1)
	}
	n := 0
	for i := range table.shards {
		n += len(table.shards[i].buckets)
	}
	if n != 2*8192 {
		t.Errorf("%d buckets for 8192 keys, want twice as many", n)
	}
	if one(t, table, nil, -1, now, 1).Allowed {
		t.Error("the flood freed a key that was spent")
	}
	for round := range tableShards {
		table.Sweep(round, now.Add(time.Minute).UnixMicro())
	}
	for i := range table.shards {
		if s := &table.shards[i]; s.used > 0 || len(s.buckets) > 64*rowKeys/2 {
			t.Fatalf("idle keys are kept: %d in room for %d", s.used, len(s.buckets))
		}
	}
}

func TestKeysHaveNames(t *testing.T) {
	t.Parallel()
	k := Key{Prefix: netip.MustParsePrefix("2001:db8::/48"), Room: "gala", Audience: "gala", ID: "7", Path: "/a"}
	if got := k.String(); got != "2001:db8::/48 gala gala 7 /a" {
		t.Error(got)
	}
	k.Path = strings.Repeat("a", 4000)
	other := k
	other.Path += "b"
	if len(k.String()) > maxText || k.String() == other.String() {
		t.Errorf("long keys are named %s and %s", k, other)
	}
}

// A key stays found while others come and go, and its part of the table grows and shrinks.
func TestKeysAreFoundAgain(t *testing.T) {
	t.Parallel()
	table, now := NewTable(Policy{"two", Quota{Requests: 2, Window: time.Hour}}, 100_000, false), time.Now()
	take := func(id int, at time.Time) bool { return one(t, table, nil, id, at, 1).Allowed }
	for id := range 20_000 { // far fewer than there is room for
		if !take(id, now) {
			t.Fatalf("key %d is denied at once", id)
		}
	}
	later := now.Add(2 * time.Hour)
	for id := range 2000 {
		take(id, later)
		take(id, later)
	}
	for round := range tableShards { // twice: a part shrinks to half of it in one
		table.Sweep(round, later.UnixMicro())
		table.Sweep(round, later.UnixMicro())
	}
	for id := range 2000 {
		if take(id, later) {
			t.Fatalf("key %d is forgotten", id)
		}
	}
	if !take(-1, later) {
		t.Error("a new key is denied")
	}
}

func BenchmarkTake(b *testing.B) {
	p := Policy{"bench", Quota{Requests: 1000, Window: time.Second, Burst: 1000}}
	for name, leased := range map[string]bool{"local": false, "leased": true} {
		b.Run(name, func(b *testing.B) {
			table, now := NewTable(p, 100_000, leased), time.Now().UnixMicro()
			key := Key{Prefix: netip.MustParsePrefix("192.0.2.1/32")}
			var turn Turn
			for b.Loop() {
				now += 2000
				if table.Take(&turn, key, now, 1, 1); turn.Open() {
					turn.settle(now, now)
				}
			}
		})
	}
	b.Run("denied", func(b *testing.B) {
		table, now := NewTable(Policy{"denied", Quota{Requests: 1, Window: time.Hour, Burst: 1}}, 100_000, true), time.Now().UnixMicro()
		key := Key{Prefix: netip.MustParsePrefix("192.0.2.1/32")}
		var turn Turn
		table.Take(&turn, key, now, 1, 1)
		turn.settle(now, now)
		for b.Loop() {
			table.Take(&turn, key, now, 1, 1)
		}
	})
}
