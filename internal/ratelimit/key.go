package ratelimit

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
)

// Key is who or what a policy counts by; what it does not count by is empty.
type Key struct {
	Prefix netip.Prefix
	Room   string
	// Audience and ID name a session, a place, an account, or one who solved a challenge.
	Audience, ID string
	Host, Path   string
}

// maxText bounds a key's name in the store; the end of a longer one is its digest.
const maxText = 200

// String is the key's name in the store.
func (k Key) String() string {
	parts := make([]string, 0, 6)
	if k.Prefix.IsValid() {
		parts = append(parts, k.Prefix.String())
	}
	for _, part := range []string{k.Room, k.Audience, k.ID, k.Host, k.Path} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	name := strings.Join(parts, " ")
	if len(name) > maxText {
		sum := sha256.Sum256([]byte(name))
		name = name[:maxText/2] + hex.EncodeToString(sum[:])
	}
	return name
}
