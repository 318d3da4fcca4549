package policy

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
)

var quiet = slog.New(slog.DiscardHandler)

// document reads a document, over nothing.
func document(t testing.TB, text string) Document {
	t.Helper()
	c, faults := Parse([]byte(text))
	for _, f := range faults {
		t.Fatal(f)
	}
	return c.Apply(Document{}, Document{})
}

func engine(t testing.TB, rdb redis.UniversalClient, text string) *Engine {
	t.Helper()
	return NewEngine(Config{Redis: rdb, Log: quiet, Fallback: document(t, text)})
}

// run runs an engine until the test ends.
func run(t *testing.T, e *Engine) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// until waits for a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came that %s", what)
		}
	}
}

func from(addr string) *Query {
	return &Query{Class: Page, Method: http.MethodGet, Host: "shop.example", Path: "/", Addr: netip.MustParseAddr(addr), Shows: Nothing}
}

func ask(e *Engine, q *Query, now time.Time) *Verdict {
	var v Verdict
	e.Decide(context.Background(), q, now, &v)
	return &v
}

// passed counts how many of n equal requests pass.
func passed(e *Engine, q *Query, now time.Time, n int) (count int) {
	for range n {
		if v := ask(e, q, now); v.Rule == nil && !v.Blocked {
			count++
		}
	}
	return count
}

func TestAWalkThroughTheNetworkIsCaught(t *testing.T) {
	t.Parallel()
	e := NewEngine(Config{Redis: devtest.Redis(t), Log: quiet, Fallback: Defaults()})
	now, count := time.Now(), 0
	var last *Verdict
	for i := range 40_000 {
		q := from(fmt.Sprintf("2001:db8:1:%x::1", i))
		if last = ask(e, q, now); last.Rule == nil {
			count++
		}
	}
	if count != 3200 || last.Rule == nil || !last.Rule.Nested || last.Rule.Name != "visit-48" {
		t.Errorf("%d of 40,000 requests from as many /64 of one /48 passed, want 3200: %+v", count, last)
	}
	if n := passed(e, from("192.0.2.1"), now, 1000); n != 200 {
		t.Errorf("%d requests of an IPv4 client passed, want 200", n)
	}
}

// A request that one policy denies is charged to no other.
func TestADeniedRequestIsChargedToNobody(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{"all", "gateway"} {
		e := engine(t, devtest.Redis(t), `{"policies":[
			{"name":"wide","key":["prefix"],"quota":1,"window_s":3600,"burst":10,"scope":"`+scope+`"},
			{"name":"narrow","match":{"path":["/narrow"]},"key":["prefix"],"quota":1,"window_s":3600,"burst":2,"scope":"`+scope+`"}]}`)
		now, narrow := time.Now(), from("192.0.2.1")
		narrow.Path = "/narrow"
		if n := passed(e, narrow, now, 50); n != 2 {
			t.Errorf("%s: %d passed, want 2", scope, n)
		}
		if n := passed(e, from("192.0.2.1"), now, 50); n != 8 {
			t.Errorf("%s: %d more passed, want 8", scope, n)
		}
	}
}

func TestShadowAndCandidateDenyNobody(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	e := engine(t, rdb, `{"policies":[
			{"name":"live","key":["prefix"],"quota":1,"window_s":3600,"burst":20},
			{"name":"try","key":["prefix"],"quota":1,"window_s":3600,"burst":5,"mode":"shadow"},
			{"name":"not","key":["prefix"],"quota":1,"window_s":3600,"burst":1,"mode":"off"}],
		"candidate":{"policies":[{"name":"live","key":["prefix"],"quota":1,"window_s":3600,"burst":8}],"lists":{"block":["203.0.113.0/24"]}}}`)
	now := time.Now()
	q := from("192.0.2.1")
	q.Shows, q.Audience, q.ID = Pass, "gala", "s1"
	if n := passed(e, q, now, 25); n != 20 {
		t.Errorf("%d passed, want 20", n)
	}
	if v := ask(e, from("203.0.113.9"), now); v.Blocked || v.Rule != nil {
		t.Errorf("a candidate blocks: %+v", v)
	}
	stats, err := e.Stats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(struct {
		Live      SetStats
		Candidate *CandidateStats
	}{stats.Live, stats.Candidate})
	want := `{"Live":{"policies":[` +
		`{"name":"live","mode":"enforce","allowed":21,"denied":5,"denied_with_pass":5,"would_deny":0,"would_deny_with_pass":0},` +
		`{"name":"try","mode":"shadow","allowed":6,"denied":0,"denied_with_pass":0,"would_deny":20,"would_deny_with_pass":20}],"blocked":0},` +
		`"Candidate":{"policies":[` +
		`{"name":"live","mode":"enforce","allowed":8,"denied":0,"denied_with_pass":0,"would_deny":17,"would_deny_with_pass":17}],"blocked":1,` +
		`"newly_denied":13,"newly_denied_with_pass":12}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestCostByAnswer(t *testing.T) {
	t.Parallel()
	e := engine(t, devtest.Redis(t), `{"policies":[{"name":"sign-in","key":["prefix"],"quota":1,"window_s":3600,"burst":6,"cost":{"2xx":0,"401":3}}]}`)
	now, q := time.Now(), from("192.0.2.1")
	for range 50 {
		v := ask(e, q, now)
		if v.Rule != nil {
			t.Fatal("sign-ins that succeed are charged")
		}
		v.After.Answered(200)
	}
	for range 2 {
		ask(e, q, now).After.Answered(401)
	}
	if ask(e, q, now).Rule == nil {
		t.Error("two answers that cost three each left something of six")
	}
}

func TestClearedAndSolvedChargeNoPrefix(t *testing.T) {
	t.Parallel()
	e := engine(t, devtest.Redis(t), `{"policies":[{"name":"visit","key":["prefix"],"quota":1,"window_s":3600,"burst":3}]}`)
	now, q := time.Now(), from("192.0.2.1")
	passed(e, q, now, 10)
	q.Clearance = "a"
	if n := passed(e, q, now, 10); n != 3 {
		t.Errorf("%d passed by a clearance of its own, want 3", n)
	}
	q.Clearance, q.Solved = "", true
	if n := passed(e, q, now, 10); n != 10 {
		t.Errorf("%d passed with a solved challenge each, want all", n)
	}
}

type answers struct {
	holds    bool
	identity string
}

func (a answers) Holds(string) bool { return a.holds }
func (a answers) Identity() string  { return a.identity }

func TestHoldersOfTheRoomsPassAreNotSentToIt(t *testing.T) {
	t.Parallel()
	e := engine(t, devtest.Redis(t), `{"policies":[
		{"name":"busy","match":{"path":["/busy*"]},"key":["global"],"quota":1,"window_s":3600,"burst":2,"action":"room","room":"gala"},
		{"name":"who","key":["identity"],"quota":1,"window_s":3600,"burst":1}]}`)
	now, q := time.Now(), from("192.0.2.1")
	q.Path = "/BUSY/day"
	for _, c := range []struct {
		ask  Asker
		want int
	}{{answers{holds: true}, 9}, {answers{}, 2}, {answers{}, 0}, {answers{holds: true}, 9}, {answers{true, "ada"}, 1}} {
		q.Ask = c.ask
		if n := passed(e, q, now, 9); n != c.want {
			t.Errorf("%+v: %d passed, want %d", c.ask, n, c.want)
		}
	}
}

func TestListsGoBeforePolicies(t *testing.T) {
	t.Parallel()
	e := engine(t, devtest.Redis(t), `{"policies":[{"name":"visit","key":["prefix"],"quota":1,"window_s":3600,"burst":1}],
		"lists":{"allow":["198.51.100.0/24","203.0.113.7"],"block":["203.0.113.0/24","2001:db8::/32"]}}`)
	now := time.Now()
	for addr, want := range map[string]int{"198.51.100.9": 5, "203.0.113.7": 5, "203.0.113.8": 0, "2001:db8:1::1": 0, "192.0.2.1": 1} {
		if n := passed(e, from(addr), now, 5); n != want {
			t.Errorf("%s: %d passed, want %d", addr, n, want)
		}
	}
}

// What Redis' absence means is each policy's own to say, and is over when Redis is back.
func TestAway(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	e := engine(t, rdb, `{"policies":[
		{"name":"share","match":{"path":["/share"]},"key":["prefix"],"quota":1,"window_s":3600,"burst":12},
		{"name":"allow","match":{"path":["/allow"]},"key":["prefix"],"quota":1,"window_s":3600,"burst":2,"away":"allow"},
		{"name":"refuse","match":{"path":["/refuse"]},"key":["prefix"],"quota":1,"window_s":3600,"burst":2,"away":"refuse"}]}`)
	e.gateways.Store(3)
	now := time.Now()
	e.lost(context.Background(), now.UnixMilli(), fmt.Errorf("a test"))
	q := from("192.0.2.1")
	for path, want := range map[string]int{"/share": 4, "/allow": 20, "/refuse": 0} {
		q.Path = path
		if n := passed(e, q, now, 20); n != want {
			t.Errorf("%s: %d passed without Redis, want %d", path, n, want)
		}
		v := ask(e, q, now)
		if v.Reduced != (path == "/share") || v.Refused != (path == "/refuse") {
			t.Errorf("%s: %+v", path, v)
		}
	}
	e.found(context.Background(), now.Add(awayTime).UnixMilli())
	for path, want := range map[string]int{"/share": 8, "/allow": 2, "/refuse": 2} {
		q.Path = path
		if n := passed(e, q, now, 20); n != want {
			t.Errorf("%s: %d more passed with Redis back, want %d", path, n, want)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	rdb := devtest.Redis(b)
	for _, set := range []struct {
		name string
		doc  Document
	}{{"defaults", Defaults()}, {"hundred", hundred()}} {
		for _, who := range []string{"visitor", "stranger", "denied", "join"} {
			b.Run(set.name+"/"+who, func(b *testing.B) {
				e := NewEngine(Config{Redis: rdb, Log: quiet, Fallback: set.doc})
				q, now, step := from("192.0.2.1"), time.Now(), 100*time.Millisecond
				switch who {
				case "visitor":
					q.Class, q.Shows, q.Audience, q.ID = PlaceCall, Place, "gala", "17"
				case "denied":
					step = 0
					passed(e, q, now, 1000)
				case "join":
					q.Class = Join
				}
				addr := [4]byte{10}
				b.ReportAllocs()
				for b.Loop() {
					now = now.Add(step)
					if who == "join" { // each from an address of its own
						binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(addr[:])+1)
						q.Addr = netip.AddrFrom4(addr)
					}
					var v Verdict
					e.Decide(context.Background(), q, now, &v)
					if (v.Rule != nil) != (who == "denied") {
						b.Fatalf("%+v", v)
					}
				}
			})
		}
	}
}

// hundred is as many policies as there may be, of which few match.
func hundred() Document {
	d := Defaults()
	for i := len(d.Policies); i < maxPolicies; i++ {
		p := Policy{Name: fmt.Sprintf("p-%d", i), Match: Match{Host: []string{fmt.Sprintf("h%d.example", i)}}, Key: []Part{ByPrefix}, Quota: 10, Window: 1}
		p.fill()
		d.Policies = append(d.Policies, p)
	}
	return d
}
