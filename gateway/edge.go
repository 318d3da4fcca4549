package gateway

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"usher/gateway/policy"
	"usher/internal/pass"
	"usher/internal/problem"
	"usher/queue"
)

// Body limits, in bytes.
const (
	maxOwnBody    = 64 << 10 // rooms
	maxShopBody   = 1 << 20  // the box office
	maxPlanBody   = 20 << 20 // a seating plan, sent by an operator
	maxOriginBody = 32 << 20 // a protected site
)

// freePass is how long a pass for an event without a room is good.
const freePass = time.Hour

// edge is where every request begins: what is ambiguous is refused, what is
// protected needs a pass, and all of it is charged to somebody.
func (s *Server) edge(w http.ResponseWriter, r *http.Request) {
	v, p := newVisit(r, s.trusted)
	if p == nil && (r.Method == http.MethodConnect || r.Method == http.MethodTrace) {
		p = problem.New(http.StatusMethodNotAllowed, "method-not-allowed", "This method is not served.")
	}
	if p != nil {
		harden(w.Header(), false)
		problem.Write(w, r, p)
		return
	}
	if v.secure {
		keepCookies(r.Header, func(name string) bool { return !plantable(name) })
	}
	v.cleared = s.cleared(r, v)
	v.keep(r)
	defer v.end()
	defer v.settle(w)
	if proxy := authzProxy(v.path); proxy != "" {
		s.authz(w, r, v, proxy)
		return
	}
	if !own(v.path) {
		if room, origin, ok := s.cfg.Hall.Protects(v.host, v.path); ok {
			s.protected(w, r, v, room, origin)
			return
		}
		if o := s.routed(v); o != nil {
			v.class = policy.Site
			switch {
			case !s.charge(w, r, v):
			case !s.cfg.Hall.Known(): // it may be protected for all that this gateway knows
				problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "unavailable", "The site cannot be shown right now. Please try again.").In(2*time.Second))
			default:
				s.forward(w, r, o, maxOriginBody)
			}
			return
		}
	}
	s.shop(w, r, v)
}

// own tells which paths are Usher's on every host, protected ones included.
func own(path string) bool {
	return under(path, "/rooms") || under(path, "/api/v1/rooms") || path == jwksPath ||
		under(path, "/.well-known") && !under(path, "/.well-known/acme-challenge")
}

// under tells whether path is prefix or inside it.
func under(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// routed finds the origin of an unprotected path on a foreign host.
func (s *Server) routed(v *visit) *hop {
	var best *Route
	for i := range s.cfg.Routes {
		route := &s.cfg.Routes[i]
		prefix := strings.TrimSuffix(route.PathPrefix, "/")
		if route.Host == v.host && under(v.path, prefix) && (best == nil || len(prefix) > len(strings.TrimSuffix(best.PathPrefix, "/"))) {
			best = route
		}
	}
	if best == nil {
		return nil
	}
	v.public = best.Cache
	return s.origins[best.Origin]
}

// protected serves a path that a room's settings protect. An empty origin is the
// shop itself, whose console and operators' calls no room may lock.
func (s *Server) protected(w http.ResponseWriter, r *http.Request, v *visit, room, name string) {
	v.room = room
	if name == "" {
		if under(v.path, "/console") || under(v.path, "/assets") || under(v.path, "/api/v1/operate") || s.guard(w, r, v, room, room) {
			s.shop(w, r, v)
		}
		return
	}
	v.class = policy.Origin
	if !s.guard(w, r, v, room, room) {
		return
	}
	o, ok := s.origins[name]
	if !ok {
		s.log.ErrorContext(r.Context(), "room names an unknown origin", "room", room, "origin", name)
		problem.Write(w, r, problem.New(http.StatusBadGateway, "origin-unavailable", "The site behind this room is not set up."))
		return
	}
	s.forward(w, r, o, maxOriginBody)
}

// forward hands the request to an origin.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, o *hop, maxBody int64) {
	if websocket.IsWebSocketUpgrade(r) {
		if !s.originAllowed(r, r.Header.Get(passHeader) != "" || pass.Bearer(r) != "") {
			problem.Write(w, r, foreignOrigin())
			return
		}
		s.bridge(w, r, o)
		return
	}
	o.serve(w, r, maxBody)
}

// shop serves Usher's own site: rooms, the box office, pages.
func (s *Server) shop(w http.ResponseWriter, r *http.Request, v *visit) {
	harden(w.Header(), v.secure)
	if room := roomOf(v.path); room != "" {
		v.room = room
		if t, byToken, ok := s.place(r, room); ok {
			v.shows(t, byToken)
		} else if c, err := s.passes.FromRequest(r, room, s.now()); err == nil {
			v.holds(c, room)
		}
	}
	event, guarded := eventOf(r.Method, v.path)
	if event != "" {
		room, known := s.cfg.Hall.RoomOfEvent(event)
		v.room = room
		switch {
		case guarded && !known:
			if s.charge(w, r, v) {
				problem.Write(w, r, s.unknownEvent())
			}
			return
		case guarded:
			if !s.guard(w, r, v, pass.RoomOfEvent(event, room), room) {
				return
			}
		case known:
			audience := pass.RoomOfEvent(event, room)
			if c, err := s.passes.FromRequest(r, audience, s.now()); err == nil {
				v.holds(c, audience)
			}
		}
	}
	if !s.charge(w, r, v) {
		return
	}
	if unsafeMethod(r.Method) && !under(v.path, "/api/v1/payments") {
		if s.cross.Check(r) != nil {
			problem.Write(w, r, foreignOrigin())
			return
		}
	}
	if !s.boxOffice(v.path) {
		limit := int64(maxOwnBody)
		if v.path == policiesPath {
			limit = policy.MaxBody
		}
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close")
			problem.Write(w, r, problem.BodyTooLarge())
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, limit)
		}
		if r.Method == http.MethodHead && !strings.HasSuffix(v.path, "/events") && !websocket.IsWebSocketUpgrade(r) {
			r.Method = http.MethodGet // the server drops the body
		}
		s.engine.ServeHTTP(w, r)
		return
	}
	limit := int64(maxShopBody)
	if under(v.path, "/api/v1/operate/venues") {
		limit = maxPlanBody
	}
	s.forward(w, r, s.booking, limit)
}

// boxOffice tells which paths booking answers.
func (s *Server) boxOffice(path string) bool {
	return s.booking != nil && (under(path, "/api/v1/events") || under(path, "/api/v1/payments") || under(path, "/sandbox") ||
		path == "/api/v1/checkin" || under(path, "/api/v1/operate") && !under(path, "/api/v1/operate/rooms") && !under(path, "/api/v1/operate/policies"))
}

// roomOf is the room whose page or API path is.
func roomOf(path string) string {
	for _, prefix := range []string{"/api/v1/rooms/", "/rooms/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			room, _, _ := strings.Cut(rest, "/")
			return room
		}
	}
	return ""
}

// eventOf reads a box-office path: the event in it, and whether it needs a pass.
// Everything about a performance does except its plan, and so does making an order;
// what is asked about an order that exists is for booking to judge.
func eventOf(method, path string) (event string, guarded bool) {
	rest, ok := strings.CutPrefix(path, "/api/v1/events/")
	if !ok {
		return "", false
	}
	segments := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	if len(segments) == 1 {
		return segments[0], false
	}
	switch segments[1] {
	case "performances":
		plan := len(segments) == 4 && segments[3] == "plan" && !unsafeMethod(method)
		return segments[0], len(segments) > 3 && !plan
	case "orders":
		return segments[0], len(segments) == 2
	}
	return segments[0], false
}

// catalogue tells which calls of the box office read what anyone may.
func catalogue(method, path string) bool {
	if unsafeMethod(method) || !under(path, "/api/v1/events") {
		return false
	}
	segments := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/api/v1/events"), "/"), "/")
	return len(segments) <= 2 || len(segments) == 5 && segments[2] == "performances" && segments[4] == "plan"
}

func unsafeMethod(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

// charge spends one request of the visitor's quota, once; false when it is refused.
func (s *Server) charge(w http.ResponseWriter, r *http.Request, v *visit) bool {
	if v.charged {
		return true
	}
	v.charged = true
	refused := s.limits.arrive(w, r, v, s.now())
	if refused == nil || s.limits.mends(r, v) {
		return true
	}
	if refused.room != "" && !own(v.path) {
		if _, ok := s.cfg.Hall.Line(refused.room); ok {
			s.turnAway(w, r, v, refused.room, nil)
			return false
		}
	}
	problem.Write(w, r, refused.problem)
	return false
}

// guard lets a request with a pass for audience through. The room is the audience,
// or "" for an event without one. Where everyone is let in a pass is given at once;
// everyone else is refused or sent to the waiting page.
func (s *Server) guard(w http.ResponseWriter, r *http.Request, v *visit, audience, room string) bool {
	now := s.now()
	claims, err := s.passes.FromRequest(r, audience, now)
	if err == nil {
		v.holds(claims, audience)
	}
	if !s.charge(w, r, v) {
		return false
	}
	if err != nil {
		if given, p := s.give(w, r, v, audience, room); p != nil || !given {
			s.turnAway(w, r, v, room, p)
			return false
		}
	}
	if p := s.begin(r, v); p != nil {
		problem.Write(w, r, p)
		return false
	}
	return true
}

// give hands out a pass where no turn is needed: an event without a room, and a
// room in bypass.
func (s *Server) give(w http.ResponseWriter, r *http.Request, v *visit, audience, room string) (bool, *problem.Problem) {
	now := s.now()
	session := queue.Session{Issued: now, Expires: now.Add(freePass)}
	if room == "" {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails since Go 1.24
		session.ID = hex.EncodeToString(id[:])
	} else {
		line, ok := s.cfg.Hall.Line(room)
		if !ok || !line.View().Bypass() {
			return false, nil
		}
		t, _, known := s.place(r, room)
		invited := line.View().Room().InviteOnly
		if !known && invited {
			return false, nil // bypass spares the line, not the invitation: the waiting page asks for it
		}
		if !known {
			var p *problem.Problem
			if t, p = s.join(w, r, v, line); p != nil {
				return false, p
			}
		}
		var err error
		session, err = line.Claim(r.Context(), t)
		over := errors.Is(err, queue.ErrLapsed) || err == nil && s.cfg.Hall.Ended(session.ID)
		if over && invited {
			return false, nil
		}
		if over && known { // a place of before: a new one
			var p *problem.Problem
			if t, p = s.join(w, r, v, line); p != nil {
				return false, p
			}
			session, err = line.Claim(r.Context(), t)
		}
		if err != nil {
			return false, s.refusal(r, "claim in bypass", err)
		}
		setPlaceCookie(w, room, queue.SealToken(s.cfg.Ring, t), v.secure)
	}
	token, err := pass.Issue(s.cfg.Ring, audience, session.ID, session.Issued, session.Expires)
	if err != nil {
		return false, problem.Internal(r, s.log, "issue pass", err)
	}
	claims, err := s.passes.Verify(token, audience, now)
	if err != nil {
		return false, problem.Internal(r, s.log, "verify own pass", err)
	}
	setPassCookie(w, audience, token, claims.ExpiresAt.Sub(now), v.secure)
	v.given = true
	r.Header.Set(passHeader, token) // where booking and origins look first
	v.holds(claims, audience)
	return true, nil
}

// turnAway answers who has no pass: a page goes to the waiting room, a program
// learns where it is.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, v *visit, room string, cause *problem.Problem) {
	switch {
	case cause != nil:
		problem.Write(w, r, cause)
	case navigation(r, v):
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Location", "/rooms/"+url.PathEscape(room)+"?return_to="+url.QueryEscape(r.URL.RequestURI()))
		w.WriteHeader(http.StatusSeeOther)
	default:
		problem.Write(w, r, problem.New(http.StatusForbidden, "pass-required", "This needs a pass of the waiting room.").
			With("room", room).With("join_url", "/rooms/"+url.PathEscape(room)))
	}
}

// navigation tells whether a person is going to a page.
func navigation(r *http.Request, v *visit) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || under(v.path, "/api") || websocket.IsWebSocketUpgrade(r) {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// unknownEvent tells an event that is not there from a gateway that has not heard
// of it yet.
func (s *Server) unknownEvent() *problem.Problem {
	if s.cfg.Hall.Ready() != nil {
		return problem.New(http.StatusServiceUnavailable, "unavailable", "The box office cannot answer right now. Please try again.").In(2 * time.Second)
	}
	return problem.New(http.StatusNotFound, "event-not-found", "There is no such event.")
}

// originAllowed tells whether a page may open a WebSocket here: one of this host, or
// one that is listed. Without an Origin it is no browser, and must show a token that
// browsers do not send by themselves.
func (s *Server) originAllowed(r *http.Request, byToken bool) bool {
	sent := r.Header.Get("Origin")
	if sent == "" {
		return byToken
	}
	for _, listed := range s.cfg.AllowedOrigins {
		if strings.EqualFold(sent, listed) {
			return true
		}
	}
	u, err := url.Parse(sent)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

func foreignOrigin() *problem.Problem {
	return problem.New(http.StatusForbidden, "origin-refused", "This request comes from another site's page.")
}

// unharden takes back what harden set, for an answer that brings its own.
func unharden(h http.Header) {
	for i := range hardening {
		delete(h, hardening[i].name)
	}
	delete(h, "Strict-Transport-Security")
}

// harden sets what holds for every answer of Usher's own; pages set stricter and
// wider policies themselves.
func harden(h http.Header, secure bool) {
	for i := range hardening {
		h[hardening[i].name] = hardening[i].value
	}
	if secure {
		h["Strict-Transport-Security"] = strictTransport
	}
}

// What harden sets: canonical names, and values that all answers share.
var (
	hardening = [...]struct {
		name  string
		value []string
	}{
		{"X-Content-Type-Options", []string{"nosniff"}},
		{"X-Frame-Options", []string{"DENY"}},
		{"Referrer-Policy", []string{"same-origin"}},
		{"Content-Security-Policy", []string{"default-src 'none'; frame-ancestors 'none'"}},
		{"Cross-Origin-Resource-Policy", []string{"same-origin"}},
	}
	strictTransport = []string{"max-age=31536000"}
)
