package operator_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/problem"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	acts := []operator.Act{operator.View, operator.Operate, operator.Administer, operator.CheckIn}
	for _, c := range []struct {
		role   operator.Role
		events []string
		slug   string
		may    string // v, o, a, c
	}{
		{operator.Admin, nil, "", "voac"},
		{operator.Admin, []string{"x"}, "y", "voac"},
		{operator.Operator, nil, "", "voc"},
		{operator.Operator, []string{"x"}, "x", "voc"},
		{operator.Operator, []string{"x"}, "y", ""},
		{operator.Operator, []string{"x"}, "", ""},
		{operator.Viewer, nil, "y", "v"},
		{operator.Viewer, []string{"x"}, "y", ""},
		{operator.Gate, nil, "y", "c"},
		{operator.Gate, []string{"x"}, "x", "c"},
		{"root", nil, "", ""},
		{"", nil, "", ""},
	} {
		p := operator.Principal{Role: c.role, Events: c.events}
		may := ""
		for i, act := range acts {
			if p.May(act, c.slug) {
				may += "voac"[i : i+1]
			}
		}
		if may != c.may {
			t.Errorf("%s of %v may %q to %q, want %q", c.role, c.events, may, c.slug, c.may)
		}
	}
}

func request(method string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "/", nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func code(p *problem.Problem) string {
	if p == nil {
		return ""
	}
	return p.Code
}

func TestKeysOfConfiguration(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	db, _ := devtest.Postgres(t)
	ctx := t.Context()
	auth := operator.NewAuthenticator(rdb, keyring.Generate(time.Now()))
	const configured = "any text will do"
	if err := operator.AddKey(ctx, rdb, configured, operator.Principal{ID: "key:file", Name: "file", Role: operator.Operator}); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", " x", strings.Repeat("x", 257)} {
		if operator.AddKey(ctx, rdb, bad, operator.Principal{}) == nil {
			t.Errorf("key %.20q was taken", bad)
		}
	}
	id, token := operator.NewToken()
	first := operator.Key{ID: id, Name: "first", Role: operator.Admin, CreatedAt: time.Now()}
	if err := operator.PutKey(ctx, db, first, token); err != nil {
		t.Fatal(err)
	}
	_, second := operator.NewToken()
	if err := operator.PutKey(ctx, db, first, second); err != nil { // dev restarted with another key
		t.Fatal(err)
	}
	if err := rdb.HSet(ctx, "usher:operator:keys", "digest-of-a-revoked-key", `{"id":"key:old","role":"admin"}`).Err(); err != nil {
		t.Fatal(err)
	}
	if err := operator.Publish(ctx, db, rdb); err != nil {
		t.Fatal(err)
	}
	if n := rdb.HLen(ctx, "usher:operator:keys").Val(); n != 2 {
		t.Errorf("%d keys in Redis, want the configured and the newest", n)
	}
	for key, want := range map[string]string{configured: "", second: "", token: "unauthenticated", "": "unauthenticated", strings.Repeat("x", 5000): "unauthenticated"} {
		p, refused := auth.Authenticate(request("POST", "Authorization", "bearer "+key))
		if code(refused) != want {
			t.Errorf("key %.20q: %v", key, refused)
		}
		if want == "" && p.Via != "key" {
			t.Errorf("via %q", p.Via)
		}
	}
	if _, err := operator.RevokeKey(ctx, db, id); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.RevokeKey(ctx, db, id); !errors.Is(err, operator.ErrNoKey) {
		t.Errorf("revoked twice: %v", err)
	}
}

func TestPutAccountResetsThePassword(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	db, _ := devtest.Postgres(t)
	ctx := t.Context()
	auth := operator.NewAuthenticator(rdb, keyring.Generate(time.Now()))
	account := operator.Account{ID: uuid.Must(uuid.NewV7()), Email: "Ada@Example.org", Name: "Ada", Role: operator.Admin, CreatedAt: time.Now()}
	if err := operator.CreateAccount(ctx, db, account, "first password"); err != nil {
		t.Fatal(err)
	}
	account.ID, account.Email = uuid.Must(uuid.NewV7()), "ada@example.org"
	if err := operator.CreateAccount(ctx, db, account, "first password"); !errors.Is(err, operator.ErrEmailTaken) {
		t.Errorf("two accounts of one address: %v", err)
	}
	if err := operator.CreateAccount(ctx, db, account, "short"); err == nil {
		t.Error("a short password was taken")
	}
	if err := operator.PutAccount(ctx, db, account, "second password"); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.SignIn(ctx, db, "ada@example.org", "first password", ""); err == nil {
		t.Error("the old password still opens")
	}
	session, err := auth.SignIn(ctx, db, " ADA@example.org ", "second password", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		r    *http.Request
		want string
	}{
		{request("GET", "Cookie", "usher-operator="+session.Token), ""},
		{request("GET", "Cookie", "__Host-usher-operator="+session.Token), ""},
		{request("GET", "Cookie", "usher-operator="+session.Token, "Sec-Fetch-Site", "cross-site"), "csrf-required"},
		{request("POST", "Cookie", "usher-operator="+session.Token), "csrf-required"},
		{request("POST", "Cookie", "usher-operator="+session.Token, "X-CSRF-Token", session.CSRF), ""},
		{request("POST", "Cookie", "usher-operator="+session.Token, "X-CSRF-Token", "x.y"), "csrf-required"},
		{request("GET", "Cookie", "usher-operator="+session.Token+"x"), "unauthenticated"},
		{request("GET", "Cookie", "__Host-usher-operator=x; usher-operator="+session.Token), "unauthenticated"},
		{request("GET"), "unauthenticated"},
		{request("GET", "Authorization", "Basic eDp5"), "unauthenticated"},
	} {
		if _, refused := auth.Authenticate(c.r); code(refused) != c.want {
			t.Errorf("%s %v: %v, want %q", c.r.Method, c.r.Header, refused, c.want)
		}
	}
	if err := auth.SignOut(ctx, session.Token); err != nil {
		t.Fatal(err)
	}
	if _, refused := auth.Session(ctx, session.Token); code(refused) != "unauthenticated" {
		t.Errorf("after signing out: %v", refused)
	}
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	away := redis.NewClient(&redis.Options{Network: "unix", Addr: t.TempDir() + "/none.sock", MaxRetries: -1})
	t.Cleanup(func() { _ = away.Close() })
	auth := operator.NewAuthenticator(away, keyring.Generate(time.Now()))
	for _, r := range []*http.Request{request("GET", "Authorization", "Bearer usher_a_b"), request("GET", "Cookie", "usher-operator=x")} {
		p, refused := auth.Authenticate(r)
		if code(refused) != "unavailable" || refused.Status != http.StatusServiceUnavailable || refused.RetryAfter <= 0 || p.Role != "" {
			t.Errorf("%+v, %v", p, refused)
		}
	}
	if _, err := auth.SignIn(t.Context(), nil, "a@b.c", "password", ""); err == nil {
		t.Error("signed in")
	}
}

func TestAuditIsRecordedOnce(t *testing.T) {
	t.Parallel()
	db, _ := devtest.Postgres(t)
	ctx := t.Context()
	c := operator.Change{
		ID: uuid.Must(uuid.NewV7()), At: time.Now().UTC().Truncate(time.Microsecond), Actor: "Ada", ActorID: "key:1",
		Act: "room.update", Subject: "room/arena", After: []byte(`{"pace_per_min": 60}`), RequestID: "r",
	}
	for range 2 { // delivered twice
		if err := operator.Record(ctx, db, c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := operator.Changes(ctx, db, "room/arena", time.Time{}, uuid.Nil, 10)
	if err != nil || len(got) != 1 || string(got[0].After) != string(c.After) || got[0].Before != nil || !got[0].At.Equal(c.At) {
		t.Errorf("%+v, %v", got, err)
	}
}

// meanwhile is a database that lets another process act between two reads.
type meanwhile struct {
	operator.DB
	act func()
}

func (m meanwhile) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	rows, err := m.DB.Query(ctx, sql, args...)
	m.act()
	return rows, err
}

// TestPublishBesideAnother: a key that another process makes while this one publishes is
// not mistaken for one that was revoked.
func TestPublishBesideAnother(t *testing.T) {
	t.Parallel()
	db, _ := devtest.Postgres(t)
	rdb := devtest.Redis(t)
	id, token := operator.NewToken()
	err := operator.Publish(t.Context(), meanwhile{db, func() {
		k := operator.Key{ID: id, Name: "new", Role: operator.Viewer, CreatedAt: time.Now()}
		if err := operator.InsertKey(t.Context(), db, k, token); err != nil {
			t.Error(err)
		}
		if err := operator.Publish(t.Context(), db, rdb); err != nil {
			t.Error(err)
		}
	}}, rdb)
	if err != nil {
		t.Fatal(err)
	}
	a := operator.NewAuthenticator(rdb, keyring.Generate(time.Now()))
	if p, refused := a.Authenticate(request("GET", "Authorization", "Bearer "+token)); refused != nil {
		t.Errorf("the new key %+v is refused: %v", p, refused)
	}
}
