package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"usher/gateway/policy"
	"usher/internal/operator"
	"usher/internal/problem"
)

// operate makes a call with the operator's key.
func (v *visitor) operate(status int, code, method, path, body string) answer {
	v.site.t.Helper()
	return v.want(status, code, method, path, body, "Authorization", "Bearer "+testKey)
}

// shown are policies as an operator reads them.
type shown struct {
	Version   int64
	Policies  []json.RawMessage
	Candidate json.RawMessage
}

// policies sets policies, and waits until the gateways given have them.
func (s *site) policies(document string, all ...*site) {
	s.t.Helper()
	set := decode[shown](s.t, s.visitor().operate(200, "", "PUT", policiesPath, document))
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, other := range all {
		for {
			if _, version := other.server.limits.engine.Document(); version == set.Version {
				break
			}
			select {
			case <-tick.C:
			case <-deadline:
				s.t.Fatal("a gateway never had the policies")
			}
		}
	}
}

func TestOperatorsSetPolicies(t *testing.T) {
	t.Parallel()
	a := open(t)
	b := a.another()
	ops := a.visitor()
	first := decode[shown](t, ops.operate(200, "", "GET", policiesPath, ""))
	if first.Version != 0 || len(first.Policies) != len(policy.Defaults().Policies) || string(first.Candidate) != "null" {
		t.Errorf("at first: %+v", first)
	}
	a.policies(`{"policies":[{"name":"few","match":{"class":"page"},"key":"prefix","quota":1,"window_s":3600,"burst":2}],
		"candidate":{"policies":[{"name":"none","match":{"class":"page"},"key":"prefix","quota":1,"window_s":3600,"burst":1}]}}`, a, b)
	fan := b.visitor()
	for range 2 {
		if r := fan.want(200, "", "GET", "/", ""); r.header.Get("RateLimit-Policy") != `"few";q=1;w=3600` {
			t.Errorf("%v", r.header)
		}
	}
	fan.want(429, "quota-exceeded", "GET", "/", "")
	fan.want(200, "", "GET", "/assets/a.js", "")

	// What is shown can be sent back, and whoever was slower is told.
	as := ops.operate(200, "", "GET", policiesPath, "").body
	ops.operate(200, "", "PUT", policiesPath, as)
	ops.operate(409, "policies-changed", "PUT", policiesPath, as)
	var stats policy.Stats
	until(t, a.set("gala", `{}`), "the gateways count each other", func() bool {
		stats = decode[policy.Stats](t, ops.operate(200, "", "GET", policiesPath+"/stats", ""))
		return stats.Gateways == 2
	})
	if stats.By != "test" || stats.Since == nil || len(stats.Live.Policies) != 1 || stats.Candidate == nil {
		t.Errorf("%+v", stats)
	}
	if restored := decode[shown](t, ops.operate(200, "", "PUT", policiesPath, `{"policies":null,"candidate":null}`)); len(restored.Policies) != len(first.Policies) || string(restored.Candidate) != "null" {
		t.Errorf("%+v", restored)
	}
}

func TestPoliciesAreReadWithCare(t *testing.T) {
	t.Parallel()
	s := open(t)
	ops := s.visitor()
	r := ops.operate(422, "invalid", "PUT", policiesPath, `{"policies":[{"name":"x","key":"prefix","quota":0,"window_s":1,"colour":1}],"more":1}`)
	for _, location := range []string{"body.policies[0].quota", "body.policies[0]", "body"} {
		if !strings.Contains(r.body, `"location":"`+location+`"`) {
			t.Errorf("%s is not named: %s", location, r.body)
		}
	}
	ops.operate(400, "bad-request", "PUT", policiesPath, `policies: []`)
	var networks []string
	for i := range 8000 {
		networks = append(networks, fmt.Sprintf(`"10.%d.%d.0/24"`, i/256, i%256))
	}
	ops.operate(200, "", "PUT", policiesPath, `{"lists":{"block":[`+strings.Join(networks, ",")+`]}}`)
	ops.operate(413, "body-too-large", "PUT", policiesPath, `{"lists":{"block":["`+strings.Repeat("1", policy.MaxBody)+`"]}}`)
	ops.want(401, "unauthenticated", "GET", policiesPath, "")
	if err := operator.AddKey(context.Background(), s.rdb, "usher_viewer", operator.Principal{ID: "v", Name: "v", Role: operator.Viewer}); err != nil {
		t.Fatal(err)
	}
	ops.want(200, "", "GET", policiesPath, "", "Authorization", "Bearer usher_viewer")
	ops.want(403, "forbidden", "PUT", policiesPath, `{}`, "Authorization", "Bearer usher_viewer")
}

// An operator who has locked everyone out can still mend it; strangers cannot.
func TestNobodyLocksThemselvesOut(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.policies(`{"policies":[{"name":"none","key":"global","quota":1,"window_s":86400,"burst":1}],"lists":{"block":["198.18.0.0/15"]}}`)
	ops := s.visitor()
	ops.want(403, "network-blocked", "GET", "/", "")
	ops.want(403, "network-blocked", "GET", policiesPath, "", "Authorization", "Bearer usher_wrong")
	ops.operate(403, "network-blocked", "GET", "/api/v1/operate/rooms", "")
	ops.operate(200, "", "GET", policiesPath, "")
	ops.operate(200, "", "PUT", policiesPath, `{"policies":null,"lists":null}`)
	ops.want(200, "", "GET", "/", "")
}

func TestWhatADenialSays(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	s.policies(`{"policies":[
		{"name":"site","match":{"path":"/calm"},"key":"prefix48","quota":1,"window_s":3600,"burst":1},
		{"name":"busy","match":{"path":["/busy","/api/v1/events"]},"key":"global","quota":1,"window_s":3600,"burst":1,"action":"room","room":"gala"},
		{"name":"hard","match":{"path":"/hard"},"key":["prefix","path"],"quota":1,"window_s":3600,"burst":1,"action":"challenge"},
		{"name":"two","match":{"path":"/hard"},"key":"global","quota":100,"window_s":60}],
		"lists":{"block":["203.0.113.0/24"]}}`)
	kind := func(a answer) string { return decode[struct{ Type string }](t, a).Type }

	walker := s.visitor()
	walker.from = "2001:db8:7:1::1"
	walker.want(200, "", "GET", "/calm", "")
	walker.from = "2001:db8:7:2::1"
	if r := walker.want(429, "quota-exceeded", "GET", "/calm", ""); !strings.HasSuffix(kind(r), "#abnormal-usage-detected") {
		t.Error(r.body)
	}

	blocked := s.visitor()
	blocked.from = "203.0.113.77"
	if r := blocked.want(403, "network-blocked", "GET", "/", ""); !strings.HasSuffix(kind(r), "#abnormal-usage-detected") {
		t.Error(r.body)
	}

	fan := s.visitor()
	fan.want(200, "", "GET", "/busy", "", "Accept", "text/html")
	if r := fan.want(303, "", "GET", "/busy", "", "Accept", "text/html"); r.header.Get("Location") != "/rooms/gala?return_to=%2Fbusy" {
		t.Error(r.header)
	}
	fan.want(403, "pass-required", "GET", "/api/v1/events", "")
	now := time.Now()
	fan.want(200, "", "GET", "/busy", "", "Usher-Pass", s.pass("gala", "a session", now, now.Add(time.Hour)))

	if r := fan.want(200, "", "GET", "/hard", ""); r.header.Get("RateLimit-Policy") != `"hard";q=1;w=3600, "two";q=100;w=60` ||
		r.header.Get("RateLimit") != `"hard";r=0;t=3600, "two";r=99;t=1` {
		t.Errorf("%v", r.header)
	}
	fan.want(403, "challenge-required", "GET", "/hard", "")
}

func TestAPolicyAsksForAChallenge(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { setLimit(c, "joins", 1, 3600, 2) })
	s.set("gala", `{"pace_per_min":0}`)
	s.server.limits.challenge = func(_ http.ResponseWriter, _ *http.Request, _ *visit, over exceeded) *problem.Problem {
		return problem.New(http.StatusForbidden, "challenge-required", "Please solve this.").With("policy", over.Rule.Name)
	}
	defaults, _ := s.server.limits.engine.Document()
	text := string(mustJSON(policiesInForce{Policies: defaults.Policies, Lists: defaults.Lists}))
	s.policies(strings.ReplaceAll(text, `"action":"deny"`, `"action":"challenge"`))
	bot := s.visitor()
	for range 2 {
		bot.client.Jar = nil
		bot.want(201, "", "POST", "/api/v1/rooms/gala/places", "")
	}
	if r := bot.want(403, "challenge-required", "POST", "/api/v1/rooms/gala/places", ""); !strings.Contains(r.body, `"policy":"joins"`) ||
		!strings.HasPrefix(r.header.Get("RateLimit-Policy"), `"visit";q=50;w=1, "joins";q=1;w=3600`) {
		t.Errorf("%v %s", r.header, r.body)
	}
}
