package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// restore brings a room back that Redis does not know, if the record does. Numbers are
// reserved anew before it counts again.
func (r *Recorder) restore(ctx context.Context, name, lineage string) error {
	l, err := r.record.reserve(ctx, name, lineage)
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
	n, err := restoreScript.Run(ctx, r.cfg.Redis, keysOf(name), append([]any{r.now(), l.Epoch, string(l.Settings), lineage}, args...)...).Int()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := r.cfg.Redis.SAdd(ctx, roomsKey, name).Err(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if n == 1 {
		r.cfg.Log.WarnContext(ctx, "a room that Redis lost is restored", "room", name, "epoch", l.Epoch, "frontier", l.figures["frontier"])
	}
	return nil
}

// resume lets a room go on that is there, but in a server that may have lost its newest
// writes: restarted, or promoted. Numbers go on from the durable ceiling; what is on
// record of later than the store knows (settings, epoch, draw, frontier) is put into force.
func (r *Recorder) resume(ctx context.Context, name, lineage string, state map[string]string) error {
	l, err := r.record.reserve(ctx, name, lineage)
	if err != nil {
		return err
	}
	if l == nil {
		return errors.New("resume: the room is not on record")
	}
	if l.Epoch > state["epoch"] { // UUIDv7: the store has forgotten a reset
		return r.bringBack(ctx, name, lineage, l)
	}
	var size, waits any = "", ""
	var d drawn
	if l.drawn != nil {
		size, d = l.drawn.Size, *l.drawn
	} else if l.sealed != nil {
		waits = l.sealed.Size
	}
	source, err := d.source()
	if err != nil {
		return err
	}
	taken := int64(0)
	if l.takenAt != nil {
		taken = l.takenAt.UnixMilli()
	}
	args := []any{r.now(), l.Epoch, lineage, state["reserved"], l.ceiling - headroom, l.ceiling, l.figure("frontier"), size, d.Beacon, source, waits,
		taken, l.figure("sessions") + l.figure("open")}
	if l.Revision > number(state, "rev") {
		s, err := l.parsed()
		if err != nil {
			return err
		}
		args = append(append(args, string(l.Settings), "rev", l.Revision), s.flat()...)
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

// parsed reads the recorded settings.
func (s inSettings) parsed() (Settings, error) {
	parsed := Defaults()
	if err := json.Unmarshal(s.Settings, &parsed); err != nil {
		return Settings{}, fmt.Errorf("recorded settings: %w", err)
	}
	return parsed, nil
}

// source is where the beacon came from, as the scripts keep it; "" for a text.
func (d drawn) source() (string, error) {
	if d.Source == nil {
		return "", nil
	}
	text, err := json.Marshal(d.Source)
	return string(text), err
}

// state is what restore.lua sets, as names and values.
func (l *lost) state(now time.Time) ([]any, error) {
	s, err := l.parsed()
	if err != nil {
		return nil, err
	}
	next := l.ceiling - headroom
	args := append(s.flat(), "rev", l.Revision, "commitment", l.Commitment, "next", next, "ceiling", l.ceiling, "bucket", 0, "slot", 0, "slot_ends", 0, "ptime", 0)
	for _, name := range []string{"frontier", "base", "clock", "called_total", "admitted_total", "lapsed_total", "left_total", "sold_out", "ranked"} {
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
	case l.drawn != nil:
		source, err := l.drawn.source()
		if err != nil {
			return nil, err
		}
		args = append(args, "lobby_size", l.drawn.Size, "draw_durable", 1, "drawn", 1, "draw_beacon", l.drawn.Beacon, "draw_source", source)
	case l.sealed != nil:
		args = append(args, "sealed", l.sealed.Size)
	case s.Method == Random && opened:
		args = append(args, "draw_missing", 1) // it may have been about to be shown: never draw again
	}
	return args, nil
}
