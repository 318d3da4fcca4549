package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"usher/gateway/challenge"
	"usher/gateway/policy"
	"usher/internal/problem"
	"usher/queue"
)

// Who wants a new place may have to show something for it first: a solved challenge, or
// that it waited. A room's setting says when. Who shows it is charged alone: a campus
// behind one address is no bot for being many.

const (
	checkCookie   = "usher-check"   // by which a browser is known again while it computes
	turnCookie    = "usher-wait-"   // and a room: the turn of one who waits instead
	clearedCookie = "usher-cleared" // what a challenge outside of rooms was worth
	checkLife     = 24 * time.Hour
)

// isCheckCookie names the cookies that are between a browser and the edge alone.
func isCheckCookie(name string) bool {
	return bareCheckCookie(bareName(name))
}

func bareCheckCookie(name string) bool {
	return name == checkCookie || name == clearedCookie || strings.HasPrefix(name, turnCookie)
}

func cookieName(name string, secure bool) string {
	if secure {
		return hostOnly + name
	}
	return name
}

func cookieOf(r *http.Request, name string, secure bool) string {
	c, err := r.Cookie(cookieName(name, secure))
	if err != nil {
		return "" // none
	}
	return c.Value
}

func newChecker(cfg Config) *challenge.Checker {
	return challenge.New(challenge.Config{
		Redis: cfg.Redis, Secret: cfg.Ring.ChallengeSecret(), Log: cfg.Log, Wait: cfg.ChallengeWait, Outside: cfg.Outside, Now: cfg.Now,
	})
}

// asker is who asks for a place of room.
func (s *Server) asker(r *http.Request, v *visit, room string, steep bool) challenge.Asker {
	return challenge.Asker{Room: room, Steep: steep, Prefix: v.prefix, Visitor: cookieOf(r, checkCookie, v.secure), Host: v.host}
}

// offered makes sure that the browser is known again, and makes it a challenge.
func (s *Server) offered(w http.ResponseWriter, r *http.Request, v *visit, a challenge.Asker) challenge.Offer {
	if a.Visitor == "" || len(a.Visitor) > 64 {
		a.Visitor = challenge.NewVisitor()
		setCookie(w, cookieName(checkCookie, v.secure), a.Visitor, checkLife, v.secure)
	}
	return s.checks.Offer(r.Context(), a)
}

// challenged tells how new places of a room are challenged; off where there are none to be
// had, or everyone is let in.
func challenged(view *queue.View) queue.Challenge {
	if view.Bypass() {
		return queue.ChallengeOff
	}
	switch view.Phase() {
	case queue.Scheduled, queue.Closed, queue.SoldOut:
		return queue.ChallengeOff
	}
	return view.Settings().Challenge
}

// check spends the visitor's answer, which sets v.solved, and refuses where the room wants
// one and there is none, but of a network that the policies let through. In an answer that is not asked for only a good one counts.
func (s *Server) check(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, answer string) *problem.Problem {
	view := line.View()
	mode := challenged(view)
	if mode == queue.ChallengeOff || v.allowed {
		return nil
	}
	room := v.room
	a := s.asker(r, v, room, mode == queue.ChallengeAlways)
	waited := false
	if answer == "" {
		if turn := cookieOf(r, turnCookie+room, v.secure); turn != "" {
			if ready, ok := s.checks.ReadyAt(a, turn); ok && !s.now().Before(ready) {
				answer, waited = turn, true
			}
		}
	}
	detail := "Many people are coming at once. Please solve the challenge to join."
	if answer != "" {
		err := s.checks.Check(r.Context(), a, answer)
		var refused *challenge.Refused
		if err != nil && !errors.As(err, &refused) {
			return s.refusal(r, "check an answer", &queue.Unavailable{RetryAfter: time.Second, Cause: err})
		}
		if waited { // whatever became of it, it is worth nothing more
			setCookie(w, cookieName(turnCookie+room, v.secure), "", 0, v.secure)
		}
		if err == nil {
			v.solved = true
			return nil
		}
		detail = "This answer is not good, or not any more. Please solve another challenge."
	}
	if mode != queue.ChallengeAlways {
		return nil
	}
	return challengeRequired(detail, s.offered(w, r, v, a))
}

// chargeJoin charges a new place to the policies, to those of its prefix unless it has
// shown an answer. Who is refused may solve a challenge instead of waiting.
func (s *Server) chargeJoin(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) *problem.Problem {
	p := s.limits.join(r.Context(), w, v, s.now())
	if p == nil || v.solved || p.Status != http.StatusTooManyRequests {
		return p
	}
	if mode := challenged(line.View()); mode != queue.ChallengeOff {
		p = p.With("challenge", s.offered(w, r, v, s.asker(r, v, line.View().Room().Room, mode == queue.ChallengeAlways)))
	}
	return p
}

// turnTaken is the answer to who waits instead of computing.
type turnTaken struct {
	Answer  string    `json:"answer" doc:"the challenge of a join, from ready_at on"`
	ReadyAt time.Time `json:"ready_at"`
}

// takeTurn gives one who cannot solve a challenge a turn, also as a cookie.
func (s *Server) takeTurn(w http.ResponseWriter, r *http.Request, v *visit, room string) (turnTaken, *problem.Problem) {
	a := s.asker(r, v, room, false)
	if a.Visitor == "" {
		a.Visitor = challenge.NewVisitor()
		setCookie(w, cookieName(checkCookie, v.secure), a.Visitor, checkLife, v.secure)
	}
	answer, ready, err := s.checks.Turn(r.Context(), a, cookieOf(r, turnCookie+room, v.secure))
	switch {
	case errors.Is(err, challenge.ErrFull):
		return turnTaken{}, problem.New(http.StatusTooManyRequests, "quota-exceeded", "Too many from your network are waiting like this already. Please try again later.").In(time.Minute)
	case err != nil:
		return turnTaken{}, s.refusal(r, "take a turn", &queue.Unavailable{RetryAfter: time.Second, Cause: err})
	}
	setCookie(w, cookieName(turnCookie+room, v.secure), answer, ready.Sub(s.now())+time.Hour, v.secure)
	return turnTaken{answer, ready.UTC().Truncate(time.Second).Add(time.Second)}, nil
}

func (s *Server) postCheck(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	taken, refused := s.takeTurn(w, r, v, line.View().Room().Room)
	if refused != nil {
		problem.Write(w, r, refused)
		return
	}
	writeJSON(w, http.StatusOK, taken)
}

// pageCheck is the button of one who waits without JavaScript.
func (s *Server) pageCheck(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	if _, refused := s.takeTurn(w, r, v, line.View().Room().Room); refused != nil {
		s.drawRefusal(w, r, v, line, refused)
		return
	}
	s.backToPage(w, r, line)
}

// overPolicy is what a policy that challenges answers when it is exceeded: to a join the
// room's challenge, which is part of joining.
func (s *Server) overPolicy(w http.ResponseWriter, r *http.Request, v *visit, _ exceeded) *problem.Problem {
	if v.class != policy.Join {
		return s.elsewhere(w, r, v)
	}
	line, ok := s.cfg.Hall.Line(roomOf(v.path))
	if !ok {
		return nil
	}
	mode := challenged(line.View())
	if mode == queue.ChallengeOff || v.solved {
		return nil
	}
	return challengeRequired("Many people are coming at once. Please solve the challenge to join.",
		s.offered(w, r, v, s.asker(r, v, roomOf(v.path), mode == queue.ChallengeAlways)))
}

func challengeRequired(detail string, offer challenge.Offer) *problem.Problem {
	return problem.New(http.StatusForbidden, "challenge-required", detail).With("challenge", offer)
}

// elsewhere is a challenge that is no room's: solved, it clears a browser for half an
// hour, in which it is charged alone.
func (s *Server) elsewhere(w http.ResponseWriter, r *http.Request, v *visit) *problem.Problem {
	a := s.asker(r, v, challenge.Elsewhere, false)
	return challengeRequired("Many requests are coming from your network. Please solve the challenge to go on.", s.offered(w, r, v, a)).
		With("answer_url", clearancePath)
}

const clearancePath = "/api/v1/rooms/" + challenge.Elsewhere + "/clearance"

// cleared is the id of the visitor's clearance, "" without one.
func (s *Server) cleared(r *http.Request, v *visit) string {
	if cookies := r.Header["Cookie"]; len(cookies) == 0 || !strings.Contains(strings.Join(cookies, ";"), clearedCookie) {
		return "" // hardly anyone has one
	}
	sealed := cookieOf(r, clearedCookie, v.secure)
	if sealed == "" {
		return ""
	}
	return s.checks.Cleared(sealed)
}

// postClearance takes the answer to a challenge of elsewhere.
func (s *Server) postClearance(c *gin.Context) {
	w, r, v := c.Writer, c.Request, visitOf(c.Request)
	var body struct {
		Challenge string `json:"challenge"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		problem.Write(w, r, problem.Invalid(problem.Field{Location: "body", Message: "must be an object with the field challenge"}))
		return
	}
	err := s.checks.Check(r.Context(), s.asker(r, v, challenge.Elsewhere, false), body.Challenge)
	var refused *challenge.Refused
	switch {
	case errors.As(err, &refused):
		problem.Write(w, r, s.elsewhere(w, r, v))
	case err != nil && r.Context().Err() == nil:
		problem.Write(w, r, s.refusal(r, "check an answer", &queue.Unavailable{RetryAfter: time.Second, Cause: err}))
	case err == nil:
		sealed, life := s.checks.Clear()
		setCookie(w, cookieName(clearedCookie, v.secure), sealed, life, v.secure)
		w.WriteHeader(http.StatusNoContent)
	}
}

// tellOfCheck says on the waiting page what the visitor has to show first.
func (s *Server) tellOfCheck(r *http.Request, v *visit, line *queue.Line, page *WaitingPage) {
	view := line.View()
	mode := challenged(view)
	if mode == queue.ChallengeOff {
		return
	}
	if s.cfg.Outside != nil {
		page.Outside = s.cfg.Outside.Provider
	}
	if v.place != nil {
		return
	}
	room := view.Room().Room
	ready, ok := s.checks.ReadyAt(s.asker(r, v, room, false), cookieOf(r, turnCookie+room, v.secure))
	if !ok || !s.now().Before(ready) {
		return
	}
	ready = ready.UTC().Truncate(time.Second).Add(time.Second)
	page.Check, page.CheckAt, page.Refresh = "turn", &ready, pageTime
}
