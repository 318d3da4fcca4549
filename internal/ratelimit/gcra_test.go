package ratelimit

import (
	"testing"
	"time"
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
		"an unknown key has the whole burst":                {0, 1, now + second, Decision{true, 4, 0, time.Second}},
		"a key long idle is as good as unknown":             {now - 3600*second, 1, now + second, Decision{true, 4, 0, time.Second}},
		"the last of the burst":                             {now + 4*second, 1, now + 5*second, Decision{true, 0, 0, 5 * time.Second}},
		"one too many":                                      {now + 5*second, 1, now + 5*second, Decision{false, 0, time.Second, 5 * time.Second}},
		"half a second early":                               {now + 4*second + second/2, 1, now + 4*second + second/2, Decision{false, 0, time.Second / 2, 4*time.Second + time.Second/2}},
		"a microsecond early":                               {now + 4*second + 1, 1, now + 4*second + 1, Decision{false, 0, time.Microsecond, 4*time.Second + time.Microsecond}},
		"a cost of three":                                   {now + second, 3, now + 4*second, Decision{true, 1, 0, 4 * time.Second}},
		"a cost of three with two left is denied":           {now + 3*second, 3, now + 3*second, Decision{false, 2, time.Second, 3 * time.Second}},
		"a question that costs nothing":                     {now + 5*second, 0, now + 5*second, Decision{true, 0, 0, 5 * time.Second}},
		"a debt beyond the burst":                           {now + 8*second, 1, now + 8*second, Decision{false, 0, 4 * time.Second, 8 * time.Second}},
		"what a wider quota or a clock that went back left": {now + 9999*second, 1, now + 10*second, Decision{false, 0, 6 * time.Second, 10 * time.Second}},
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
