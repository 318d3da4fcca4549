package queue

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"usher/internal/operator"
	"usher/internal/problem"
)

// desk is an operator's way in: the endpoints over a stage.
type desk struct {
	t   *testing.T
	url string
}

const deskKey = "usher_test_0123456789abcdef"

func (s *stage) desk() desk {
	s.t.Helper()
	for key, p := range map[string]operator.Principal{
		deskKey:             {ID: "k1", Name: "Ada", Role: operator.Admin},
		deskKey + "-viewer": {ID: "k2", Name: "Vi", Role: operator.Viewer, Events: []string{"r"}},
	} {
		if err := operator.AddKey(s.t.Context(), s.rdb, key, p); err != nil {
			s.t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	api := humago.New(mux, problem.HumaConfig("test"))
	RegisterOperate(api, s.halls[0], operator.NewAuthenticator(s.rdb, s.ring))
	server := httptest.NewServer(mux)
	s.t.Cleanup(server.Close)
	return desk{s.t, server.URL + "/api/v1/operate/rooms"}
}

func (d desk) do(key, method, path, body string) (int, map[string]any) {
	d.t.Helper()
	req, err := http.NewRequest(method, d.url+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		d.t.Fatalf("%s %s: %d %q", method, path, res.StatusCode, raw)
	}
	return res.StatusCode, doc
}

func TestOperatorsEndpoints(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.recorder()
	d := s.desk()
	status, live := d.do(deskKey, "PUT", "/r", `{"title":"Arena","pace_per_min":60,"capacity":5,"protect":[{"path_prefix":"/buy"}]}`)
	if status != 201 || live["title"] != "Arena" || live["pace_per_min"] != 60.0 || live["session_ttl_s"] != 600.0 || live["phase"] != "open" {
		t.Fatalf("create: %d %v", status, live)
	}
	s.join(0, 3)
	status, live = d.do(deskKey, "PUT", "/r", `{"pace_per_min":null,"message":"hello","presence_ttl_s":30}`)
	if status != 200 || live["title"] != "Arena" || live["pace_per_min"] != 600.0 || live["message"] != "hello" {
		t.Errorf("merge: %d %v", status, live)
	}
	status, live = d.do(deskKey, "PUT", "/r", `{"message":null,"pace_per_min":0}`)
	if status != 200 || live["message"] != nil {
		t.Errorf("null: %d %v", status, live)
	}
	if status, out := d.do(deskKey, "POST", "/r/admit", `{"count":2}`); status != 200 || out["called"] != 2.0 {
		t.Errorf("admit: %d %v", status, out)
	}
	for _, name := range []string{"waiting", "present", "called", "sessions", "admitted_total", "missed", "lapsed", "left", "pace_actual_per_min", "origin_status"} {
		if _, live := d.do(deskKey, "GET", "/r", ""); live[name] == nil {
			t.Errorf("live has no %s: %v", name, live)
		}
	}
	if status, out := d.do(deskKey, "GET", "", ""); status != 200 || len(out["rooms"].([]any)) != 1 {
		t.Errorf("list: %d %v", status, out)
	}
	s.pass(3 * time.Second)
	if status, out := d.do(deskKey, "GET", "/r/history?step=seconds", ""); status != 200 || len(out["figures"].([]any)) == 0 {
		t.Errorf("history: %d %v", status, out)
	}
	epoch := live["epoch"]
	if status, live = d.do(deskKey, "POST", "/r/reset", ""); status != 200 || live["epoch"] == epoch || live["waiting"] != 0.0 {
		t.Errorf("reset: %d %v", status, live)
	}

	for _, bad := range []struct {
		key, method, path, body string
		status                  int
		code                    string
	}{
		{deskKey, "PUT", "/r", `{"pace_per_min":-1}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"pace_per_min":"fast"}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"pace":1}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"PACE_PER_MIN":1}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"opens_at":"2027-01-02T00:00:00Z","closes_at":"2027-01-01T00:00:00Z"}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"state":"ajar"}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"method":"lottery"}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"protect":[{"path_prefix":"buy"}]}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"origin":"http://evil.example"}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{"title":"` + strings.Repeat("x", 201) + `"}`, 422, "invalid"},
		{deskKey, "PUT", "/r", `{`, 400, "bad-request"},
		{deskKey, "PUT", "/Not_A_Slug", `{}`, 422, "invalid"},
		{deskKey, "POST", "/r/admit", `{"count":0}`, 422, "invalid"},
		{deskKey, "POST", "/nowhere/admit", `{"count":1}`, 404, "room-not-found"},
		{deskKey, "GET", "/nowhere", ``, 404, "room-not-found"},
		{deskKey + "-viewer", "PUT", "/r", `{"pace_per_min":1}`, 403, "forbidden"},
		{deskKey + "-viewer", "POST", "/r/reset", ``, 403, "forbidden"},
		{"usher_nobody_x", "GET", "/r", ``, 401, "unauthenticated"},
	} {
		if status, doc := d.do(bad.key, bad.method, bad.path, bad.body); status != bad.status || doc["code"] != bad.code {
			t.Errorf("%s %s %.60s: %d %v, want %d %s", bad.method, bad.path, bad.body, status, doc, bad.status, bad.code)
		}
	}
	if status, out := d.do(deskKey+"-viewer", "GET", "/r", ""); status != 200 || out["pace_per_min"] != 0.0 {
		t.Errorf("after bad requests: %d %v", status, out)
	}
}

func TestSettingsMerge(t *testing.T) {
	t.Parallel()
	set := Defaults()
	set.Title, set.PacePerMin, set.Message, set.OpensAt = "T", 5, ptr("m"), ptr(start)
	for _, c := range []struct {
		patch string
		want  func(*Settings)
	}{
		{`{}`, func(*Settings) {}},
		{`{"pace_per_min":7}`, func(s *Settings) { s.PacePerMin = 7 }},
		{`{"pace_per_min":null}`, func(s *Settings) { s.PacePerMin = 600 }},
		{`{"title":null,"message":null,"opens_at":null}`, func(s *Settings) { s.Title, s.Message, s.OpensAt = "", nil, nil }},
		{`{"message":""}`, func(s *Settings) { s.Message = nil }},
		{`{"opens_at":"2027-03-01T13:00:00.5+01:00"}`, func(s *Settings) { s.OpensAt = ptr(start.Add(500 * time.Millisecond)) }},
		{`{"protect":[{"host":"a.example","path_prefix":"/x"}]}`, func(s *Settings) { s.Protect = []Protect{{"a.example", "/x"}} }},
		{`{"method":"draw","state":"paused","beacon":"b"}`, func(s *Settings) { s.Method, s.State, s.Beacon = Random, ModePaused, "b" }},
	} {
		var p Patch
		if err := json.Unmarshal([]byte(c.patch), &p); err != nil {
			t.Fatal(err)
		}
		want := set
		c.want(&want)
		got := p.Apply(set)
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("%s: %s, want %s", c.patch, a, b)
		}
	}
}

func TestValidateReportsAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	s := Settings{PacePerMin: -1, Capacity: -1, Method: "x", State: "y", LobbyAt: ptr(start), OpensAt: ptr(start.Add(-1)), Beacon: "\x00"}
	fields := map[string]bool{}
	for _, f := range s.Validate() {
		fields[f.Location] = true
	}
	for _, name := range []string{"pace_per_min", "capacity", "session_ttl_s", "call_ttl_s", "presence_ttl_s", "method", "state", "opens_at", "beacon"} {
		if !fields["body."+name] {
			t.Errorf("no fault for %s: %v", name, fields)
		}
	}
	if faults := Defaults().Validate(); len(faults) > 0 {
		t.Errorf("the defaults are at fault: %v", faults)
	}
}

func TestProtects(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.room(Patch{Protect: opt([]Protect{{PathPrefix: "/buy"}, {PathPrefix: "/Box/Office"}, {Host: "tickets.example", PathPrefix: "/"}}), Origin: opt("shop")})
	h := s.halls[0]
	for _, c := range []struct {
		host, path string
		want       bool
	}{
		{"a.example", "/buy", true}, {"a.example", "/buy/now", true}, {"a.example", "/", false},
		// Programs that fold case, or drop what follows a semicolon, come to these, too.
		{"a.example", "/BUY/now", true}, {"a.example", "/;x/buy", true}, {"a.example", "/box;v=1/office", true}, {"a.example", "/box;/;/OFFICE", true},
		{"a.example", "/buy.", true}, {"a.example", "/buy. ./now", true}, {"a.example", "/.../buy ", true}, {"a.example", "/box./office.;x", true},
		{"a.example", "/bu;y", false}, {"a.example", "/box", false},
		{"tickets.example", "/anything", true}, {"TICKETS.example", "/x", true},
	} {
		room, origin, ok := h.Protects(c.host, c.path)
		if ok != c.want || ok && (room != "r" || origin != "shop") {
			t.Errorf("%s%s: %q %q %v", c.host, c.path, room, origin, ok)
		}
	}
}
