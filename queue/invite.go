package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
)

// Why a room of invited visitors has no place to give.
var (
	ErrInviteRequired = errors.New("the room is for the invited")
	ErrInvite         = errors.New("not an invitation to this room, or not now")
)

const (
	maxInviteKeys = 10
	maxInvite     = 2048
	maxIdentity   = 200
)

// inviteClaims are what an invitation says, signed with a key of the room's settings.
type inviteClaims struct {
	Room     string `json:"room"`
	Identity string `json:"identity"`
	jwt.RegisteredClaims
}

// Identity tells whom an invitation is for; "" where the room asks for none and none is
// shown. Errors: ErrInviteRequired, ErrInvite.
func (l *Line) Identity(invite string) (string, error) {
	v := l.View()
	switch {
	case v == nil, len(v.settings.InviteKeys) == 0:
		return "", nil
	case invite == "" && v.settings.InviteOnly:
		return "", ErrInviteRequired
	case invite == "":
		return "", nil
	case len(invite) > maxInvite:
		return "", ErrInvite
	}
	now := v.now.Add(time.Since(v.taken))
	if l.clock != nil {
		now = v.now
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now }))
	for _, k := range v.settings.InviteKeys {
		key, err := k.Key()
		if err != nil {
			continue // was refused when it was set
		}
		var c inviteClaims
		_, err = parser.ParseWithClaims(invite, &c, func(*jwt.Token) (any, error) { return key, nil })
		if err == nil && c.Room == l.room && c.Identity != "" && len(c.Identity) <= maxIdentity {
			return c.Identity, nil
		}
	}
	return "", ErrInvite
}

// JoinInvited gives an identity its one place, on however many devices it asks. fresh
// tells that the place is new. An entry a guest is what it costs; it ends with the epoch.
// Errors are Join's.
func (l *Line) JoinInvited(ctx context.Context, identity string) (t Token, fresh bool, err error) {
	v := l.View()
	if v == nil {
		return Token{}, false, &Unavailable{RetryAfter: retryAfter}
	}
	if v.claimsDue {
		return Token{}, false, &Unavailable{RetryAfter: time.Second}
	}
	sum := sha256.Sum256([]byte(identity))
	field := v.epoch + ":" + hex.EncodeToString(sum[:16])
	asking, cancel := deadline.In(ctx, callTime)
	defer cancel()
	found, err := l.rdb.HGet(asking, keyOf(l.room, "invited"), field).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return Token{}, false, &Unavailable{RetryAfter: retryAfter, Cause: err}
	}
	if found != "" {
		if t, err = l.invited(v, found); err != nil {
			return Token{}, false, err
		}
		p, _, err := l.Place(ctx, t)
		if err != nil || !p.Over() {
			return t, false, err
		}
	}
	if t, err = l.Join(ctx); err != nil {
		return Token{}, false, err
	}
	entry := fmt.Sprintf("%016d:%d:%d", t.Number, t.IssuedAt.UnixMilli(), t.Frontier)
	there, err := inviteScript.Run(asking, l.rdb, l.keys, l.now(), t.Epoch, field, found, entry).Text()
	switch {
	case err != nil:
		return Token{}, false, &Unavailable{RetryAfter: retryAfter, Cause: err}
	case there == entry:
		return t, true, nil
	}
	// Another device was first: the number just taken is nobody's.
	if err := l.Leave(ctx, t); err != nil {
		return Token{}, false, err
	}
	if there == "none" || there == "epoch" || there == "busy" {
		return Token{}, false, &Unavailable{RetryAfter: time.Second, Cause: errNoRoom}
	}
	t, err = l.invited(v, there)
	return t, false, err
}

// invited is the token of an entry, of the generation in force.
func (l *Line) invited(v *View, entry string) (Token, error) {
	var number, frontier uint64
	var at int64
	if _, err := fmt.Sscanf(entry, "%d:%d:%d", &number, &at, &frontier); err != nil {
		return Token{}, fmt.Errorf("entry of an invited guest: %w", err)
	}
	return Token{
		Room: l.room, Epoch: v.epoch, Number: number, IssuedAt: time.UnixMilli(at).UTC(), Frontier: frontier,
		Visitor: newVisitor(), Commitment: v.commitment, Generation: v.moved[number],
	}, nil
}

// Over tells that a place can bring its visitor nowhere any more.
func (p Place) Over() bool {
	over := p.State == Admitted && (p.PassExpiresAt == nil || !p.Now.Before(*p.PassExpiresAt))
	return p.State.Final() || over
}
