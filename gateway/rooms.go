package gateway

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"usher/internal/pass"
	"usher/internal/problem"
	"usher/queue"
)

const jwksPath = "/.well-known/jwks.json"

// joined is the answer to a join: the place, and its token for apps.
type joined struct {
	queue.Place
	Token string `json:"token" doc:"to be sent back as Authorization: Place <token>"`
}

// admitted is the answer to a claim.
type admitted struct {
	Pass      string    `json:"pass" doc:"a JWT for the cookie, Usher-Pass or Authorization: Bearer"`
	ExpiresAt time.Time `json:"expires_at"`
}

type receipt struct {
	Receipt string `json:"receipt" doc:"EdDSA-signed JWT of number, epoch, commitment and joined_at"`
}

// roomCall is a call on one room that exists.
type roomCall func(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line)

// placeCall is a call of somebody who has a place in the room.
type placeCall func(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token)

func (s *Server) room(call roomCall) gin.HandlerFunc {
	return func(c *gin.Context) {
		line, ok := s.cfg.Hall.Line(c.Param("room"))
		if !ok {
			problem.Write(c.Writer, c.Request, roomNotFound())
			return
		}
		call(c.Writer, c.Request, visitOf(c.Request), line)
	}
}

func (s *Server) withPlace(call placeCall) gin.HandlerFunc {
	return s.room(func(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
		if v.place == nil {
			problem.Write(w, r, noPlace())
			return
		}
		call(w, r, v, line, *v.place)
	})
}

func roomNotFound() *problem.Problem {
	return problem.New(http.StatusNotFound, "room-not-found", "There is no such waiting room.")
}

func noPlace() *problem.Problem {
	return problem.New(http.StatusNotFound, "no-place", "You have no place in this waiting room.")
}

func placeLapsed() *problem.Problem {
	return problem.New(http.StatusGone, "place-lapsed", "This place is gone. You can join again at the end of the line.")
}

func placeMoved() *problem.Problem {
	return problem.New(http.StatusGone, "place-moved", "This place was moved to another device.")
}

// gone refuses a place that can be shown no more; nil for one that can.
func gone(p queue.Place) *problem.Problem {
	switch p.State {
	case queue.Lapsed:
		return placeLapsed()
	case queue.Moved:
		return placeMoved()
	}
	return nil
}

// roomProblem tells a visitor what the queue said; an *problem.Problem of code
// "internal" stands for what nobody foresaw.
func roomProblem(err error) *problem.Problem {
	var away *queue.Unavailable
	switch {
	case errors.Is(err, queue.ErrNotOpen):
		return problem.New(http.StatusConflict, "room-not-open", "The waiting room is not open yet.")
	case errors.Is(err, queue.ErrClosed):
		return problem.New(http.StatusConflict, "room-closed", "The waiting room is closed.")
	case errors.Is(err, queue.ErrNotCalled):
		return problem.New(http.StatusConflict, "not-called", "It is not your turn yet.")
	case errors.Is(err, queue.ErrExtended):
		return problem.New(http.StatusConflict, "already-extended", "This call was extended already.")
	case errors.Is(err, queue.ErrMoved):
		return placeMoved()
	case errors.Is(err, queue.ErrInviteRequired):
		return problem.New(http.StatusForbidden, "invite-required", "This waiting room is for invited guests. Please use the link of your invitation.")
	case errors.Is(err, queue.ErrInvite):
		return problem.New(http.StatusForbidden, "invite-invalid", "This invitation is not for this room, or not for this time.")
	case errors.Is(err, queue.ErrCode):
		return problem.New(http.StatusForbidden, "resume-invalid", "This code is not good here, or not any more. Ask for another one on the device that has the place.")
	case errors.Is(err, queue.ErrInShop):
		return problem.New(http.StatusConflict, "already-admitted", "The device that has this place is in already.")
	case errors.Is(err, queue.ErrLapsed):
		return placeLapsed()
	case errors.As(err, &away):
		wait := max(away.RetryAfter, time.Second)
		return problem.New(http.StatusServiceUnavailable, "room-unavailable", "The line is paused for a moment. Every place is safe.").
			In(wait + time.Duration(rand.Int64N(int64(wait))))
	}
	return problem.New(http.StatusInternalServerError, "internal", "Something went wrong on our side. Please try again.")
}

// refusal is roomProblem with the cause in the log where it is ours.
func (s *Server) refusal(r *http.Request, act string, err error) *problem.Problem {
	p := roomProblem(err)
	switch {
	case r.Context().Err() != nil: // the client is gone, and so is the interest in why
	case p.Status == http.StatusInternalServerError:
		s.log.ErrorContext(r.Context(), act, "error", err)
	case p.Status == http.StatusServiceUnavailable:
		s.log.DebugContext(r.Context(), act, "error", err)
	}
	return p
}

// join gives the visitor a new place, charged to the prefix. The cookie is the
// caller's to set.
func (s *Server) join(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) (queue.Token, *problem.Problem) {
	if p := s.chargeJoin(w, r, v, line); p != nil {
		return queue.Token{}, p
	}
	t, err := line.Join(r.Context())
	if err != nil {
		return queue.Token{}, s.refusal(r, "join", err)
	}
	t.Phone = fromPhone(r)
	return t, nil
}

// joinOrKeep returns the visitor's place, the one there is or a new one where that is
// at its end, and sets its cookie under the newest key.
func (s *Server) joinOrKeep(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, asked joinBody) (status int, answer joined, refused *problem.Problem) {
	status = http.StatusCreated
	var t queue.Token
	if v.place != nil {
		p, _, err := line.Place(r.Context(), *v.place)
		switch {
		case err != nil && !errors.Is(err, queue.ErrLapsed):
			return 0, answer, s.refusal(r, "ask for a place", err)
		case err == nil && p.State == queue.Moved: // joining anew takes a second click
			setCookie(w, placeCookieName(v.place.Room, v.secure), "", 0, v.secure)
			return 0, answer, placeMoved()
		case err == nil && !p.Over():
			status, t, answer.Place = http.StatusOK, *v.place, p
		}
	}
	if status == http.StatusCreated {
		if status, t, refused = s.enrol(w, r, v, line, asked); refused != nil {
			return 0, answer, refused
		}
		var err error
		if answer.Place, _, err = line.Place(r.Context(), t); err != nil {
			return 0, answer, s.refusal(r, "ask for a new place", err)
		}
	}
	answer.Token = queue.SealToken(s.cfg.Ring, t)
	setPlaceCookie(w, t.Room, answer.Token, v.secure)
	return status, answer, nil
}

func (s *Server) postPlaces(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	body, refused := readJoin(r)
	if refused != nil {
		problem.Write(w, r, refused)
		return
	}
	var status int
	var answer joined
	if body.resume != "" {
		status = http.StatusOK
		answer, refused = s.resume(w, r, v, line, body.resume)
	} else {
		status, answer, refused = s.joinOrKeep(w, r, v, line, body)
	}
	if refused != nil {
		problem.Write(w, r, refused)
		return
	}
	writePlace(w, status, &answer.Place, answer.Token)
}

func (s *Server) getRoom(w http.ResponseWriter, _ *http.Request, _ *visit, line *queue.Line) {
	writeBody(w, http.StatusOK, forASecond, line.Document())
}

func (s *Server) getPlace(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token) {
	p, again, err := line.Place(r.Context(), t)
	if err != nil {
		problem.Write(w, r, s.refusal(r, "ask for a place", err))
		return
	}
	if refused := gone(p); refused != nil {
		problem.Write(w, r, refused)
		return
	}
	w.Header()["Retry-After"] = v.fieldOf(strconv.Itoa(askAgain(again, presence(line))))
	writePlace(w, http.StatusOK, &p, "")
}

// askAgain is a poll's pause in whole seconds, spread by a quarter, under half the
// presence time.
func askAgain(after, presence time.Duration) int {
	after = max(after, time.Second)
	after += time.Duration(rand.Int64N(int64(after/4) + 1))
	return max(1, int(min(after, presence/2-time.Second).Round(time.Second)/time.Second))
}

func (s *Server) deletePlace(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token) {
	if err := line.Leave(r.Context(), t); err != nil {
		problem.Write(w, r, s.refusal(r, "leave", err))
		return
	}
	setCookie(w, placeCookieName(t.Room, v.secure), "", 0, v.secure)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) postReturn(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token) {
	p, err := line.Return(r.Context(), t)
	if err != nil {
		problem.Write(w, r, s.refusal(r, "return", err))
		return
	}
	if refused := gone(p); refused != nil {
		problem.Write(w, r, refused)
		return
	}
	writePlace(w, http.StatusOK, &p, "")
}

func (s *Server) postExtend(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token) {
	p, err := line.Extend(r.Context(), t)
	if err != nil {
		problem.Write(w, r, s.refusal(r, "extend a call", err))
		return
	}
	writePlace(w, http.StatusOK, &p, "")
}

func (s *Server) getReceipt(w http.ResponseWriter, r *http.Request, _ *visit, line *queue.Line, t queue.Token) {
	signed, err := line.Receipt(t)
	if err != nil {
		problem.Write(w, r, s.refusal(r, "sign receipt", err))
		return
	}
	writeJSON(w, http.StatusOK, receipt{signed})
}

func (s *Server) getSocket(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	if !s.originAllowed(r, v.byToken) {
		problem.Write(w, r, foreignOrigin())
		return
	}
	if v.place == nil {
		problem.Write(w, r, noPlace())
		return
	}
	if p := s.hub.accept(w, r, line, *v.place); p != nil {
		problem.Write(w, r, p)
	}
}

// claim turns a call into a pass and its cookie.
func (s *Server) claim(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token) (admitted, *problem.Problem) {
	session, err := line.Claim(r.Context(), t)
	if err != nil {
		return admitted{}, s.refusal(r, "claim", err)
	}
	token, err := pass.Issue(s.cfg.Ring, t.Room, session.ID, session.Issued, session.Expires)
	if err != nil {
		return admitted{}, problem.Internal(r, s.log, "issue pass", err)
	}
	ends := session.Expires.Truncate(time.Second).UTC()
	setPassCookie(w, t.Room, token, ends.Sub(session.Issued), v.secure)
	return admitted{token, ends}, nil
}

func (s *Server) postPass(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token) {
	given, refused := s.claim(w, r, v, line, t)
	if refused != nil {
		problem.Write(w, r, refused)
		return
	}
	writeJSON(w, http.StatusOK, given)
}

func (s *Server) deletePass(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	room := line.View().Room().Room
	claims, err := s.passes.FromRequest(r, room, s.now())
	if err != nil && !errors.Is(err, pass.ErrEnded) { // said again: done again
		problem.Write(w, r, problem.New(http.StatusForbidden, "pass-required", "This needs a pass of the waiting room.").
			With("room", room).With("join_url", "/rooms/"+room))
		return
	}
	err = s.cfg.Hall.End(r.Context(), claims.Session, claims.ExpiresAt)
	if err == nil {
		err = line.Release(r.Context(), claims.Session)
	}
	if err != nil {
		problem.Write(w, r, s.refusal(r, "release session", err))
		return
	}
	setCookie(w, pass.CookieName(room, v.secure), "", 0, v.secure)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) getJWKS(c *gin.Context) {
	c.Header("Cache-Control", "public, max-age=60")
	c.Data(http.StatusOK, "application/jwk-set+json", s.cfg.Ring.JWKS())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own documents hold only what JSON can
	}
	writeBody(w, status, noStore, body)
}

// placeSpace is memory to write places in.
var placeSpace = sync.Pool{New: func() any {
	b := make([]byte, 0, 1024)
	return &b
}}

// writePlace answers with the document of a place, and its token unless that is empty.
func writePlace(w http.ResponseWriter, status int, p *queue.Place, token string) {
	space := placeSpace.Get().(*[]byte)
	document := appendPlace((*space)[:0], p)
	if token != "" {
		document = append(append(document[:len(document)-1], `,"token":"`...), token...) // of URL-safe characters
		document = append(document, `"}`...)
	}
	writeBody(w, status, noStore, document)
	*space = document
	placeSpace.Put(space)
}

// Fields that all JSON answers share.
var (
	jsonType   = []string{"application/json"}
	forASecond = []string{"public, max-age=1"}
	noStore    = []string{"no-store"}
)

// writeBody does not keep body; kept is the Cache-Control.
func writeBody(w http.ResponseWriter, status int, kept []string, body []byte) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = jsonType, kept
	if len(body) > shortBody {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// shortBody is a length that net/http finds out and says by itself.
const shortBody = 2000
