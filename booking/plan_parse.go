package booking

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"strings"
	"unicode"

	"usher/internal/problem"
)

// Bounds of an imported plan.
const (
	maxSeats      = 100_000
	maxRows       = 20_000
	maxZones      = 2_000
	maxAreas      = 2_000
	maxCategories = 100
	maxPoints     = 1_000
	maxPosition   = 1e6
	maxFaults     = 100 // reported; the rest is counted
)

var colorPattern = regexp.MustCompile(`^(#[0-9A-Fa-f]{3,8}|[A-Za-z]{1,20}|rgba?\([0-9., %]{1,40}\))$`)

// parsePlan reads a plan in the layout that the pretix seat editor exports. Members that
// we do not know are passed over: the format is others'. Seats get their indexes in the
// order of the file. All faults are returned together, and no plan with them; only
// broken JSON, a wrong container or a broken bound ends the reading early.
//
// Memory is bounded by the bounds above whatever raw says: containers are walked member
// by member and nothing is kept beyond them.
func parsePlan(raw []byte) (*Plan, []problem.Field) {
	r := &planReader{
		dec:        json.NewDecoder(bytes.NewReader(raw)),
		plan:       &Plan{Categories: []Category{}, Zones: []string{}, Rows: []Row{}, Seats: []Seat{}, Areas: []PlanArea{}},
		categories: map[string]int{},
		guids:      map[string]bool{},
		areaIDs:    map[string]bool{},
	}
	if err := r.read(); err != nil && !errors.Is(err, errStop) {
		r.fault("body", "%s", syntaxFault(err))
	}
	if len(r.faults) == 0 {
		r.resolve()
	}
	if r.more > 0 {
		r.faults = append(r.faults, problem.Field{Location: "body", Message: fmt.Sprintf("and %d more faults", r.more)})
	}
	if len(r.faults) > 0 {
		return nil, r.faults
	}
	return r.plan, nil
}

// errStop ends the reading after a fault that has been noted.
var errStop = errors.New("plan refused")

func syntaxFault(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON ends in the middle"
	case errors.As(err, &syntax) && strings.Contains(err.Error(), "max depth"):
		return "nested too deeply"
	case errors.As(err, &syntax):
		return fmt.Sprintf("not valid JSON at byte %d", syntax.Offset)
	}
	return "not valid JSON"
}

type planReader struct {
	dec    *json.Decoder
	plan   *Plan
	faults []problem.Field
	more   int

	declared   []Category     // as the file lists them
	categories map[string]int // name → index in used
	used       []usedCategory
	guids      map[string]bool
	areaIDs    map[string]bool
	zoneAt     []Point // by zone
	rowAt      []Point // by row
	areaZones  []int   // by area
	sized      bool
}

// usedCategory is a category that a seat names; the list of categories may come later.
type usedCategory struct{ name, location string }

func (r *planReader) fault(location, format string, args ...any) {
	if len(r.faults) == maxFaults {
		r.more++
		return
	}
	r.faults = append(r.faults, problem.Field{Location: location, Message: fmt.Sprintf(format, args...)})
}

// stop notes a fault that ends the reading.
func (r *planReader) stop(location, format string, args ...any) error {
	r.fault(location, format, args...)
	return errStop
}

func (r *planReader) read() error {
	err := r.object("body", func(key string) error {
		switch key {
		case "name":
			return r.word("body.name", &r.plan.Name)
		case "size":
			return r.size()
		case "categories":
			return r.array("body.categories", maxCategories, r.category)
		case "zones":
			return r.array("body.zones", maxZones, r.zone)
		}
		return r.skip()
	})
	if err != nil {
		return err
	}
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return r.stop("body", "something follows the plan")
	}
	r.text("body.name", r.plan.Name, 1, 200)
	if !r.sized {
		r.fault("body.size", "is required")
	}
	r.plan.Categories = append(r.plan.Categories, r.declared...)
	if len(r.declared) == 0 {
		r.fault("body.categories", "at least one is needed")
	}
	known := map[string]bool{}
	for i, c := range r.declared {
		if known[c.Name] {
			r.fault(fmt.Sprintf("body.categories[%d].name", i), "is the name of another category too")
		}
		known[c.Name] = true
	}
	for _, u := range r.used {
		if !known[u.name] {
			r.fault(u.location, "is not one of the plan's categories")
		}
	}
	if len(r.plan.Seats) == 0 {
		r.fault("body.zones", "the plan has no seats")
	}
	return nil
}

// resolve turns what was collected into final indexes and positions.
func (r *planReader) resolve() {
	final := make([]int, len(r.used))
	for i, u := range r.used {
		for j, c := range r.plan.Categories {
			if c.Name == u.name {
				final[i] = j
			}
		}
	}
	for i := range r.plan.Seats {
		s := &r.plan.Seats[i]
		s.Category = final[s.Category]
		c := &r.plan.Categories[s.Category]
		c.Seats++
		name := strings.ToLower(c.Name)
		s.Accessible = s.Accessible || strings.Contains(name, "accessible") || strings.Contains(name, "wheelchair")
		row, zone := r.rowAt[s.Row], r.zoneAt[r.plan.Rows[s.Row].Zone]
		s.X, s.Y = hundredth(s.X+row.X+zone.X), hundredth(s.Y+row.Y+zone.Y)
	}
	for i := range r.plan.Areas {
		shape, zone := &r.plan.Areas[i].Shape, r.zoneAt[r.areaZones[i]]
		shape.X, shape.Y = hundredth(shape.X+zone.X), hundredth(shape.Y+zone.Y)
	}
}

func hundredth(v float64) float64 { return math.Round(v*100) / 100 }

func (r *planReader) size() error {
	if r.sized {
		return r.stop("body.size", "is given twice")
	}
	r.sized = true
	var size struct {
		Width  *float64 `json:"width"`
		Height *float64 `json:"height"`
	}
	if ok, err := r.decode("body.size", &size); !ok {
		return err
	}
	for _, side := range []struct {
		name  string
		given *float64
		into  *float64
	}{{"width", size.Width, &r.plan.Width}, {"height", size.Height, &r.plan.Height}} {
		if side.given == nil || *side.given <= 0 || *side.given > maxPosition {
			r.fault("body.size."+side.name, "must be more than 0 and at most %.0f", maxPosition)
			continue
		}
		*side.into = *side.given
	}
	return nil
}

func (r *planReader) category(at string, _ int) error {
	var c struct {
		Name  string `json:"name"`
		Color string `json:"color"`
	}
	if ok, err := r.decode(at, &c); !ok {
		return err
	}
	r.text(at+".name", c.Name, 1, 80)
	r.color(at+".color", c.Color)
	r.declared = append(r.declared, Category{Name: c.Name, Color: c.Color})
	return nil
}

func (r *planReader) zone(at string, i int) error {
	if i != len(r.plan.Zones) {
		return r.stop("body.zones", "is given twice")
	}
	r.plan.Zones = append(r.plan.Zones, "")
	r.zoneAt = append(r.zoneAt, Point{})
	err := r.object(at, func(key string) error {
		switch key {
		case "name":
			return r.word(at+".name", &r.plan.Zones[i])
		case "position":
			return r.position(at+".position", &r.zoneAt[i])
		case "rows":
			return r.array(at+".rows", maxRows, func(at string, _ int) error { return r.row(at, i) })
		case "areas":
			return r.array(at+".areas", maxAreas, func(at string, _ int) error { return r.area(at, i) })
		}
		return r.skip()
	})
	r.text(at+".name", r.plan.Zones[i], 0, 80)
	return err
}

func (r *planReader) row(at string, zone int) error {
	n := len(r.plan.Rows)
	if n == maxRows {
		return r.stop(at, "more than %d rows", maxRows)
	}
	r.plan.Rows = append(r.plan.Rows, Row{Zone: zone})
	r.rowAt = append(r.rowAt, Point{})
	err := r.object(at, func(key string) error {
		switch key {
		case "row_number":
			return r.word(at+".row_number", &r.plan.Rows[n].Label)
		case "position":
			return r.position(at+".position", &r.rowAt[n])
		case "seats":
			return r.array(at+".seats", maxSeats, func(at string, _ int) error { return r.seat(at, n) })
		}
		return r.skip()
	})
	r.text(at+".row_number", r.plan.Rows[n].Label, 0, 40)
	return err
}

func (r *planReader) seat(at string, row int) error {
	if len(r.plan.Seats) == maxSeats {
		return r.stop(at, "more than %d seats", maxSeats)
	}
	var s struct {
		GUID       string    `json:"seat_guid"`
		Number     string    `json:"seat_number"`
		Category   string    `json:"category"`
		Position   *rawPoint `json:"position"`
		Accessible bool      `json:"accessible"`
	}
	if ok, err := r.decode(at, &s); !ok {
		r.plan.Seats = append(r.plan.Seats, Seat{Row: row}) // counts towards the bound
		return err
	}
	if r.text(at+".seat_guid", s.GUID, 1, 128) {
		if r.guids[s.GUID] {
			r.fault(at+".seat_guid", "is the guid of another seat too")
		}
		r.guids[s.GUID] = true
	}
	r.text(at+".seat_number", s.Number, 1, 40)
	index := -1
	if r.text(at+".category", s.Category, 1, 80) {
		known := false
		if index, known = r.categories[s.Category]; !known {
			if len(r.used) > maxCategories {
				return r.stop(at+".category", "more than %d categories", maxCategories)
			}
			index = len(r.used)
			r.categories[s.Category] = index
			r.used = append(r.used, usedCategory{s.Category, at + ".category"})
		}
	}
	var p Point
	r.point(at+".position", s.Position, &p)
	r.plan.Seats = append(r.plan.Seats, Seat{
		GUID: s.GUID, Label: s.Number, Row: row, Category: index, X: p.X, Y: p.Y, Accessible: s.Accessible,
	})
	return nil
}

type rawPoint struct {
	X *float64 `json:"x"`
	Y *float64 `json:"y"`
}

func (r *planReader) position(at string, into *Point) error {
	var p *rawPoint
	ok, err := r.decode(at, &p)
	if ok {
		r.point(at, p, into)
	}
	return err
}

func (r *planReader) point(at string, p *rawPoint, into *Point) {
	if p == nil || p.X == nil || p.Y == nil {
		r.fault(at, "needs x and y")
		return
	}
	if r.within(at+".x", *p.X) && r.within(at+".y", *p.Y) {
		*into = Point{X: *p.X, Y: *p.Y}
	}
}

func (r *planReader) within(at string, v float64) bool {
	if math.Abs(v) > maxPosition { // JSON has no NaN
		r.fault(at, "must be between -%.0f and %.0f", maxPosition, maxPosition)
		return false
	}
	return true
}

func (r *planReader) text(at, s string, shortest, longest int) bool {
	switch {
	case len(s) < shortest:
		r.fault(at, "is required")
	case len(s) > longest:
		r.fault(at, "must have at most %d bytes", longest)
	case strings.ContainsFunc(s, unicode.IsControl):
		r.fault(at, "must not have control characters")
	default:
		return true
	}
	return false
}

func (r *planReader) color(at, s string) {
	if s != "" && !colorPattern.MatchString(s) {
		r.fault(at, "must be a colour such as #1b7837")
	}
}

// object walks a JSON object; member reads or skips the value of each key.
func (r *planReader) object(at string, member func(key string) error) error {
	open, err := r.dec.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return r.stop(at, "must be an object")
	}
	for r.dec.More() {
		key, err := r.dec.Token()
		if err != nil {
			return err
		}
		if err := member(key.(string)); err != nil {
			return err
		}
	}
	_, err = r.dec.Token()
	return err
}

// array walks a JSON array of at most bound elements; null counts as empty.
func (r *planReader) array(at string, bound int, element func(at string, i int) error) error {
	open, err := r.dec.Token()
	if err != nil || open == nil {
		return err
	}
	if open != json.Delim('[') {
		return r.stop(at, "must be an array")
	}
	for i := 0; r.dec.More(); i++ {
		if i == bound {
			return r.stop(at, "more than %d", bound)
		}
		if err := element(fmt.Sprintf("%s[%d]", at, i), i); err != nil {
			return err
		}
	}
	_, err = r.dec.Token()
	return err
}

// decode reads one value; one of the wrong type is a fault, ok is false, and reading
// may go on after it.
func (r *planReader) decode(at string, into any) (ok bool, err error) {
	err = r.dec.Decode(into)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		if wrong.Field != "" {
			at += "." + wrong.Field
		}
		r.fault(at, "must be %s", jsonKind(wrong.Type))
		return false, nil
	}
	return err == nil, err
}

// word is decode of a text whose bounds are checked later.
func (r *planReader) word(at string, into *string) error {
	_, err := r.decode(at, into)
	return err
}

func (r *planReader) skip() error {
	var unknown json.RawMessage
	return r.dec.Decode(&unknown)
}

func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Float64:
		return "a finite number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array"
	}
	return "an object"
}
