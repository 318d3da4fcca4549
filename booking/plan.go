package booking

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Plan is a seating plan as we keep it: the import's seats in the file's order, with
// positions on the plan and the row and category as indexes. It is immutable.
type Plan struct {
	Name       string     `json:"name"`
	Width      float64    `json:"width"`
	Height     float64    `json:"height"`
	Categories []Category `json:"categories"`
	Zones      []string   `json:"zones"`
	Rows       []Row      `json:"rows"`
	Seats      []Seat     `json:"seats"`
	Areas      []PlanArea `json:"areas"`

	// Hash is the SHA-256 of the JSON form, lower-case hex.
	Hash string `json:"-"`
}

// Category is a price category of a plan.
type Category struct {
	Name  string `json:"name"`
	Color string `json:"color"`
	// Seats counts the numbered seats of this category.
	Seats int `json:"seats"`
}

// Row is a row of seats, in Zone (an index of Plan.Zones).
type Row struct {
	Label string `json:"label"`
	Zone  int    `json:"zone"`
}

// Seat is a numbered seat; its index is its place in Plan.Seats.
type Seat struct {
	GUID  string `json:"guid"`
	Label string `json:"label"` // the seat's number within its row
	// Row and Category are indexes of Plan.Rows and Plan.Categories.
	Row        int     `json:"row"`
	Category   int     `json:"category"`
	X          float64 `json:"x"`
	Y          float64 `json:"y"`
	Accessible bool    `json:"accessible,omitempty"`
}

// PlanArea is a shape on the plan: a standing area where an event sells it, else decoration.
type PlanArea struct {
	ID    string `json:"id"` // the uuid that the file gave it
	Name  string `json:"name"`
	Shape Shape  `json:"shape"`
}

// Shape is a drawing at X, Y on the plan. Type tells which of the sizes it has.
type Shape struct {
	Type        string  `json:"type"` // rectangle, circle, ellipse, polygon, text
	X           float64 `json:"x"`
	Y           float64 `json:"y"`
	Rotation    float64 `json:"rotation,omitempty"`
	Width       float64 `json:"width,omitempty"`  // rectangle
	Height      float64 `json:"height,omitempty"` // rectangle
	Radius      float64 `json:"radius,omitempty"` // circle
	RX          float64 `json:"rx,omitempty"`     // ellipse
	RY          float64 `json:"ry,omitempty"`     // ellipse
	Points      []Point `json:"points,omitempty"` // polygon, relative to X, Y
	Color       string  `json:"color,omitempty"`
	BorderColor string  `json:"border_color,omitempty"`
	Text        *Text   `json:"text,omitempty"`
}

// Text is a label drawn on a shape, relative to the shape's X, Y.
type Text struct {
	Text  string  `json:"text"`
	X     float64 `json:"x"`
	Y     float64 `json:"y"`
	Color string  `json:"color,omitempty"`
}

// Point is a corner of a polygon.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// encode returns the plan's gzipped JSON form and its hash.
func (p *Plan) encode() (document []byte, hash string, err error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, "", fmt.Errorf("encode plan: %w", err)
	}
	sum := sha256.Sum256(raw)
	document, err = compress(raw)
	return document, hex.EncodeToString(sum[:]), err
}

// decodePlan is the reverse of encode.
func decodePlan(document []byte, hash string) (*Plan, error) {
	zr, err := gzip.NewReader(bytes.NewReader(document))
	if err != nil {
		return nil, fmt.Errorf("decode plan %s: %w", hash, err)
	}
	raw, err := io.ReadAll(zr)
	if err != nil {
		return nil, fmt.Errorf("decode plan %s: %w", hash, err)
	}
	p := &Plan{Hash: hash}
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, fmt.Errorf("decode plan %s: %w", hash, err)
	}
	return p, nil
}

func compress(raw []byte) ([]byte, error) {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	if _, err := zw.Write(raw); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return buf.Bytes(), nil
}

// Layout tells what the indexes of a performance are: 0…len(Seats)-1 are the plan's
// seats, then come the units of the areas on sale, one range after the other. It is
// immutable and shared: callers change nothing in it.
type Layout struct {
	EventID, PerformanceID uuid.UUID
	Slug, Title, Venue     string // Venue is the venue's name
	Room                   string // "" = none
	Currency               string
	StartsAt               time.Time
	// OnSale tells whether new holds and orders are taken.
	OnSale bool
	// MaxPerSession is how many seats and units one session may hold, reserve and buy.
	MaxPerSession int
	// Revision goes up whenever an index changes its meaning; what is sold refers to it.
	Revision int
	Plan     *Plan
	Seats    []Seat
	Areas    []Area

	prices []price // by category index, then by area
}

type price struct {
	amount int64
	known  bool
}

// Area is a standing area on sale: its units are First…First+Capacity-1.
type Area struct {
	ID, Name, Category string
	First, Capacity    int
}

// Units is how many indexes there are.
func (l *Layout) Units() int {
	if n := len(l.Areas); n > 0 {
		return l.Areas[n-1].First + l.Areas[n-1].Capacity
	}
	return len(l.Seats)
}

// AreaOf returns the place in Areas of the area that has the unit, false for a seat.
func (l *Layout) AreaOf(index int) (int, bool) {
	if index < len(l.Seats) || index >= l.Units() {
		return 0, false
	}
	i, exact := slices.BinarySearchFunc(l.Areas, index, func(a Area, index int) int { return a.First - index })
	if !exact {
		i--
	}
	return i, true
}

// Price of an index in minor units of Currency; false for an index that does not exist
// or is not sold.
func (l *Layout) Price(index int) (int64, bool) {
	if index < 0 || index >= l.Units() {
		return 0, false
	}
	slot := len(l.Plan.Categories)
	if index < len(l.Seats) {
		slot = l.Seats[index].Category
	} else {
		area, _ := l.AreaOf(index)
		slot += area
	}
	return l.prices[slot].amount, l.prices[slot].known
}

// Category names the price category of an index, "" where there is none.
func (l *Layout) Category(index int) string {
	if index >= 0 && index < len(l.Seats) {
		return l.Plan.Categories[l.Seats[index].Category].Name
	}
	if area, ok := l.AreaOf(index); ok {
		return l.Areas[area].Category
	}
	return ""
}

// Label says for people where an index is: "Stalls, row A, seat 12" and no area for a
// seat, the area's name twice for a unit of one.
func (l *Layout) Label(index int) (label, area string) {
	if index >= 0 && index < len(l.Seats) {
		seat := l.Seats[index]
		row := l.Plan.Rows[seat.Row]
		return fmt.Sprintf("%s, row %s, seat %s", l.Plan.Zones[row.Zone], row.Label, seat.Label), ""
	}
	if i, ok := l.AreaOf(index); ok {
		return l.Areas[i].Name, l.Areas[i].Name
	}
	return "", ""
}
