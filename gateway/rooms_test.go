package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/queue"
)

func TestJoin(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"title":"Gala","pace_per_min":0}`)
	fan := s.visitor()
	const places = "/api/v1/rooms/gala/places"

	first := fan.join("gala")
	if first.State != queue.Waiting || first.Room != "gala" || first.Token == "" || first.Position == nil || *first.Position != 1 {
		t.Errorf("joined as %+v", first)
	}
	a := fan.want(200, "", "POST", places, "")
	if again := decode[joined](t, a); again.Number != first.Number || again.Token == "" {
		t.Errorf("joining again gave number %d, want %d", again.Number, first.Number)
	}
	if c := a.header.Get("Set-Cookie"); !strings.HasPrefix(c, "usher-place-gala=") || !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") || strings.Contains(c, "Secure") {
		t.Errorf("cookie on plain http: %s", c)
	}
	if c := s.visitor().want(201, "", "POST", places, "", "X-Forwarded-Proto", "https").header.Get("Set-Cookie"); !strings.HasPrefix(c, "__Host-usher-place-gala=") || !strings.Contains(c, "Secure") || !strings.Contains(c, "Path=/;") {
		t.Errorf("cookie behind TLS: %s", c)
	}
	if app := decode[joined](t, s.visitor().want(200, "", "POST", places, "", "Authorization", "Place "+first.Token)); app.Number != first.Number {
		t.Errorf("the token gave number %d, want %d", app.Number, first.Number)
	}
	if next := s.visitor().join("gala"); next.Number <= first.Number {
		t.Errorf("the next number is %d after %d", next.Number, first.Number)
	}
}

func TestJoinBodies(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"none":            {``, 201, ""},
		"spaces":          {"  \n", 201, ""},
		"empty object":    {`{}`, 201, ""},
		"both, null":      {`{"challenge":null,"invite":null}`, 201, ""},
		"unknown field":   {`{"position":1}`, 422, "invalid"},
		"other casing":    {`{"Challenge":"x"}`, 422, "invalid"},
		"wrong type":      {`{"challenge":7}`, 422, "invalid"},
		"an array":        {`[]`, 422, "invalid"},
		"null":            {`null`, 422, "invalid"},
		"not JSON":        {`{"challenge":`, 400, "bad-request"},
		"two documents":   {`{}{}`, 400, "bad-request"},
		"over the limit":  {`{"challenge":"` + strings.Repeat("x", 70<<10) + `"}`, 413, "body-too-large"},
		"deeply nested":   {strings.Repeat("[", 60_000), 400, "bad-request"},
		"with a faked id": {`{"number":1,"invite":[]}`, 422, "invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			s.visitor().want(c.status, c.code, "POST", "/api/v1/rooms/gala/places", c.body, "Content-Type", "application/json")
		})
	}
}

func TestRoomsThatAreNotOpen(t *testing.T) {
	t.Parallel()
	s := open(t)
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	s.set("later", `{"lobby_at":"`+soon+`","opens_at":"`+soon+`"}`)
	s.set("shut", `{"state":"closed"}`)
	fan := s.visitor()
	fan.want(409, "room-not-open", "POST", "/api/v1/rooms/later/places", "")
	fan.want(409, "room-closed", "POST", "/api/v1/rooms/shut/places", "")
	for _, call := range []string{"POST places", "GET place", "DELETE place", "POST place/return", "GET place/ws", "GET place/events", "GET place/receipt", "POST pass", "DELETE pass", "GET draw"} {
		method, path, _ := strings.Cut(call, " ")
		header := []string{}
		if path == "place/ws" {
			header = []string{"Origin", s.url.String()}
		}
		fan.want(404, "room-not-found", method, "/api/v1/rooms/nowhere/"+path, "", header...)
	}
	fan.want(404, "room-not-found", "GET", "/api/v1/rooms/nowhere", "")
	fan.want(404, "no-draw", "GET", "/api/v1/rooms/later/draw", "")
	if room := decode[queue.Room](t, fan.want(200, "", "GET", "/api/v1/rooms/later", "")); room.Phase != queue.Scheduled || room.Draw.Commitment == "" {
		t.Errorf("the room is %+v", room)
	}
	fan.want(404, "not-found", "GET", "/api/v1/nonsense", "")
	fan.want(404, "not-found", "GET", "/rooms/later/nonsense", "")
	fan.want(405, "method-not-allowed", "PUT", "/api/v1/rooms/later/place", "")
	fan.want(405, "method-not-allowed", "TRACE", "/", "")
}

func TestPlaceTokens(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	s.set("club", `{"pace_per_min":0}`)
	fan := s.visitor()
	token := fan.join("gala").Token
	elsewhere := s.visitor().join("club").Token
	last := len(token) - 1
	for name, forged := range map[string]string{
		"none":         "",
		"cut":          token[:last],
		"altered":      token[:last] + string(token[last]^1),
		"another room": elsewhere,
		"nonsense":     "u1.x.y.z",
		"huge":         strings.Repeat("a", 8<<10),
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range []string{"GET place", "DELETE place", "POST place/return", "GET place/receipt", "GET place/events", "POST pass"} {
				method, path, _ := strings.Cut(call, " ")
				s.visitor().want(404, "no-place", method, "/api/v1/rooms/gala/"+path, "", "Authorization", "Place "+forged)
			}
		})
	}
	s.visitor().want(201, "", "POST", "/api/v1/rooms/gala/places", "", "Authorization", "Place "+elsewhere)
	s.visitor().want(200, "", "GET", "/api/v1/rooms/gala/place", "", "Authorization", "place "+token)
}

func TestPollingSaysWhenToAskAgain(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0,"presence_ttl_s":20}`)
	fan := s.visitor()
	fan.join("gala")
	a := fan.want(200, "", "GET", "/api/v1/rooms/gala/place", "")
	if again, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || again < 1 || again >= 10 {
		t.Errorf("Retry-After %q: want from 1 to under half the presence time", a.header.Get("Retry-After"))
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", a.header.Get("Cache-Control"))
	}
}

func TestAskAgainStaysUnderHalfThePresence(t *testing.T) {
	t.Parallel()
	for _, presence := range []time.Duration{time.Second, 3 * time.Second, 20 * time.Second, time.Minute} {
		for _, after := range []time.Duration{0, time.Second, 5 * time.Second, time.Hour} {
			if got := time.Duration(askAgain(after, presence)) * time.Second; got < time.Second || got > max(time.Second, presence/2) {
				t.Errorf("asked for %v with a presence of %v: %v", after, presence, got)
			}
		}
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"pace_per_min":600,"capacity":1,"session_ttl_s":900}`)
	fan, next := s.visitor(), s.visitor()
	given := fan.admitted("gala")
	if left := time.Until(given.ExpiresAt); left < 14*time.Minute || left > 15*time.Minute {
		t.Errorf("the pass is good for %v", left)
	}
	again := decode[admitted](t, fan.want(200, "", "POST", "/api/v1/rooms/gala/pass", ""))
	a, errA := s.server.passes.Verify(given.Pass, "gala", time.Now())
	b, errB := s.server.passes.Verify(again.Pass, "gala", time.Now())
	if errA != nil || errB != nil || a.Session != b.Session || !again.ExpiresAt.Equal(given.ExpiresAt) || !a.ExpiresAt.Equal(given.ExpiresAt) {
		t.Errorf("claimed %+v until %v (%v), again %+v until %v (%v)", a, given.ExpiresAt, errA, b, again.ExpiresAt, errB)
	}

	next.join("gala")
	next.want(409, "not-called", "POST", "/api/v1/rooms/gala/pass", "")
	next.want(403, "pass-required", "DELETE", "/api/v1/rooms/gala/pass", "")
	until(t, line, "one session is counted", func() bool { return line.View().Live().Sessions == 1 })
	fan.want(204, "", "DELETE", "/api/v1/rooms/gala/pass", "")
	until(t, line, "its room is free for the next", func() bool {
		return decode[queue.Place](t, next.do("GET", "/api/v1/rooms/gala/place", "")).State == queue.Called
	})
}

func TestLeaveAndReset(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"pace_per_min":0}`)
	fan, app := s.visitor(), s.visitor()
	first := fan.join("gala")
	fan.want(204, "", "DELETE", "/api/v1/rooms/gala/place", "")
	fan.want(404, "no-place", "GET", "/api/v1/rooms/gala/place", "")
	until(t, line, "everyone knows that the place was left", func() bool {
		a := app.do("GET", "/api/v1/rooms/gala/place", "", "Authorization", "Place "+first.Token)
		return decode[queue.Place](t, a).State == queue.Left
	})
	if back := decode[joined](t, app.want(201, "", "POST", "/api/v1/rooms/gala/places", "", "Authorization", "Place "+first.Token)); back.Number == first.Number {
		t.Error("a place that was left was given again")
	}

	kept := s.visitor()
	kept.join("gala")
	app.want(200, "", "POST", "/api/v1/operate/rooms/gala/reset", "", "Authorization", "Bearer "+testKey)
	until(t, line, "the place of the earlier epoch is gone", func() bool {
		return kept.do("GET", "/api/v1/rooms/gala/place", "").status == 410
	})
	kept.want(410, "place-lapsed", "GET", "/api/v1/rooms/gala/place", "")
	kept.want(410, "place-lapsed", "POST", "/api/v1/rooms/gala/pass", "")
	kept.want(201, "", "POST", "/api/v1/rooms/gala/places", "")
}

func TestReceiptAndKeys(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	r := decode[receipt](t, fan.want(200, "", "GET", "/api/v1/rooms/gala/place/receipt", ""))
	if strings.Count(r.Receipt, ".") != 2 {
		t.Errorf("receipt %q is no JWT", r.Receipt)
	}
	var keys struct {
		Keys []struct{ Kty, Crv, Kid, X string }
	}
	a := fan.want(200, "", "GET", "/.well-known/jwks.json", "")
	if err := json.Unmarshal([]byte(a.body), &keys); err != nil || len(keys.Keys) == 0 || keys.Keys[0].Crv != "Ed25519" {
		t.Errorf("%v: %s", err, a.body)
	}
}

func TestChangesFromOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.AllowedOrigins = []string{"https://shop.example"} })
	s.set("gala", `{"pace_per_min":0}`)
	const places = "/api/v1/rooms/gala/places"
	s.visitor().want(403, "origin-refused", "POST", places, "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
	s.visitor().want(403, "origin-refused", "POST", places, "", "Origin", "https://evil.example")
	s.visitor().want(403, "origin-refused", "POST", "/rooms/gala/join", "", "Origin", "null")
	s.visitor().want(201, "", "POST", places, "", "Origin", "https://shop.example")
	s.visitor().want(201, "", "POST", places, "", "Origin", s.url.String(), "Sec-Fetch-Site", "same-origin")
}

func TestTwoGateways(t *testing.T) {
	t.Parallel()
	a := open(t)
	a.set("gala", `{"pace_per_min":60000,"capacity":10}`)
	b := a.another()
	b.line("gala")
	here, there := a.visitor(), b.visitor()
	there.client.Jar = here.client.Jar
	there.from = here.from
	place := here.join("gala")
	if same := decode[joined](t, there.want(200, "", "POST", "/api/v1/rooms/gala/places", "", "Authorization", "Place "+place.Token)); same.Number != place.Number {
		t.Errorf("the other gateway gave number %d, want %d", same.Number, place.Number)
	}
	there.called("gala")
	given := decode[admitted](t, there.want(200, "", "POST", "/api/v1/rooms/gala/pass", "", "Authorization", "Place "+place.Token))
	again := decode[admitted](t, here.want(200, "", "POST", "/api/v1/rooms/gala/pass", ""))
	if !given.ExpiresAt.Equal(again.ExpiresAt) {
		t.Errorf("two gateways gave passes until %v and %v", given.ExpiresAt, again.ExpiresAt)
	}
	for _, s := range []*site{a, b} {
		if _, err := s.server.passes.Verify(given.Pass, "gala", time.Now()); err != nil {
			t.Error(err)
		}
	}
	seen := map[uint64]bool{}
	for i := range 20 {
		n := []*site{a, b}[i%2].visitor().join("gala").Number
		if seen[n] {
			t.Errorf("number %d was given twice", n)
		}
		seen[n] = true
	}
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"title":"Gala","pace_per_min":6000}`)
	shopper, fan := s.visitor(), s.visitor()
	shopper.admitted("gala")
	s.set("gala", `{"pace_per_min":0}`)
	fan.join("gala")
	if err := s.server.Ready(context.Background()); err != nil {
		t.Error(err)
	}
	_ = s.rdb.ShutdownNoSave(context.Background()).Err() // the answer is a cut connection
	until(t, line, "the gateway notices", func() bool { return s.server.Ready(context.Background()) != nil })

	shopper.want(200, "", "GET", availability, "")
	fan.want(503, "room-unavailable", "POST", "/api/v1/rooms/gala/pass", "")
	if a := s.visitor().want(503, "room-unavailable", "POST", "/api/v1/rooms/gala/places", ""); a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	page := fan.do("GET", "/rooms/gala", "")
	if !decode[WaitingPage](t, page).Joined || !strings.Contains(page.body, "Gala") {
		t.Errorf("the waiting page says %d %s", page.status, page.body)
	}
	if a := fan.do("GET", "/api/v1/rooms/gala/place", ""); a.status != http.StatusOK && a.code() != "room-unavailable" {
		t.Errorf("asked for a place: %d %s", a.status, a.body)
	}
}

func TestExtendACall(t *testing.T) {
	t.Parallel()
	s := open(t)
	line := s.set("gala", `{"capacity":1}`)
	first, second := s.visitor(), s.visitor()
	const extend = "/api/v1/rooms/gala/place/extend"
	first.want(404, "no-place", "POST", extend, "")
	first.join("gala")
	second.join("gala")
	until(t, line, "the first is called", func() bool { return line.View().Live().Called == 1 })
	second.want(409, "not-called", "POST", extend, "")
	before := decode[queue.Place](t, first.want(200, "", "GET", "/api/v1/rooms/gala/place", ""))
	after := decode[queue.Place](t, first.want(200, "", "POST", extend, ""))
	if !before.CallExtendable || after.CallExtendable || after.State != queue.Called || after.CallExpiresAt.Sub(*before.CallExpiresAt) < 119*time.Second {
		t.Errorf("extended from %+v to %+v", before, after)
	}
	first.want(409, "already-extended", "POST", extend, "")
	first.want(200, "", "POST", "/api/v1/rooms/gala/pass", "")
	first.want(409, "not-called", "POST", extend, "")
}

func TestPlacesOfPhones(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"phone_presence_ttl_s":300}`)
	for agent, c := range map[string]struct {
		hint  string
		phone bool
	}{
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Mobile/15E148 Safari/604.1": {"", true},
		"Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36":                                   {"", true},
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36":                                   {"?0", false},
		"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0":                                                                  {"", false},
		"reduced": {"?1", true},
	} {
		header := []string{"User-Agent", agent}
		if c.hint != "" {
			header = append(header, "Sec-CH-UA-Mobile", c.hint)
		}
		a := decode[joined](t, s.visitor().want(201, "", "POST", "/api/v1/rooms/gala/places", "", header...))
		if token, err := queue.OpenToken(s.ring, a.Token); err != nil || token.Phone != c.phone {
			t.Errorf("%s: phone %v, %v", agent, token.Phone, err)
		}
	}
}

// The public document is written once a tick and follows the settings.
func TestTheRoomsDocumentFollows(t *testing.T) {
	t.Parallel()
	s := open(t)
	fan := s.visitor()
	line := s.set("gala", `{"title":"Gala","state":"open"}`)
	for _, said := range []string{"Soon", "Soon <b>", strings.Repeat("<", 500)} { // which is longer in JSON
		asked, err := json.Marshal(map[string]string{"message": said})
		if err != nil {
			t.Fatal(err)
		}
		s.set("gala", string(asked))
		until(t, line, "the message is in force", func() bool { m := line.View().Room().Message; return m != nil && *m == said })
		a := fan.want(200, "", "GET", "/api/v1/rooms/gala", "")
		if room := decode[queue.Room](t, a); room.Message == nil || *room.Message != said || a.header.Get("Cache-Control") != "public, max-age=1" {
			t.Errorf("%s with %s", a.body, a.header)
		}
	}
}
