package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"usher/internal/problem"
	"usher/queue"
)

// pageTime bounds how long a waiting page stays without asking again, in seconds.
const pageTime = 20

// getPage draws the waiting page. It joins nobody: a link that is prefetched or
// scanned takes no place.
func (s *Server) getPage(c *gin.Context) {
	w, r, v := c.Writer, c.Request, visitOf(c.Request)
	line, ok := s.cfg.Hall.Line(c.Param("room"))
	if !ok {
		s.draw(w, r, http.StatusNotFound, WaitingPage{Title: "Not found", Phase: string(queue.Closed), ReturnTo: "/", Problem: "There is no such waiting room."})
		return
	}
	page, status := s.page(r, v, line), http.StatusOK
	if page.Problem != "" {
		status = http.StatusServiceUnavailable
	}
	s.draw(w, r, status, page)
}

// pageJoin, pageReturn, pageExtend and pageEnter are the buttons of the page without JavaScript.
func (s *Server) pageJoin(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	if _, _, refused := s.joinOrKeep(w, r, v, line, joinBody{invite: r.PostFormValue("invite"), challenge: r.PostFormValue("challenge")}); refused != nil {
		s.drawRefusal(w, r, v, line, refused)
		return
	}
	s.backToPage(w, r, line)
}

func (s *Server) pageReturn(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	if v.place != nil {
		if _, err := line.Return(r.Context(), *v.place); err != nil {
			s.drawRefusal(w, r, v, line, s.refusal(r, "return", err))
			return
		}
	}
	s.backToPage(w, r, line)
}

func (s *Server) pageExtend(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	if v.place != nil {
		if _, err := line.Extend(r.Context(), *v.place); err != nil {
			s.drawRefusal(w, r, v, line, s.refusal(r, "extend a call", err))
			return
		}
	}
	s.backToPage(w, r, line)
}

func (s *Server) pageEnter(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line) {
	if v.place == nil {
		s.backToPage(w, r, line)
		return
	}
	if _, refused := s.claim(w, r, v, line, *v.place); refused != nil {
		s.drawRefusal(w, r, v, line, refused)
		return
	}
	redirect(w, s.returnTo(r, line.View().Room().Room))
}

func (s *Server) backToPage(w http.ResponseWriter, r *http.Request, line *queue.Line) {
	room := line.View().Room().Room
	redirect(w, "/rooms/"+url.PathEscape(room)+"?return_to="+url.QueryEscape(s.returnTo(r, room)))
}

// redirect writes a path that is already checked as it is.
func redirect(w http.ResponseWriter, path string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusSeeOther)
}

func (s *Server) drawRefusal(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, refused *problem.Problem) {
	page := s.page(r, v, line)
	if refused.Has("challenge") && page.Check == "" {
		page.Check = "asked"
	}
	if refused.Code != "challenge-required" || page.Check != "asked" { // else the page's own words say it
		page.Problem = refused.Detail
	}
	if refused.RetryAfter > 0 {
		w.Header().Set("Retry-After", problem.Seconds(refused.RetryAfter))
	}
	s.draw(w, r, refused.Status, page)
}

func (s *Server) draw(w http.ResponseWriter, r *http.Request, status int, page WaitingPage) {
	unharden(w.Header()) // the page brings its own policy
	if visitOf(r).secure {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	}
	s.cfg.Waiting(w, r, status, page)
}

// page says where the visitor stands.
func (s *Server) page(r *http.Request, v *visit, line *queue.Line) WaitingPage {
	room := line.View().Room()
	page := WaitingPage{
		Room: room.Room, Title: room.Title, Phase: string(room.Phase), Waiting: room.Waiting,
		OpensAt: room.OpensAt, ReturnTo: s.returnTo(r, room.Room),
	}
	if page.Title == "" {
		page.Title = room.Room
	}
	if room.Message != nil {
		page.Message = *room.Message
	}
	s.tellOfCheck(r, v, line, &page)
	if v.place == nil {
		if room.Phase == queue.Scheduled || room.Phase == queue.Paused || room.Phase == queue.SoldOut {
			page.Refresh = pageTime
		}
		return page
	}
	p, again, err := line.Place(r.Context(), *v.place)
	switch {
	case errors.Is(err, queue.ErrLapsed):
		page.Joined, page.State = true, string(queue.Lapsed)
		return page
	case err != nil:
		refused := s.refusal(r, "ask for a place", err)
		page.Joined, page.State, page.Problem, page.Refresh = true, string(queue.Waiting), refused.Detail, pageTime/4
		return page
	}
	if p.State == queue.Moved {
		page.Problem = placeMoved().Detail
		return page
	}
	page.Joined, page.State, page.Phase = true, string(p.State), string(p.Phase)
	page.Position, page.Ahead, page.Waiting, page.Progress = p.Position, p.Ahead, p.Waiting, p.Progress
	page.OpensAt, page.CallExpiresAt, page.Extendable = p.OpensAt, p.CallExpiresAt, p.CallExtendable
	if p.Message != nil {
		page.Message = *p.Message
	}
	if p.ETA != nil {
		page.EtaLow, page.EtaHigh = &p.ETA.Low, &p.ETA.High
	}
	if p.State == queue.Admitted && p.Over() {
		page.State = string(queue.Lapsed) // the time inside is over; a new place starts at the end
	}
	if !p.State.Final() {
		page.Refresh = askAgain(min(again, pageTime*time.Second), presence(line))
	}
	return page
}

// returnTo is where the visitor wants to go once admitted, checked, or else the
// event that the room is for, or else the shop.
func (s *Server) returnTo(r *http.Request, room string) string {
	wish := r.URL.Query().Get("return_to")
	if wish == "" && r.Method == http.MethodPost {
		wish = r.PostFormValue("return_to")
	}
	if localPath(wish) {
		return wish
	}
	if behind, known := s.cfg.Hall.RoomOfEvent(room); known && behind == room {
		return "/events/" + room
	}
	return "/"
}

// localPath tells whether every browser takes s as a path on the same host: one
// leading slash, no backslash, nothing that parsers drop or repair.
func localPath(s string) bool {
	if len(s) > maxPathLen || !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.Contains(s, `\`) {
		return false
	}
	for _, c := range []byte(s) {
		if c <= 0x20 || c == 0x7f {
			return false
		}
	}
	u, err := url.ParseRequestURI(s)
	if err != nil || u.Host != "" || u.Scheme != "" {
		return false
	}
	path, ok := canonicalPath(u)
	return ok && !under(path, "/rooms") // from the waiting page to the waiting page is nowhere
}
