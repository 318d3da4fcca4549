package queue

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"usher/internal/keyring"
)

// Token is a visitor's place: what SealToken signs and the visitor keeps.
type Token struct {
	Room   string
	Epoch  string // a UUIDv7
	Number uint64
	// IssuedAt is room time, to the millisecond.
	IssuedAt time.Time
	// Frontier is the frontier at issue: where progress counts from.
	Frontier uint64
	// Visitor is random: 16 bytes in hex.
	Visitor string
	// Commitment is the SHA-256 of the epoch's draw secret, in hex.
	Commitment string
	// Phone tells that it was given to a phone, which may be absent for longer.
	Phone bool
	// Generation counts the devices that had the place before.
	Generation uint64
}

// ErrToken is the answer to every token that is not ours, whatever is wrong with it.
var ErrToken = errors.New("not a place token")

const (
	tokenVersion  = "u1"
	maxTokenBytes = 320
	maxNumber     = 1 << 40 // far beyond any room; keeps arithmetic exact in Lua's doubles
)

var raw64 = base64.RawURLEncoding.Strict()

// SealToken signs t under the newest place key: u1.<key id>.<payload>.<HMAC-SHA256>.
// The characters are safe in a cookie, a header and a WebSocket subprotocol.
func SealToken(ring *keyring.Ring, t Token) string {
	payload := t.payload()
	kid, mac := ring.Sign(keyring.Place, payload)
	return tokenVersion + "." + kid + "." + raw64.EncodeToString(payload) + "." + raw64.EncodeToString(mac)
}

// OpenToken checks and decodes what SealToken made, under any live place key.
func OpenToken(ring *keyring.Ring, s string) (Token, error) {
	if len(s) > maxTokenBytes {
		return Token{}, ErrToken
	}
	parts := strings.Split(s, ".")
	if len(parts) != 4 || parts[0] != tokenVersion {
		return Token{}, ErrToken
	}
	payload, err := raw64.DecodeString(parts[2])
	if err != nil {
		return Token{}, ErrToken
	}
	mac, err := raw64.DecodeString(parts[3])
	if err != nil || !ring.Check(keyring.Place, parts[1], payload, mac) {
		return Token{}, ErrToken
	}
	return parsePayload(payload)
}

// What the byte after the commitment says; without anything to say there is none.
const (
	ofPhone      = 1
	ofGeneration = 2 // a uvarint follows
)

// payload is: room length and room, epoch (16 bytes), number, milliseconds of
// issue and frontier as uvarints, visitor (16 bytes), commitment (32 bytes), and
// what there is to say more.
func (t Token) payload() []byte {
	b := make([]byte, 0, 120)
	b = append(b, byte(len(t.Room)))
	b = append(b, t.Room...)
	epoch := uuid.MustParse(t.Epoch)
	b = append(b, epoch[:]...)
	b = binary.AppendUvarint(b, t.Number)
	b = binary.AppendUvarint(b, uint64(t.IssuedAt.UnixMilli()))
	b = binary.AppendUvarint(b, t.Frontier)
	b = append(b, fromHex(t.Visitor, 16)...)
	b = append(b, fromHex(t.Commitment, 32)...)
	var more byte
	if t.Phone {
		more |= ofPhone
	}
	if t.Generation > 0 {
		more |= ofGeneration
	}
	if more != 0 {
		b = append(b, more)
	}
	if t.Generation > 0 {
		b = binary.AppendUvarint(b, t.Generation)
	}
	return b
}

// parsePayload reads what was signed; a fault here is a token of another version.
func parsePayload(b []byte) (t Token, err error) {
	take := func(n int) []byte {
		if err != nil || n < 0 || len(b) < n {
			err = ErrToken
			return make([]byte, max(n, 0))
		}
		head := b[:n]
		b = b[n:]
		return head
	}
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = ErrToken
			return 0
		}
		take(n)
		return v
	}
	t.Room = string(take(int(take(1)[0])))
	t.Epoch = uuid.UUID(take(16)).String()
	t.Number = uvarint()
	t.IssuedAt = time.UnixMilli(int64(uvarint())).UTC()
	t.Frontier = uvarint()
	t.Visitor = hex.EncodeToString(take(16))
	t.Commitment = hex.EncodeToString(take(32))
	if err == nil && len(b) > 0 {
		more := take(1)[0]
		t.Phone = more&ofPhone != 0
		if more&ofGeneration != 0 {
			t.Generation = uvarint()
		}
		if more == 0 || more > ofPhone|ofGeneration {
			err = ErrToken
		}
	}
	if err != nil || t.Generation >= maxNumber || len(b) != 0 || t.Number >= maxNumber || t.Frontier >= maxNumber {
		return Token{}, ErrToken
	}
	return t, nil
}

// fromHex decodes n bytes of hex that this package itself made.
func fromHex(s string, n int) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != n {
		return make([]byte, n)
	}
	return b
}

func newVisitor() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
