package booking

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	now := time.Now()
	events, err := EnsureDemo(t.Context(), o.db, now)
	if err != nil {
		t.Fatal(err)
	}
	o.operate(t, "PUT", "/events/arena", `{"title":"Changed by hand"}`).expect(t, 200, "")
	again, err := EnsureDemo(t.Context(), o.db, now.Add(time.Hour))
	if err != nil || fmt.Sprint(again) != fmt.Sprint(events) {
		t.Fatalf("again: %v, %v", again, err)
	}
	list := o.ask(t, "GET", "/api/v1/events", "").expect(t, 200, "")
	shown := list.doc["events"].([]any)
	if len(shown) != 3 {
		t.Fatalf("%s", list.raw)
	}
	for i, want := range []struct {
		slug                            string
		performances, categories, areas int
		seats                           int
	}{{"arena", 1, 6, 2, 15620}, {"theatre", 2, 6, 0, 1283}, {"club", 1, 2, 1, 96}} {
		e := shown[i].(map[string]any)
		performances := e["performances"].([]any)
		if e["slug"] != want.slug || e["room"] != want.slug || len(performances) != want.performances ||
			len(e["categories"].([]any)) != want.categories || len(e["areas"].([]any)) != want.areas {
			t.Errorf("event %d: %v", i, e)
		}
		first := performances[0].(map[string]any)
		if at, err := time.Parse(time.RFC3339, first["starts_at"].(string)); err != nil || at.Before(now.AddDate(0, 0, 20)) || first["status"] != "on_sale" {
			t.Errorf("%s starts %v", want.slug, first)
		}
		l, refused := o.findLayout(t.Context(), want.slug, first["id"].(string))
		if refused != nil {
			t.Fatal(refused)
		}
		if len(l.Seats) != want.seats || len(l.Areas) != want.areas {
			t.Errorf("%s: %d seats, %d areas", want.slug, len(l.Seats), len(l.Areas))
		}
		for index := range l.Units() {
			if amount, ok := l.Price(index); !ok || amount <= 0 {
				t.Fatalf("%s: index %d costs %d, %v", want.slug, index, amount, ok)
			}
		}
	}
	if title := shown[0].(map[string]any)["title"]; title != "Changed by hand" {
		t.Errorf("the demo put back the title %v", title)
	}
}

func TestCatalogueIsCacheable(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	made := o.operate(t, "PUT", "/events/show", strings.Replace(smallEvent, `{`, `{"areas":[{"uuid":"floor","name":"Floor","category":"A","capacity":5}],`, 1)).expect(t, 201, "")
	id := made.doc["performances"].([]any)[0].(map[string]any)["id"].(string)
	event := o.ask(t, "GET", "/api/v1/events/show", "").expect(t, 200, "")
	version := event.doc["performances"].([]any)[0].(map[string]any)["plan"].(string)
	plan := "/api/v1/events/show/performances/" + id + "/plan"
	for path, cache := range map[string]string{
		"/api/v1/events": "max-age=5", "/api/v1/events/show": "max-age=5", plan: "immutable", plan + "?v=" + version: "max-age=31536000",
	} {
		t.Run(path, func(t *testing.T) {
			first := o.ask(t, "GET", path, "", "Accept-Encoding", "identity").expect(t, 200, "")
			tag := first.header.Get("ETag")
			if tag == "" || !strings.Contains(first.header.Get("Cache-Control"), cache) || first.header.Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", first.header)
			}
			for _, condition := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
				if r := o.ask(t, "GET", path, "", "If-None-Match", condition, "Accept-Encoding", "identity"); r.status != 304 || len(r.raw) > 0 || r.header.Get("ETag") != tag {
					t.Errorf("If-None-Match %s: %d with %d bytes", condition, r.status, len(r.raw))
				}
			}
			if r := o.ask(t, "HEAD", path, "", "Accept-Encoding", "identity"); r.status != 200 || r.header.Get("ETag") != tag || len(r.raw) > 0 {
				t.Errorf("HEAD: %d, %v", r.status, r.header)
			}
			o.ask(t, "GET", path, "", "If-None-Match", `"other"`, "Accept-Encoding", "identity").expect(t, 200, "")
		})
	}
	zipped := o.ask(t, "GET", plan, "", "Accept-Encoding", "br, gzip;q=0.5")
	if zipped.header.Get("Content-Encoding") != "gzip" || zipped.header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("headers %v", zipped.header)
	}
	zr, err := gzip.NewReader(bytes.NewReader(zipped.raw))
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(zr)
	if err != nil {
		t.Fatal(err)
	}
	plain := o.ask(t, "GET", plan, "", "Accept-Encoding", "gzip;q=0")
	if !bytes.Equal(unzipped, plain.raw) || plain.header.Get("ETag") == zipped.header.Get("ETag") {
		t.Error("the two encodings differ in content or share a tag")
	}
	var doc SeatingPlan
	if err := json.Unmarshal(plain.raw, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Seats) != 3 || doc.Seats[2].Index != 2 || doc.Seats[2].Row != 1 || doc.Seats[2].Zone != 0 || !doc.Seats[2].Accessible ||
		len(doc.Areas) != 1 || doc.Areas[0].ID != "floor" || doc.Areas[0].Capacity != 5 || len(doc.Decorations) != 1 {
		t.Errorf("plan %+v", doc)
	}

	o.operate(t, "PUT", "/events/show", `{"title":"New"}`).expect(t, 200, "")
	if r := o.ask(t, "GET", "/api/v1/events/show", "", "If-None-Match", event.header.Get("ETag")).expect(t, 200, ""); r.doc["title"] != "New" {
		t.Errorf("%s", r.raw)
	}
}

func TestWhatThePublicDoesNotSee(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	made := o.operate(t, "PUT", "/events/secret", strings.Replace(smallEvent, "on_sale", "draft", 1)).expect(t, 201, "")
	id := made.doc["performances"].([]any)[0].(map[string]any)["id"].(string)
	o.operate(t, "PUT", "/events/show", smallEvent).expect(t, 201, "")
	for _, path := range []string{"/secret", "/none", "/Not%20a%20slug", "/" + strings.Repeat("x", 3000), "/secret/performances/" + id + "/plan", "/none/performances/" + id + "/plan"} {
		o.ask(t, "GET", "/api/v1/events"+path, "").expect(t, 404, "event-not-found")
	}
	for _, performance := range []string{id, "1", "not-a-uuid", "{" + id + "}"} {
		o.ask(t, "GET", "/api/v1/events/show/performances/"+performance+"/plan", "").expect(t, 404, "performance-not-found")
	}
	if list := o.ask(t, "GET", "/api/v1/events", "").expect(t, 200, ""); len(list.doc["events"].([]any)) != 1 {
		t.Errorf("%s", list.raw)
	}
	o.ask(t, "GET", "/api/v1/nothing", "").expect(t, 404, "not-found")
	o.ask(t, "PATCH", "/api/v1/events/show", "").expect(t, 405, "method-not-allowed")
	o.operate(t, "PUT", "/events/show", `{"status":"ended"}`).expect(t, 200, "")
	if r := o.ask(t, "GET", "/api/v1/events/show", "").expect(t, 200, ""); r.doc["status"] != "ended" {
		t.Errorf("%s", r.raw)
	}
	l, refused := o.findLayout(t.Context(), "show", o.ask(t, "GET", "/api/v1/events/show", "").doc["performances"].([]any)[0].(map[string]any)["id"].(string))
	if refused != nil || l.OnSale {
		t.Errorf("an ended event is on sale (%v)", refused)
	}
}

func TestListPages(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	for i := range 7 {
		at := fmt.Sprintf("2030-05-%02dT19:30:00Z", 20-i/2) // some at the same time
		o.operate(t, "PUT", fmt.Sprintf("/events/show-%d", i), strings.Replace(smallEvent, "2030-05-01T19:30:00Z", at, 1)).expect(t, 201, "")
	}
	var slugs []string
	for path := "/api/v1/events?limit=3"; path != ""; {
		page := o.ask(t, "GET", path, "").expect(t, 200, "")
		for _, e := range page.doc["events"].([]any) {
			slugs = append(slugs, e.(map[string]any)["slug"].(string))
		}
		path = ""
		if next, ok := page.doc["next"].(string); ok {
			path = "/api/v1/events?limit=3&cursor=" + next
		}
	}
	if got := strings.Join(slugs, " "); got != "show-6 show-4 show-5 show-2 show-3 show-0 show-1" {
		t.Errorf("order %s", got)
	}
	for _, query := range []string{"limit=0", "limit=101", "limit=x", "cursor=%00", "cursor=bm9uc2Vuc2U", "status=draft"} {
		o.ask(t, "GET", "/api/v1/events?"+query, "").expect(t, 422, "invalid")
	}
}

func TestPerformancesEndByThemselves(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 5, 1, 19, 30, 0, 0, time.UTC)
	p := performanceRecord{StartsAt: start}
	e := &eventRecord{Status: statusOnSale}
	for after, want := range map[time.Duration]string{-time.Hour: "on_sale", 2 * time.Hour: "on_sale", endsAfter: "on_sale", endsAfter + 1: "ended"} {
		if got := e.status(p, start.Add(after)); got != want {
			t.Errorf("%v after its start: %s, want %s", after, got, want)
		}
	}
	e.Status = statusDraft
	if got := e.status(p, start.AddDate(1, 0, 0)); got != statusDraft {
		t.Errorf("a draft is %s", got)
	}
}
