package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/keyring"
	"usher/internal/operator"
)

const (
	// headroom is the least distance from the next number to a ceiling when it is set; it
	// is raised when half of it is left, which the hardest rush takes a second to use up.
	// Large rooms have a quarter of their size.
	headroom = 1 << 17
	// recordEvery is how often the Recorder looks; a draw and a new room wait for it.
	recordEvery = 100 * time.Millisecond
	// checkpointEvery is how old a checkpoint may be.
	checkpointEvery = time.Second
	// changesAtOnce bounds the changes of one room, and the releases, taken in one pass.
	changesAtOnce = 200
)

// RecorderConfig is what a Recorder needs.
type RecorderConfig struct {
	Redis redis.UniversalClient
	// DB keeps the record, or else Folder does, in a site without Postgres.
	DB     *pgxpool.Pool
	Folder *Folder
	Ring   *keyring.Ring
	// BeaconHosts are the hosts that are asked for beacons, and no others.
	BeaconHosts []string
	// Log is slog.Default() when nil.
	Log *slog.Logger

	clock func() int64 // room time in milliseconds, in tests
}

// Recorder keeps the record of the rooms: settings, epochs, ceilings, draws, checkpoints,
// operators' changes, moves and invitations. It brings rooms back that Redis has lost, and
// ends the sessions that booking releases. Several may run on Postgres: each step is one
// conditional statement that a second one leaves as it is.
type Recorder struct {
	cfg    RecorderConfig
	record durableRecord
	// beacons are the draws that wait for one.
	beacons *beacons
	// soldOut are the rooms of whose stock booking speaks, as of stockAt.
	soldOut map[string]bool
	stockAt time.Time
	rooms   map[string]*recorded // all rooms ever seen; nil before the record was read
}

// recorded is what this Recorder knows to be on record.
type recorded struct {
	epoch, revision string
	figures         string
	checkpointed    time.Time
	claims          claims
}

// NewRecorder makes a Recorder; Run does its work.
func NewRecorder(cfg RecorderConfig) *Recorder {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	r := &Recorder{cfg: cfg, record: inPostgres{cfg.DB}, beacons: newBeacons(cfg.BeaconHosts)}
	if cfg.Folder != nil {
		r.record = cfg.Folder
	}
	return r
}

// Run records until ctx ends. A store that does not answer is no reason to stop.
func (r *Recorder) Run(ctx context.Context) error {
	defer r.beacons.asking.Wait() // its functions return no error
	for failing := false; ; {
		err := r.step(ctx)
		r.followBeacons(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			r.cfg.Log.ErrorContext(ctx, "record rooms", "error", err)
		case err == nil && failing:
			r.cfg.Log.InfoContext(ctx, "rooms are recorded again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(recordEvery, time.Duration(len(r.rooms))*2*time.Millisecond)):
		}
	}
}

// step looks at every room once. One room's failure does not keep the others.
func (r *Recorder) step(ctx context.Context) error {
	ctx, cancel := deadline.In(ctx, 10*time.Second)
	defer cancel()
	names, err := r.cfg.Redis.SMembers(ctx, roomsKey).Result()
	if err != nil {
		return fmt.Errorf("list rooms: %w", err)
	}
	if err := r.alone(ctx); err != nil {
		return err
	}
	if r.rooms == nil {
		if err := r.readRooms(ctx); err != nil {
			return err
		}
	}
	listed := map[string]bool{}
	for _, name := range names {
		listed[name] = true
		if r.rooms[name] == nil {
			r.rooms[name] = &recorded{}
		}
	}
	var faults []error
	if err := r.lookAtStock(ctx); err != nil {
		faults = append(faults, err)
	}
	for _, name := range slices.Sorted(maps.Keys(r.rooms)) {
		if err := r.room(ctx, name, r.rooms[name]); err != nil {
			faults = append(faults, fmt.Errorf("room %s: %w", name, err))
		} else if r.rooms[name].epoch != "" && !listed[name] { // a cluster may lose the list and keep the room
			if err := r.cfg.Redis.SAdd(ctx, roomsKey, name).Err(); err != nil {
				faults = append(faults, fmt.Errorf("list room %s: %w", name, err))
			}
		}
	}
	if len(faults) == 0 {
		if err := r.cfg.Redis.Set(ctx, recordedKey, 1, 0).Err(); err != nil {
			faults = append(faults, fmt.Errorf("say that rooms are recorded: %w", err))
		}
	}
	if err := r.releases(ctx); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// alone claims this Redis for one record. Two would reserve numbers apart, and after a
// loss the older one could give some of them again.
func (r *Recorder) alone(ctx context.Context) error {
	err := r.cfg.Redis.SetArgs(ctx, recordKey, r.record.id(), redis.SetArgs{Mode: "NX"}).Err()
	if !errors.Is(err, redis.Nil) {
		return err
	}
	kept, err := r.cfg.Redis.Get(ctx, recordKey).Result()
	if err != nil {
		return fmt.Errorf("ask who keeps the record: %w", err)
	}
	if kept != r.record.id() {
		return fmt.Errorf("the rooms of this Redis are on record elsewhere (%s, not %s): end this process, or delete %s in Redis if that record is lost for good",
			kept, r.record.id(), recordKey)
	}
	return nil
}

// readRooms learns which rooms there were.
func (r *Recorder) readRooms(ctx context.Context) error {
	names, err := r.record.rooms(ctx)
	if err != nil {
		return err
	}
	r.rooms = make(map[string]*recorded, len(names))
	for _, name := range names {
		r.rooms[name] = &recorded{}
	}
	return nil
}

// room records one room.
func (r *Recorder) room(ctx context.Context, name string, known *recorded) error {
	pipe := r.cfg.Redis.Pipeline()
	lineageCmd := pipe.Eval(ctx, lineageSource, []string{keyOf(name, "state")})
	stateCmd := pipe.HGetAll(ctx, keyOf(name, "state"))
	settingsCmd := pipe.Get(ctx, keyOf(name, "settings"))
	changesCmd := pipe.XRangeN(ctx, keyOf(name, "changes"), "-", "+", changesAtOnce)
	entriesCmd := pipe.XRangeN(ctx, keyOf(name, "entries"), "-", "+", changesAtOnce)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read: %w", err)
	}
	state := stateCmd.Val()
	lineage, _ := lineageCmd.Val().(string)
	if state["epoch"] == "" {
		*known = recorded{}
		return r.restore(ctx, name, lineage)
	}
	if known.epoch != state["epoch"] {
		*known = recorded{} // the same figures are news again
	}
	if known.epoch != state["epoch"] || known.revision != state["rev"] {
		// The settings may be newer than the revision read: the next step writes those again.
		if err := r.settings(ctx, name, state, settingsCmd.Val()); err != nil {
			return err
		}
		known.epoch, known.revision = state["epoch"], state["rev"]
	}
	if state["reserved"] != lineage {
		return r.resume(ctx, name, lineage, state)
	}
	if state["claims_due"] == "1" {
		if err := r.bringEntriesBack(ctx, name, state); err != nil {
			return err
		}
		if err := r.bringClaimsBack(ctx, name, state); err != nil {
			return err
		}
		known.claims = claims{}
	}
	if err := r.ceiling(ctx, name, state); err != nil {
		return err
	}
	r.beacons.awaits(name, state)
	if state["lobby_size"] != "" && state["draw_durable"] != "1" {
		if err := r.draw(ctx, name, state); err != nil {
			return err
		}
	}
	if err := r.stock(ctx, name, state); err != nil {
		return err
	}
	if err := r.entries(ctx, name, state, entriesCmd.Val()); err != nil {
		return err
	}
	if err := r.changes(ctx, name, changesCmd.Val()); err != nil {
		return err
	}
	return r.checkpoint(ctx, name, state, known)
}

func number(state map[string]string, field string) int64 {
	n, err := strconv.ParseInt(state[field], 10, 64)
	if err != nil {
		return 0 // absent: not needed yet in this epoch
	}
	return n
}

func roomTime(state map[string]string) time.Time { return time.UnixMilli(number(state, "time")).UTC() }

// settings records the settings and the epoch in force. An epoch is a UUIDv7, so that a
// later one is greater; what is older than the record is left.
func (r *Recorder) settings(ctx context.Context, name string, state map[string]string, settings string) error {
	return r.record.settings(ctx, name, inSettings{
		Settings: json.RawMessage(settings), Revision: number(state, "rev"), Epoch: state["epoch"], Commitment: state["commitment"],
		At: roomTime(state), lineage: state["reserved"],
	})
}

// ceiling reserves numbers ahead: first for good, then for the scripts. Where they are
// reserved for another lineage, this one begins anew above them: two servers that both
// believe to be the primary never give the same number.
func (r *Recorder) ceiling(ctx context.Context, name string, state map[string]string) error {
	next := number(state, "next")
	ahead := max(headroom, next/4)
	if number(state, "ceiling")-next >= ahead/2 {
		return nil
	}
	ceiling, ok, err := r.record.raise(ctx, name, state["epoch"], state["reserved"], next+ahead)
	switch {
	case err != nil:
		return err
	case !ok:
		return r.resume(ctx, name, state["reserved"], state)
	}
	return r.durable(ctx, name, state["epoch"], ceiling, "", state["reserved"], drawn{})
}

// draw records the one draw of an epoch. Whoever recorded it first decides the beacon: no
// rank is shown before. A lobby that differs from the record is never put into force: the
// room waits for an operator.
func (r *Recorder) draw(ctx context.Context, name string, state map[string]string) error {
	return r.drawn(ctx, name, state, drawn{Size: number(state, "lobby_size"), Beacon: state["beacon"], at: roomTime(state)})
}

func (r *Recorder) drawn(ctx context.Context, name string, state map[string]string, d drawn) error {
	kept, err := r.record.draw(ctx, name, state["epoch"], d)
	if err != nil {
		return err
	}
	if kept.Size != d.Size {
		return fmt.Errorf("epoch %s was drawn before with another lobby (%d): reset the room", state["epoch"], kept.Size)
	}
	return r.durable(ctx, name, state["epoch"], "", kept.Size, state["reserved"], kept)
}

func (r *Recorder) now() string {
	if r.cfg.clock == nil {
		return "0"
	}
	return strconv.FormatInt(r.cfg.clock(), 10)
}

func (r *Recorder) durable(ctx context.Context, name, epoch string, ceiling, lobbySize any, lineage string, d drawn) error {
	source, err := d.source()
	if err != nil {
		return err
	}
	if err := durableScript.Run(ctx, r.cfg.Redis, keysOf(name), r.now(), epoch, ceiling, lobbySize, lineage, d.Beacon, source).Err(); err != nil {
		return fmt.Errorf("say what is durable: %w", err)
	}
	return nil
}

// changes moves operators' changes to the audit log. Their ids make a second time harmless.
func (r *Recorder) changes(ctx context.Context, name string, entries []redis.XMessage) error {
	if len(entries) == 0 {
		return nil
	}
	list := make([]operator.Change, 0, len(entries))
	for _, e := range entries {
		text := func(field string) string { s, _ := e.Values[field].(string); return s }
		id, err := uuid.Parse(text("id"))
		if err != nil {
			r.cfg.Log.ErrorContext(ctx, "a change without an id is dropped", "room", name, "entry", e.ID)
			continue
		}
		doc := func(field string) json.RawMessage {
			if s := text(field); s != "" && s != "null" {
				return json.RawMessage(s)
			}
			return nil
		}
		ms, _ := strconv.ParseInt(text("at"), 10, 64) // ours: written by lib.lua
		list = append(list, operator.Change{
			ID: id, At: time.UnixMilli(ms).UTC(), Actor: text("actor"), ActorID: text("actor_id"), Act: text("act"),
			Subject: "room/" + name, Before: doc("before"), After: doc("after"), RequestID: text("request_id"),
		})
	}
	if err := r.record.changes(ctx, list); err != nil {
		return err
	}
	return r.dropped(ctx, keyOf(name, "changes"), entries)
}

// dropped takes out of a stream what is on record.
func (r *Recorder) dropped(ctx context.Context, stream string, entries []redis.XMessage) error {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	if err := r.cfg.Redis.XDel(ctx, stream, ids...).Err(); err != nil {
		return fmt.Errorf("drop what is recorded: %w", err)
	}
	return nil
}

// inCheckpoint are the fields that a room is restored with.
var inCheckpoint = []string{
	"next", "frontier", "base", "clock", "open", "returning", "missed", "called_total", "admitted_total", "lapsed_total", "left_total", "sold_out", "ranked",
}

// checkpoint records the figures, at most once a second and only when they moved.
func (r *Recorder) checkpoint(ctx context.Context, name string, state map[string]string, known *recorded) error {
	if time.Since(known.checkpointed) < checkpointEvery {
		return nil
	}
	figures := make(map[string]string, len(inCheckpoint)+1)
	for _, field := range inCheckpoint {
		figures[field] = state[field]
	}
	moved, err := json.Marshal(figures)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	sessions, err := r.cfg.Redis.ZCard(ctx, keyOf(name, "sessions")).Result()
	if err != nil {
		return fmt.Errorf("count sessions: %w", err)
	}
	known.checkpointed = time.Now()
	if err := r.recordClaims(ctx, name, state, &known.claims); err != nil {
		return err
	}
	text := string(moved) + strconv.FormatInt(sessions, 10)
	if text == known.figures {
		return nil
	}
	figures["sessions"] = strconv.FormatInt(sessions, 10)
	if err := r.record.checkpoint(ctx, name, state["epoch"], roomTime(state), figures); err != nil {
		return err
	}
	known.figures = text
	return nil
}

// releases ends the sessions whose orders are paid: their room in the shop is free, and
// after a while their passes are refused.
func (r *Recorder) releases(ctx context.Context) error {
	entries, err := r.cfg.Redis.XRangeN(ctx, releasesKey, "-", "+", changesAtOnce).Result()
	if err != nil {
		return fmt.Errorf("read releases: %w", err)
	}
	for _, e := range entries {
		room, _ := e.Values["room"].(string)
		session, _ := e.Values["session"].(string)
		if slug.MatchString(room) {
			if err := r.release(ctx, room, session); err != nil {
				return fmt.Errorf("release a session: %w", err)
			}
		}
		if err := r.cfg.Redis.XDel(ctx, releasesKey, e.ID).Err(); err != nil {
			return fmt.Errorf("drop a release: %w", err)
		}
	}
	return nil
}

func (r *Recorder) release(ctx context.Context, room, session string) error {
	expires := r.roomNow().Add(maxTTL * time.Second) // of a session that the store has lost
	till, err := r.cfg.Redis.ZScore(ctx, keyOf(room, "sessions"), session).Result()
	switch {
	case err == nil:
		expires = time.UnixMilli(int64(till))
	case !errors.Is(err, redis.Nil):
		return err
	}
	if err := endSession(ctx, r.cfg.Redis, session, expires, afterOrder); err != nil {
		return err
	}
	return releaseScript.Run(ctx, r.cfg.Redis, keysOf(room), r.now(), session).Err()
}
