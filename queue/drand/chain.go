package drand

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloudflare/circl/sign/bls"
)

// scheme is what drand calls BLS over BLS12-381 with signatures in G1, each of its round
// alone, hashed to the curve as RFC 9380 says.
const scheme = "bls-unchained-g1-rfc9380"

// Chain is what a chain's hash is made of.
type Chain struct {
	PublicKey string `json:"public_key" doc:"hex"`
	Period    int64  `json:"period_s"`
	Genesis   int64  `json:"genesis_time" doc:"Unix time of round 1"`
	GroupHash string `json:"group_hash" doc:"hex"`
	BeaconID  string `json:"beacon_id"`
}

// Round is one value of a chain.
type Round struct {
	Round     uint64
	Signature string // hex
}

// Randomness is what a round is used as: the SHA-256 of its signature, in hex.
func (r Round) Randomness() (string, error) {
	signature, err := hex.DecodeString(r.Signature)
	if err != nil {
		return "", fmt.Errorf("signature of round %d: %w", r.Round, err)
	}
	sum := sha256.Sum256(signature)
	return hex.EncodeToString(sum[:]), nil
}

var chainPath = regexp.MustCompile(`^(/[A-Za-z0-9_-]+)*/[0-9a-f]{64}$`)

// ParseURL reads the address of a chain.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || len(text) > 300 || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(text, "#") || !chainPath.MatchString(u.EscapedPath()) {
		return nil, errors.New("must be https://HOST/CHAIN-HASH, the address of a drand chain")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "https" && (u.Scheme != "http" || ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("must begin with https://, or http:// and a loopback address")
	}
	return u, nil
}

// Allowed tells that a chain's host is one of hosts; no chain at all is.
func Allowed(chain string, hosts []string) bool {
	if chain == "" {
		return true
	}
	u, err := ParseURL(chain)
	return err == nil && slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, u.Hostname()) })
}

// Check tells whether c is the chain of an address.
func (c Chain) Check(chain string) error {
	u, err := ParseURL(chain)
	if err != nil {
		return err
	}
	hash, err := c.Hash()
	if err != nil {
		return err
	}
	if want := u.Path[len(u.Path)-2*sha256.Size:]; hash != want {
		return fmt.Errorf("the chain there is %s, not %s", hash, want)
	}
	if c.Period < 1 || c.Period > 24*3600 || c.Genesis < 0 {
		return errors.New("the chain's schedule makes no sense")
	}
	return nil
}

// Hash is the chain's hash as drand makes it (common/chain/info.go).
func (c Chain) Hash() (string, error) {
	key, err := hex.DecodeString(c.PublicKey)
	group, err2 := hex.DecodeString(c.GroupHash)
	if err := errors.Join(err, err2); err != nil {
		return "", fmt.Errorf("chain: %w", err)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(c.Period))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Genesis))
	b = append(append(b, key...), group...)
	if c.BeaconID != "default" {
		b = append(b, c.BeaconID...)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// At is when the chain gives a round, at the earliest.
func (c Chain) At(round uint64) time.Time {
	return time.Unix(c.Genesis+(int64(round)-1)*c.Period, 0).UTC()
}

// After is the first round that the chain gives after t.
func (c Chain) After(t time.Time) uint64 {
	if t.Unix() < c.Genesis {
		return 1
	}
	return uint64((t.Unix()-c.Genesis)/c.Period) + 2
}

// Verify tells whether a round is signed with the chain's key.
func (c Chain) Verify(r Round) error {
	raw, err := hex.DecodeString(c.PublicKey)
	signature, err2 := hex.DecodeString(r.Signature)
	var key bls.PublicKey[bls.KeyG2SigG1]
	if err = errors.Join(err, err2); err == nil {
		err = key.UnmarshalBinary(raw)
	}
	if err != nil {
		return fmt.Errorf("round %d: %w", r.Round, err)
	}
	message := sha256.Sum256(binary.BigEndian.AppendUint64(nil, r.Round))
	if !bls.Verify(&key, message[:], signature) {
		return fmt.Errorf("round %d is not signed by the chain", r.Round)
	}
	return nil
}
