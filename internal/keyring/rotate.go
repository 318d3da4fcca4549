package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// reloadEvery is how often Watch looks at the file.
const reloadEvery = 2 * time.Second

// lasts is how long after its last signature something signed for a purpose may still be
// shown: a pass its session's longest time, a place as long as its cookie, a hold hours at
// most, the access to an order as long as somebody keeps the ticket's mail.
var lasts = map[Purpose]time.Duration{
	Place: 30 * 24 * time.Hour, Hold: 24 * time.Hour, Access: 2 * 365 * 24 * time.Hour, Pass: 25 * time.Hour,
}

// Edit changes the file at path, one change after the other: of two at once neither is lost.
func Edit(path string, change func(*Ring) error) error {
	folder, err := os.Open(filepath.Dir(path)) // the file itself is replaced
	if err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	defer folder.Close() // which ends the lock
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("keys file: locking its folder: %w", err)
	}
	ring, err := Load(path)
	if err != nil {
		return err
	}
	if err := change(ring); err != nil {
		return err
	}
	return ring.Save(path)
}

// Rotate adds a key of purpose that signs from signs on; older ones go on verifying.
// Until then every process has time to read it: what it signs is refused by one that has
// not. It is for the command that rewrites the file.
func (r *Ring) Rotate(purpose Purpose, now, signs time.Time) {
	k := newKey(now)
	k.Signs = signs.UTC().Truncate(time.Second)
	r.change(func(f *file) {
		ks := f.keys(purpose)
		*ks = append(slices.Clone(*ks), k)
	})
}

// Retire takes the key with id out of the file: what it signed is good no longer. One that
// signs, or will, stays; and so does one whose signatures may still be shown, unless
// withdrawn says that it is to be believed no more.
func (r *Ring) Retire(id string, now time.Time, withdrawn bool) (Purpose, error) {
	for _, p := range Purposes {
		ks := *r.inForce.Load().f.keys(p)
		i := slices.IndexFunc(ks, func(k key) bool { return k.ID == id })
		if i < 0 {
			continue
		}
		signing := slices.IndexFunc(ks, func(k key) bool { return k.ID == r.signing(ks).ID })
		since := ks[signing].Signs
		if since.Before(ks[signing].Created) {
			since = ks[signing].Created
		}
		switch over := since.Add(lasts[p]); {
		case i >= signing && len(ks) == signing+1:
			return "", fmt.Errorf("key %s signs: rotate %s first", id, p)
		case i >= signing:
			return "", fmt.Errorf("key %s signs or is about to, until %s", id, ks[len(ks)-1].Signs.Format(time.RFC3339))
		case now.Before(over) && !withdrawn:
			return "", fmt.Errorf("what key %s signed may be shown until %s", id, over.Format(time.RFC3339))
		}
		r.change(func(f *file) {
			kept := f.keys(p)
			*kept = slices.Delete(slices.Clone(*kept), i, i+1)
		})
		return p, nil
	}
	return "", fmt.Errorf("there is no key %q", id)
}

func (r *Ring) change(edit func(*file)) {
	f := r.inForce.Load().f
	edit(&f)
	r.inForce.Store(keysOf(f, nil))
}

// Entry describes a key without its secret.
type Entry struct {
	Purpose Purpose
	ID      string
	Created time.Time
	// From is when it began to sign, or will.
	From time.Time
	// Signs tells that it signs now, Next that it is only published so far.
	Signs, Next bool
}

// List describes the keys that rotate, oldest first within a purpose.
func (r *Ring) List() []Entry {
	var out []Entry
	for _, p := range Purposes {
		ks := *r.inForce.Load().f.keys(p)
		signing, newer := r.signing(ks).ID, false
		for _, k := range ks {
			out = append(out, Entry{Purpose: p, ID: k.ID, Created: k.Created, From: k.Signs, Signs: k.ID == signing, Next: newer})
			newer = newer || k.ID == signing
		}
	}
	return out
}

// Reload puts the file at path into force if it is another than the last one, and tells
// so. On an error, and where the draw or session key is another, the keys stay as they are.
func (r *Ring) Reload(path string) (bool, error) {
	k, err := read(path)
	if err != nil {
		return false, err
	}
	was := r.inForce.Load()
	if bytes.Equal(k.raw, was.raw) {
		return false, nil
	}
	if !bytes.Equal(k.f.Draw, was.f.Draw) || !bytes.Equal(k.f.Session, was.f.Session) {
		return false, errors.New("keys file: the draw or session key is another: this is another site's file")
	}
	r.inForce.Store(k)
	return true, nil
}

// Watch reloads the file at path within seconds of a change, until ctx ends.
func (r *Ring) Watch(ctx context.Context, path string, log *slog.Logger) error {
	look := time.NewTicker(reloadEvery)
	defer look.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		changed, err := r.Reload(path)
		switch {
		case err != nil && err.Error() != said:
			log.ErrorContext(ctx, "the keys stay as they were", "error", err)
			said = err.Error()
		case err == nil:
			said = ""
		}
		if changed {
			log.InfoContext(ctx, "keys are read anew", "keys", r.ids())
		}
	}
}

// ids names the keys in force, for the log.
func (r *Ring) ids() []string {
	var out []string
	for _, e := range r.List() {
		out = append(out, string(e.Purpose)+":"+e.ID)
	}
	return out
}
