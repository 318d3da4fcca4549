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
	visitorLen    = 16
	uuidLen       = 36 // as text
	commitmentLen = 32
	maxNumber     = 1 << 40 // far beyond any room; keeps arithmetic exact in Lua's doubles
)

var raw64 = base64.RawURLEncoding.Strict()

// SealToken signs t under the newest place key: u1.<key id>.<payload>.<HMAC-SHA256>.
// The characters are safe in a cookie, a header and a WebSocket subprotocol.
func SealToken(ring *keyring.Ring, t Token) string {
	var space [maxTokenBytes]byte
	payload := t.appendPayload(space[:0])
	kid, mac := ring.Sign(keyring.Place, payload)
	var sealed [maxTokenBytes]byte
	b := append(append(append(sealed[:0], tokenVersion+"."...), kid...), '.')
	b = append(raw64.AppendEncode(b, payload), '.')
	return string(raw64.AppendEncode(b, mac))
}

// OpenToken checks and decodes what SealToken made, under any live place key.
func OpenToken(ring *keyring.Ring, s string) (Token, error) {
	if len(s) > maxTokenBytes {
		return Token{}, ErrToken
	}
	version, rest, _ := strings.Cut(s, ".")
	kid, rest, _ := strings.Cut(rest, ".")
	encoded, signed, _ := strings.Cut(rest, ".")
	if version != tokenVersion {
		return Token{}, ErrToken
	}
	var space [2][maxTokenBytes]byte // every request of a visitor passes here: no memory of its own
	payload, err := raw64.AppendDecode(space[0][:0], []byte(encoded))
	if err != nil {
		return Token{}, ErrToken
	}
	mac, err := raw64.AppendDecode(space[1][:0], []byte(signed))
	if err != nil || !ring.Check(keyring.Place, kid, payload, mac) {
		return Token{}, ErrToken
	}
	return parsePayload(payload)
}

// What the byte after the commitment says; without anything to say there is none.
const (
	ofPhone      = 1
	ofGeneration = 2 // a uvarint follows
)

// appendPayload appends: room length and room, epoch (16 bytes), number, milliseconds of
// issue and frontier as uvarints, visitor (16 bytes), commitment (32 bytes), and
// what there is to say more.
func (t Token) appendPayload(b []byte) []byte {
	b = append(b, byte(len(t.Room)))
	b = append(b, t.Room...)
	epoch := uuid.MustParse(t.Epoch)
	b = append(b, epoch[:]...)
	b = binary.AppendUvarint(b, t.Number)
	b = binary.AppendUvarint(b, uint64(t.IssuedAt.UnixMilli()))
	b = binary.AppendUvarint(b, t.Frontier)
	b = appendFromHex(b, t.Visitor, visitorLen)
	b = appendFromHex(b, t.Commitment, commitmentLen)
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
	var nothing [256]byte // what is read of a token that ended
	take := func(n int) []byte {
		if err != nil || len(b) < n {
			err = ErrToken
			return nothing[:n]
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
	// All texts of a token share one string.
	var space [256 + uuidLen + 2*visitorLen + 2*commitmentLen]byte
	texts := append(space[:0], take(int(take(1)[0]))...)
	room := len(texts)
	texts = appendUUID(texts, take(16))
	t.Number = uvarint()
	t.IssuedAt = time.UnixMilli(int64(uvarint())).UTC()
	t.Frontier = uvarint()
	texts = hex.AppendEncode(texts, take(visitorLen))
	texts = hex.AppendEncode(texts, take(commitmentLen))
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
	all := string(texts)
	t.Room, all = all[:room], all[room:]
	t.Epoch, all = all[:uuidLen], all[uuidLen:]
	t.Visitor, t.Commitment = all[:2*visitorLen], all[2*visitorLen:]
	return t, nil
}

// appendUUID writes a UUID as RFC 9562 does.
func appendUUID(b, id []byte) []byte {
	b = append(hex.AppendEncode(b, id[:4]), '-')
	b = append(hex.AppendEncode(b, id[4:6]), '-')
	b = append(hex.AppendEncode(b, id[6:8]), '-')
	b = append(hex.AppendEncode(b, id[8:10]), '-')
	return hex.AppendEncode(b, id[10:16])
}

// appendFromHex decodes n bytes of hex that this package itself made; of anything else it
// appends zeros.
func appendFromHex(b []byte, s string, n int) []byte {
	if decoded, err := hex.AppendDecode(b, []byte(s)); err == nil && len(decoded) == len(b)+n {
		return decoded
	}
	return append(b, make([]byte, n)...)
}

func newVisitor() string {
	var b [visitorLen]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}
