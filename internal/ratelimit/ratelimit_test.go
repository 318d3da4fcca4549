package ratelimit

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

var perMinute = Policy{Name: "test", Quota: Quota{Requests: 60, Window: time.Minute, Burst: 5}}

const second = int64(time.Second / time.Microsecond)

func TestDecide(t *testing.T) {
	t.Parallel()
	const now = 1_790_000_000_000_000
	q := perMinute.Quota // a request costs a second, five at once
	for name, c := range map[string]struct {
		tat, cost int64
		wantTAT   int64
		want      Decision
	}{
		"an unknown key has the whole burst":      {0, 1, now + second, Decision{true, 4, 0, time.Second}},
		"a key long idle is as good as unknown":   {now - 3600*second, 1, now + second, Decision{true, 4, 0, time.Second}},
		"the last of the burst":                   {now + 4*second, 1, now + 5*second, Decision{true, 0, 0, 5 * time.Second}},
		"one too many":                            {now + 5*second, 1, now + 5*second, Decision{false, 0, time.Second, 5 * time.Second}},
		"half a second early":                     {now + 4*second + second/2, 1, now + 4*second + second/2, Decision{false, 0, time.Second / 2, 4*time.Second + time.Second/2}},
		"a microsecond early":                     {now + 4*second + 1, 1, now + 4*second + 1, Decision{false, 0, time.Microsecond, 4*time.Second + time.Microsecond}},
		"a cost of three":                         {now + second, 3, now + 4*second, Decision{true, 1, 0, 4 * time.Second}},
		"a cost of three with two left is denied": {now + 3*second, 3, now + 3*second, Decision{false, 2, time.Second, 3 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tat, d := Decide(q, c.tat, now, c.cost)
			if tat != c.wantTAT || d != c.want {
				t.Errorf("got %d %+v, want %d %+v", tat, d, c.wantTAT, c.want)
			}
		})
	}
}

// In any span of time no more pass than the burst and what the span refills, and
// whoever waits exactly RetryAfter passes.
func FuzzDecide(f *testing.F) {
	f.Add(uint16(60), uint16(60), uint16(5), []byte{0, 0, 0, 9, 200})
	f.Add(uint16(7), uint16(3), uint16(0), []byte{255, 1, 1, 1, 1, 1, 90})
	f.Add(uint16(1), uint16(1), uint16(1), []byte{0, 0, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, requests, window, burst uint16, gaps []byte) {
		p := Policy{"fuzz", Quota{int64(requests), time.Duration(window) * time.Second, int64(burst)}}
		if p.Validate() != nil {
			return
		}
		now, tat, passed := int64(1e15), int64(0), int64(0)
		start := now
		for _, gap := range gaps {
			now += int64(gap) * 10_000
			next, d := Decide(p.Quota, tat, now, 1)
			if d.Allowed {
				passed++
			} else if _, later := Decide(p.Quota, tat, now+d.RetryAfter.Microseconds(), 1); !later.Allowed || next != tat {
				t.Fatalf("%+v: denied until %v, and still then", p, d.RetryAfter)
			}
			tat = next
			if bound := p.burst() + (now-start)/p.interval() + 1; passed > bound {
				t.Fatalf("%+v: %d passed in %d µs, bound %d", p, passed, now-start, bound)
			}
		}
	})
}

// One behaviour, three memories.
func TestStoresAgree(t *testing.T) {
	t.Parallel()
	shared := NewRedis(devtest.Redis(t))
	local := NewLocal[string](perMinute, 100)
	clock := time.Now()
	tats := map[string]int64{}
	stores := map[string]func(key string) Decision{
		"Decide": func(key string) (d Decision) {
			tats[key], d = Decide(perMinute.Quota, tats[key], clock.UnixMicro(), 1)
			return d
		},
		"Local": func(key string) Decision { return local.Take(key, clock) },
		"Redis": func(key string) Decision {
			d, err := shared.Take(context.Background(), perMinute, key, 1)
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	}
	for name, take := range stores {
		for i := range int64(5) {
			if d := take("a"); !d.Allowed || d.Remaining != 4-i || d.RetryAfter != 0 {
				t.Errorf("%s: request %d: %+v", name, i+1, d)
			}
		}
		if d := take("a"); d.Allowed || d.Remaining != 0 || d.RetryAfter <= 0 || d.RetryAfter > time.Second {
			t.Errorf("%s: request 6: %+v", name, d)
		}
		if d := take("b"); !d.Allowed || d.Remaining != 4 {
			t.Errorf("%s: another key: %+v", name, d)
		}
	}
}

func TestRedisRemembersWhatDecideSays(t *testing.T) {
	t.Parallel()
	rdb, ctx := devtest.Redis(t), context.Background()
	store := NewRedis(rdb)
	if _, err := store.Take(ctx, perMinute, "k", 3); err != nil {
		t.Fatal(err)
	}
	key := "usher:limit:{test.0}:k"
	tat, err := rdb.Get(ctx, key).Int64()
	if err != nil {
		t.Fatal(err)
	}
	if ahead := tat - time.Now().UnixMicro(); ahead <= 2*second || ahead > 3*second {
		t.Errorf("arrival time is %d µs ahead, want just under 3 s", ahead)
	}
	if ttl := rdb.PTTL(ctx, key).Val(); ttl <= 2*time.Second || ttl > 3*time.Second {
		t.Errorf("the key lives for %v, want just under 3 s", ttl)
	}
	if _, err := store.Take(ctx, perMinute, "k", 3); err != nil {
		t.Fatal(err)
	}
	if again := rdb.Get(ctx, key).Val(); again != fmt.Sprint(tat) {
		t.Errorf("a denied request moved the arrival time from %d to %s", tat, again)
	}
}

func TestRedisStorm(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	gateways := []*Redis{NewRedis(rdb), NewRedis(rdb)}
	p := Policy{"storm", Quota{Requests: 1, Window: time.Hour, Burst: 50}}
	var allowed, failed atomic.Int64
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			d, err := gateways[i%2].Take(context.Background(), p, "one key", 1)
			if err != nil {
				failed.Add(1)
				t.Error(err)
			} else if d.Allowed {
				allowed.Add(1)
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 50 {
		t.Errorf("%d of 400 passed, want 50 (%d failed)", allowed.Load(), failed.Load())
	}
}

// One round trip may hold several policies, several keys, and one key several times.
func TestRedisBatches(t *testing.T) {
	t.Parallel()
	store := NewRedis(devtest.Redis(t))
	other := Policy{"other", Quota{Requests: 1, Window: time.Minute, Burst: 2}}
	var batch []*ask
	for _, p := range []Policy{perMinute, other} {
		for _, key := range []string{"a", "b", "a", "a"} {
			batch = append(batch, &ask{policy: p, key: key, cost: 1})
		}
	}
	store.ask(context.Background(), batch)
	want := []bool{true, true, true, true, true, true, true, false}
	for i, a := range batch {
		if a.err != nil || a.answer.Allowed != want[i] {
			t.Errorf("%s %s, number %d: %+v, %v", a.policy.Name, a.key, i, a.answer, a.err)
		}
	}
	if left := batch[3].answer.Remaining; left != 2 {
		t.Errorf("after three of five %d are left", left)
	}
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	if err := rdb.Close(); err != nil {
		t.Fatal(err)
	}
	store := NewRedis(rdb)
	for range 2 { // the second must not wait for a lead that never comes
		if d, err := store.Take(context.Background(), perMinute, "k", 1); err == nil || d.Allowed {
			t.Errorf("decided %+v without Redis", d)
		}
	}
}

func TestLocalIsBounded(t *testing.T) {
	t.Parallel()
	local := NewLocal[int](perMinute, 100)
	now := time.Now()
	for key := range 10_000 {
		local.Take(key, now)
	}
	local.buckets.CleanUp()
	if n := local.buckets.EstimatedSize(); n > 100 {
		t.Errorf("%d buckets, bound 100", n)
	}
}

func TestHeadersAndProblem(t *testing.T) {
	t.Parallel()
	d := Decision{Remaining: 3, RetryAfter: 200 * time.Millisecond, ResetAfter: 1500 * time.Millisecond}
	h := http.Header{}
	SetHeaders(h, perMinute, d)
	if got := h.Get("RateLimit-Policy"); got != `"test";q=60;w=60` {
		t.Error(got)
	}
	if got := h.Get("RateLimit"); got != `"test";r=3;t=2` {
		t.Error(got)
	}
	p := Exceeded(perMinute, d)
	if p.Status != 429 || p.Code != "quota-exceeded" || p.RetryAfter <= 0 || p.Extra["violated-policies"].([]string)[0] != "test" {
		t.Errorf("%+v", p)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]Policy{
		"no name":          {"", Quota{1, time.Second, 0}},
		"no requests":      {"x", Quota{0, time.Second, 0}},
		"a part of second": {"x", Quota{1, 1500 * time.Millisecond, 0}},
		"a week":           {"x", Quota{1, 7 * 24 * time.Hour, 0}},
		"too fast":         {"x", Quota{2_000_000, time.Second, 0}},
		"negative burst":   {"x", Quota{1, time.Second, -1}},
		"endless burst":    {"x", Quota{1, time.Second, 1 << 40}},
	} {
		if p.Validate() == nil {
			t.Errorf("%s: %+v is accepted", name, p)
		}
	}
	if err := perMinute.Validate(); err != nil {
		t.Error(err)
	}
}
