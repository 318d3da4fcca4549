package operator

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/keyring"
	"usher/internal/problem"
)

const (
	keysKey       = "usher:operator:keys"     // hash: digest of a key → Principal
	sessionPrefix = "usher:operator:session:" // string, by digest of the cookie: Principal

	// remembered bounds the answers kept in the process, rememberFor their age.
	remembered  = 4096
	rememberFor = time.Second

	// maxCredential bounds what is looked at as a key or a session at all.
	maxCredential = 256
)

// CSRFHeader carries the token that unsafe requests with a session need.
const CSRFHeader = "X-CSRF-Token"

// digest is what stores know of a key or a session cookie.
func digest(credential string) string {
	sum := sha256.Sum256([]byte(credential))
	return hex.EncodeToString(sum[:])
}

// answer is what Redis said about a credential.
type answer struct {
	principal Principal
	known     bool
}

// Authenticator tells who makes a request, from Redis alone.
type Authenticator struct {
	rdb    redis.UniversalClient
	ring   *keyring.Ring
	recent *otter.Cache[string, answer] // by Redis key and digest
}

// NewAuthenticator needs the ring for CSRF tokens.
func NewAuthenticator(rdb redis.UniversalClient, ring *keyring.Ring) *Authenticator {
	return &Authenticator{
		rdb:  rdb,
		ring: ring,
		recent: otter.Must(&otter.Options[string, answer]{
			MaximumSize:      remembered,
			ExpiryCalculator: otter.ExpiryWriting[string, answer](rememberFor),
		}),
	}
}

// credentials are the parts of a request that tell who made it.
type credentials struct {
	method        string
	authorization string
	session       string // the session cookie's value
	csrf          string
	fetchSite     string
}

// Authenticate tells who made r: the holder of a Bearer key, else of a session cookie.
// 401 unauthenticated, 403 csrf-required, 503 unavailable while Redis is away.
func (a *Authenticator) Authenticate(r *http.Request) (Principal, *problem.Problem) {
	return a.authenticate(r.Context(), credentials{
		method:        r.Method,
		authorization: r.Header.Get("Authorization"),
		session:       sessionCookie(r.CookiesNamed),
		csrf:          r.Header.Get(CSRFHeader),
		fetchSite:     r.Header.Get("Sec-Fetch-Site"),
	})
}

func (a *Authenticator) authenticate(ctx context.Context, c credentials) (Principal, *problem.Problem) {
	if scheme, key, _ := strings.Cut(c.authorization, " "); strings.EqualFold(scheme, "Bearer") {
		p, err := a.lookUp(ctx, keysKey, strings.TrimSpace(key))
		if err != nil {
			return Principal{}, refusal(err)
		}
		p.Via = "key"
		return p, nil
	}
	if c.session == "" {
		return Principal{}, unauthenticated()
	}
	p, err := a.lookUp(ctx, sessionPrefix, c.session)
	if err != nil {
		return Principal{}, refusal(err)
	}
	safe := c.method == http.MethodGet || c.method == http.MethodHead
	if c.fetchSite == "cross-site" || !safe && !a.csrfValid(c.session, c.csrf) {
		return Principal{}, problem.New(http.StatusForbidden, "csrf-required",
			"A change made with a signed-in session needs the "+CSRFHeader+" that signing in returned.")
	}
	p.Via = "session"
	return p, nil
}

var errUnknown = errors.New("unknown credential")

func refusal(err error) *problem.Problem {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errUnknown):
		return unauthenticated()
	}
	slog.Error("authenticate operator", "error", err)
	return problem.New(http.StatusServiceUnavailable, "unavailable", "Sign-in cannot be checked right now.").In(time.Second)
}

func unauthenticated() *problem.Problem {
	return problem.New(http.StatusUnauthorized, "unauthenticated", "An operator's API key or a signed-in session is needed.")
}

// lookUp asks Redis who holds credential; store is keysKey or sessionPrefix.
func (a *Authenticator) lookUp(ctx context.Context, store, credential string) (Principal, error) {
	if credential == "" || len(credential) > maxCredential {
		return Principal{}, errUnknown
	}
	d := digest(credential)
	got, ok := a.recent.GetIfPresent(store + d)
	if !ok {
		var cmd *redis.StringCmd
		ctx, cancel := deadline.In(ctx, 2*time.Second)
		defer cancel()
		if store == keysKey {
			cmd = a.rdb.HGet(ctx, keysKey, d)
		} else {
			cmd = a.rdb.Get(ctx, store+d)
		}
		raw, err := cmd.Bytes()
		switch {
		case errors.Is(err, redis.Nil):
		case err != nil:
			return Principal{}, fmt.Errorf("look up operator: %w", err)
		default:
			if err := json.Unmarshal(raw, &got.principal); err != nil {
				return Principal{}, fmt.Errorf("operator's record in Redis: %w", err)
			}
			got.known = true
		}
		a.recent.Set(store+d, got)
	}
	if !got.known {
		return Principal{}, errUnknown
	}
	return got.principal, nil
}

// csrfToken belongs to one session cookie and needs no storage.
func (a *Authenticator) csrfToken(session string) string {
	kid, mac := a.ring.Sign(keyring.Access, csrfMessage(session))
	return kid + "." + base64.RawURLEncoding.EncodeToString(mac)
}

func (a *Authenticator) csrfValid(session, token string) bool {
	kid, text, _ := strings.Cut(token, ".")
	mac, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && a.ring.Check(keyring.Access, kid, csrfMessage(session), mac)
}

func csrfMessage(session string) []byte { return []byte("operator-csrf\x00" + digest(session)) }

// CookieName is the session cookie's name.
func CookieName(secure bool) string {
	if secure {
		return "__Host-usher-operator"
	}
	return "usher-operator"
}

func sessionCookie(named func(string) []*http.Cookie) string {
	for _, secure := range []bool{true, false} { // the one that only a secure site can have set goes first
		for _, c := range named(CookieName(secure)) {
			if c.Value != "" {
				return c.Value
			}
		}
	}
	return ""
}
