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
}

// restore brings a room back that Redis does not know, if Postgres does. Numbers are
// reserved anew before it counts again.
func (r *Recorder) restore(ctx context.Context, name string) error {
	var l lost
	err := postgres.Retry(ctx, r.cfg.DB, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			WITH reserved AS (
				UPDATE room_epochs e SET ceiling = e.ceiling + $2 FROM rooms r
				WHERE r.room = $1 AND e.room = r.room AND e.epoch = r.epoch RETURNING e.*
			)
			SELECT r.settings::text, r.revision, r.epoch::text, e.commitment, e.ceiling, d.lobby_size, d.beacon, c.figures
			FROM rooms r JOIN reserved e ON e.room = r.room
			LEFT JOIN room_draws d ON d.room = e.room AND d.epoch = e.epoch
			LEFT JOIN room_checkpoints c ON c.room = e.room AND c.epoch = e.epoch
			WHERE r.room = $1`, name, headroom).
			Scan(&l.settings, &l.revision, &l.epoch, &l.commitment, &l.ceiling, &l.lobbySize, &l.beacon, &l.figures)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // only being made
	}
	if err != nil {
		return fmt.Errorf("read what was recorded: %w", err)
	}
	args, err := l.state(r.roomNow())
	if err != nil {
		return err
	}
	n, err := restoreScript.Run(ctx, r.cfg.Redis, keysOf(name), append([]any{r.now(), l.epoch, l.settings}, args...)...).Int()
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

func (r *Recorder) roomNow() time.Time {
	if r.cfg.clock == nil {
		return time.Now()
	}
	return time.UnixMilli(r.cfg.clock())
}

// state is what restore.lua sets, as names and values.
func (l *lost) state(now time.Time) ([]any, error) {
	s := Defaults()
	if err := json.Unmarshal([]byte(l.settings), &s); err != nil {
		return nil, fmt.Errorf("recorded settings: %w", err)
	}
	next := l.ceiling - headroom
	args := append(s.flat(), "rev", l.revision, "commitment", l.commitment, "next", next, "ceiling", l.ceiling, "bucket", 0, "slot", 0, "slot_ends", 0, "ptime", 0)
	figure := func(name string) int64 { return number(l.figures, name) }
	for _, name := range []string{"frontier", "base", "clock", "called_total", "admitted_total", "lapsed_total", "left_total", "sold_out"} {
		args = append(args, name, figure(name))
	}
	// Who waits is known only from who is present.
	args = append(args, "gap_from", figure("frontier"), "gap_to", next)
	args = append(args, "presumed", figure("sessions")+figure("open"))
	opened := s.State == ModeOpen || s.OpensAt != nil && !now.Before(*s.OpensAt) || s.OpensAt == nil && s.LobbyAt == nil
	switch {
	case l.lobbySize != nil:
		args = append(args, "lobby_size", *l.lobbySize, "draw_durable", 1, "drawn", 1, "beacon", *l.beacon)
	case s.Method == Random && opened:
		args = append(args, "draw_missing", 1) // it may have been about to be shown: never draw again
	}
	return args, nil
}
