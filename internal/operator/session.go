package operator

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"usher/internal/deadline"
	"usher/internal/problem"
	"usher/internal/redisx"
)

// SessionTTL is how long a sign-in lasts; it is not renewed.
const SessionTTL = 12 * time.Hour

// Attempts to sign in within attemptWindow: of one client at one address, of one client
// at any, of all clients at one address. A stranger who keeps failing shuts out himself
// long before he shuts out the operator, and costs little work.
const (
	attemptWindow     = 10 * time.Minute
	attemptsAtAddress = 10
	attemptsPerClient = 30
	attemptsPerEmail  = 200
	attemptPrefix     = "usher:operator:attempts:"

	// checkWithin bounds the wait for the one password that is checked at a time.
	checkWithin = 3 * time.Second
)

//go:embed attempts.lua
var attemptsSource string

var attempts = redisx.NewScript(attemptsSource)

// Session is a sign-in.
type Session struct {
	// Token is the cookie's value.
	Token string
	// CSRF is what unsafe requests must carry in X-CSRF-Token.
	CSRF      string
	Principal Principal
}

// SignIn checks the password and opens a session in Redis. client tells attempts of
// different clients apart; it may be empty.
// 401 wrong-credentials, 429 quota-exceeded, 503 unavailable while Redis is away.
func (a *Authenticator) SignIn(ctx context.Context, db DB, email, password, client string) (Session, error) {
	address := strings.ToLower(strings.TrimSpace(email))
	own, clients := attemptPrefix+digest(address+"\x00"+client), attemptPrefix+digest("\x00"+client)
	for _, limit := range []struct {
		key string
		max int64
	}{
		{own, attemptsAtAddress},
		{clients, attemptsPerClient},
		{attemptPrefix + digest(address), attemptsPerEmail},
	} {
		got, err := attempts.Run(ctx, a.rdb, []string{limit.key}, int(attemptWindow/time.Second)).Int64Slice()
		if err != nil {
			return Session{}, refusal(fmt.Errorf("count attempts: %w", err))
		}
		if got[0] > limit.max {
			return Session{}, problem.New(http.StatusTooManyRequests, "quota-exceeded",
				"Too many attempts to sign in. Wait a little.").In(time.Duration(got[1]) * time.Millisecond)
		}
	}
	checking, cancel := deadline.In(ctx, checkWithin)
	defer cancel()
	account, err := checkPassword(checking, db, address, password)
	if errors.Is(err, ErrCredentials) {
		return Session{}, problem.New(http.StatusUnauthorized, "wrong-credentials", "The address or the password is wrong.")
	}
	if err != nil {
		return Session{}, err
	}
	doc, err := json.Marshal(account.principal())
	if err != nil {
		return Session{}, fmt.Errorf("open session: %w", err)
	}
	token := random(32)
	if err := a.rdb.Set(ctx, sessionPrefix+digest(token), doc, SessionTTL).Err(); err != nil {
		return Session{}, refusal(fmt.Errorf("open session: %w", err))
	}
	for _, key := range []string{own, clients} { // in a cluster they are in different slots
		if err := a.rdb.Del(ctx, key).Err(); err != nil {
			return Session{}, refusal(fmt.Errorf("forget attempts: %w", err))
		}
	}
	p := account.principal()
	p.Via = "session"
	return Session{Token: token, CSRF: a.csrfToken(token), Principal: p}, nil
}

// Session returns the sign-in that token stands for: 401 when there is none.
func (a *Authenticator) Session(ctx context.Context, token string) (Session, *problem.Problem) {
	p, err := a.lookUp(ctx, sessionPrefix, token)
	if err != nil {
		return Session{}, refusal(err)
	}
	p.Via = "session"
	return Session{Token: token, CSRF: a.csrfToken(token), Principal: p}, nil
}

// SignOut ends a session. Other processes honour it for one more second.
func (a *Authenticator) SignOut(ctx context.Context, token string) error {
	d := digest(token)
	if err := a.rdb.Del(ctx, sessionPrefix+d).Err(); err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	a.recent.Invalidate(sessionPrefix + d)
	return nil
}
