package booking

import (
	"context"
	"errors"
	"net/http"
	"net/mail"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"usher/internal/operator"
	"usher/internal/postgres"
	"usher/internal/problem"
)

// OperatorSession is a sign-in.
type OperatorSession struct {
	Name   string        `json:"name"`
	Role   operator.Role `json:"role" enum:"admin,operator,viewer,gate"`
	Events []string      `json:"events" doc:"slugs that the account is limited to; empty: all"`
	CSRF   string        `json:"csrf" doc:"to be sent as X-CSRF-Token with every change; empty for an API key"`
}

// APIKey is a key as it is listed.
type APIKey struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Role      operator.Role `json:"role" enum:"admin,operator,viewer,gate"`
	Events    []string      `json:"events"`
	CreatedAt time.Time     `json:"created_at"`
	Key       string        `json:"key,omitempty" doc:"the key itself; shown once, when it is made"`
}

// APIKeyList is all keys in force.
type APIKeyList struct {
	Keys []APIKey `json:"keys"`
}

// User is an account.
type User struct {
	ID        uuid.UUID     `json:"id" format:"uuid"`
	Email     string        `json:"email"`
	Name      string        `json:"name"`
	Role      operator.Role `json:"role" enum:"admin,operator,viewer,gate"`
	Events    []string      `json:"events"`
	CreatedAt time.Time     `json:"created_at"`
}

// UserList is a page of accounts.
type UserList struct {
	Users []User `json:"users"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
}

func (s *Server) registerPeople() {
	signIn := operate(http.MethodPost, "/session", "sign-in", "Sign in", "", 422, 429)
	signIn.Security = nil
	huma.Register(s.api, signIn, s.signIn)
	session := operate(http.MethodGet, "/session", "get-session", "Who is signed in", "")
	session.Security = []map[string][]string{{operator.Scheme: {}}}
	huma.Register(s.api, session, s.getSession)
	signOut := operate(http.MethodDelete, "/session", "sign-out", "Sign out", "")
	signOut.Security = session.Security
	signOut.DefaultStatus = http.StatusNoContent
	huma.Register(s.api, signOut, s.signOut)

	huma.Register(s.api, operate(http.MethodGet, "/keys", "list-keys", "API keys in force", operator.Administer), s.listKeys)
	create := operate(http.MethodPost, "/keys", "create-key", "Make an API key", operator.Administer, 409, 422)
	create.DefaultStatus = http.StatusCreated
	huma.Register(s.api, create, s.createKey)
	revoke := operate(http.MethodDelete, "/keys/{id}", "revoke-key", "Revoke an API key", operator.Administer, 404)
	revoke.DefaultStatus = http.StatusNoContent
	huma.Register(s.api, revoke, s.revokeKey)

	huma.Register(s.api, operate(http.MethodGet, "/users", "list-users", "Accounts, by address", operator.Administer), s.listUsers)
	user := operate(http.MethodPost, "/users", "create-user", "Make an account", operator.Administer, 409, 422)
	user.DefaultStatus = http.StatusCreated
	huma.Register(s.api, user, s.createUser)
}

type sessionAnswer struct {
	SetCookie    string `header:"Set-Cookie"`
	CacheControl string `header:"Cache-Control"`
	Body         OperatorSession
}

func answerSession(session operator.Session) *sessionAnswer {
	p := session.Principal
	return &sessionAnswer{CacheControl: "no-store", Body: OperatorSession{
		Name: p.Name, Role: p.Role, Events: append([]string{}, p.Events...), CSRF: session.CSRF,
	}}
}

// SessionCookies are the two names of the cookie; a browser sends one.
type SessionCookies struct {
	Secure string `cookie:"__Host-usher-operator"`
	Plain  string `cookie:"usher-operator"`
}

func (c SessionCookies) token() string {
	if c.Secure != "" {
		return c.Secure
	}
	return c.Plain
}

func (s *Server) signIn(ctx context.Context, in *struct {
	// The gateway sets these; what they are used for harms nobody but a client who lies.
	ForwardedFor   string `header:"X-Forwarded-For"`
	ForwardedProto string `header:"X-Forwarded-Proto"`
	FetchSite      string `header:"Sec-Fetch-Site"`
	Body           struct {
		Email    string `json:"email" minLength:"1" maxLength:"254"`
		Password string `json:"password" minLength:"1" maxLength:"256"`
	}
}) (*sessionAnswer, error) {
	if in.FetchSite == "cross-site" {
		return nil, problem.New(http.StatusForbidden, "csrf-required", "Sign in from the site's own page.")
	}
	session, err := s.auth.SignIn(ctx, s.db, in.Body.Email, in.Body.Password, clientPrefix(in.ForwardedFor))
	if err != nil {
		return nil, s.fail(ctx, "sign in", err)
	}
	if err := s.record(operator.WithPrincipal(ctx, session.Principal), s.db, "session.create", "user/"+session.Principal.ID, nil, nil); err != nil {
		return nil, s.fail(ctx, "sign in", err)
	}
	out := answerSession(session)
	out.SetCookie = s.sessionCookie(session.Token, in.ForwardedProto, operator.SessionTTL).String()
	return out, nil
}

// clientPrefix is the address, of IPv6 the /64, that attempts are counted for.
func clientPrefix(forwardedFor string) string {
	first, _, _ := strings.Cut(forwardedFor, ",")
	address, err := netip.ParseAddr(strings.TrimSpace(first))
	if err != nil {
		return ""
	}
	address = address.Unmap()
	bits := 64
	if address.Is4() {
		bits = 32
	}
	prefix, err := address.WithZone("").Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}

func (s *Server) sessionCookie(token, forwardedProto string, ttl time.Duration) *http.Cookie {
	secure := forwardedProto == "https" || forwardedProto == "" && strings.HasPrefix(s.cfg.PublicURL, "https://")
	c := &http.Cookie{
		Name: operator.CookieName(secure), Value: token, Path: "/", Secure: secure, HttpOnly: true,
		SameSite: http.SameSiteStrictMode, MaxAge: int(ttl / time.Second),
	}
	if ttl <= 0 {
		c.MaxAge = -1
	}
	return c
}

func (s *Server) getSession(ctx context.Context, in *struct{ SessionCookies }) (*sessionAnswer, error) {
	p, _ := operator.PrincipalFrom(ctx)
	if p.Via == "key" {
		return answerSession(operator.Session{Principal: p}), nil
	}
	session, refused := s.auth.Session(ctx, in.token())
	if refused != nil {
		return nil, refused
	}
	return answerSession(session), nil
}

func (s *Server) signOut(ctx context.Context, in *struct {
	SessionCookies
	ForwardedProto string `header:"X-Forwarded-Proto"`
}) (*struct {
	SetCookie string `header:"Set-Cookie"`
}, error) {
	if token := in.token(); token != "" {
		if err := s.auth.SignOut(ctx, token); err != nil {
			return nil, s.fail(ctx, "sign out", err)
		}
	}
	return &struct {
		SetCookie string `header:"Set-Cookie"`
	}{s.sessionCookie("", in.ForwardedProto, 0).String()}, nil
}

func describeKey(k operator.Key) APIKey {
	return APIKey{ID: k.ID, Name: k.Name, Role: k.Role, Events: append([]string{}, k.Events...), CreatedAt: k.CreatedAt}
}

func (s *Server) listKeys(ctx context.Context, _ *struct{}) (*struct{ Body APIKeyList }, error) {
	keys, err := operator.Keys(ctx, s.db)
	if err != nil {
		return nil, s.fail(ctx, "list keys", err)
	}
	list := APIKeyList{Keys: []APIKey{}}
	for _, k := range keys {
		list.Keys = append(list.Keys, describeKey(k))
	}
	return &struct{ Body APIKeyList }{list}, nil
}

// Grant is what a key or an account is given.
type Grant struct {
	Name   string        `json:"name" minLength:"1" maxLength:"100"`
	Role   operator.Role `json:"role" enum:"admin,operator,viewer,gate"`
	Events []string      `json:"events,omitempty" required:"false" maxItems:"200" doc:"slugs to be limited to; absent: all"`
}

func (g Grant) faults() []problem.Field {
	for _, slug := range g.Events {
		if !slugPattern.MatchString(slug) {
			return []problem.Field{{Location: "body.events", Message: "must be slugs of events"}}
		}
	}
	return nil
}

type keyAnswer struct {
	CacheControl string `header:"Cache-Control"`
	Body         APIKey
}

func (s *Server) createKey(ctx context.Context, in *struct{ Body Grant }) (*keyAnswer, error) {
	if faults := in.Body.faults(); len(faults) > 0 {
		return nil, problem.Invalid(faults...)
	}
	id, token := operator.NewToken()
	k := operator.Key{ID: id, Name: in.Body.Name, Role: in.Body.Role, Events: in.Body.Events, CreatedAt: s.now().UTC()}
	doc := describeKey(k)
	err := postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		if err := operator.InsertKey(ctx, tx, k, token); err != nil {
			return err
		}
		return s.record(ctx, tx, "key.create", "key/"+id, nil, doc)
	})
	if errors.Is(err, operator.ErrTooManyKeys) {
		err = problem.New(http.StatusConflict, "key-limit", "There are too many keys. Revoke some first.")
	}
	if err == nil {
		err = operator.Publish(ctx, s.db, s.rdb)
	}
	if err != nil {
		return nil, s.fail(ctx, "create key", err)
	}
	doc.Key = token
	return &keyAnswer{CacheControl: "no-store", Body: doc}, nil
}

func (s *Server) revokeKey(ctx context.Context, in *struct {
	ID string `path:"id" maxLength:"40"`
}) (*struct{}, error) {
	err := postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		k, err := operator.RevokeKey(ctx, tx, in.ID)
		if err != nil {
			return err
		}
		return s.record(ctx, tx, "key.revoke", "key/"+in.ID, describeKey(k), nil)
	})
	if errors.Is(err, operator.ErrNoKey) {
		err = problem.New(http.StatusNotFound, "key-not-found", "There is no such key.")
	}
	if err == nil {
		err = operator.Publish(ctx, s.db, s.rdb)
	}
	if err != nil {
		return nil, s.fail(ctx, "revoke key", err)
	}
	return nil, nil
}

func describeUser(a operator.Account) User {
	return User{ID: a.ID, Email: a.Email, Name: a.Name, Role: a.Role, Events: append([]string{}, a.Events...), CreatedAt: a.CreatedAt}
}

func (s *Server) listUsers(ctx context.Context, in *struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50"`
	Cursor string `query:"cursor" maxLength:"254" doc:"the last address of the page before"`
}) (*struct{ Body UserList }, error) {
	accounts, err := operator.Accounts(ctx, s.db, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, s.fail(ctx, "list users", err)
	}
	list := UserList{Users: []User{}}
	if len(accounts) > in.Limit {
		accounts = accounts[:in.Limit]
		list.Next = accounts[in.Limit-1].Email
	}
	for _, a := range accounts {
		list.Users = append(list.Users, describeUser(a))
	}
	return &struct{ Body UserList }{list}, nil
}

func (s *Server) createUser(ctx context.Context, in *struct {
	Body struct {
		Grant
		Email    string `json:"email" minLength:"3" maxLength:"254"`
		Password string `json:"password" minLength:"8" maxLength:"256"`
	}
}) (*struct{ Body User }, error) {
	faults := in.Body.faults()
	address, err := mail.ParseAddress(in.Body.Email)
	if err != nil || address.Address != in.Body.Email {
		faults = append(faults, problem.Field{Location: "body.email", Message: "must be a mail address"})
	}
	if len(faults) > 0 {
		return nil, problem.Invalid(faults...)
	}
	a := operator.Account{
		ID: uuid.Must(uuid.NewV7()), Email: in.Body.Email, Name: in.Body.Name, Role: in.Body.Role,
		Events: in.Body.Events, CreatedAt: s.now().UTC(),
	}
	err = postgres.Retry(ctx, s.db, func(tx pgx.Tx) error {
		if err := operator.CreateAccount(ctx, tx, a, in.Body.Password); err != nil {
			return err
		}
		return s.record(ctx, tx, "user.create", "user/"+a.ID.String(), nil, describeUser(a))
	})
	if errors.Is(err, operator.ErrEmailTaken) {
		err = problem.New(http.StatusConflict, "email-taken", "There is an account with this address.")
	}
	if err != nil {
		return nil, s.fail(ctx, "create user", err)
	}
	return &struct{ Body User }{describeUser(a)}, nil
}
