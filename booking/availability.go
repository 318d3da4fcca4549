package booking

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// The states of a unit, as its byte in the map says.
const (
	unitFree = 0
	unitHeld = 1 // held, or reserved by an order that is not paid
	unitSold = 2
	// 3 is blocked: the scripts leave such a unit alone.
)

// keptVersions is how many versions a reader may be behind before it gets a snapshot.
const keptVersions = 256

// Snapshot is the whole availability of a performance; it replaces whatever a viewer knew.
type Snapshot struct {
	Version int64      `json:"version"`
	Seats   string     `json:"seats" doc:"base64, one byte a numbered seat by index: 0 free, 1 held, 2 sold, 3 blocked"`
	Areas   []AreaFree `json:"areas"`
}

// AreaFree is how much of a standing area is free.
type AreaFree struct {
	ID   string `json:"id"`
	Free int    `json:"free"`
}

// delta is what one version changed.
type delta struct {
	Version int64      `json:"version"`
	Changes [][2]int   `json:"changes"`
	Areas   []AreaFree `json:"areas"`
}

// seatMap is a performance's map at a version: one byte a unit.
type seatMap struct {
	version int64
	states  []byte
}

// change is what one version did to some units.
type change struct{ unit, state int }

// changesSince reads what came after version since, as one list a version, or the whole
// map where since is 0 or too far behind. It publishes what is due.
func (s *Server) changesSince(ctx context.Context, l *Layout, since int64) (whole *seatMap, versions [][]change, err error) {
	reader := ""
	if since > 0 {
		reader = strconv.FormatInt(since, 10)
	}
	outcome, reply, err := s.script(ctx, l, changesScript, reader, keptVersions)
	if err != nil {
		return nil, nil, err
	}
	return parseChanges(l.Units(), outcome, reply)
}

func parseChanges(units int, outcome string, reply []any) (*seatMap, [][]change, error) {
	switch outcome {
	case "snapshot":
		version, err := strconv.ParseInt(fmt.Sprint(reply[0]), 10, 64)
		states, ok := reply[1].(string)
		if err != nil || !ok || len(states) < units {
			return nil, nil, fmt.Errorf("seat map answered version %v and %T", reply[0], reply[1])
		}
		return &seatMap{version: version, states: []byte(states[:units])}, nil, nil
	case "changes":
		texts, ok := reply[1].([]any)
		if !ok {
			return nil, nil, fmt.Errorf("seat map answered %T", reply[1])
		}
		versions := make([][]change, len(texts))
		for i, text := range texts {
			for word := range strings.FieldsSeq(fmt.Sprint(text)) {
				unit, state, _ := strings.Cut(word, "=")
				u, err1 := strconv.Atoi(unit)
				st, err2 := strconv.Atoi(state)
				if err1 != nil || err2 != nil {
					return nil, nil, fmt.Errorf("seat map's log says %q", word)
				}
				if u < units {
					versions[i] = append(versions[i], change{u, st})
				}
			}
		}
		return nil, versions, nil
	}
	return nil, nil, fmt.Errorf("changes script answered %q", outcome)
}

// snapshot is the document of a map.
func (m *seatMap) snapshot(l *Layout) Snapshot {
	return Snapshot{
		Version: m.version,
		Seats:   base64.StdEncoding.EncodeToString(m.states[:len(l.Seats)]),
		Areas:   m.areas(l),
	}
}

func (m *seatMap) areas(l *Layout) []AreaFree {
	free := make([]AreaFree, len(l.Areas))
	for i, a := range l.Areas {
		free[i] = AreaFree{ID: a.ID, Free: countFree(m.states[a.First : a.First+a.Capacity])}
	}
	return free
}

func countFree(states []byte) int {
	n := 0
	for _, b := range states {
		if b == unitFree {
			n++
		}
	}
	return n
}

// apply makes m the next version and says what viewers need to know.
func (m *seatMap) apply(l *Layout, changes []change) delta {
	m.version++
	d := delta{Version: m.version, Changes: [][2]int{}, Areas: []AreaFree{}}
	touched := make(map[int]bool)
	for _, c := range changes {
		m.states[c.unit] = byte(c.state)
		if i, ok := l.AreaOf(c.unit); ok {
			touched[i] = true
		} else {
			d.Changes = append(d.Changes, [2]int{c.unit, c.state})
		}
	}
	for i, a := range l.Areas {
		if touched[i] {
			d.Areas = append(d.Areas, AreaFree{ID: a.ID, Free: countFree(m.states[a.First : a.First+a.Capacity])})
		}
	}
	return d
}

// ownedUnit is what Postgres says about a unit that an order has.
type ownedUnit struct {
	sold    bool
	hold    uuid.UUID
	session string
	units   int // of the whole order
}

// reconcile makes the map say what Postgres says, wherever nothing changed since Postgres
// was asked, and makes the map where Redis has none. It returns how many units it mended.
// It is safe beside everything else and in several processes; when it meets a change that
// outran it, it leaves the rest to the next time.
func (s *Server) reconcile(ctx context.Context, l *Layout) (int64, error) {
	outcome, reply, err := s.scriptOnce(ctx, l.EventID, l.PerformanceID, l.Units(), changesScript, "", keptVersions)
	if err != nil {
		return 0, err
	}
	since, states := "", make([]byte, l.Units())
	if outcome != "missing" {
		m, _, err := parseChanges(l.Units(), outcome, reply)
		if err != nil {
			return 0, err
		}
		since, states = strconv.FormatInt(m.version, 10), m.states
	}
	owned, err := s.ownedUnits(ctx, l)
	if err != nil {
		return 0, err
	}
	args := []any{since}
	for unit, state := range states {
		o, ok := owned[unit]
		switch {
		case !ok && (state == unitHeld || state == unitSold):
			args = append(args, unit, "0", "", "")
		case ok && o.sold && state != unitSold:
			args = append(args, unit, "2", o.hold.String(), fmt.Sprintf("%s:%d", o.session, o.units))
		case ok && !o.sold && state != unitHeld:
			args = append(args, unit, "1", o.hold.String(), fmt.Sprintf("%s:%d", o.session, o.units))
		}
	}
	if len(args) == 1 && since != "" {
		return 0, nil
	}
	outcome, reply, err = s.scriptOnce(ctx, l.EventID, l.PerformanceID, l.Units(), reconcileScript, args...)
	if err != nil || outcome != "ok" {
		return 0, err
	}
	mended, _ := reply[0].(int64)
	return mended, nil
}

func (s *Server) ownedUnits(ctx context.Context, l *Layout) (map[int]ownedUnit, error) {
	rows, err := s.db.Query(ctx, `
		SELECT s.seat_index, s.state = 'sold', o.hold_id, o.session, cardinality(o.seats)
		FROM order_seats s JOIN orders o ON o.event_id = s.event_id AND o.order_id = s.order_id
		WHERE s.event_id = $1 AND s.performance_id = $2`, l.EventID, l.PerformanceID)
	if err != nil {
		return nil, fmt.Errorf("read owned seats: %w", err)
	}
	defer rows.Close()
	owned := make(map[int]ownedUnit)
	for rows.Next() {
		var unit int
		var o ownedUnit
		if err := rows.Scan(&unit, &o.sold, &o.hold, &o.session, &o.units); err != nil {
			return nil, fmt.Errorf("read owned seats: %w", err)
		}
		owned[unit] = o
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read owned seats: %w", err)
	}
	return owned, nil
}
