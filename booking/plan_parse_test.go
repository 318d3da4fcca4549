package booking

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/internal/problem"
)

// smallPlan is a valid plan of two rows; edits replace text in it.
func smallPlan(edits ...string) string {
	return strings.NewReplacer(edits...).Replace(`{
		"name":"Small Hall","size":{"width":400,"height":300},
		"categories":[{"name":"A","color":"#112233"},{"name":"Wheelchair","color":"#445566"}],
		"zones":[
			{"name":"Stalls","position":{"x":100,"y":50},"unknown":{"deep":[1,2,3]},"rows":[
				{"row_number":"1","position":{"x":10,"y":0},"seats":[
					{"seat_guid":"s-1-1","seat_number":"1","position":{"x":1.005,"y":2},"category":"A"},
					{"seat_guid":"s-1-2","seat_number":"2","position":{"x":21,"y":2},"category":"A"}]},
				{"row_number":"2","position":{"x":10,"y":20},"seats":[
					{"seat_guid":"s-2-1","seat_number":"1","position":{"x":1,"y":2},"category":"Wheelchair"}]}],
			"areas":[
				{"uuid":"floor","shape":"rectangle","color":"#ccc","rotation":0,"position":{"x":5,"y":6},
					"text":{"position":{"x":1,"y":2},"color":"#000","text":"Floor"},"rectangle":{"width":40,"height":30}},
				{"uuid":"stage","shape":"polygon","position":{"x":0,"y":0},"polygon":{"points":[{"x":0,"y":0},{"x":9,"y":0},{"x":4,"y":7}]}}]}]}`)
}

func TestPlansOfTheDemo(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct{ seats, rows, areas int }{
		"theatre": {1283, 43, 1}, "arena": {15620, 1788, 3}, "club": {96, 24, 2},
	} {
		raw, err := demoPlans.ReadFile("demo/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		plan, faults := parsePlan(raw)
		if len(faults) > 0 {
			t.Fatalf("%s: %v", name, faults)
		}
		if len(plan.Seats) != want.seats || len(plan.Rows) != want.rows || len(plan.Areas) != want.areas {
			t.Errorf("%s: %d seats in %d rows, %d areas; want %+v", name, len(plan.Seats), len(plan.Rows), len(plan.Areas), want)
		}
		for i, s := range plan.Seats {
			if s.X < -50 || s.Y < -50 || s.X > plan.Width+50 || s.Y > plan.Height+50 {
				t.Fatalf("%s: seat %d is far outside the plan at %v, %v", name, i, s.X, s.Y)
			}
		}
		document, hash, err := plan.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodePlan(document, hash)
		if err != nil {
			t.Fatal(err)
		}
		if _, h, err := again.encode(); err != nil || h != hash {
			t.Errorf("%s: a stored plan comes back as another one (%v)", name, err)
		}
	}
}

func TestPlanPositionsAndIndexes(t *testing.T) {
	t.Parallel()
	plan, faults := parsePlan([]byte(smallPlan()))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := []Seat{
		{GUID: "s-1-1", Label: "1", Row: 0, Category: 0, X: 111.01, Y: 52}, // 100+10+1.005
		{GUID: "s-1-2", Label: "2", Row: 0, Category: 0, X: 131, Y: 52},
		{GUID: "s-2-1", Label: "1", Row: 1, Category: 1, X: 111, Y: 72, Accessible: true},
	}
	if !slices.Equal(plan.Seats, want) {
		t.Errorf("seats %+v, want %+v", plan.Seats, want)
	}
	if a := plan.Areas[0]; a.Name != "Floor" || a.Shape.X != 105 || a.Shape.Y != 56 || a.Shape.Width != 40 {
		t.Errorf("area %+v", a)
	}
	if plan.Categories[0].Seats != 2 || plan.Categories[1].Seats != 1 {
		t.Errorf("seats by category: %+v", plan.Categories)
	}
	late, faults := parsePlan([]byte(`{"zones":[{"rows":[{"seats":[{"position":{"x":1,"y":1},"category":"B","seat_number":"1","seat_guid":"g"}],
		"position":{"x":10,"y":0}}],"position":{"x":100,"y":0}}],"categories":[{"name":"A"},{"name":"B"}],"size":{"width":9,"height":9},"name":"n"}`))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if s := late.Seats[0]; s.X != 111 || s.Category != 1 {
		t.Errorf("members in another order give seat %+v", s)
	}
}

func TestBadPlans(t *testing.T) {
	t.Parallel()
	seats := func(n int) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"seat_guid":"g%d","seat_number":"1","position":{"x":1,"y":1},"category":"A"}`, i)
		}
		return `{"name":"n","size":{"width":1,"height":1},"categories":[{"name":"A"}],"zones":[{"rows":[{"seats":[` + b.String() + `]}]}]}`
	}
	for name, c := range map[string]struct {
		plan string
		want []string // locations, each with a part of its message
	}{
		"empty":             {"", []string{"body: ends in the middle"}},
		"not an object":     {"[]", []string{"body: must be an object"}},
		"cut":               {smallPlan()[:300], []string{"body: ends in the middle"}},
		"two plans":         {smallPlan() + "{}", []string{"body: something follows"}},
		"empty object":      {"{}", []string{"body.name: required", "body.size: required", "body.categories: at least one", "body.zones: no seats"}},
		"no seats":          {`{"name":"n","size":{"width":1,"height":1},"categories":[{"name":"A"}],"zones":[{"name":"z","rows":[]}]}`, []string{"body.zones: no seats"}},
		"2 MB of nesting":   {`{"name":"n","x":` + strings.Repeat("[", 2<<20) + `}`, []string{"body: nested too deeply"}},
		"nested zones":      {`{"zones":` + strings.Repeat(`[`, 1<<20) + `}`, []string{"body.zones[0]: must be an object"}},
		"200,000 seats":     {seats(200_000), []string{"body.zones[0].rows[0].seats: more than 100000"}},
		"duplicate guid":    {smallPlan("s-2-1", "s-1-1"), []string{"body.zones[0].rows[1].seats[0].seat_guid: another seat"}},
		"unknown category":  {smallPlan(`"category":"A"`, `"category":"Z"`), []string{"body.zones[0].rows[0].seats[0].category: not one of"}},
		"category twice":    {smallPlan(`"name":"Wheelchair"`, `"name":"A"`, `"category":"Wheelchair"`, `"category":"A"`), []string{"body.categories[1].name: another category"}},
		"infinite position": {smallPlan(`"x":1.005`, `"x":1e999`), []string{"body.zones[0].rows[0].seats[0].position.x: finite number"}},
		"far position":      {smallPlan(`"x":1.005`, `"x":1e7`), []string{"body.zones[0].rows[0].seats[0].position.x: between"}},
		"no position":       {smallPlan(`"position":{"x":1.005,"y":2}`, `"position":null`), []string{"body.zones[0].rows[0].seats[0].position: needs x and y"}},
		"NaN":               {smallPlan(`"x":1.005`, `"x":NaN`), []string{"body: not valid JSON"}},
		"size zero":         {smallPlan(`"width":400`, `"width":0`), []string{"body.size.width: more than 0"}},
		"wrong types":       {smallPlan(`"seat_number":"2"`, `"seat_number":2`, `"row_number":"2"`, `"row_number":{}`), []string{"seats[1].seat_number: a text", "rows[1].row_number: a text"}},
		"seats no array":    {smallPlan(`"seats":[`, `"seats":{"a":[`), []string{"seats: must be an array"}},
		"control character": {smallPlan(`"Small Hall"`, `"Small\u0007Hall"`), []string{"body.name: control"}},
		"script colour":     {smallPlan(`"#112233"`, `"red;background:url(x)"`), []string{"body.categories[0].color: colour"}},
		"area twice":        {smallPlan(`"uuid":"stage"`, `"uuid":"floor"`), []string{"areas[1].uuid: another area"}},
		"unknown shape":     {smallPlan(`"shape":"polygon"`, `"shape":"blob"`), []string{"areas[1].shape: must be rectangle"}},
		"shape, no size":    {smallPlan(`"shape":"polygon"`, `"shape":"circle"`), []string{"areas[1].circle: required"}},
		"zones twice":       {smallPlan(`"name":"Small Hall"`, `"name":"Small Hall","zones":[{"name":"x"}]`), []string{"body.zones: twice"}},
		"many at once": {smallPlan("s-2-1", "s-1-1", `"category":"A"`, `"category":"Z"`, `"width":400`, `"width":-1`, `"seat_number":"2"`, `"seat_number":""`),
			[]string{"seat_guid: another seat", "category: not one of", "size.width: more than 0", "seat_number: required"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, faults := parsePlan([]byte(c.plan))
			if plan != nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				at, message, _ := strings.Cut(want, ": ")
				if !slices.ContainsFunc(faults, func(f problem.Field) bool {
					return strings.HasSuffix(f.Location, at) && strings.Contains(f.Message, message)
				}) {
					t.Errorf("no fault %q among %v", want, faults)
				}
			}
			if len(faults) > len(c.want) {
				t.Errorf("faults %v, want %v", faults, c.want)
			}
		})
	}
}

func TestPlanFaultsAreBounded(t *testing.T) {
	t.Parallel()
	_, faults := parsePlan([]byte(`{"zones":[{"rows":[{"seats":[` + strings.Repeat(`{},`, 10_000) + `{}]}]}]}`))
	if len(faults) != maxFaults+1 {
		t.Errorf("%d faults, want %d and a count of the rest", len(faults), maxFaults)
	}
}

// FuzzPlan holds that no input breaks the reader, and that what it accepts is within
// bounds and survives storage.
func FuzzPlan(f *testing.F) {
	f.Add([]byte(smallPlan()))
	f.Add([]byte(smallPlan(`"x":1.005`, `"x":-1e5`)))
	f.Add([]byte(`{"zones":[[{"a":null}]]}`))
	f.Add([]byte(`{"zones":[{"rows":[{"seats":[null,{}]}],"areas":[null]}],"size":null}`))
	f.Add([]byte("\xff{\"name\":\"\xc3\"}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		plan, faults := parsePlan(raw)
		if (plan == nil) == (len(faults) == 0) {
			t.Fatalf("plan %v and faults %v", plan, faults)
		}
		if plan == nil {
			return
		}
		guids := map[string]bool{}
		for _, s := range plan.Seats {
			if guids[s.GUID] || s.Row >= len(plan.Rows) || s.Category >= len(plan.Categories) || plan.Rows[s.Row].Zone >= len(plan.Zones) {
				t.Fatalf("seat %+v of an accepted plan", s)
			}
			guids[s.GUID] = true
		}
		if _, err := json.Marshal(drawPlan(plan, nil)); err != nil {
			t.Fatal(err)
		}
		document, hash, err := plan.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodePlan(document, hash); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLayoutIndexes(t *testing.T) {
	t.Parallel()
	plan, faults := parsePlan([]byte(smallPlan()))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	e := &eventRecord{
		Slug: "e", Currency: "EUR", Status: statusOnSale, MaxPerSession: 4,
		Prices: []priceRecord{{"A", 1000}, {"Wheelchair", 500}},
		Areas:  []areaRecord{{UUID: "floor", Name: "Floor", Category: "A", Capacity: 2}, {UUID: "stage", Name: "Wings", Category: "Wheelchair", Capacity: 1}},
	}
	l := newLayout(e, performanceRecord{Layout: 3}, plan, time.Time{})
	if l.Units() != 6 || l.Revision != 3 || !l.OnSale {
		t.Errorf("layout of %d units, revision %d, on sale %v", l.Units(), l.Revision, l.OnSale)
	}
	for index, want := range []struct {
		price       int64
		label, area string
		category    string
	}{
		{1000, "Stalls, row 1, seat 1", "", "A"},
		{1000, "Stalls, row 1, seat 2", "", "A"},
		{500, "Stalls, row 2, seat 1", "", "Wheelchair"},
		{1000, "Floor", "Floor", "A"},
		{1000, "Floor", "Floor", "A"},
		{500, "Wings", "Wings", "Wheelchair"},
	} {
		amount, ok := l.Price(index)
		label, area := l.Label(index)
		if !ok || amount != want.price || label != want.label || area != want.area || l.Category(index) != want.category {
			t.Errorf("index %d: %d %v %q %q %q, want %+v", index, amount, ok, label, area, l.Category(index), want)
		}
	}
	for _, index := range []int{-1, 6, 1 << 30} {
		if _, ok := l.Price(index); ok {
			t.Errorf("index %d has a price", index)
		}
		if label, _ := l.Label(index); label != "" {
			t.Errorf("index %d is called %q", index, label)
		}
	}
}
