package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/gateway/challenge"
	"usher/gateway/policy"
)

// askedFor is a refusal with a challenge.
type askedFor struct {
	Challenge json.RawMessage `json:"challenge"`
}

// solution solves the challenge in a refusal, as the body of a join.
func (v *visitor) solution(a answer) string {
	v.site.t.Helper()
	offer := decode[askedFor](v.site.t, a).Challenge
	solved, err := challenge.Solve(context.Background(), offer)
	if err != nil {
		v.site.t.Fatalf("%v in %d %s", err, a.status, a.body)
	}
	return fmt.Sprintf(`{"challenge":%q}`, solved)
}

const galaPlaces = "/api/v1/rooms/gala/places"

func TestARoomUnderAttackAsksForProofs(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0,"challenge":"always"}`)
	fan := s.visitor()
	asked := fan.want(403, "challenge-required", "POST", galaPlaces, "")
	body := fan.solution(asked)
	if got := fan.do("POST", galaPlaces, body); got.status != 201 {
		t.Fatalf("with a proof: %d %s", got.status, got.body)
	}
	fan.want(200, "", "POST", galaPlaces, "") // who has a place is asked for nothing
	fan.want(200, "", "POST", galaPlaces, body)

	// One proof, shown twenty times at once by as many browsers, at two gateways: one place.
	other := s.another()
	other.line("gala")
	first := s.visitor()
	body = first.solution(first.want(403, "challenge-required", "POST", galaPlaces, ""))
	var given, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		thief := []*site{s, other}[i%2].visitor()
		thief.from = first.from
		wg.Go(func() {
			switch a := thief.do("POST", galaPlaces, body); {
			case a.status == 201:
				given.Add(1)
			case a.code() == "challenge-required":
				refused.Add(1)
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if given.Load() != 1 || refused.Load() != 19 {
		t.Errorf("one proof gave %d places and %d refusals", given.Load(), refused.Load())
	}

	// Nobody else's proof is good, nor one for another room; nonsense is no error of ours.
	s.set("other", `{"pace_per_min":0,"challenge":"always"}`)
	a, b := s.visitor(), s.visitor()
	body = a.solution(a.want(403, "challenge-required", "POST", galaPlaces, ""))
	b.want(403, "challenge-required", "POST", galaPlaces, body)
	a.want(403, "challenge-required", "POST", "/api/v1/rooms/other/places", body)
	b.want(403, "challenge-required", "POST", galaPlaces, `{"challenge":"nonsense"}`)
	// The same browser over another network.
	a.from = "2001:db8:3:4::1"
	a.want(201, "", "POST", galaPlaces, body)

	// The page without JavaScript says so.
	page := decode[WaitingPage](t, s.visitor().want(403, "", "POST", "/rooms/gala/join", ""))
	if page.Check != "asked" || page.Problem != "" {
		t.Errorf("the page says %+v", page)
	}
	// Where there is no place to be had, there is nothing to solve for; in bypass neither.
	s.set("gala", `{"state":"closed"}`)
	s.visitor().want(409, "room-closed", "POST", galaPlaces, "")
	s.set("gala", `{"state":"bypass"}`)
	s.visitor().want(201, "", "POST", galaPlaces, "")
}

// Who comes from a network that the operator knows is asked for nothing, in the room and on its page; the narrowest
// network that is listed counts.
func TestAnAllowedNetworkIsNotChallenged(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) {
		set := policy.Defaults()
		set.Lists = policy.Lists{Allow: []string{"198.51.100.0/24"}, Block: []string{"198.51.100.9"}}
		c.Policies = &set
	})
	s.set("gala", `{"pace_per_min":0,"challenge":"always"}`)
	from := func(address string) *visitor {
		v := s.visitor()
		v.from = address
		return v
	}
	from("203.0.113.7").want(403, "challenge-required", "POST", galaPlaces, "")
	from("198.51.100.7").want(201, "", "POST", galaPlaces, "")
	from("198.51.100.7").want(201, "", "POST", galaPlaces, `{"challenge":"whatever"}`)
	from("198.51.100.8").want(303, "", "POST", "/rooms/gala/join", "")
	from("198.51.100.9").want(403, "network-blocked", "POST", galaPlaces, "")
}

// A crowd behind one address that comes too fast is told to wait, and may solve instead;
// who has solved charges the address nothing.
func TestACrowdBehindOneAddressMaySolve(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { setLimit(c, "joins", 1, 3600, 10) })
	s.set("gala", `{"pace_per_min":0}`)
	campus := s.visitor()
	next := func() *visitor {
		v := s.visitor()
		v.from = campus.from
		return v
	}
	for range 10 {
		next().want(201, "", "POST", galaPlaces, "")
	}
	for range 20 {
		fan := next()
		asked := fan.want(429, "quota-exceeded", "POST", galaPlaces, "")
		if asked.header.Get("Retry-After") == "" {
			t.Error("a refusal without Retry-After")
		}
		fan.want(201, "", "POST", galaPlaces, fan.solution(asked))
	}
	next().want(429, "quota-exceeded", "POST", galaPlaces, `{"challenge":"nonsense"}`)
	s.set("gala", `{"challenge":"off"}`)
	if a := next().want(429, "quota-exceeded", "POST", galaPlaces, ""); strings.Contains(a.body, "challenge") {
		t.Errorf("a challenge where there are none: %s", a.body)
	}
}

// Who cannot solve a challenge waits, with JavaScript or without.
func TestWaitingInsteadOfSolving(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.ChallengeWait = time.Second })
	line := s.set("gala", `{"pace_per_min":0,"challenge":"always"}`)
	fan := s.visitor()
	if slow := decode[struct {
		Challenge struct {
			SlowPath challenge.SlowPath `json:"slow_path"`
		}
	}](t, fan.want(403, "challenge-required", "POST", galaPlaces, "")).Challenge.SlowPath; slow.URL != "/api/v1/rooms/gala/check" || slow.WaitS != 1 {
		t.Errorf("the slow path is %+v", slow)
	}
	turn := decode[turnTaken](t, fan.want(200, "", "POST", "/api/v1/rooms/gala/check", ""))
	app := s.visitor()
	app.from = fan.from
	until(t, line, "the turn has come", func() bool {
		a := app.do("POST", galaPlaces, fmt.Sprintf(`{"challenge":%q}`, turn.Answer))
		if a.status != 201 && a.code() != "challenge-required" {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if a.status == 201 && time.Now().Before(turn.ReadyAt.Add(-2*time.Second)) {
			t.Errorf("a place long before %v", turn.ReadyAt)
		}
		return a.status == 201
	})
	fan.want(403, "challenge-required", "POST", galaPlaces, "") // the turn in its cookie was used

	plain := s.visitor()
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	plain.want(403, "", "POST", "/rooms/gala/join", "", form...)
	plain.want(303, "", "POST", "/rooms/gala/check", "", form...)
	if page := decode[WaitingPage](t, plain.want(200, "", "GET", "/rooms/gala", "")); page.Check == "turn" && (page.CheckAt == nil || page.Refresh == 0) {
		t.Errorf("the page of one who waits: %+v", page)
	}
	until(t, line, "the page's button works", func() bool {
		return plain.do("POST", "/rooms/gala/join", "", form...).status == 303
	})
	plain.want(200, "", "GET", "/api/v1/rooms/gala/place", "")
}

// A policy may challenge instead of denying: what is solved clears the browser, which is
// then charged alone, whatever its address.
func TestAPolicyThatChallenges(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) {
		defaults := policy.Defaults()
		c.Policies = &defaults
		defaults.Policies[0].Quota, defaults.Policies[0].Window, defaults.Policies[0].Burst, defaults.Policies[0].Action = 1, 3600, 5, policy.Challenge
	})
	s.set("gala", `{"pace_per_min":0}`)
	fan, neighbour := s.visitor(), s.visitor()
	neighbour.from = fan.from
	for range 5 {
		fan.want(200, "", "GET", "/api/v1/rooms/gala", "")
	}
	asked := fan.want(403, "challenge-required", "GET", "/api/v1/rooms/gala", "")
	fan.want(403, "challenge-required", "POST", clearancePath, `{"challenge":"nonsense"}`)
	fan.want(204, "", "POST", clearancePath, fan.solution(asked))
	for range 5 {
		fan.want(200, "", "GET", "/api/v1/rooms/gala", "")
	}
	fan.want(403, "challenge-required", "GET", "/api/v1/rooms/gala", "") // it has a quota of its own, no more
	neighbour.want(403, "challenge-required", "GET", "/api/v1/rooms/gala", "")
}

// A clearance is won by a proof, and neither it nor the other cookies of a check ever
// reach an origin.
func TestClearanceOfABrowser(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	asked := fan.want(403, "challenge-required", "POST", clearancePath, `{"challenge":""}`)
	fan.want(204, "", "POST", clearancePath, fan.solution(asked))
	fan.want(422, "invalid", "POST", clearancePath, `{"other":1}`)
	r := fan.request("GET", "/api/v1/events", "")
	sent := decode[seen](t, fan.send(r))
	for _, name := range []string{checkCookie, clearedCookie} {
		if strings.Contains(sent.Header.Get("Cookie"), name) {
			t.Errorf("the origin is sent %s", sent.Header.Get("Cookie"))
		}
	}
	found := false
	for _, c := range fan.client.Jar.Cookies(s.url) {
		if c.Name != clearedCookie {
			continue
		}
		r.AddCookie(c)
		found = true
	}
	if v, p := newVisit(r, nil); !found || p != nil || s.server.cleared(r, v) == "" {
		t.Error("the browser has no clearance")
	}
}

// Turnstile answers, as its protocol has it; while it does not, proofs of work stand in.
func TestTurnstile(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{ // the test sees what is missing
			"success": strings.HasPrefix(r.FormValue("response"), "person"), "hostname": "127.0.0.1",
			"challenge_ts": time.Now().UTC().Format(time.RFC3339), "action": challenge.Action,
		})
	}))
	t.Cleanup(service.Close)
	outside, err := challenge.NewOutside("turnstile", "site-key", "hush", service.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, func(c *Config) { c.Outside = outside })
	s.set("gala", `{"pace_per_min":0,"challenge":"always"}`)
	fan := s.visitor()
	if a := fan.want(403, "challenge-required", "POST", galaPlaces, ""); !strings.Contains(a.body, `"provider":"turnstile"`) || strings.Contains(a.body, "hush") {
		t.Errorf("the offer is %s", a.body)
	}
	if page := decode[WaitingPage](t, fan.want(200, "", "GET", "/rooms/gala", "")); page.Outside != "turnstile" {
		t.Errorf("the page is not told to let Turnstile in: %+v", page)
	}
	fan.want(403, "challenge-required", "POST", galaPlaces, `{"challenge":"robot"}`)
	fan.want(201, "", "POST", galaPlaces, `{"challenge":"person 1"}`)
	s.visitor().want(403, "challenge-required", "POST", galaPlaces, `{"challenge":"person 1"}`)
	away.Store(true)
	late := s.visitor()
	late.want(201, "", "POST", galaPlaces, late.solution(late.want(403, "challenge-required", "POST", galaPlaces, `{"challenge":"person 2"}`)))
}
