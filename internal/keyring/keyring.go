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
	"sync/atomic"
	"time"
)

// Purpose separates the uses of HMAC keys: a MAC made for one purpose never
// verifies for another.
type Purpose string

// The purposes of keys; those of Pass are Ed25519 seeds, the others' HMAC secrets.
const (
	Place  Purpose = "place"  // a visitor's place in a room
	Hold   Purpose = "hold"   // a hold's id
	Access Purpose = "access" // access to an order; CSRF tokens
	Pass   Purpose = "pass"   // passes and receipts
)

// Purposes are the purposes whose keys rotate, in the order of the file.
var Purposes = []Purpose{Place, Hold, Access, Pass}

const (
	secretLen = 32
	version   = 1
)

// key is one HMAC secret or one Ed25519 seed.
type key struct {
	ID      string    `json:"id"`
	Secret  []byte    `json:"secret"` // base64 in the file
	Created time.Time `json:"created"`
	// Signs is from when on it signs; before, it only verifies what others sign whose
	// clock is ahead. The zero time is always over.
	Signs time.Time `json:"signs,omitzero"`

	private ed25519.PrivateKey // of Secret, for passes
	public  ed25519.PublicKey
	macs    *macs // of Secret and its purpose, for all others
}

type file struct {
	Version int    `json:"version"`
	Draw    []byte `json:"draw"`
	Session []byte `json:"session"`
	Place   []key  `json:"place"`
	Hold    []key  `json:"hold"`
	Access  []key  `json:"access"`
	Pass    []key  `json:"pass"`
}

func (f *file) keys(p Purpose) *[]key {
	switch p {
	case Place:
		return &f.Place
	case Hold:
		return &f.Hold
	case Access:
		return &f.Access
	}
	return &f.Pass
}

// keys are one reading of the file; nothing in it changes.
type keys struct {
	raw    []byte // what was read
	f      file
	public map[string]ed25519.PublicKey
	jwks   []byte
}

// Ring is the keys in force. It is safe for concurrent use; Reload and Watch (watch.go)
// put a newer file into force.
type Ring struct {
	inForce atomic.Pointer[keys]
	now     func() time.Time
}

// Generate makes a ring of fresh random keys.
func Generate(now time.Time) *Ring {
	f := file{Version: version, Draw: random(), Session: random()}
	for _, p := range Purposes {
		*f.keys(p) = []key{newKey(now)}
	}
	return ringOf(keysOf(f, nil))
}

// Load reads the keys file at path. It refuses one that others than its owner may read.
func Load(path string) (*Ring, error) {
	k, err := read(path)
	if err != nil {
		return nil, err
	}
	return ringOf(k), nil
}

func ringOf(k *keys) *Ring {
	r := &Ring{now: time.Now}
	r.inForce.Store(k)
	return r
}

func read(path string) (*keys, error) {
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
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("keys file %s is not valid JSON", path) // the parser's words could carry key bytes
	}
	if err := f.validate(); err != nil {
		return nil, fmt.Errorf("keys file %s: %w", path, err)
	}
	return keysOf(f, raw), nil
}

func (f *file) validate() error {
	if f.Version != version {
		return fmt.Errorf("version %d is not known here", f.Version)
	}
	if len(f.Draw) != secretLen || len(f.Session) != secretLen {
		return errors.New("draw and session keys must have 32 bytes")
	}
	for _, p := range Purposes {
		if len(*f.keys(p)) == 0 {
			return fmt.Errorf("no %s key", p)
		}
		seen := map[string]bool{}
		for _, k := range *f.keys(p) {
			if k.ID == "" || seen[k.ID] || len(k.Secret) != secretLen {
				return fmt.Errorf("%s keys need distinct ids and 32 bytes each", p)
			}
			seen[k.ID] = true
		}
	}
	return nil
}

// keysOf makes ready what is asked often.
func keysOf(f file, raw []byte) *keys {
	k := &keys{raw: raw, f: f, public: map[string]ed25519.PublicKey{}}
	for i := range k.f.Pass {
		p := &k.f.Pass[i]
		p.private = ed25519.NewKeyFromSeed(p.Secret)
		p.public = p.private.Public().(ed25519.PublicKey)
		k.public[p.ID] = p.public
	}
	for _, purpose := range []Purpose{Place, Hold, Access} {
		for i, ks := 0, *k.f.keys(purpose); i < len(ks); i++ {
			ks[i].macs = newMACs(ks[i].Secret, purpose)
		}
	}
	k.jwks = jwks(k.f.Pass)
	return k
}

// Create writes the ring to a new file at path, readable by its owner alone. Where one
// exists it is left alone, also one of the same moment: the error is fs.ErrExist.
func (r *Ring) Create(path string) error { return r.write(path, os.Link) }

// Save writes the ring to path atomically, readable by its owner alone.
func (r *Ring) Save(path string) error { return r.write(path, os.Rename) }

// write puts a whole file in its place.
func (r *Ring) write(path string, put func(from, to string) error) error {
	raw, err := json.MarshalIndent(r.inForce.Load().f, "", "  ")
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
	if err := put(tmp.Name(), path); err != nil {
		return fmt.Errorf("keys file: %w", err)
	}
	return nil
}

// signing is the key that signs now: the newest whose time has come, and the oldest
// while no key's has.
func (r *Ring) signing(ks []key) *key {
	if len(ks) == 1 {
		return &ks[0]
	}
	now := r.now()
	for i := len(ks) - 1; i > 0; i-- {
		if !now.Before(ks[i].Signs) {
			return &ks[i]
		}
	}
	return &ks[0]
}

// Sign returns the HMAC-SHA256 of msg under the key of purpose that signs now, and that
// key's id. Not for Pass.
func (r *Ring) Sign(purpose Purpose, msg []byte) (kid string, mac []byte) {
	k := r.signing(*r.inForce.Load().f.keys(purpose))
	made := k.macs.of(msg)
	return k.ID, made[:]
}

// Check tells in constant time whether mac is msg's under the key kid of purpose. Not for
// Pass.
func (r *Ring) Check(purpose Purpose, kid string, msg, mac []byte) bool {
	ks := *r.inForce.Load().f.keys(purpose)
	for i := range ks {
		if ks[i].ID == kid {
			made := ks[i].macs.of(msg)
			return hmac.Equal(mac, made[:])
		}
	}
	return false
}

// DrawSecret is the secret of one epoch's draw: HMAC(draw key, room ‖ 0 ‖ epoch).
// Its SHA-256 is the commitment that every place carries.
func (r *Ring) DrawSecret(room, epoch string) [32]byte {
	return [32]byte(sum(r.inForce.Load().f.Draw, []byte(room), []byte{0}, []byte(epoch)))
}

// SessionID is the one session that a place gives: HMAC(session key, room ‖ 0 ‖
// epoch ‖ 0 ‖ number), its first 16 bytes in hex.
func (r *Ring) SessionID(room, epoch string, number uint64) string {
	mac := sum(r.inForce.Load().f.Session, []byte(room), []byte{0}, []byte(epoch), []byte{0}, binary.BigEndian.AppendUint64(nil, number))
	return hex.EncodeToString(mac[:16])
}

// PassKey returns the key that signs passes now, and its id.
func (r *Ring) PassKey() (kid string, private ed25519.PrivateKey) {
	k := r.signing(r.inForce.Load().f.Pass)
	return k.ID, k.private
}

// PassPublic returns the public keys of all passes that verify, by id; nobody may
// change the map.
func (r *Ring) PassPublic() map[string]ed25519.PublicKey { return r.inForce.Load().public }

// JWKS is the JSON Web Key Set (RFC 7517, RFC 8037) of PassPublic; nobody may change it.
func (r *Ring) JWKS() []byte { return r.inForce.Load().jwks }

func jwks(passes []key) []byte {
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
	for _, k := range passes {
		set.Keys = append(set.Keys, jwk{Kty: "OKP", Crv: "Ed25519", Use: "sig", Alg: "EdDSA", Kid: k.ID, X: base64.RawURLEncoding.EncodeToString(k.public)})
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
