package queue

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"usher/internal/operator"
)

// Folder is the record of a site without Postgres: files, each of which is written whole
// to the disk before its name is put in place. One process of a site keeps it; a second
// one on the same folder cannot open it, and one with a folder of its own is refused by
// the Recorder as long as Redis knows of this one.
//
//	id                            tells this record from others
//	changes.jsonl                 operators' changes, one a line
//	rooms/ROOM/room.json          settings, epoch, ceiling, lobby, draw, checkpoint
//	rooms/ROOM/EPOCH/claims-N     a chunk of the claims
//	rooms/ROOM/EPOCH/entries.jsonl  moves and invitations, one a line
type Folder struct {
	dir  string
	name string
	lock *os.File

	mu sync.Mutex // held while files of rooms are read or written
}

// inFolder is what room.json says.
type inFolder struct {
	inSettings
	Ceiling int64             `json:"ceiling"`
	Lineage string            `json:"lineage"`
	Sealed  *sealed           `json:"lobby,omitempty"`
	Drawn   *drawn            `json:"draw,omitempty"`
	Figures map[string]string `json:"figures,omitempty"`
	TakenAt *time.Time        `json:"taken_at,omitempty"`
}

const (
	roomFile    = "room.json"
	claimsFile  = "claims-"
	entriesFile = "entries.jsonl"
)

// OpenFolder opens the record in dir, making it where there is none.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(dir, "rooms"), 0o700); err != nil {
		return nil, fmt.Errorf("record of rooms: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record of rooms: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("record of rooms: another process keeps %s: %w", dir, err), lock.Close())
	}
	f := &Folder{dir: dir, lock: lock}
	raw, err := os.ReadFile(filepath.Join(dir, "id"))
	if errors.Is(err, fs.ErrNotExist) {
		raw = []byte(rand.Text())
		err = replace(filepath.Join(dir, "id"), raw)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("record of rooms: %w", err), f.Close())
	}
	f.name = "folder " + strings.TrimSpace(string(raw))
	return f, nil
}

// Close lets another process keep the record.
func (f *Folder) Close() error { return f.lock.Close() }

func (f *Folder) id() string { return f.name }

func (f *Folder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir, "rooms"}, parts...)...)
}

func (f *Folder) rooms(context.Context) ([]string, error) {
	list, err := os.ReadDir(f.path())
	if err != nil {
		return nil, fmt.Errorf("read rooms: %w", err)
	}
	var names []string
	for _, e := range list {
		if _, err := os.Stat(f.path(e.Name(), roomFile)); err == nil && slug.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// load reads a room; nil when there is none.
func (f *Folder) load(room string) (*inFolder, error) {
	raw, err := os.ReadFile(f.path(room, roomFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var r inFolder
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of %s: %w", room, err)
	}
	return &r, nil
}

// change lets act change the epoch's record, and keeps what act did unless it is false.
func (f *Folder) change(room, epoch string, act func(*inFolder) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.load(room)
	switch {
	case err != nil:
		return err
	case r == nil || r.Epoch != epoch:
		return fmt.Errorf("epoch %s of room %s is not on record", epoch, room)
	case !act(r):
		return nil
	}
	return f.save(room, r)
}

func (f *Folder) save(room string, r *inFolder) error {
	raw, err := json.Marshal(r)
	if err == nil {
		err = replace(f.path(room, roomFile), raw)
	}
	if err != nil {
		return fmt.Errorf("write the record of %s: %w", room, err)
	}
	return nil
}

func (f *Folder) settings(_ context.Context, room string, s inSettings) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.load(room)
	switch {
	case err != nil:
		return err
	case r == nil:
		r = &inFolder{inSettings: s, Lineage: s.lineage}
	case s.Epoch < r.Epoch || s.Epoch == r.Epoch && s.Revision <= r.Revision:
		return nil
	case s.Epoch > r.Epoch:
		r = &inFolder{inSettings: s, Lineage: s.lineage}
	default:
		r.inSettings = s
	}
	if err := os.MkdirAll(f.path(room, s.Epoch), 0o700); err != nil {
		return fmt.Errorf("write the record of %s: %w", room, err)
	}
	if err := errors.Join(f.save(room, r), syncFolder(f.path())); err != nil {
		return err
	}
	return f.forget(room, s.Epoch)
}

// forget drops what is recorded of epochs that are over.
func (f *Folder) forget(room, epoch string) error {
	list, err := os.ReadDir(f.path(room))
	for _, e := range list {
		if e.IsDir() && e.Name() < epoch {
			err = errors.Join(err, os.RemoveAll(f.path(room, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("drop what is over of %s: %w", room, err)
	}
	return nil
}

func (f *Folder) raise(_ context.Context, room, epoch, lineage string, n int64) (ceiling int64, ok bool, err error) {
	err = f.change(room, epoch, func(r *inFolder) bool {
		if ok = r.Lineage == lineage; !ok {
			return false
		}
		r.Ceiling = max(r.Ceiling, n)
		ceiling = r.Ceiling
		return true
	})
	return ceiling, ok && err == nil, err
}

func (f *Folder) reserve(_ context.Context, room, lineage string) (*lost, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, err := f.load(room)
	if r == nil {
		return nil, err
	}
	r.Ceiling, r.Lineage = r.Ceiling+headroom, lineage
	if err := f.save(room, r); err != nil {
		return nil, err
	}
	return &lost{inSettings: r.inSettings, ceiling: r.Ceiling, sealed: r.Sealed, drawn: r.Drawn, figures: r.Figures, takenAt: r.TakenAt}, nil
}

func (f *Folder) seal(_ context.Context, room, epoch string, size int64) (kept sealed, err error) {
	err = f.change(room, epoch, func(r *inFolder) bool {
		first := r.Sealed == nil
		if first {
			r.Sealed = &sealed{Size: size}
		}
		kept = *r.Sealed
		return first
	})
	return kept, err
}

func (f *Folder) choose(_ context.Context, room, epoch string, s sealed) (kept sealed, err error) {
	err = f.change(room, epoch, func(r *inFolder) bool {
		first := r.Sealed.Round == 0
		if first {
			r.Sealed.Round, r.Sealed.RoundAt, r.Sealed.FixedAt = s.Round, s.RoundAt, s.FixedAt
		}
		kept = *r.Sealed
		return first
	})
	return kept, err
}

func (f *Folder) draw(_ context.Context, room, epoch string, d drawn) (kept drawn, err error) {
	err = f.change(room, epoch, func(r *inFolder) bool {
		first := r.Drawn == nil
		if first {
			r.Drawn = &d
		}
		kept = *r.Drawn
		return first
	})
	return kept, err
}

func (f *Folder) changes(_ context.Context, list []operator.Change) error {
	lines := make([]changeLine, len(list))
	for i, c := range list {
		lines[i] = changeLine{c.ID.String(), c.At, c.Actor, c.ActorID, c.Act, c.Subject, c.Before, c.After, c.RequestID}
	}
	return appendLines(filepath.Join(f.dir, "changes.jsonl"), lines)
}

// changeLine is an operator's change in changes.jsonl. One that a crash repeats has the
// same id.
type changeLine struct {
	ID        string          `json:"id"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	ActorID   string          `json:"actor_id,omitempty"`
	Act       string          `json:"act"`
	Subject   string          `json:"subject"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
}

func (f *Folder) checkpoint(_ context.Context, room, epoch string, at time.Time, figures map[string]string) error {
	return f.change(room, epoch, func(r *inFolder) bool {
		r.Figures, r.TakenAt = figures, &at
		return true
	})
}

func (f *Folder) claims(_ context.Context, room, epoch string, chunks map[int64][]byte) error {
	for chunk, bits := range chunks {
		if err := replace(f.path(room, epoch, claimsFile+strconv.FormatInt(chunk, 10)), bits); err != nil {
			return fmt.Errorf("record claims: %w", err)
		}
	}
	return nil
}

func (f *Folder) eachClaims(_ context.Context, room, epoch string, first int64, read func(chunk int64, bits []byte) error) error {
	list, err := os.ReadDir(f.path(room, epoch))
	if err != nil {
		return fmt.Errorf("read recorded claims: %w", err)
	}
	for _, e := range list {
		name, found := strings.CutPrefix(e.Name(), claimsFile)
		chunk, err := strconv.ParseInt(name, 10, 64)
		if !found || err != nil || (chunk+1)*claimChunk <= first {
			continue
		}
		bits, err := os.ReadFile(f.path(room, epoch, e.Name()))
		if err != nil {
			return fmt.Errorf("read recorded claims: %w", err)
		}
		if err := read(chunk, bits); err != nil {
			return err
		}
	}
	return nil
}

func (f *Folder) entries(_ context.Context, room, epoch string, list []entry) error {
	return appendLines(f.path(room, epoch, entriesFile), list)
}

func (f *Folder) eachEntry(_ context.Context, room, epoch string, read func(entry) error) error {
	file, err := os.Open(f.path(room, epoch, entriesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read recorded moves and invitations: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var e entry
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // cut off by a crash, and written again behind it
		}
		if err := read(e); err != nil {
			return err
		}
	}
	return lines.Err()
}

// appendLines adds one line of JSON for each of list. What a crash cuts off stays a line
// of its own, which is no JSON.
func appendLines[T any](path string, list []T) error {
	var text bytes.Buffer
	text.WriteByte('\n')
	lines := json.NewEncoder(&text)
	for _, v := range list {
		if err := lines.Encode(v); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = file.Write(text.Bytes()); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("append to %s: %w", path, err)
	}
	return syncFolder(filepath.Dir(path))
}

// replace writes a file to the disk and then puts it in the place of the one of that name.
func replace(path string, raw []byte) error {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = file.Write(raw); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
