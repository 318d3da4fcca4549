package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"usher/internal/postgres"
)

// lost is the record that a room is restored from.
type lost struct {
	settings   string
	revision   int64
	epoch      string
	commitment string
	ceiling    int64 // raised by headroom just now: numbers below the old one may have been given
	lobbySize  *int64
	beacon     *string
	figures    map[string]string
	takenAt    *time.Time // of the figures, in room time
}

// reserve reads what is recorded of a room and takes numbers for a lineage that no other
// has: those from the old ceiling on. nil when Postgres knows no such room.
func (r *Recorder) reserve(ctx context.Context, name, lineage string) (*lost, error) {
	var l lost
	err := postgres.Retry(ctx, r.cfg.DB, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			WITH reserved AS (
				UPDATE room_epochs e SET ceiling = e.ceiling + $2, lineage = $3 FROM rooms r
				WHERE r.room = $1 AND e.room = r.room AND e.epoch = r.epoch RETURNING e.*
			)
			SELECT r.settings::text, r.revision, r.epoch::text, e.commitment, e.ceiling, d.lobby_size, d.beacon, c.figures, c.taken_at
			FROM rooms r JOIN reserved e ON e.room = r.room
			LEFT JOIN room_draws d ON d.room = e.room AND d.epoch = e.epoch
			LEFT JOIN room_checkpoints c ON c.room = e.room AND c.epoch = e.epoch
			WHERE r.room = $1`, name, headroom, lineage).
			Scan(&l.settings, &l.revision, &l.epoch, &l.commitment, &l.ceiling, &l.lobbySize, &l.beacon, &l.figures, &l.takenAt)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was recorded: %w", err)
	}
	return &l, nil
}

// restore brings a room back that Redis does not know, if Postgres does. Numbers are
// reserved anew before it counts again.
func (r *Recorder) restore(ctx context.Context, name, lineage string) error {
	l, err := r.reserve(ctx, name, lineage)
	if l == nil {
		return err // or only being made
	}
	return r.bringBack(ctx, name, lineage, l)
}

func (r *Recorder) bringBack(ctx context.Context, name, lineage string, l *lost) error {
	args, err := l.state(r.roomNow())
	if err != nil {
		return err
	}
	n, err := restoreScript.Run(ctx, r.cfg.Redis, keysOf(name), append([]any{r.now(), l.epoch, l.settings, lineage}, args...)...).Int()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := r.cfg.Redis.SAdd(ctx, roomsKey, name).Err(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if n == 1 {
		r.cfg.Log.WarnContext(ctx, "a room that Redis lost is restored", "room", name, "epoch", l.epoch, "frontier", l.figures["frontier"])
	}
	return nil
}

// resume lets a room go on that is there, but in a server that may have lost its newest
// writes: restarted, or promoted. Numbers go on from the durable ceiling; what is on
// record of later than the store knows (settings, epoch, draw, frontier) is put into force.
func (r *Recorder) resume(ctx context.Context, name, lineage string, state map[string]string) error {
	l, err := r.reserve(ctx, name, lineage)
	if err != nil {
		return err
	}
	if l == nil {
		return errors.New("resume: the room is not on record")
	}
	if l.epoch > state["epoch"] { // UUIDv7: the store has forgotten a reset
		return r.bringBack(ctx, name, lineage, l)
	}
	lobbySize, beacon, taken := any(""), "", int64(0)
	if l.lobbySize != nil {
		lobbySize, beacon = *l.lobbySize, *l.beacon
	}
	if l.takenAt != nil {
		taken = l.takenAt.UnixMilli()
	}
	args := []any{r.now(), l.epoch, lineage, state["reserved"], l.ceiling - headroom, l.ceiling, l.figure("frontier"), lobbySize, beacon,
		taken, l.figure("sessions") + l.figure("open")}
	if l.revision > number(state, "rev") {
		s := Defaults()
		if err := json.Unmarshal([]byte(l.settings), &s); err != nil {
			return fmt.Errorf("recorded settings: %w", err)
		}
		args = append(append(args, l.settings, "rev", l.revision), s.flat()...)
	} else {
		args = append(args, "")
	}
	n, err := resumeScript.Run(ctx, r.cfg.Redis, keysOf(name), args...).Int()
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	if n == 1 {
		r.cfg.Log.WarnContext(ctx, "Redis may have lost its newest writes; the room goes on from free numbers", "room", name, "next", l.ceiling-headroom)
	}
	return nil
}

func (r *Recorder) roomNow() time.Time {
	if r.cfg.clock == nil {
		return time.Now()
	}
	return time.UnixMilli(r.cfg.clock())
}

func (l *lost) figure(name string) int64 { return number(l.figures, name) }

// state is what restore.lua sets, as names and values.
func (l *lost) state(now time.Time) ([]any, error) {
	s := Defaults()
	if err := json.Unmarshal([]byte(l.settings), &s); err != nil {
		return nil, fmt.Errorf("recorded settings: %w", err)
	}
	next := l.ceiling - headroom
	args := append(s.flat(), "rev", l.revision, "commitment", l.commitment, "next", next, "ceiling", l.ceiling, "bucket", 0, "slot", 0, "slot_ends", 0, "ptime", 0)
	for _, name := range []string{"frontier", "base", "clock", "called_total", "admitted_total", "lapsed_total", "left_total", "sold_out"} {
		args = append(args, name, l.figure(name))
	}
	// Who waits is known only from who is present.
	args = append(args, "gap_from", l.figure("frontier"), "gap_to", next)
	args = append(args, "presumed", l.figure("sessions")+l.figure("open"))
	if l.takenAt != nil {
		args = append(args, "presumed_at", l.takenAt.UnixMilli())
	}
	opened := s.State == ModeOpen || s.OpensAt != nil && !now.Before(*s.OpensAt) || s.OpensAt == nil && s.LobbyAt == nil
	switch {
	case l.lobbySize != nil:
		args = append(args, "lobby_size", *l.lobbySize, "draw_durable", 1, "drawn", 1, "beacon", *l.beacon)
	case s.Method == Random && opened:
		args = append(args, "draw_missing", 1) // it may have been about to be shown: never draw again
	}
	return args, nil
}
