package queue

import (
	"context"
	"encoding/json"
	"time"

	"usher/internal/operator"
)

// durableRecord is where a Recorder keeps what must outlast Redis: Postgres, or a folder of one
// gateway. Whatever a method has returned from is durable. Of an epoch that is not the
// newest of its room only what others still ask for is kept.
type durableRecord interface {
	// id tells this record from any other that the same Redis may have had.
	id() string
	rooms(ctx context.Context) ([]string, error)
	// settings records the settings and the epoch in force, unless later ones are recorded.
	// A new epoch begins with the ceiling 0.
	settings(ctx context.Context, room string, s inSettings) error
	// raise makes the epoch's ceiling at least n, and returns it; ok is false when the
	// numbers are reserved for another lineage.
	raise(ctx context.Context, room, epoch, lineage string, n int64) (ceiling int64, ok bool, err error)
	// reserve raises the ceiling of the newest epoch by headroom, for lineage alone, and
	// returns all that is on record; nil when there is no such room.
	reserve(ctx context.Context, room, lineage string) (*lost, error)
	// seal records the size of a lobby whose draw waits for a beacon, once, and choose the
	// round. Both return what is on record then, whoever recorded it.
	seal(ctx context.Context, room, epoch string, size int64) (sealed, error)
	choose(ctx context.Context, room, epoch string, s sealed) (sealed, error)
	// draw records the one draw of an epoch, and returns what is on record then.
	draw(ctx context.Context, room, epoch string, d drawn) (drawn, error)
	// changes appends operators' changes to the audit log. Their ids make a second time harmless.
	changes(ctx context.Context, list []operator.Change) error
	checkpoint(ctx context.Context, room, epoch string, at time.Time, figures map[string]string) error
	// claims records chunks of claimed, eachClaims reads those that reach beyond byte first.
	claims(ctx context.Context, room, epoch string, chunks map[int64][]byte) error
	eachClaims(ctx context.Context, room, epoch string, first int64, read func(chunk int64, bits []byte) error) error
	// entries records moves and invitations in their order, eachEntry reads the latest of each field.
	entries(ctx context.Context, room, epoch string, list []entry) error
	eachEntry(ctx context.Context, room, epoch string, read func(entry) error) error
}

// inSettings are the settings in force.
type inSettings struct {
	Settings   json.RawMessage `json:"settings"`
	Revision   int64           `json:"revision"`
	Epoch      string          `json:"epoch"`
	Commitment string          `json:"commitment"`
	At         time.Time       `json:"at"` // room time
	lineage    string
}

// sealed is a lobby whose size is final and whose draw waits for a round of its beacon.
type sealed struct {
	Size int64 `json:"size"`
	// Round is 0 until it is chosen; then RoundAt is when its chain gives it, and FixedAt a
	// moment at which the size was on record already.
	Round   uint64    `json:"round"`
	RoundAt time.Time `json:"round_at"`
	FixedAt time.Time `json:"fixed_at"`
}

// drawn is a recorded draw.
type drawn struct {
	Size   int64         `json:"size"`
	Beacon string        `json:"beacon"`
	Source *BeaconSource `json:"source,omitempty"`
	at     time.Time     // room time
}

// entry says that a place has moved, or which place an invited identity has: a field of
// the hash of that kind. Of two values the greater text is the later one.
type entry struct {
	Kind  string `json:"kind"` // moved, invited
	Field string `json:"field"`
	Value string `json:"value"`
}

// lost is the record that a room is restored from.
type lost struct {
	inSettings
	ceiling int64 // raised by headroom just now: numbers below the old one may have been given
	sealed  *sealed
	drawn   *drawn
	figures map[string]string
	takenAt *time.Time // of the figures, in room time
}

func (l *lost) figure(name string) int64 { return number(l.figures, name) }
