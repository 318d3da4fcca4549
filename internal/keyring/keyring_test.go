package keyring

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 24, 20, 0, 0, 0, time.UTC)

func TestSaveAndLoadKeepEveryAnswer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	ring := Generate(now)
	if err := ring.Save(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, err %v; want 0600", info.Mode(), err)
	}
	loaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	kid, mac := ring.Sign(Place, []byte("msg"))
	if !loaded.Check(Place, kid, []byte("msg"), mac) {
		t.Error("a MAC does not verify after reloading")
	}
	if ring.DrawSecret("r", "e") != loaded.DrawSecret("r", "e") || ring.SessionID("r", "e", 7) != loaded.SessionID("r", "e", 7) {
		t.Error("draw secret or session id changed by reloading")
	}
	if !bytes.Equal(ring.JWKS(), loaded.JWKS()) {
		t.Error("public keys changed by reloading")
	}
}

func TestPurposesAndInputsAreSeparate(t *testing.T) {
	t.Parallel()
	ring := Generate(now)
	kid, mac := ring.Sign(Place, []byte("msg"))
	for _, p := range []Purpose{Hold, Access} {
		if ring.Check(p, kid, []byte("msg"), mac) {
			t.Errorf("a place's MAC verifies as %s", p)
		}
	}
	if ring.Check(Place, kid, []byte("msg2"), mac) || ring.Check(Place, "other", []byte("msg"), mac) || ring.Check(Place, kid, []byte("msg"), nil) {
		t.Error("a wrong message, key id or MAC verifies")
	}
	if ring.DrawSecret("a", "bc") == ring.DrawSecret("ab", "c") {
		t.Error("room and epoch run into each other")
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	good, err := json.Marshal(Generate(now).inForce.Load().f)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"open to others": {string(good), 0o644, "chmod 600"},
		"not JSON":       {"secret-in-the-file", 0o600, "not valid JSON"},
		"empty object":   {"{}", 0o600, "version"},
		"short key":      {strings.Replace(string(good), `"draw":"`, `"draw":"AAAA","x":"`, 1), 0o600, "32 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret-in-the-file") {
				t.Error("the error repeats the file's content")
			}
		})
	}
}
