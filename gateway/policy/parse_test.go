package policy

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func TestFaultsNameTheirPlace(t *testing.T) {
	t.Parallel()
	text := `policies:
  - name: Bad Name
    key: [prefix, prefix48]
    quota: 0
    window_s: 90000
    colour: red
  - name: a
    key: [global, path]
    quota: 5
    window_s: 1
    cost: {404: 9, teapot: 1}
  - name: a
    key: []
    quota: 5
    window_s: 1
    action: room
    match: {class: [join, jion], method: post, path: [relative, /a*b], host: [UPPER], header: {"bad name": x}}
  - key: prefix
  - name: slow
    key: prefix
    quota: 1
    window_s: 86400
    burst: 1000
lists:
  allow: [192.0.2.0/24, 0.0.0.0/0, nonsense]
  block: [192.0.2.0/24]
candidate:
  policies:
    - {name: x, key: prefix, quota: 1.5, window_s: "1"}
unknown: 1
policies: []
`
	_, faults := Parse([]byte(text))
	got := map[string]int{}
	for _, f := range faults {
		got[f.Path] = f.Line
	}
	for path, line := range map[string]int{
		"body.policies[0].name": 2, "body.policies[0].key": 3, "body.policies[0].quota": 4, "body.policies[0].window_s": 5, "body.policies[0]": 6,
		"body.policies[1].key": 8, "body.policies[1].cost": 11, "body.policies[2].name": 12, "body.policies[2].key": 13,
		"body.policies[2].match.class[1]": 17, "body.policies[2].match.method": 17, "body.policies[2].match.path[0]": 17, "body.policies[2].match.path[1]": 17,
		"body.policies[2].match.host[0]": 17, "body.policies[2].match.header": 17,
		"body.policies[3].name": 18, "body.policies[3].quota": 18, "body.policies[3].window_s": 18, "body.policies[4].burst": 19,
		"body.lists.allow[1]": 25, "body.lists.allow[2]": 25, "body.lists.block[0]": 26,
		"body.candidate.policies[0].quota": 29, "body.candidate.policies[0].window_s": 29, "body": 30, "body.policies": 31,
	} {
		if got[path] != line {
			t.Errorf("%s: line %d, want %d", path, got[path], line)
		}
		delete(got, path)
	}
	for path, line := range got {
		t.Errorf("line %d: %s is no fault", line, path)
	}
	for _, f := range faults {
		if strings.Contains(f.Message, "jion") || strings.Contains(f.Message, "nonsense") {
			t.Errorf("%s repeats what was sent", f.Error())
		}
	}
}

// What is shown can be set again, and means the same.
func TestDocumentsComeBackAsTheyAre(t *testing.T) {
	t.Parallel()
	full := Defaults()
	full.Policies = append(full.Policies, Policy{Name: "all", Match: Match{Class: []Class{Site}, Method: []string{"GET"}, Host: []string{"*.example"}, Path: []string{"/a*"},
		Header: map[string]string{"User-Agent": "curl*", "X-None": ""}, Shows: []Shown{Nothing}}, Key: []Part{ByPrefix, ByRoom, ByPath}, Quota: 3, Window: 60, Burst: 9,
		Cost: Cost{Base: 2, Status: map[string]int64{"404": 5, "5xx": 0}}, Action: ToRoom, Room: "gala", Mode: Shadow, Scope: OneGateway, Away: Refuse})
	full.Lists = Lists{Allow: []string{"192.0.2.0/24"}, Block: []string{"2001:db8::1/128"}}
	full.Candidate = &Set{Policies: []Policy{full.Policies[0]}, Lists: Lists{Allow: []string{}, Block: []string{}}}
	text, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	change, faults := Parse(text)
	for _, f := range faults {
		t.Fatal(f)
	}
	if got := change.Apply(Document{}, Document{}); !reflect.DeepEqual(got, full) {
		again, _ := json.Marshal(got)
		t.Errorf("got  %s\nwant %s", again, text)
	}
}

func TestAbsentKeepsAndNullRestores(t *testing.T) {
	t.Parallel()
	now := document(t, `{"policies":[{"name":"mine","key":"global","quota":1,"window_s":1}],"lists":{"block":["192.0.2.1"]},"candidate":{}}`)
	for text, want := range map[string]struct {
		policies, blocked int
		candidate         bool
	}{
		`{}`:                 {1, 1, true},
		`{"policies":null}`:  {len(Defaults().Policies), 1, true},
		`{"policies":[]}`:    {0, 1, true},
		`{"lists":null}`:     {1, 0, true},
		`{"lists":{}}`:       {1, 0, true},
		`{"candidate":null}`: {1, 1, false},
	} {
		change, faults := Parse([]byte(text))
		for _, f := range faults {
			t.Error(f)
		}
		got := change.Apply(now, Defaults())
		if len(got.Policies) != want.policies || len(got.Lists.Block) != want.blocked || (got.Candidate != nil) != want.candidate {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	one := `{"name":"x","key":"global","quota":1,"window_s":1}`
	for _, text := range []string{
		`{"policies":[` + strings.Repeat(one+",", maxPolicies) + one + `]}`,
		`{"lists":{"allow":["10.0.0.1"` + strings.Repeat(`,"10.0.0.1"`, maxNetworks) + `]}}`,
		`{"policies":[{"name":"x","key":"global","quota":2000000,"window_s":1}]}`,
		`{"policies":[{"name":"x","key":"global","quota":1000000000,"window_s":86400}]}`,
		`{"policies":[{"name":"x","key":"global","quota":1,"window_s":1,"action":"room"}]}`,
		`{"policies":[{"name":"x","key":"global","quota":1,"window_s":1,"room":"gala"}]}`,
		`[]`, `1`, ``, `{"a":*b}`, `&a [*a]`,
	} {
		if _, faults := Parse([]byte(text)); len(faults) == 0 {
			t.Errorf("accepted: %.100s", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := json.Marshal(Defaults())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("policies: [{name: a, key: prefix, quota: 1, window_s: 1, cost: {2xx: 0}}]\nlists: {allow: [::1]}")
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) && yaml.Unmarshal([]byte(text), &yaml.Node{}) != nil {
			return
		}
		change, faults := Parse([]byte(text))
		if len(faults) > 0 {
			return
		}
		d := change.Apply(Defaults(), Defaults())
		compile(d.Set, true, nil)
		shown, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, faults := Parse(shown); len(faults) > 0 {
			t.Fatalf("what was taken is refused when it comes back: %v", faults)
		}
	})
}

func TestClasses(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]Class{
		"POST /api/v1/rooms/gala/places": PlaceCall, "GET /api/v1/rooms/gala/place/ws": PlaceCall, "POST /api/v1/rooms/gala/pass": Claim, "GET /api/v1/rooms/gala": API,
		"GET /rooms/gala": Page, "POST /rooms/gala/join": PlaceCall, "POST /rooms/gala/enter": Claim, "GET /rooms/_/assets/a.js": Asset, "GET /assets/a.js": Asset, "GET /": Page,
		"GET /api/v1/events": Catalogue, "GET /api/v1/events/gala/performances/1/plan": Catalogue,
		"GET /api/v1/events/gala/performances/1/availability": Availability, "GET /api/v1/events/gala/performances/1/availability/ws": Availability,
		"POST /api/v1/events/gala/performances/1/holds": Hold, "DELETE /api/v1/events/gala/performances/1/holds/x": Hold,
		"POST /api/v1/events/gala/orders": Order, "GET /api/v1/events/gala/orders/1": Order, "POST /api/v1/payments/stripe/webhook": Payment, "POST /sandbox/payments/1/approve": Payment,
		"POST /api/v1/checkin": CheckIn, "POST /api/v1/operate/session": SignIn, "DELETE /api/v1/operate/session": Operate, "PUT /api/v1/operate/policies": Operate,
		"GET /authz/nginx": Authz, "GET /api/v1/openapi.json": API,
	} {
		method, path, _ := strings.Cut(call, " ")
		if got := ClassOf(method, path); got != want {
			t.Errorf("%s is %s, want %s", call, got, want)
		}
	}
}

func TestMatching(t *testing.T) {
	t.Parallel()
	q := from("192.0.2.1")
	q.Host, q.Path, q.Header = "a.shop.example", "/Tickets/Vip", http.Header{"User-Agent": {"curl/8"}, "X-Empty": {""}}
	for match, want := range map[string]bool{
		`{}`:                                     true,
		`{"class":"page","method":["GET"]}`:      true,
		`{"class":["join","hold"]}`:              false,
		`{"method":"POST"}`:                      false,
		`{"host":["*.shop.example"]}`:            true,
		`{"host":["shop.example"]}`:              false,
		`{"host":["a.shop*"]}`:                   true,
		`{"path":"/tickets/*"}`:                  true, // case is no way round a limit
		`{"path":["/x","/tickets/vip"]}`:         true,
		`{"path":"/tickets"}`:                    false,
		`{"header":{"user-agent":"curl*"}}`:      true,
		`{"header":{"user-agent":"*"}}`:          true,
		`{"header":{"user-agent":""}}`:           false,
		`{"header":{"accept-language":""}}`:      true,
		`{"header":{"accept-language":"*"}}`:     false,
		`{"shows":["place","pass"]}`:             false,
		`{"shows":"nothing","class":["page"]}`:   true,
		`{"path":"/tickets/*","method":["PUT"]}`: false,
	} {
		set := compile(document(t, `{"policies":[{"name":"x","match":`+match+`,"key":"prefix","quota":1,"window_s":1}]}`).Set, true, nil)
		rules := set.by[q.Class][q.shown()]
		if got := len(rules) == 1 && rules[0].matches(q); got != want {
			t.Errorf("%s: %v, want %v", match, got, want)
		}
	}
}
