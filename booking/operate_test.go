package booking

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
	"usher/internal/operator"
)

// office is a booking server on servers of its own, seen through its front door.
type office struct {
	*Server
	http *httptest.Server
	key  string // role admin
}

func openOffice(t *testing.T) *office {
	t.Helper()
	db, _ := devtest.Postgres(t)
	rdb := devtest.Redis(t)
	ring := keyring.Generate(time.Now())
	s, err := New(Config{
		DB: db, Redis: rdb, Ring: ring, Auth: operator.NewAuthenticator(rdb, ring),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	o := &office{Server: s, http: httptest.NewServer(s.Handler())}
	t.Cleanup(o.http.Close)
	o.key = o.giveKey(t, operator.Admin)
	return o
}

func (o *office) giveKey(t *testing.T, role operator.Role, events ...string) string {
	t.Helper()
	id, token := operator.NewToken()
	k := operator.Key{ID: id, Name: string(role), Role: role, Events: events, CreatedAt: time.Now()}
	if err := operator.InsertKey(t.Context(), o.db, k, token); err != nil {
		t.Fatal(err)
	}
	if err := operator.Publish(t.Context(), o.db, o.rdb); err != nil {
		t.Fatal(err)
	}
	return token
}

// reply is an answer with its JSON.
type reply struct {
	status int
	header http.Header
	raw    []byte
	doc    map[string]any
}

// ask sends a request; headers are name and value in turn.
func (o *office) ask(t *testing.T, method, path, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, o.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	r := reply{status: resp.StatusCode, header: resp.Header, raw: raw}
	if len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &r.doc); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, raw)
		}
	}
	return r
}

func (o *office) operate(t *testing.T, method, path, body string) reply {
	t.Helper()
	return o.ask(t, method, "/api/v1/operate"+path, body, "Authorization", "Bearer "+o.key)
}

// expect fails the test unless the answer has the status and, for a refusal, the code.
func (r reply) expect(t *testing.T, status int, code string) reply {
	t.Helper()
	got, _ := r.doc["code"].(string)
	if r.status != status || got != code {
		t.Fatalf("answer %d %q, want %d %q: %.600s", r.status, got, status, code, r.raw)
	}
	if status >= 400 && r.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("a refusal of type %q", r.header.Get("Content-Type"))
	}
	if r.header.Get("X-Request-Id") == "" {
		t.Fatal("no request id")
	}
	return r
}

// smallHall puts the small plan as venue "hall".
func (o *office) smallHall(t *testing.T) {
	t.Helper()
	o.operate(t, "PUT", "/venues/hall/plan", smallPlan()).expect(t, 201, "")
}

const smallEvent = `{"title":"Show","venue":"hall","currency":"EUR","status":"on_sale",
	"prices":[{"category":"A","amount":4500},{"category":"Wheelchair","amount":2000}],
	"performances":[{"starts_at":"2030-05-01T19:30:00Z"}]}`

func TestVenuePlan(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	first := o.operate(t, "PUT", "/venues/hall/plan", smallPlan()).expect(t, 201, "")
	if first.doc["seats"] != 3.0 || first.doc["name"] != "Small Hall" {
		t.Errorf("%s", first.raw)
	}
	spaced := strings.ReplaceAll(smallPlan(), "\n", "\n\n  ")
	if again := o.operate(t, "PUT", "/venues/hall/plan", spaced).expect(t, 200, ""); again.doc["plan"] != first.doc["plan"] {
		t.Error("white space made another version of the plan")
	}
	bad := o.operate(t, "PUT", "/venues/hall/plan", smallPlan("s-2-1", "s-1-1", `"width":400`, `"width":0`)).expect(t, 422, "invalid")
	if faults, _ := bad.doc["errors"].([]any); len(faults) != 2 {
		t.Errorf("faults %v", bad.doc["errors"])
	}
	o.operate(t, "PUT", "/venues/hall/plan", "").expect(t, 400, "bad-request")
	o.operate(t, "PUT", "/venues/Hall!/plan", smallPlan()).expect(t, 422, "invalid")
	o.operate(t, "PUT", "/venues/hall/plan", `{"name":"`+strings.Repeat("x", maxPlanBody)+`"}`).expect(t, 413, "body-too-large")
	if list := o.operate(t, "GET", "/venues", "").expect(t, 200, ""); len(list.doc["venues"].([]any)) != 1 {
		t.Errorf("%s", list.raw)
	}
}

func TestPutEventMerges(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	made := o.operate(t, "PUT", "/events/show", smallEvent).expect(t, 201, "")
	id := made.doc["performances"].([]any)[0].(map[string]any)["id"]
	if made.doc["room"] != nil || made.doc["limits"].(map[string]any)["max_seats_per_session"] != 8.0 {
		t.Errorf("defaults: %s", made.raw)
	}
	kept := o.operate(t, "PUT", "/events/show", `{"room":"lobby","limits":{"max_seats_per_session":2}}`).expect(t, 200, "")
	if kept.doc["title"] != "Show" || kept.doc["room"] != "lobby" || len(kept.doc["prices"].([]any)) != 2 {
		t.Errorf("absent members changed: %s", kept.raw)
	}
	back := o.operate(t, "PUT", "/events/show", `{"room":null,"limits":null}`).expect(t, 200, "")
	if back.doc["room"] != nil || back.doc["limits"].(map[string]any)["max_seats_per_session"] != 8.0 {
		t.Errorf("null did not restore the default: %s", back.raw)
	}
	if draft := o.operate(t, "PUT", "/events/show", `{"status":null,"prices":null}`).expect(t, 200, ""); draft.doc["status"] != "draft" || len(draft.doc["prices"].([]any)) != 0 {
		t.Errorf("null did not restore the default: %s", draft.raw)
	}
	same := o.operate(t, "PUT", "/events/show", smallEvent).expect(t, 200, "")
	if got := same.doc["performances"].([]any)[0].(map[string]any)["id"]; got != id {
		t.Errorf("the same body again made performance %v of %v", got, id)
	}
	own := uuid.Must(uuid.NewV7()).String()
	two := o.operate(t, "PUT", "/events/show", fmt.Sprintf(
		`{"performances":[{"id":%q,"starts_at":"2030-06-02T19:30:00+02:00"},{"id":%q,"starts_at":"2030-06-01T19:30:00Z"}]}`, own, id)).expect(t, 200, "")
	dates := two.doc["performances"].([]any)
	if len(dates) != 2 || dates[0].(map[string]any)["id"] != id || dates[1].(map[string]any)["starts_at"] != "2030-06-02T17:30:00Z" {
		t.Errorf("performances %v", dates)
	}
	public := o.ask(t, "GET", "/api/v1/events/show", "").expect(t, 200, "")
	if len(public.doc["performances"].([]any)) != 2 {
		t.Errorf("the change is not seen at once: %s", public.raw)
	}
}

func TestOneOfManyMakesTheEvent(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	statuses := make(chan int)
	for range 16 {
		go func() {
			r := httptest.NewRequestWithContext(t.Context(), "PUT", "/api/v1/operate/events/show", strings.NewReader(smallEvent))
			r.Header.Set("Authorization", "Bearer "+o.key)
			w := httptest.NewRecorder()
			o.Handler().ServeHTTP(w, r)
			statuses <- w.Code
		}()
	}
	count := map[int]int{}
	for range 16 {
		count[<-statuses]++
	}
	if count[201] != 1 || count[200] != 15 {
		t.Errorf("answers by status: %v", count)
	}
	if e := o.ask(t, "GET", "/api/v1/events/show", "").expect(t, 200, ""); len(e.doc["performances"].([]any)) != 1 {
		t.Errorf("%s", e.raw)
	}
}

func TestPutEventRefuses(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	o.operate(t, "PUT", "/events/show", smallEvent).expect(t, 201, "")
	edited := func(old, with string) string { return strings.Replace(smallEvent, old, with, 1) }
	for name, c := range map[string]struct {
		body   string
		status int
		faults []string // locations
	}{
		"not JSON":             {`{`, 400, nil},
		"empty":                {`{}`, 422, []string{"body.title", "body.venue", "body.currency"}},
		"unknown member":       {edited(`{`, `{"color":"red",`), 422, []string{"body"}},
		"member in other case": {edited(`"title"`, `"Title"`), 422, []string{"body"}},
		"unknown in a price":   {edited(`"amount":4500`, `"amount":4500,"tax":1`), 422, []string{"body.prices[0].tax"}},
		"wrong type":           {edited(`"Show"`, `7`), 422, []string{"body.title"}},
		"negative price":       {edited(`4500`, `-1`), 422, []string{"body.prices[0].amount"}},
		"fraction of a cent":   {edited(`4500`, `45.5`), 422, []string{"body.prices[0].amount"}},
		"price missing":        {edited(`,{"category":"Wheelchair","amount":2000}`, ``), 422, []string{"body.prices"}},
		"price twice":          {edited(`"Wheelchair"`, `"A"`), 422, []string{"body.prices[1].category", "body.prices"}},
		"price of nothing":     {edited(`[{`, `[{"category":"Z","amount":1},{`), 422, []string{"body.prices[0].category"}},
		"no such venue":        {edited(`"hall"`, `"hut"`), 422, []string{"body.venue"}},
		"no such plan":         {edited(`{`, `{"plan":"`+strings.Repeat("0", 64)+`",`), 422, []string{"body.plan"}},
		"no currency":          {edited(`EUR`, `EUX`), 422, []string{"body.currency"}},
		"no status":            {edited(`on_sale`, `open`), 422, []string{"body.status"}},
		"on sale, no dates":    {edited(`{"starts_at":"2030-05-01T19:30:00Z"}`, ``), 422, []string{"body.performances"}},
		"bad date":             {edited(`2030-05-01T19:30:00Z`, `tomorrow`), 422, []string{"body.performances[0].starts_at"}},
		"id twice": {edited(`{"starts_at":"2030-05-01T19:30:00Z"}`, `{"id":"0198d2a0-0000-7000-8000-000000000001","starts_at":"2030-05-01T19:30:00Z"},
			{"id":"0198d2a0-0000-7000-8000-000000000001","starts_at":"2030-05-02T19:30:00Z"}`), 422, []string{"body.performances[1].id"}},
		"bad room":         {edited(`{`, `{"room":"Lobby 1",`), 422, []string{"body.room"}},
		"limit zero":       {edited(`{`, `{"limits":{"max_seats_per_session":0},`), 422, []string{"body.limits.max_seats_per_session"}},
		"unknown limit":    {edited(`{`, `{"limits":{"max":3},`), 422, []string{"body.limits.max"}},
		"area not drawn":   {edited(`{`, `{"areas":[{"uuid":"x","name":"X","category":"A","capacity":5}],`), 422, []string{"body.areas[0].uuid"}},
		"area of nothing":  {edited(`{`, `{"areas":[{"uuid":"floor","name":"X","category":"Z","capacity":5}],`), 422, []string{"body.areas[0].category"}},
		"area without":     {edited(`{`, `{"areas":[{"uuid":"floor","name":"X","category":"A","capacity":0}],`), 422, []string{"body.areas[0].capacity"}},
		"title is nothing": {edited(`"Show"`, `null`), 422, []string{"body.title"}},
		"too large":        {edited(`Show`, strings.Repeat("x", maxBody)), 413, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := o.operate(t, "PUT", "/events/new", c.body)
			code := map[int]string{400: "bad-request", 413: "body-too-large", 422: "invalid"}[c.status]
			r.expect(t, c.status, code)
			faults, _ := r.doc["errors"].([]any)
			for _, at := range c.faults {
				found := false
				for _, f := range faults {
					location, _ := f.(map[string]any)["location"].(string)
					found = found || location == at || at == "body" && strings.HasPrefix(location, "body.")
				}
				if !found {
					t.Errorf("no fault at %s: %s", at, r.raw)
				}
			}
		})
	}
	t.Run("nothing half done", func(t *testing.T) {
		o.operate(t, "PUT", "/events/Sh_ow", smallEvent).expect(t, 422, "invalid")
		o.operate(t, "PUT", "/events/show", `{"title":"Other","prices":[]}`).expect(t, 422, "invalid")
		if r := o.operate(t, "GET", "/events/show", "").expect(t, 200, ""); r.doc["title"] != "Show" {
			t.Errorf("%s", r.raw)
		}
	})
}

func TestOrdersForbidAnotherLayout(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	o.operate(t, "PUT", "/venues/barn/plan", smallPlan("Small Hall", "Barn")).expect(t, 201, "")
	made := o.operate(t, "PUT", "/events/show", smallEvent).expect(t, 201, "")
	id := made.doc["performances"].([]any)[0].(map[string]any)["id"]
	before, refused := o.findLayout(t.Context(), "show", id.(string))
	if refused != nil {
		t.Fatal(refused)
	}
	area := `{"areas":[{"uuid":"floor","name":"Floor","category":"A","capacity":5}]}`
	o.operate(t, "PUT", "/events/show", area).expect(t, 200, "")
	after, refused := o.findLayout(t.Context(), "show", id.(string))
	if refused != nil {
		t.Fatal(refused)
	}
	if after.Revision != before.Revision+1 || after.Units() != before.Units()+5 {
		t.Errorf("revision %d with %d units after %d with %d", after.Revision, after.Units(), before.Revision, before.Units())
	}
	_, err := o.db.Exec(t.Context(), `
		INSERT INTO orders (event_id, order_id, performance_id, layout, state, session, hold_id, seats, total, currency,
			buyer_email, buyer_name, buyer_phone, provider, paid, refunded, created_at, expires_at)
		VALUES ($1, $2, $3, $4, 'pending', 's', $2, '{0}', 1, 'EUR', 'a@b.c', 'n', '', 'sandbox', 0, 0, now(), now())`,
		after.EventID, uuid.Must(uuid.NewV7()), after.PerformanceID, after.Revision)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"another venue":      `{"venue":"barn"}`,
		"another capacity":   `{"areas":[{"uuid":"floor","name":"Floor","category":"A","capacity":6}]}`,
		"no areas":           `{"areas":null}`,
		"another currency":   `{"currency":"CHF"}`,
		"a draft":            `{"status":"draft"}`,
		"performance erased": `{"performances":[{"starts_at":"2031-01-01T00:00:00Z"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			o.operate(t, "PUT", "/events/show", body).expect(t, 409, "event-has-sales")
		})
	}
	o.operate(t, "PUT", "/venues/hall/plan", smallPlan("Small Hall", "Newer Hall")).expect(t, 200, "")
	o.operate(t, "PUT", "/events/show", `{"plan":null}`).expect(t, 409, "event-has-sales")
	o.operate(t, "PUT", "/events/show", `{"title":"Renamed","venue":"hall","status":"ended","prices":[{"category":"A","amount":1},{"category":"Wheelchair","amount":2}]}`).expect(t, 200, "")
}

func TestEventRoomsReachRedis(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	o.operate(t, "PUT", "/events/show", strings.Replace(smallEvent, `{`, `{"room":"lobby",`, 1)).expect(t, 201, "")
	o.operate(t, "PUT", "/events/free", smallEvent).expect(t, 201, "")
	o.operate(t, "PUT", "/events/secret", strings.Replace(smallEvent, `on_sale`, `draft`, 1)).expect(t, 201, "")
	want := map[string]string{"show": "lobby", "free": ""}
	check := func() {
		t.Helper()
		got, err := o.rdb.HGetAll(t.Context(), eventRoomsKey).Result()
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v (%v), want %v", got, err, want)
		}
	}
	check()
	if err := o.rdb.Del(t.Context(), eventRoomsKey, "usher:operator:keys").Err(); err != nil {
		t.Fatal(err)
	}
	if err := o.publishOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	check()
	o.operate(t, "PUT", "/events/free", `{"status":"draft"}`).expect(t, 200, "") // the key is back too
	delete(want, "free")
	check()
}

func TestAuditTellsWhoDidWhat(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	o.operate(t, "PUT", "/events/show", smallEvent).expect(t, 201, "")
	changed := o.operate(t, "PUT", "/events/show", `{"title":"Second title"}`).expect(t, 200, "")
	o.operate(t, "PUT", "/events/show", `{"title":""}`).expect(t, 422, "invalid")

	list := o.operate(t, "GET", "/audit?subject=event/show", "").expect(t, 200, "")
	entries := list.doc["entries"].([]any)
	if len(entries) != 2 {
		t.Fatalf("%s", list.raw)
	}
	last := entries[0].(map[string]any)
	if last["act"] != "event.update" || last["actor"] != "admin" || last["request_id"] != changed.header.Get("X-Request-Id") ||
		last["before"].(map[string]any)["title"] != "Show" || last["after"].(map[string]any)["title"] != "Second title" {
		t.Errorf("%v", last)
	}
	page := o.operate(t, "GET", "/audit?limit=2", "").expect(t, 200, "")
	rest := o.operate(t, "GET", "/audit?limit=2&cursor="+page.doc["next"].(string), "").expect(t, 200, "")
	if n := len(page.doc["entries"].([]any)) + len(rest.doc["entries"].([]any)); n != 3 || rest.doc["next"] != nil {
		t.Errorf("%d entries on two pages: %s %s", n, page.raw, rest.raw)
	}
	o.operate(t, "GET", "/audit?cursor=nonsense", "").expect(t, 422, "invalid")
}

func TestDatabaseAwayIsA503(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	away, err := pgxpool.New(t.Context(), "host="+t.TempDir()+" user=nobody dbname=none")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(away.Close)
	o.db = away
	r := o.ask(t, "GET", "/api/v1/events/none", "")
	r.expect(t, 503, "unavailable")
	if bytes.Contains(r.raw, []byte("dial")) || bytes.Contains(r.raw, []byte("SELECT")) {
		t.Errorf("the driver's words reach a stranger: %s", r.raw)
	}
}

func TestOpenAPIDescribesTheCalls(t *testing.T) {
	t.Parallel()
	doc, err := json.Marshal(OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"/api/v1/events/{event}/performances/{performance}/plan"`, `"/api/v1/operate/events/{event}"`, `"operator"`, `"EventList"`} {
		if !bytes.Contains(doc, []byte(part)) {
			t.Errorf("no %s", part)
		}
	}
}
