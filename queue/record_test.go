package queue

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

// TestMovesAndInvitationsOutliveALoss: with Redis empty and every gateway new, an identity's
// second device gets no second place and the device that gave its place away stays out.
func TestMovesAndInvitationsOutliveALoss(t *testing.T) {
	onEachRecord(t, movesAndInvitationsOutliveALoss)
}

func movesAndInvitationsOutliveALoss(t *testing.T, recorder func(*stage) *Recorder) {
	s := newStage(t, 1)
	r := recorder(s)
	ctx := context.Background()
	s.configure(r, Patch{PacePerMin: opt(0), PresenceTTL: opt(5)})
	first := s.line(0)
	guest, fresh, err := first.JoinInvited(ctx, "ada")
	if err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	old := s.join(0, 1)[0]
	move := func(from Token) (code string, to Token) {
		t.Helper()
		code, _, err := first.ResumeCode(ctx, from)
		if err != nil {
			t.Fatal(err)
		}
		if to, err = first.Resume(ctx, code); err != nil {
			t.Fatal(err)
		}
		s.tick()
		return code, to
	}
	_, between := move(old)
	code, now := move(between)
	guestCode, moved := move(guest)
	record(t, r)

	s.lose()
	record(t, r) // the room is back, what belongs to single places is not yet
	second := s.gateway()
	if err := second.look(ctx); err != nil {
		t.Fatal(err)
	}
	line := s.line(1)
	var away *Unavailable
	if _, _, err := line.JoinInvited(ctx, "ada"); !errors.As(err, &away) {
		t.Errorf("a guest before what was lost is back: %v", err)
	}
	if _, err := line.Resume(ctx, code); !errors.As(err, &away) {
		t.Errorf("a code before what was lost is back: %v", err)
	}
	if _, err := line.Claim(ctx, old); !errors.As(err, &away) {
		t.Errorf("a claim before what was lost is back: %v", err)
	}
	record(t, r)
	s.tick()
	s.expect("the old device, the one between, the new one",
		[]State{s.place(1, old).State, s.place(1, between).State, s.place(1, now).State}, []State{Moved, Moved, Waiting})
	for _, used := range []string{code, guestCode} {
		if _, err := line.Resume(ctx, used); !errors.Is(err, ErrMoved) {
			t.Errorf("a used code: %v", err)
		}
	}
	again, fresh, err := line.JoinInvited(ctx, "ada")
	if err != nil || fresh || again.Number != guest.Number || again.Generation != moved.Generation {
		t.Errorf("the guest's second device: %+v, fresh %v, %v", again, fresh, err)
	}
	bob, fresh, err := line.JoinInvited(ctx, "bob")
	if err != nil || !fresh || bob.Number == guest.Number {
		t.Errorf("another guest: %+v, fresh %v, %v", bob, fresh, err)
	}
	s.expect("nothing is left to record", func() int64 { record(t, r); return s.rdb.XLen(ctx, keyOf("r", "entries")).Val() }(), int64(0))
}

// TestMissedAfterALoss: those who were admitted are not told to be missed.
func TestMissedAfterALoss(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	ctx := context.Background()
	s.configure(r, Patch{PacePerMin: opt(6000), Capacity: opt(20), PresenceTTL: opt(5)})
	fans := s.join(0, 20)
	s.pass(time.Second, fans...)
	for _, f := range fans[:15] {
		if _, err := s.line(0).Claim(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
	s.tick()
	record(t, r)
	s.lose()
	record(t, r)
	record(t, r)
	s.tick()
	s.expect("may return", s.live().Missed, uint64(5))
}

// TestRanksShownStayFixedAfterALoss: ranks were shown, nobody was called, the room went back
// to a lobby, and Redis lost it all: the method is still fixed.
func TestRanksShownStayFixedAfterALoss(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	db, _ := devtest.Postgres(t)
	r := s.newRecorder(db)
	s.configure(r, Patch{PacePerMin: opt(0)})
	s.join(0, 3)
	s.configure(r, Patch{LobbyAt: opt(start), OpensAt: opt(start.Add(time.Hour))})
	s.clock.Add(1000)
	s.tick()
	record(t, r)
	s.lose()
	record(t, r)
	record(t, r)
	s.tick()
	if _, _, err := s.halls[0].Configure(context.Background(), "r", Patch{Method: opt(Random)}, Actor{}); err == nil {
		t.Error("a draw may take back ranks that were shown")
	}
}

// TestOneRecordASite: the first record that a Redis has keeps it.
func TestOneRecordASite(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	db, _ := devtest.Postgres(t)
	dir := t.TempDir()
	recorder := func(f *Folder) *Recorder {
		return NewRecorder(RecorderConfig{Redis: s.rdb, Folder: f, Ring: s.ring, Log: quietLog(), clock: s.clock.Load})
	}
	folder := openFolder(t, dir)
	if _, err := OpenFolder(dir); err == nil {
		t.Error("two processes keep one folder")
	}
	r := recorder(folder)
	s.configure(r, Patch{})
	ctx := context.Background()
	for name, other := range map[string]*Recorder{"another folder": recorder(openFolder(t, t.TempDir())), "postgres": s.newRecorder(db)} {
		if err := other.step(ctx); err == nil || !strings.Contains(err.Error(), folder.id()) {
			t.Errorf("%s records beside: %v", name, err)
		}
	}
	if err := folder.Close(); err != nil {
		t.Fatal(err)
	}
	record(t, recorder(openFolder(t, dir))) // the same again, by another process
}

// TestFolderAfterACrash: what a crash leaves behind halves is not read, what was written is.
func TestFolderAfterACrash(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	f := openFolder(t, dir)
	settings := inSettings{Settings: []byte(`{"title":"x"}`), Revision: 2, Epoch: "0190-b", Commitment: "c", At: start, lineage: "l1"}
	if err := f.settings(ctx, "r", settings); err != nil {
		t.Fatal(err)
	}
	older := settings
	older.Revision, older.Epoch = 9, "0190-a"
	if err := f.settings(ctx, "r", older); err != nil {
		t.Fatal(err)
	}
	if ceiling, ok, err := f.raise(ctx, "r", settings.Epoch, "l1", 700); ceiling != 700 || !ok || err != nil {
		t.Fatal(ceiling, ok, err)
	}
	if _, ok, err := f.raise(ctx, "r", settings.Epoch, "l2", 900); ok || err != nil {
		t.Fatal("raised for another lineage", err)
	}
	list := []entry{{"moved", "3", "0000000001"}, {"invited", "ada", "5:1:0"}}
	if err := f.entries(ctx, "r", settings.Epoch, list); err != nil {
		t.Fatal(err)
	}
	if err := f.claims(ctx, "r", settings.Epoch, map[int64][]byte{2: bytes.Repeat([]byte{7}, claimChunk)}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	half := func(path, text string) {
		t.Helper()
		file, err := os.OpenFile(filepath.Join(dir, "rooms", "r", path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	half("room.json.new", `{"settings":{"ti`)
	half(filepath.Join(settings.Epoch, claimsFile+"3.new"), "xx")
	half(filepath.Join(settings.Epoch, entriesFile), `{"kind":"mov`)
	if err := os.MkdirAll(filepath.Join(dir, "rooms", "half"), 0o700); err != nil { // a room that was never written
		t.Fatal(err)
	}

	f = openFolder(t, dir)
	if err := f.entries(ctx, "r", settings.Epoch, list[1:]); err != nil {
		t.Fatal(err)
	}
	if names, err := f.rooms(ctx); !reflect.DeepEqual(names, []string{"r"}) || err != nil {
		t.Errorf("rooms %v, %v", names, err)
	}
	var read []entry
	if err := f.eachEntry(ctx, "r", settings.Epoch, func(e entry) error { read = append(read, e); return nil }); err != nil || !reflect.DeepEqual(read, append(list, list[1])) {
		t.Errorf("entries %v, %v", read, err)
	}
	chunks := 0
	err := f.eachClaims(ctx, "r", settings.Epoch, 2*claimChunk, func(chunk int64, bits []byte) error {
		chunks++
		if chunk != 2 || len(bits) != claimChunk {
			t.Errorf("chunk %d of %d bytes", chunk, len(bits))
		}
		return nil
	})
	if err != nil || chunks != 1 {
		t.Errorf("%d chunks of claims, %v", chunks, err)
	}
	l, err := f.reserve(ctx, "r", "l2")
	if err != nil || l.ceiling != 700+headroom || l.Revision != 2 || l.Epoch != settings.Epoch {
		t.Errorf("%+v, %v", l, err)
	}

	next := settings
	next.Epoch, next.Revision = "0190-c", 3
	if err := f.settings(ctx, "r", next); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "rooms", "r", settings.Epoch)); !os.IsNotExist(err) {
		t.Errorf("an epoch that is over is kept: %v", err)
	}
	if l, err := f.reserve(ctx, "r", "l2"); err != nil || l.ceiling != headroom {
		t.Errorf("a new epoch: %+v, %v", l, err)
	}
}
