package booking

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"usher/internal/operator"
)

func TestRolesAreEnforced(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	o.operate(t, "PUT", "/events/show", smallEvent).expect(t, 201, "")
	keys := map[string]string{
		"nobody": "", "stranger": "usher_aaaa_bbbb", "admin": o.key,
		"operator": o.giveKey(t, operator.Operator), "limited": o.giveKey(t, operator.Operator, "other"),
		"own": o.giveKey(t, operator.Operator, "show"), "viewer": o.giveKey(t, operator.Viewer), "gate": o.giveKey(t, operator.Gate),
	}
	for _, c := range []struct {
		method, path, body string
		want               map[string]int // status by key; the others 403, or 401 without one
	}{
		{"PUT", "/events/show", `{"title":"x"}`, map[string]int{"admin": 200, "operator": 200, "own": 200}},
		{"GET", "/events/show", ``, map[string]int{"admin": 200, "operator": 200, "own": 200, "viewer": 200}},
		{"GET", "/events", ``, map[string]int{"admin": 200, "operator": 200, "own": 200, "limited": 200, "viewer": 200}},
		{"PUT", "/venues/hall/plan", smallPlan(), map[string]int{"admin": 200, "operator": 200}},
		{"GET", "/audit", ``, map[string]int{"admin": 200}},
		{"GET", "/keys", ``, map[string]int{"admin": 200}},
		{"POST", "/keys", `{"name":"k","role":"gate"}`, map[string]int{"admin": 201}},
		{"DELETE", "/keys/none", ``, map[string]int{"admin": 404}},
		{"GET", "/users", ``, map[string]int{"admin": 200}},
		{"GET", "/session", ``, map[string]int{"admin": 200, "operator": 200, "own": 200, "limited": 200, "viewer": 200, "gate": 200}},
	} {
		for who, key := range keys {
			want, ok := c.want[who]
			if !ok {
				want = 403
			}
			if who == "nobody" || who == "stranger" {
				want = 401
			}
			var headers []string
			if key != "" {
				headers = []string{"Authorization", "Bearer " + key}
			}
			r := o.ask(t, c.method, "/api/v1/operate"+c.path, c.body, headers...)
			if r.status != want {
				t.Errorf("%s %s by %s: %d, want %d: %s", c.method, c.path, who, r.status, want, r.raw)
			}
		}
	}
	list := o.ask(t, "GET", "/api/v1/operate/events", "", "Authorization", "Bearer "+keys["limited"]).expect(t, 200, "")
	if len(list.doc["events"].([]any)) != 0 {
		t.Errorf("a list shows events of others: %s", list.raw)
	}
}

func TestKeysAreMadeAndRevoked(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	made := o.operate(t, "POST", "/keys", `{"name":"door","role":"viewer","events":["show"]}`).expect(t, 201, "")
	key, id := made.doc["key"].(string), made.doc["id"].(string)
	if !strings.HasPrefix(key, "usher_"+id+"_") {
		t.Errorf("key %q of id %q", key, id)
	}
	list := o.operate(t, "GET", "/keys", "").expect(t, 200, "")
	if bytes.Contains(list.raw, []byte(key)) || len(list.doc["keys"].([]any)) != 2 {
		t.Errorf("%s", list.raw)
	}
	audit := o.operate(t, "GET", "/audit", "").expect(t, 200, "")
	if bytes.Contains(audit.raw, []byte(key)) {
		t.Error("the audit log has the key")
	}
	o.operate(t, "DELETE", "/keys/"+id, "").expect(t, 204, "")
	o.ask(t, "GET", "/api/v1/operate/session", "", "Authorization", "Bearer "+key).expect(t, 401, "unauthenticated")
	o.operate(t, "DELETE", "/keys/"+id, "").expect(t, 404, "key-not-found")
	for name, body := range map[string]string{
		"role": `{"name":"x","role":"root"}`, "events": `{"name":"x","role":"gate","events":["A B"]}`,
		"unknown member": `{"name":"x","role":"gate","secret":"mine"}`, "name": `{"role":"gate"}`,
	} {
		t.Run(name, func(t *testing.T) { o.operate(t, "POST", "/keys", body).expect(t, 422, "invalid") })
	}
}

func TestSignInAndCSRF(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.smallHall(t)
	user := `{"email":"ada@example.org","name":"Ada","role":"operator","password":"correct horse"}`
	o.operate(t, "POST", "/users", user).expect(t, 201, "")
	o.operate(t, "POST", "/users", strings.Replace(user, "ada@", "ADA@", 1)).expect(t, 409, "email-taken")
	o.operate(t, "POST", "/users", strings.Replace(user, "correct horse", "short", 1)).expect(t, 422, "invalid")
	o.operate(t, "POST", "/users", strings.Replace(user, "ada@example.org", "Ada <ada@x.y>", 1)).expect(t, 422, "invalid")
	if list := o.operate(t, "GET", "/users", "").expect(t, 200, ""); bytes.Contains(list.raw, []byte("argon")) || len(list.doc["users"].([]any)) != 1 {
		t.Errorf("%s", list.raw)
	}

	const session = "/api/v1/operate/session"
	o.ask(t, "POST", session, `{"email":"ada@example.org","password":"wrong horse"}`).expect(t, 401, "wrong-credentials")
	o.ask(t, "POST", session, `{"email":"eve@example.org","password":"correct horse"}`).expect(t, 401, "wrong-credentials")
	in := o.ask(t, "POST", session, `{"email":"Ada@Example.org","password":"correct horse"}`, "X-Forwarded-Proto", "https").expect(t, 200, "")
	cookie := in.header.Get("Set-Cookie")
	for _, part := range []string{"__Host-usher-operator=", "HttpOnly", "Secure", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("cookie %q lacks %s", cookie, part)
		}
	}
	pair, _, _ := strings.Cut(cookie, ";")
	csrf := in.doc["csrf"].(string)
	if got := o.ask(t, "GET", session, "", "Cookie", pair).expect(t, 200, ""); got.doc["csrf"] != csrf || got.doc["name"] != "Ada" || got.doc["role"] != "operator" {
		t.Errorf("%s", got.raw)
	}
	event := "/api/v1/operate/events/show"
	o.ask(t, "PUT", event, smallEvent, "Cookie", pair).expect(t, 403, "csrf-required")
	o.ask(t, "PUT", event, smallEvent, "Cookie", pair, "X-CSRF-Token", csrf[:len(csrf)-2]+"AA").expect(t, 403, "csrf-required")
	o.ask(t, "GET", event, "", "Cookie", pair, "Sec-Fetch-Site", "cross-site").expect(t, 403, "csrf-required")
	o.ask(t, "PUT", event, smallEvent, "Cookie", pair, "X-CSRF-Token", csrf).expect(t, 201, "")
	other := o.ask(t, "POST", session, `{"email":"ada@example.org","password":"correct horse"}`).expect(t, 200, "")
	o.ask(t, "PUT", event, `{}`, "Cookie", pair, "X-CSRF-Token", other.doc["csrf"].(string)).expect(t, 403, "csrf-required")
	o.ask(t, "DELETE", session, "", "Cookie", pair).expect(t, 403, "csrf-required")
	o.ask(t, "DELETE", session, "", "Cookie", pair, "X-CSRF-Token", csrf).expect(t, 204, "")
	o.ask(t, "GET", session, "", "Cookie", pair).expect(t, 401, "unauthenticated")
	o.ask(t, "GET", session, "", "Cookie", "usher-operator=forged").expect(t, 401, "unauthenticated")
}

func TestSignInAttemptsAreLimited(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	account := operator.Account{ID: uuid.Must(uuid.NewV7()), Email: "ada@example.org", Name: "Ada", Role: operator.Admin, CreatedAt: time.Now()}
	if err := operator.CreateAccount(t.Context(), o.db, account, "correct horse"); err != nil {
		t.Fatal(err)
	}
	const session = "/api/v1/operate/session"
	guess := func(client, password string) reply {
		return o.ask(t, "POST", session, `{"email":"ada@example.org","password":"`+password+`"}`, "X-Forwarded-For", client)
	}
	for range 10 {
		guess("192.0.2.1", "guess").expect(t, 401, "wrong-credentials")
	}
	limited := guess("192.0.2.1", "correct horse").expect(t, 429, "quota-exceeded")
	if limited.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	guess("192.0.2.2", "correct horse").expect(t, 200, "") // one who guesses shuts out no one else

	guesses := 0
	for ; guesses < 40; guesses++ { // at many addresses from one network
		body := fmt.Sprintf(`{"email":"user%d@example.org","password":"password"}`, guesses)
		if o.ask(t, "POST", session, body, "X-Forwarded-For", fmt.Sprintf("2001:db8::%x", guesses)).status == 429 {
			break
		}
	}
	if guesses != 30 {
		t.Errorf("one client guessed at %d addresses, want 30", guesses)
	}
}
