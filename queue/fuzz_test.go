package queue

import (
	"encoding/json"
	"path"
	"strings"
	"testing"

	"usher/internal/keyring"
)

// Only a code of ours, whole, brings a place along.
func FuzzResumeCode(f *testing.F) {
	ring := keyring.Generate(start)
	l := newLine(Config{Ring: ring, Log: quietLog()}, "arena-night")
	for _, s := range []string{"", "r1...", "r1.a.b.c", SealToken(ring, aToken()), strings.Replace(SealToken(ring, aToken()), "u1.", "r1.", 1), strings.Repeat("r1.", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, code string) {
		if place, err := l.openCode(code, start); err == nil {
			t.Fatalf("%q brings %+v", code, place)
		}
	})
}

// Settings that are accepted stay accepted when they are read again from their record.
func FuzzPatch(f *testing.F) {
	for _, s := range []string{"{}", `{"pace_per_min":1,"protect":[{"host":"a.example","path_prefix":"/x"}]}`, `{"opens_at":"2026-12-01T18:00:00Z","method":"draw"}`, `{"title":null}`,
		`{"invite_keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`, `{"capacity":1e9}`, `{"message":"\u0000\u001b[31m"}`, `{"protect":[{"path_prefix":"//"}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var p Patch
		if json.Unmarshal([]byte(body), &p) != nil {
			return
		}
		s := p.Apply(Defaults())
		if len(s.Validate()) > 0 {
			return
		}
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var again Settings
		if err := json.Unmarshal(raw, &again); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if faults := again.Validate(); len(faults) > 0 {
			t.Fatalf("%s was good and is not: %v", raw, faults)
		}
	})
}

// The loosest reading of a path is stable, and no looser program finds another.
func FuzzLoosest(f *testing.F) {
	for _, s := range []string{"/", "/a", "/A;b/c", "/;/a", "/a./b ", "/...", "/a.b", "/;x", "/a;"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !strings.HasPrefix(p, "/") || strings.Contains(p, "//") || path.Clean(p) != p {
			return // the edge refuses it
		}
		once := loosest(p)
		if again := loosest(once); again != once {
			t.Fatalf("%q is %q and then %q", p, once, again)
		}
		if !strings.HasPrefix(once, "/") || strings.Contains(once, "//") {
			t.Fatalf("%q is %q", p, once)
		}
	})
}
