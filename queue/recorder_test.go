package queue

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
)

// recorder runs a Recorder until the test ends, on a database of its own.
func (s *stage) recorder() *pgxpool.Pool {
	s.t.Helper()
	db, _ := devtest.Postgres(s.t)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	r := s.newRecorder(db)
	go func() { done <- r.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Errorf("recorder: %v", err)
		}
	})
	return db
}

func (s *stage) newRecorder(db *pgxpool.Pool) *Recorder {
	return NewRecorder(RecorderConfig{Redis: s.rdb, DB: db, Ring: s.ring, BeaconHosts: beaconHosts, Log: quietLog(), clock: s.clock.Load})
}

// record makes the Recorder look once, with a fresh checkpoint.
func record(t *testing.T, r *Recorder) {
	t.Helper()
	for _, known := range r.rooms {
		known.checkpointed = time.Time{}
	}
	if err := r.step(context.Background()); err != nil {
		t.Fatalf("record: %v", err)
	}
}

// configure changes the room while a Recorder that is stepped by hand looks on.
func (s *stage) configure(r *Recorder, p Patch) {
	s.t.Helper()
	s.recording(r, func() error {
		_, _, err := s.halls[0].Configure(context.Background(), "r", p, Actor{ID: "k1", Name: "Ada", RequestID: "q"})
		return err
	})
}

// recording does what waits for the Recorder.
func (s *stage) recording(r *Recorder, do func() error) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				s.t.Fatal(err)
			}
			for _, h := range s.halls {
				if err := h.look(context.Background()); err != nil {
					s.t.Fatal(err)
				}
			}
			record(s.t, r)
			s.tick()
			return
		case <-time.After(time.Millisecond):
			record(s.t, r)
		}
	}
}

func TestRecorderRecordsRoomsCeilingsAndChanges(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	db, _ := devtest.Postgres(t)
	r, second := s.newRecorder(db), s.newRecorder(db)
	ctx := context.Background()
	s.configure(r, Patch{PacePerMin: opt(60)})
	s.join(0, 3)
	s.configure(r, Patch{PacePerMin: opt(120)})
	record(t, second) // another process does the same again
	var pace, revision, ceiling int
	err := db.QueryRow(ctx, `SELECT (settings->>'pace_per_min')::int, revision, ceiling FROM rooms JOIN room_epochs USING (room, epoch) WHERE room = 'r'`).
		Scan(&pace, &revision, &ceiling)
	if err != nil {
		t.Fatal(err)
	}
	s.expect("recorded", []int{pace, revision, ceiling}, []int{120, 2, headroom})
	var changes int
	var before, after, actor string
	err = db.QueryRow(ctx, `SELECT count(*), max(before->>'pace_per_min'), max(after->>'pace_per_min'), max(actor) FROM audit WHERE subject = 'room/r'`).
		Scan(&changes, &before, &after, &actor)
	if err != nil {
		t.Fatal(err)
	}
	s.expect("audit", []any{changes, before, after, actor}, []any{2, "60", "60", "Ada"})
	s.expect("the stream is drained", s.rdb.XLen(ctx, keyOf("r", "changes")).Val(), 0)
}

func TestReleasesEndSessions(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	ctx := context.Background()
	s.configure(r, Patch{})
	fan := s.join(0, 1)[0]
	s.tick()
	session, err := s.line(0).Claim(ctx, fan)
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []string{"r", "not a room"} {
		if err := s.rdb.XAdd(ctx, releaseOf(room, session.ID)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	record(t, r)
	s.tick()
	s.expect("sessions", s.live().Sessions, 0)
	s.expect("drained", s.rdb.XLen(ctx, releasesKey).Val(), 0)
}

func drawPatch(minutes int) Patch {
	return Patch{
		Method: opt(Random), LobbyAt: opt(start.Add(-time.Minute)), OpensAt: opt(start.Add(time.Duration(minutes) * time.Minute)),
		PacePerMin: opt(600), Capacity: opt(1000), PresenceTTL: opt(3600), Beacon: opt("lotto 1 2 3"),
	}
}

func TestDrawIsDurableBeforeARankIsShown(t *testing.T) {
	onEachRecord(t, drawIsDurableBeforeARankIsShown)
}

func drawIsDurableBeforeARankIsShown(t *testing.T, recorder func(*stage) *Recorder) {
	s := newStage(t, 2)
	r := recorder(s)
	ctx := context.Background()
	s.configure(r, drawPatch(1))
	fans := s.join(0, 300)
	if err := s.line(0).Leave(ctx, fans[7]); err != nil {
		t.Fatal(err)
	}
	s.clock.Add(time.Minute.Milliseconds())
	s.tick()
	s.tick()
	p := s.place(0, fans[0])
	s.expect("not recorded: still the lobby", []any{p.State, p.Rank == nil, p.Phase}, []any{InLobby, true, Lobby})
	if _, ok := s.line(0).DrawRecord(); ok {
		t.Error("the secret is out before the draw is recorded")
	}
	late := s.join(1, 5)
	s.expect("who joins after the opening is behind the lobby", late[0].Number, 300)
	record(t, r)
	s.tick()
	s.tick()
	draw, ok := s.line(1).DrawRecord()
	if !ok || draw.LobbySize != 300 || draw.Beacon != "lotto 1 2 3" || draw.Commitment != fans[0].Commitment {
		t.Fatalf("draw record %+v %v", draw, ok)
	}
	seed := [32]byte(appendFromHex(nil, draw.Seed, 32))
	for i, f := range fans {
		if i == 7 {
			s.expect("left in the lobby", s.place(0, f).State, Left)
			continue
		}
		p := s.place(i%2, f)
		if p.Rank == nil || *p.Rank != Rank(seed, 300, f.Number) {
			t.Fatalf("place %d: %+v", f.Number, p)
		}
	}
	s.expect("late rank is its number", *s.place(0, late[2]).Rank, 302)
	s.pass(10 * time.Second)
	v := s.line(0).View()
	for i, f := range fans {
		p := s.place(i%2, f)
		if called := *p.Rank < v.frontier; i != 7 && called != (p.State == Called) {
			t.Errorf("rank %d is %s with the frontier at %d", *p.Rank, p.State, v.frontier)
		}
	}
	s.expect("nobody of the lobby needed to be heard again", v.calledTotal >= 100, true)
	_, _, err := s.halls[0].Configure(ctx, "r", Patch{Method: opt(FIFO)}, Actor{})
	if err == nil {
		t.Error("the method could be changed after the draw")
	}
}

func TestRoomPastItsOpeningWithoutARecordStaysPaused(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	patch := drawPatch(1)
	patch.PresenceTTL = opt(5)
	s.configure(r, patch)
	fans := s.join(0, 5)
	s.clock.Add(2 * time.Minute.Milliseconds())
	s.tick() // the lobby's size is fixed and not recorded
	s.lose()
	record(t, r)
	s.pass(time.Minute, fans...)
	record(t, r)
	s.tick()
	s.expect("phase", s.live().Phase, Paused)
	s.expect("calls", s.live().CalledTotal, 0)
	if _, ok := s.line(0).DrawRecord(); ok {
		t.Error("it drew again")
	}
}

// TestResetOfADrawnRoomCanBeScheduledAnew: past the opening an empty lobby draws nothing, so
// that an operator may set another one until the first place is given.
func TestResetOfADrawnRoomCanBeScheduledAnew(t *testing.T) {
	t.Parallel()
	s := newStage(t, 2)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	s.configure(r, drawPatch(1))
	s.join(0, 3)
	s.pass(61 * time.Second)
	record(t, r)
	s.tick()
	s.expect("drawn", s.line(1).View().drawn, true)
	s.reset(r)
	record(t, r)
	s.tick()
	s.pass(5 * time.Second)
	record(t, r)
	s.tick()
	s.expect("open and empty", s.live().Phase, Open)
	again := drawPatch(1)
	again.LobbyAt, again.OpensAt = opt(start), opt(start.Add(3*time.Minute))
	s.configure(r, again)
	s.expect("a lobby again", s.live().Phase, Lobby)
	fan := s.join(1, 1)[0]
	p := s.place(0, fan)
	s.expect("its place", []any{p.State, p.Rank == nil}, []any{InLobby, true})
	s.pass(2 * time.Minute)
	record(t, r)
	s.tick()
	draw, ok := s.line(0).DrawRecord()
	s.expect("drawn with its lobby", []any{ok, draw.LobbySize}, []any{true, uint64(1)})
}

// TestStoreThatFellBehind: a replica without the last writes has taken over.
func TestStoreThatFellBehind(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(600), PresenceTTL: opt(10), Capacity: opt(1000)})
	fans := s.join(0, 100)
	s.pass(time.Second, fans...)
	old := map[string]string{}
	for _, key := range keysOf("r") {
		if dump, err := s.rdb.Dump(ctx, key).Result(); err == nil {
			old[key] = dump
		}
	}
	fans = append(fans, s.join(0, 50)...)
	s.pass(3*time.Second, fans...)
	frontier := s.line(0).View().frontier
	s.lose()
	for key, dump := range old {
		if err := s.rdb.Restore(ctx, key, 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.tick()
	if _, err := s.line(0).Join(ctx); err == nil {
		t.Error("a number is given before the Recorder said which are free")
	}
	s.resume()
	if n := s.join(0, 1)[0].Number; n < 1<<20 {
		t.Errorf("number %d was given twice", n)
	}
	s.expect("frontier", s.line(0).View().frontier, frontier)
	s.expect("quiet", s.live().Phase, Paused)
	s.pass(11*time.Second, fans...)
	for range 60 {
		if _, err := s.line(0).Places(ctx, fans, nil); err != nil { // as the hub asks each tick
			t.Fatal(err)
		}
		s.pass(time.Second)
	}
	for _, f := range fans {
		if p := s.place(0, f); p.State != Called {
			t.Errorf("place %d is %s a minute later", f.Number, p.State)
		}
	}
}

// TestRunningSite lets two gateways and two Recorders run by themselves, in real time.
func TestRunningSite(t *testing.T) {
	t.Parallel()
	rdb, ring := devtest.Redis(t), keyring.Generate(start)
	db, _ := devtest.Postgres(t)
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	var site errgroup.Group
	t.Cleanup(func() {
		stop()
		if err := site.Wait(); err != nil {
			t.Errorf("the site ended with %v", err)
		}
	})
	var halls [2]*Hall
	for i := range halls {
		h, err := NewHall(Config{Redis: rdb, Ring: ring, Log: quietLog(), Tick: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		halls[i] = h
		site.Go(func() error { return h.Run(ctx) })
		r := NewRecorder(RecorderConfig{Redis: rdb, DB: db, Ring: ring, Log: quietLog()})
		site.Go(func() error { return r.Run(ctx) })
	}
	live, created, err := halls[0].Configure(ctx, "gala", Patch{PacePerMin: opt(60_000), Capacity: opt(2)}, Actor{Name: "Ada"})
	if err != nil || !created {
		t.Fatalf("configure: %v %v %v", live, created, err)
	}
	first, _ := halls[0].Line("gala")
	fan, err := first.Join(ctx)
	if err != nil {
		t.Fatalf("a new room takes the first visitor at once: %v", err)
	}
	second, ok := halls[1].Line("gala")
	for look := time.NewTicker(10 * time.Millisecond); !ok; second, ok = halls[1].Line("gala") {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatal("the other gateway never learned of the room")
		}
	}
	for {
		changed := second.Changed()
		p, _, err := second.Place(ctx, fan)
		if err != nil {
			t.Fatal(err)
		}
		if p.State == Called {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("never called: %+v", p)
		}
	}
	if _, err := second.Claim(ctx, fan); err != nil {
		t.Error(err)
	}
	if _, _, err := halls[1].Configure(ctx, "gala", Patch{Message: opt("hello")}, Actor{Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	for {
		changed := first.Changed()
		if m := first.View().Room().Message; m != nil && *m == "hello" {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("the change never reached the other gateway")
		}
	}
}
