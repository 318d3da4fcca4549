package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"usher/internal/problem"
	"usher/queue"
)

// joinBody is the optional body of a join: a solved challenge, an invitation, a code of
// another device's place.
type joinBody struct{ challenge, invite, resume string }

func readJoin(r *http.Request) (joinBody, *problem.Problem) {
	if r.Body == nil || r.Body == http.NoBody {
		return joinBody{}, nil // as most do, who take no memory for it
	}
	return parseJoin(r)
}

func parseJoin(r *http.Request) (read joinBody, refused *problem.Problem) {
	body, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return read, problem.BodyTooLarge()
	case errors.Is(err, errSlowBody):
		return read, slowBody()
	case err != nil:
		return read, problem.New(http.StatusBadRequest, "bad-request", "The request body could not be read.")
	case len(bytes.TrimSpace(body)) == 0:
		return read, nil
	case !json.Valid(body):
		return read, problem.New(http.StatusBadRequest, "bad-request", "The request body is not valid JSON.")
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return read, problem.Invalid(problem.Field{Location: "body", Message: "must be an object"})
	}
	var faults []problem.Field
	for name, value := range fields {
		into, known := map[string]*string{"challenge": &read.challenge, "invite": &read.invite, "resume": &read.resume}[name]
		switch {
		case !known:
			faults = append(faults, problem.Field{Location: "body", Message: "has an unknown field"})
		case json.Unmarshal(value, into) != nil:
			faults = append(faults, problem.Field{Location: "body." + name, Message: "must be a string"})
		}
	}
	if len(faults) > 0 {
		return read, problem.Invalid(faults...)
	}
	return read, nil
}

// enrol gives a place to one who has none: the next number, or the one place of whom the
// invitation is for.
func (s *Server) enrol(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, asked joinBody) (status int, t queue.Token, refused *problem.Problem) {
	identity, err := line.Identity(asked.invite)
	if err != nil {
		return 0, t, s.refusal(r, "read an invitation", err)
	}
	v.identity = identity
	if identity == "" {
		if p := s.check(w, r, v, line, asked.challenge); p != nil {
			return 0, t, p
		}
		t, refused = s.join(w, r, v, line)
		return http.StatusCreated, t, refused
	}
	if p := s.limits.join(r.Context(), w, v, s.now()); p != nil {
		return 0, t, p
	}
	t, fresh, err := line.JoinInvited(r.Context(), identity)
	if err != nil {
		return 0, t, s.refusal(r, "join by invitation", err)
	}
	t.Phone = fromPhone(r)
	if fresh {
		return http.StatusCreated, t, nil
	}
	return http.StatusOK, t, nil
}

// resume gives the visitor a place that another device had.
func (s *Server) resume(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, code string) (answer joined, refused *problem.Problem) {
	if p := s.limits.join(r.Context(), w, v, s.now()); p != nil {
		return answer, p
	}
	t, err := line.Resume(r.Context(), code)
	if err != nil {
		return answer, s.refusal(r, "resume", err)
	}
	t.Phone = fromPhone(r)
	if answer.Place, _, err = line.Place(r.Context(), t); err != nil {
		return answer, s.refusal(r, "ask for a resumed place", err)
	}
	answer.Token = queue.SealToken(s.cfg.Ring, t)
	setPlaceCookie(w, t.Room, answer.Token, v.secure)
	return answer, nil
}

// resumeCode is what another device shows to take the place over.
type resumeCode struct {
	Code      string    `json:"code"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (s *Server) postResumeCode(w http.ResponseWriter, r *http.Request, _ *visit, line *queue.Line, t queue.Token) {
	code, till, err := line.ResumeCode(r.Context(), t)
	if err != nil {
		problem.Write(w, r, s.refusal(r, "make a resume code", err))
		return
	}
	writeJSON(w, http.StatusOK, resumeCode{code, till})
}
