package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// saved is a keys file, and a ring whose clock the test moves.
func saved(t *testing.T) (path string, ring *Ring, clock *atomic.Int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.json")
	if err := Generate(now).Save(path); err != nil {
		t.Fatal(err)
	}
	ring, clock = at(t, path)
	return path, ring, clock
}

func at(t *testing.T, path string) (*Ring, *atomic.Int64) {
	t.Helper()
	ring, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	clock := &atomic.Int64{}
	clock.Store(now.Unix())
	ring.now = func() time.Time { return time.Unix(clock.Load(), 0) }
	return ring, clock
}

// Two gateways, of which one reads the new file at once and the other late: nothing
// that either signs is ever refused by the other.
func TestTwoStepRotation(t *testing.T) {
	t.Parallel()
	path, quick, quickClock := saved(t)
	slow, slowClock := at(t, path)
	agree := func(when string) {
		t.Helper()
		for _, p := range []Purpose{Place, Hold, Access} {
			for _, pair := range [][2]*Ring{{quick, slow}, {slow, quick}} {
				if kid, mac := pair[0].Sign(p, []byte("m")); !pair[1].Check(p, kid, []byte("m"), mac) {
					t.Errorf("%s: a %s signature is refused by the other gateway", when, p)
				}
			}
		}
		for _, pair := range [][2]*Ring{{quick, slow}, {slow, quick}} {
			if kid, _ := pair[0].PassKey(); pair[1].PassPublic()[kid] == nil {
				t.Errorf("%s: a pass is refused by the other gateway", when)
			}
		}
	}
	oldKid, oldMac := quick.Sign(Place, []byte("old"))
	oldPass, _ := quick.PassKey()
	session := quick.SessionID("r", "e", 1)

	writer, _ := at(t, path)
	for _, p := range Purposes {
		writer.Rotate(p, now, now.Add(time.Minute))
	}
	if err := writer.Save(path); err != nil {
		t.Fatal(err)
	}
	if changed, err := quick.Reload(path); !changed || err != nil {
		t.Fatal(changed, err)
	}
	agree("only one has read it")
	if kid, _ := quick.PassKey(); kid != oldPass || len(quick.PassPublic()) != 2 || strings.Count(string(quick.JWKS()), `"kid"`) != 2 {
		t.Error("a key that is only published signs, or is not published")
	}
	if changed, err := slow.Reload(path); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if changed, err := slow.Reload(path); changed || err != nil {
		t.Error("the same file is read twice", changed, err)
	}
	quickClock.Add(60)
	agree("one clock has come to it")
	if kid, _ := quick.PassKey(); kid == oldPass {
		t.Error("the new key does not sign")
	}
	slowClock.Add(90)
	agree("both have")
	if !slow.Check(Place, oldKid, []byte("old"), oldMac) || slow.PassPublic()[oldPass] == nil {
		t.Error("what was signed before is refused")
	}
	if quick.SessionID("r", "e", 1) != session {
		t.Error("a rotation gave a place a second session")
	}
}

func TestOfChangesAtOnceNoneIsLost(t *testing.T) {
	t.Parallel()
	const n = 20
	path := filepath.Join(t.TempDir(), "keys.json")
	var made atomic.Int64
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			switch err := Generate(time.Now()).Create(path); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
			now := time.Now()
			if err := Edit(path, func(r *Ring) error { r.Rotate(Pass, now, now); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if made.Load() != 1 || len(r.PassPublic()) != n+1 {
		t.Errorf("%d files made, %d of %d keys kept", made.Load(), len(r.PassPublic()), n+1)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReloadKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	path, ring, _ := saved(t)
	kid, mac := ring.Sign(Place, []byte("m"))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := json.Marshal(Generate(now).inForce.Load().f)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"half written": good[:len(good)/2], "empty": {}, "another site's": foreign} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if changed, err := ring.Reload(path); changed || err == nil {
			t.Errorf("%s: changed %v, error %v", name, changed, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Reload(path); err == nil {
		t.Error("a file that is gone is no error")
	}
	if !ring.Check(Place, kid, []byte("m"), mac) {
		t.Error("a bad file changed the keys")
	}
}

func TestRetire(t *testing.T) {
	t.Parallel()
	path, ring, clock := saved(t)
	old, _ := ring.PassKey()
	retire := func(id string, withdrawn bool, want string) {
		t.Helper()
		_, err := ring.Retire(id, ring.now(), withdrawn)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("retire %s: %v, want %q", id, err, want)
		}
	}
	retire(old, true, "rotate pass first")
	ring.Rotate(Pass, now, now.Add(time.Minute))
	next := ring.List()[len(ring.List())-1]
	if !next.Next || next.Signs {
		t.Errorf("the new key is %+v", next)
	}
	retire(next.ID, true, "about to")
	retire(old, false, "about to")
	clock.Add(120)
	retire(old, false, "may be shown until")
	retire("none", false, "no key")
	clock.Add(26 * 3600)
	retire(old, false, "")
	if len(ring.PassPublic()) != 1 || bytes.Contains(ring.JWKS(), []byte(old)) {
		t.Error("a retired key is published")
	}
	if err := ring.Save(path); err != nil {
		t.Fatal(err)
	}
	if again, err := Load(path); err != nil || len(again.PassPublic()) != 1 {
		t.Error("the file does not hold what was left", err)
	}

	ring.Rotate(Place, ring.now(), ring.now())
	leaked, _ := ring.List()[0].ID, ring.List()[0].Purpose
	kid, mac := leaked, sum((*ring.inForce.Load().f.keys(Place))[0].Secret, []byte(Place), []byte("m"))
	retire(leaked, false, "may be shown until")
	retire(leaked, true, "")
	if ring.Check(Place, kid, []byte("m"), mac) {
		t.Error("a withdrawn key verifies")
	}
}
