package queue

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/problem"
	"usher/queue/drand"
)

// Actor is who changes a room, for the audit log.
type Actor struct{ ID, Name, RequestID string }

var slug = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

const (
	// recorderWait is how long making a room waits for the Recorder to have looked, and
	// ceilingWait how long a new room or epoch waits for its first ceiling.
	recorderWait = 3 * time.Second
	ceilingWait  = 5 * time.Second
	// changeAttempts bounds how often a change is tried against concurrent ones.
	changeAttempts = 10
)

// Problems of changing a room.
func errNoSuchRoom() *problem.Problem {
	return problem.New(http.StatusNotFound, "room-not-found", "There is no such room.")
}

func errDrawn() *problem.Problem {
	return problem.New(http.StatusConflict, "room-drawn", "The order of this room is fixed: method, times and beacon can change again after a reset.")
}

func errBusy() *problem.Problem {
	return problem.New(http.StatusConflict, "room-busy", "Others are changing this room at the same time. Please try again.").In(time.Second)
}

// errNotRecorded is of a reset that only Redis knows of. It is no less in force: an operator
// can end places while the record is out of reach.
func errNotRecorded() *problem.Problem {
	return problem.New(http.StatusServiceUnavailable, "not-recorded",
		"The room was reset, but that is not on record yet. Nobody can join until it is; should Redis be lost before, the places come back that the reset ended.").In(retryAfter)
}

// Configure makes a room or changes its settings, in one step that no concurrent change
// can mix with. A new room is returned when its first numbers are free, or after some
// seconds. The error is a *problem.Problem or *Unavailable.
func (h *Hall) Configure(ctx context.Context, room string, patch Patch, by Actor) (live Live, created bool, err error) {
	if !slug.MatchString(room) {
		return Live{}, false, problem.Invalid(problem.Field{Location: "path.room", Message: "must be 1 to 40 of a-z, 0-9 and -"})
	}
	for range changeAttempts {
		done, made, err := h.tryConfigure(ctx, room, patch, by)
		if err != nil {
			return Live{}, false, err
		}
		if !done {
			continue
		}
		l, err := h.adopt(ctx, room)
		if err != nil {
			return Live{}, false, &Unavailable{RetryAfter: retryAfter, Cause: err}
		}
		if err := l.tick(ctx); err != nil {
			return Live{}, false, &Unavailable{RetryAfter: retryAfter, Cause: err}
		}
		h.protect()
		if made {
			l.awaitCeiling(ctx) // without it joins will say when to come back
		}
		return l.View().Live(), made, nil
	}
	return Live{}, false, errBusy()
}

// tryConfigure is one attempt; done is false when another change came first.
func (h *Hall) tryConfigure(ctx context.Context, room string, patch Patch, by Actor) (done, created bool, err error) {
	away := func(err error) error { return &Unavailable{RetryAfter: retryAfter, Cause: err} }
	now := "0"
	if h.cfg.clock != nil {
		now = strconv.FormatInt(h.cfg.clock(), 10)
	}
	revision, err := h.cfg.Redis.HGet(ctx, keyOf(room, "state"), "rev").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, false, away(err)
	}
	created = errors.Is(err, redis.Nil)
	before, old := Defaults(), "null"
	if !created {
		// Settings newer than the revision read make the script refuse.
		if old, err = h.cfg.Redis.Get(ctx, keyOf(room, "settings")).Result(); err != nil {
			return false, false, away(err)
		}
		if err := json.Unmarshal([]byte(old), &before); err != nil {
			return false, false, away(fmt.Errorf("settings of %s: %w", room, err))
		}
	}
	after := patch.Apply(before)
	if faults := after.Validate(); len(faults) > 0 {
		return false, false, problem.Invalid(faults...)
	}
	if after.BeaconURL != before.BeaconURL && !drand.Allowed(after.BeaconURL, h.cfg.BeaconHosts) {
		return false, false, problem.Invalid(problem.Field{Location: "body.beacon_url", Message: "must be on one of the hosts that --beacon-hosts names"})
	}
	text, err := json.Marshal(after)
	if err != nil {
		return false, false, away(err)
	}
	if created {
		if _, known := h.Line(room); known {
			// The store has lost the room: it will be restored, never made anew.
			return false, false, &Unavailable{RetryAfter: retryAfter, Cause: errNoRoom}
		}
		if err := h.awaitRecorder(ctx); err != nil {
			return false, false, err
		}
		if err := h.cfg.Redis.SAdd(ctx, roomsKey, room).Err(); err != nil {
			return false, false, away(err)
		}
	}
	epoch := uuid.Must(uuid.NewV7()).String()
	args := []any{now, revision, epoch, Commitment(h.cfg.Ring.DrawSecret(room, epoch)),
		uuid.Must(uuid.NewV7()).String(), by.Name, by.ID, old, text, by.RequestID, text}
	answer, err := configureScript.Run(ctx, h.cfg.Redis, keysOf(room), append(args, after.flat()...)...).Slice()
	if err != nil {
		return false, false, away(err)
	}
	switch answer[0] {
	case "ok":
		return true, created, nil
	case "drawn":
		return false, false, errDrawn()
	}
	return false, false, nil
}

// flat is what the scripts need of the settings, as names and values; times are
// milliseconds, 0 for none.
func (s Settings) flat() []any {
	at := func(t *time.Time) int64 {
		if t == nil {
			return 0
		}
		return t.UnixMilli()
	}
	return []any{
		"method", string(s.Method), "mode", string(s.State),
		"lobby_at", at(s.LobbyAt), "opens_at", at(s.OpensAt), "closes_at", at(s.ClosesAt),
		"pace", s.PacePerMin, "capacity", s.Capacity, "session_ttl", s.SessionTTL * 1000, "call_ttl", s.CallTTL * 1000,
		"return_window", s.ReturnWindow * 1000, "presence_ttl", s.PresenceTTL * 1000, "phone_ttl", max(s.PhonePresenceTTL, s.PresenceTTL) * 1000, "beacon", s.Beacon, "beacon_url", s.BeaconURL,
	}
}

// awaitRecorder waits until the Recorder has brought back whatever an emptied store has
// lost, so that no room is made anew that only waits for its restore.
func (h *Hall) awaitRecorder(ctx context.Context) error {
	ctx, cancel := deadline.In(ctx, recorderWait)
	defer cancel()
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		n, err := h.cfg.Redis.Exists(ctx, recordedKey).Result()
		if n == 1 {
			return nil
		}
		if err == nil {
			err = errors.New("nobody records rooms: run a worker, or a gateway with --records-dir")
		}
		select {
		case <-ctx.Done():
			return &Unavailable{RetryAfter: retryAfter, Cause: err}
		case <-ticker.C:
		}
	}
}

// awaitCeiling waits for the Recorder to free the first numbers of an epoch, which it does
// once the epoch is on record, and tells whether it did.
func (l *Line) awaitCeiling(ctx context.Context) bool {
	ctx, cancel := deadline.In(ctx, ceilingWait)
	defer cancel()
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for l.View().ceiling == 0 {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
			if err := l.tick(ctx); err != nil {
				return false
			}
		}
	}
	return true
}

// Admit calls up to count places beyond the pace, never beyond the capacity, and
// returns how many were called.
func (h *Hall) Admit(ctx context.Context, room string, count int, by Actor) (int, error) {
	l, ok := h.Line(room)
	if !ok {
		return 0, errNoSuchRoom()
	}
	switch v := l.View(); v.Phase() {
	case Open, Paused:
	default:
		return 0, problem.New(http.StatusConflict, "room-not-open", "Nobody can be called in this phase of the room.").With("phase", v.Phase())
	}
	made, err := l.advance(ctx, admission{count: count, id: uuid.Must(uuid.NewV7()).String(), by: by})
	if err != nil {
		return 0, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	return made, nil
}

// Reset begins the room's next epoch: all places end, passes stay good. The new epoch is in
// force at once; the error is a problem `not-recorded` when it is not on record after some
// seconds, as a loss of Redis would then bring the one before back.
func (h *Hall) Reset(ctx context.Context, room string, by Actor) (Live, error) {
	l, ok := h.Line(room)
	if !ok {
		return Live{}, errNoSuchRoom()
	}
	before := l.View().epoch
	epoch := epochAfter(before)
	answer, err := resetScript.Run(ctx, l.rdb, l.keys, l.now(), before, epoch, Commitment(l.ring.DrawSecret(room, epoch)),
		uuid.Must(uuid.NewV7()).String(), by.Name, by.ID, by.RequestID).StringSlice()
	if err != nil {
		return Live{}, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	switch answer[0] {
	case "ok":
	case "none":
		return Live{}, &Unavailable{RetryAfter: retryAfter, Cause: errNoRoom}
	default:
		return Live{}, errBusy()
	}
	if err := l.tick(ctx); err != nil {
		return Live{}, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	if !l.awaitCeiling(ctx) {
		return Live{}, errNotRecorded()
	}
	return l.View().Live(), nil
}

// epochAfter names the next epoch. A later one is greater, also where the clock of the
// gateway that began the one before is ahead of ours.
func epochAfter(before string) string {
	const millisecond = 1 << 16 // in the first half of a UUIDv7
	next := uuid.Must(uuid.NewV7())
	if last, err := uuid.Parse(before); err == nil && next.String() <= before {
		binary.BigEndian.PutUint64(next[:8], binary.BigEndian.Uint64(last[:8])+millisecond)
	}
	return next.String()
}

// Figures are a room's at one moment of its history.
type Figures struct {
	At            time.Time `json:"at"`
	Waiting       uint64    `json:"waiting"`
	Present       uint64    `json:"present"`
	Called        uint64    `json:"called"`
	Sessions      uint64    `json:"sessions"`
	CalledTotal   uint64    `json:"called_total"`
	AdmittedTotal uint64    `json:"admitted_total"`
	PacePerMin    uint64    `json:"pace_per_min"`
}

// History returns a room's figures from since on, oldest first: by second for the last
// hour of movement, or by minute for the last week.
func (h *Hall) History(ctx context.Context, room string, by Step, since time.Time, limit int) ([]Figures, error) {
	l, ok := h.Line(room)
	if !ok {
		return nil, errNoSuchRoom()
	}
	entries, err := l.rdb.XRevRangeN(ctx, keyOf(room, string(by)), "+", "-", int64(limit)).Result()
	if err != nil {
		return nil, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	out := make([]Figures, 0, len(entries))
	for i := len(entries) - 1; i >= 0; i-- {
		number := func(name string) uint64 {
			s, _ := entries[i].Values[name].(string)
			n, _ := strconv.ParseUint(s, 10, 64) // ours: written by advance.lua
			return n
		}
		if at := millis(number("at")); !at.Before(since) {
			out = append(out, Figures{At: at, Waiting: number("waiting"), Present: number("present"), Called: number("called"),
				Sessions: number("sessions"), CalledTotal: number("called_total"), AdmittedTotal: number("admitted_total"), PacePerMin: number("pace")})
		}
	}
	return out, nil
}

// Step is the grain of a history; its values are the streams' names.
type Step string

// The grains.
const (
	BySecond Step = "seconds"
	ByMinute Step = "minutes"
)
