package booking

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"usher/internal/keyring"
)

// heldSeats is what a hold's signed id says. The id is the hold: Redis keeps the seats
// locked, and where it forgot them the id takes them again while they are free.
type heldSeats struct {
	Event, Performance uuid.UUID
	ID                 uuid.UUID
	Layout             int // the revision of the layout that Units are of
	Session            string
	Units              []int     // sorted, distinct
	Ends               time.Time // by Redis' clock, in milliseconds
	// Total is the price that was shown; it is kept whatever the operator changes meanwhile.
	Total int64
}

const (
	holdVersion = 2
	maxHoldID   = 4096
	maxHeld     = 500 // in one hold
)

var errHoldID = errors.New("not a hold's id")

// sealHold signs h: payload "." key id "." MAC.
func sealHold(ring *keyring.Ring, h heldSeats) string {
	b := []byte{holdVersion}
	b = append(b, h.Event[:]...)
	b = append(b, h.Performance[:]...)
	b = append(b, h.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Ends.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Total))
	b = binary.AppendUvarint(b, uint64(h.Layout))
	b = binary.AppendUvarint(b, uint64(len(h.Session)))
	b = append(b, h.Session...)
	last := -1
	for _, u := range h.Units {
		b = binary.AppendUvarint(b, uint64(u-last-1))
		last = u
	}
	kid, mac := ring.Sign(keyring.Hold, b)
	enc := base64.RawURLEncoding
	return enc.EncodeToString(b) + "." + kid + "." + enc.EncodeToString(mac)
}

// openHold checks the signature of id and reads it. It does not look at the time.
func openHold(ring *keyring.Ring, id string) (heldSeats, error) {
	parts := strings.Split(id, ".")
	if len(id) > maxHoldID || len(parts) != 3 {
		return heldSeats{}, errHoldID
	}
	enc := base64.RawURLEncoding.Strict()
	b, err1 := enc.DecodeString(parts[0])
	mac, err2 := enc.DecodeString(parts[2])
	if err1 != nil || err2 != nil || !ring.Check(keyring.Hold, parts[1], b, mac) {
		return heldSeats{}, errHoldID
	}
	const fixed = 1 + 3*16 + 2*8
	if len(b) < fixed || b[0] != holdVersion {
		return heldSeats{}, errHoldID
	}
	h := heldSeats{
		Event: uuid.UUID(b[1:17]), Performance: uuid.UUID(b[17:33]), ID: uuid.UUID(b[33:49]),
		Ends: time.UnixMilli(int64(binary.BigEndian.Uint64(b[49:57]))).UTC(), Total: int64(binary.BigEndian.Uint64(b[57:65])),
	}
	layout, used := binary.Uvarint(b[fixed:])
	if used <= 0 || layout > 1<<31 {
		return heldSeats{}, errHoldID
	}
	h.Layout = int(layout)
	rest := b[fixed+used:]
	n, used := binary.Uvarint(rest)
	if used <= 0 || n > uint64(len(rest)-used) {
		return heldSeats{}, errHoldID
	}
	h.Session, rest = string(rest[used:used+int(n)]), rest[used+int(n):]
	last := -1
	for len(rest) > 0 {
		gap, used := binary.Uvarint(rest)
		if used <= 0 || gap > 1<<31 || len(h.Units) == maxHeld {
			return heldSeats{}, errHoldID
		}
		last += int(gap) + 1
		h.Units, rest = append(h.Units, last), rest[used:]
	}
	if len(h.Units) == 0 {
		return heldSeats{}, errHoldID
	}
	return h, nil
}

// unitText is how the scripts take and give lists of units.
func unitText(units []int) string {
	var b strings.Builder
	for i, u := range units {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(u))
	}
	return b.String()
}

// parseUnits reads unitText's form, sorted; "" is an empty list.
func parseUnits(text string) []int {
	units := []int{}
	for part := range strings.SplitSeq(text, ",") {
		if u, err := strconv.Atoi(part); err == nil {
			units = append(units, u)
		}
	}
	slices.Sort(units)
	return units
}
