package ratelimit

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

func leases(store *Redis, p Policy) *Leased[int] { return NewLeased(store, p, 1000, strconv.Itoa) }

// Many processes together overshoot by what they may owe, and not by one more.
func TestLeasedOvershootIsBounded(t *testing.T) {
	t.Parallel()
	const gateways, burst = 4, 200
	p := Policy{"leased", Quota{Requests: 1, Window: time.Hour, Burst: burst}}
	store := NewRedis(devtest.Redis(t))
	var tables []*Leased[int]
	for range gateways {
		tables = append(tables, leases(store, p))
	}
	now := time.Now()
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 100 {
				d, err := tables[i%gateways].Take(context.Background(), 7, now)
				if err != nil {
					t.Error(err)
					return
				}
				if d.Allowed {
					allowed.Add(1)
				} else if d.RetryAfter <= 0 {
					t.Errorf("denied without a time: %+v", d)
				}
			}
		})
	}
	wg.Wait()
	if n := allowed.Load(); n < burst || n > burst+gateways*burst/leasedPart {
		t.Errorf("%d of 1600 passed over %d processes, want from %d to %d", n, gateways, burst, burst+gateways*burst/leasedPart)
	}
}

// One process alone never lets pass more than the quota, leased or not.
func TestLeasedIsExactInOneProcess(t *testing.T) {
	t.Parallel()
	store := NewRedis(devtest.Redis(t))
	for name, burst := range map[string]int64{"exact": 10, "leased": 200} {
		l := leases(store, Policy{name, Quota{Requests: 1, Window: time.Hour, Burst: burst}})
		now, passed := time.Now(), int64(0)
		for range 2 * burst {
			d, err := l.Take(context.Background(), 1, now)
			if err != nil {
				t.Fatal(err)
			}
			if d.Allowed {
				passed++
				if d.Remaining != burst-passed {
					t.Errorf("after %d of %d: %d remain", passed, burst, d.Remaining)
				}
			}
		}
		if passed != burst {
			t.Errorf("%d passed, want %d", passed, burst)
		}
	}
}

// Who comes once costs the store nothing; what is owed is paid with the next question.
func TestLeasedAsksSeldom(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	p := Policy{"seldom", Quota{Requests: 60, Window: time.Minute, Burst: 200}}
	l, now, ctx := leases(NewRedis(rdb), p), time.Now(), context.Background()
	take := func(key int) {
		t.Helper()
		if d, err := l.Take(ctx, key, now); err != nil || !d.Allowed {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	for key := range 100 {
		take(key)
	}
	if n := rdb.DBSize(ctx).Val(); n != 0 {
		t.Errorf("a hundred who came once left %d keys", n)
	}
	for range 4 {
		take(1)
	}
	tat, err := rdb.Get(ctx, "usher:limit:{seldom.0}:1").Int64()
	if ahead := tat - time.Now().UnixMicro(); err != nil || ahead <= 4*second || ahead > 5*second {
		t.Errorf("after five requests the store is %d µs ahead, want just under five seconds (%v)", ahead, err)
	}
}

// Without the store nothing is forgotten: the debt stays, and is paid when it is back.
func TestLeasedKeepsItsDebts(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	p := Policy{"debts", Quota{Requests: 1, Window: time.Hour, Burst: 50}}
	l, now := leases(NewRedis(rdb), p), time.Now()
	away, cancel := context.WithCancel(context.Background())
	cancel()
	store := l.store
	l.store = &Redis{rdb: rdb, script: store.script, slots: 1} // with no room for anyone to wait: every question fails
	if d, err := l.Take(away, 1, now); err != nil || !d.Allowed {
		t.Fatalf("the first is leased: %+v, %v", d, err)
	}
	for range 3 {
		if d, err := l.Take(away, 1, now); err == nil {
			t.Fatalf("decided %+v without a store", d)
		}
	}
	l.store = store
	if d, err := l.Take(context.Background(), 1, now); err != nil || !d.Allowed || d.Remaining != 48 {
		t.Errorf("the second, with the first one's debt: %+v, %v", d, err)
	}
}
