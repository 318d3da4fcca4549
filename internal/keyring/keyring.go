package keyring

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Purpose separates the uses of HMAC keys: a MAC made for one purpose never
// verifies for another.
type Purpose string

// The purposes of HMAC keys.
const (
	Place  Purpose = "place"  // a visitor's place in a room
	Hold   Purpose = "hold"   // a hold's id
	Access Purpose = "access" // access to an order; CSRF tokens
)

const (
	secretLen = 32
	version   = 1
)

// key is one HMAC secret or one Ed25519 seed.
type key struct {
	ID      string    `json:"id"`
	Secret  []byte    `json:"secret"` // base64 in the file
	Created time.Time `json:"created"`
}

type file struct {
	Version int    `json:"version"`
	Draw    []byte `json:"draw"`
	Session []byte `json:"session"`
	// Place, Hold and Access hold HMAC keys, Pass Ed25519 seeds; the last of each signs.
	Place  []key `json:"place"`
	Hold   []key `json:"hold"`
	Access []key `json:"access"`
	Pass   []key `json:"pass"`
}

// Ring is the loaded keys file. It is immutable but for RotatePass and
// RotatePlace, which are for the command that rewrites the file.
type Ring struct {
	f      file
	hmac   map[Purpose][]key
	passes []passKey
}

type passKey struct {
	id      string
	private ed25519.PrivateKey
}

// Generate makes a ring of fresh random keys.
func Generate(now time.Time) *Ring {
	r := &Ring{f: file{
		Version: version, Draw: random(), Session: random(),
		Place: []key{newKey(now)}, Hold: []key{newKey(now)}, Access: []key{newKey(now)}, Pass: []key{newKey(now)},
	}}
	r.index()
	return r
}

// Load reads the keys file at path. It refuses one that others than its owner may read.
func Load(path string) (*Ring, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("keys file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("keys file %s is open to others (mode %#o): chmod 600 it", path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keys file: %w", err)
	}
	r := &Ring{}
	if err := json.Unmarshal(raw, &r.f); err != nil {
		return nil, fmt.Errorf("keys file %s is not valid JSON", path) // the parser's words could carry key bytes
	}
	if err := r.f.validate(); err != nil {
		return nil, fmt.Errorf("keys file %s: %w", path, err)
	}
	r.index()
	return r, nil
}

func (f *file) validate() error {
	if f.Version != version {
		return fmt.Errorf("version %d is not known here", f.Version)
	}
	if len(f.Draw) != secretLen || len(f.Session) != secretLen {
		return errors.New("draw and session keys must have 32 bytes")
	}
	for name, keys := range map[string][]key{"place": f.Place, "hold": f.Hold, "access": f.Access, "pass": f.Pass} {
		if len(keys) == 0 {
			return fmt.Errorf("no %s key", name)
		}
		seen := map[string]bool{}
		for _, k := range keys {
			if k.ID == "" || seen[k.ID] || len(k.Secret) != secretLen {
				return fmt.Errorf("%s keys need distinct ids and 32 bytes each", name)
			}
			seen[k.ID] = true
		}
	}
	return nil
}

func (r *Ring) index() {
	r.hmac = map[Purpose][]key{Place: r.f.Place, Hold: r.f.Hold, Access: r.f.Access}
	r.passes = r.passes[:0]
	for _, k := range r.f.Pass {
		r.passes = append(r.passes, passKey{id: k.ID, private: ed25519.NewKeyFromSeed(k.Secret)})
	}
}

// Save writes the ring to path atomically, readable by its owner alone.
func (r *Ring) Save(path string) error {
	raw, err := json.MarshalIndent(r.f, "", "  ")
	if err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".keys-*") // mode 0600
	if err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	defer os.Remove(tmp.Name()) // after the rename there is nothing left to remove
	if _, err := tmp.Write(append(raw, '\n')); err != nil {
		return errors.Join(fmt.Errorf("keys file: %w", err), tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	return os.Rename(tmp.Name(), path)
}

// RotatePass adds a pass key that signs from now on; older ones go on verifying.
func (r *Ring) RotatePass(now time.Time) { r.f.Pass = append(r.f.Pass, newKey(now)); r.index() }

// RotatePlace adds a place key that signs from now on; older ones go on verifying.
func (r *Ring) RotatePlace(now time.Time) { r.f.Place = append(r.f.Place, newKey(now)); r.index() }

// Entry describes a key without its secret.
type Entry struct {
	Purpose string
	ID      string
	Created time.Time
	// Signs tells the newest of its purpose.
	Signs bool
}

// List describes the keys that rotate, oldest first within a purpose.
func (r *Ring) List() []Entry {
	var out []Entry
	for _, group := range []struct {
		name string
		keys []key
	}{{"place", r.f.Place}, {"hold", r.f.Hold}, {"access", r.f.Access}, {"pass", r.f.Pass}} {
		for i, k := range group.keys {
			out = append(out, Entry{Purpose: group.name, ID: k.ID, Created: k.Created, Signs: i == len(group.keys)-1})
		}
	}
	return out
}

// Sign returns the HMAC-SHA256 of msg under the newest key of purpose, and that key's id.
func (r *Ring) Sign(purpose Purpose, msg []byte) (kid string, mac []byte) {
	keys := r.hmac[purpose]
	k := keys[len(keys)-1]
	return k.ID, sum(k.Secret, []byte(purpose), msg)
}

// Check tells in constant time whether mac is msg's under the key kid of purpose.
func (r *Ring) Check(purpose Purpose, kid string, msg, mac []byte) bool {
	for _, k := range r.hmac[purpose] {
		if k.ID == kid {
			return hmac.Equal(mac, sum(k.Secret, []byte(purpose), msg))
		}
	}
	return false
}

// DrawSecret is the secret of one epoch's draw: HMAC(draw key, room ‖ 0 ‖ epoch).
// Its SHA-256 is the commitment that every place carries.
func (r *Ring) DrawSecret(room, epoch string) [32]byte {
	return [32]byte(sum(r.f.Draw, []byte(room), []byte{0}, []byte(epoch)))
}

// SessionID is the one session that a place gives: HMAC(session key, room ‖ 0 ‖
// epoch ‖ 0 ‖ number), its first 16 bytes in hex.
func (r *Ring) SessionID(room, epoch string, number uint64) string {
	mac := sum(r.f.Session, []byte(room), []byte{0}, []byte(epoch), []byte{0}, binary.BigEndian.AppendUint64(nil, number))
	return hex.EncodeToString(mac[:16])
}

// PassKey returns the key that signs passes, and its id.
func (r *Ring) PassKey() (kid string, private ed25519.PrivateKey) {
	k := r.passes[len(r.passes)-1]
	return k.id, k.private
}

// PassPublic returns the public keys of all passes in use, by id.
func (r *Ring) PassPublic() map[string]ed25519.PublicKey {
	out := make(map[string]ed25519.PublicKey, len(r.passes))
	for _, k := range r.passes {
		out[k.id] = k.private.Public().(ed25519.PublicKey)
	}
	return out
}

// JWKS is the JSON Web Key Set (RFC 7517, RFC 8037) of PassPublic.
func (r *Ring) JWKS() []byte {
	type jwk struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		Use string `json:"use"`
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		X   string `json:"x"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{}
	for _, k := range r.passes {
		x := base64.RawURLEncoding.EncodeToString(k.private.Public().(ed25519.PublicKey))
		set.Keys = append(set.Keys, jwk{Kty: "OKP", Crv: "Ed25519", Use: "sig", Alg: "EdDSA", Kid: k.id, X: x})
	}
	out, err := json.Marshal(set)
	if err != nil {
		panic(err) // strings only: cannot fail
	}
	return out
}

func newKey(now time.Time) key {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return key{ID: hex.EncodeToString(id[:]), Secret: random(), Created: now.UTC().Truncate(time.Second)}
}

func random() []byte {
	b := make([]byte, secretLen)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return b
}

func sum(secret []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, secret)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
