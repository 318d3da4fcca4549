package gateway

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"usher/internal/problem"
)

// Forward authorisation: another proxy asks for each request of its own whether the
// visitor may go on (docs/protect-any-site.md). Each proxy says in its own way what was
// asked for, and takes the answer in its own way:
//
//   - nginx (auth_request): X-Original-URL, or X-Original-URI with X-Forwarded-Host or
//     Host; X-Original-Method. It knows 2xx, 401 and 403 alone and drops bodies: 401 is a
//     page, whose way to the waiting room stands in X-Usher-Location, 403 anything else.
//     For the visitor's answer it asks again with answer=visitor, which never allows.
//   - Traefik (ForwardAuth) and Caddy (forward_auth): X-Forwarded-Method, -Host and -Uri.
//     What is not 2xx goes to the visitor as it is.
//   - Envoy (ext_authz over HTTP): the request itself, behind the prefix /authz/envoy. Its
//     query is the visitor's, so the room is that which protects the path, or that of
//     X-Usher-Room, which Envoy writes.
//
// An allowed request is answered with X-Usher-Room and X-Usher-Session, and with Cookie:
// the visitor's cookies without those that are no business of a site.
const (
	authzPath      = "/authz"
	envoyPath      = authzPath + "/envoy"
	locationHeader = "X-Usher-Location"
)

// authzProxy names the proxy that the path speaks to; "" for a path that is not ours.
func authzProxy(path string) string {
	switch name, _ := strings.CutPrefix(path, authzPath+"/"); {
	case name == "nginx" || name == "traefik" || name == "caddy":
		return name
	case under(path, envoyPath):
		return "envoy"
	}
	return ""
}

// authz answers a proxy.
func (s *Server) authz(w http.ResponseWriter, r *http.Request, v *visit, proxy string) {
	harden(w.Header(), false)
	w.Header().Set("Cache-Control", "no-store")
	if !s.trusted.trusts(peer(r)) {
		problem.Write(w, r, problem.New(http.StatusForbidden, "proxy-not-trusted", "Only the site's own proxies may ask here."))
		return
	}
	visitor := proxy == "nginx" && r.URL.Query().Get("answer") == "visitor"
	out := &authzAnswer{ResponseWriter: w, nginx: proxy == "nginx" && !visitor}
	asked, err := original(r, proxy)
	if err != nil {
		problem.Write(out, r, err)
		return
	}
	o, err := newVisit(asked, s.trusted)
	if err != nil {
		problem.Write(out, r, err)
		return
	}
	out.site = siteOf(asked.Host, o.secure)
	own := new(problem.Identified).With(asked.Context(), problem.RequestIDFrom(asked.Context()))
	asked = asked.WithContext(own) // r has a visit already
	o.keep(asked)
	defer o.end()
	defer o.settle(out)
	room, refused := s.authzRoom(r, v, o, proxy)
	if refused != nil {
		problem.Write(out, r, refused)
		return
	}
	o.room = room
	switch {
	case !s.guard(out, asked, o, room, room):
		return
	case visitor && unsafeMethod(asked.Method): // the way has become free in between
		problem.Write(out, r, problem.New(http.StatusServiceUnavailable, "unavailable", "Please send this again.").In(time.Second))
		return
	case visitor:
		redirect(out, asked.RequestURI)
		return
	}
	keepCookies(asked.Header, func(name string) bool { return !isPlaceCookie(name) && !isCheckCookie(name) && !isOperatorCookie(name) })
	h := out.Header()
	h.Set("X-Usher-Room", o.claims.Room)
	h.Set("X-Usher-Session", o.claims.Session)
	h.Set("Cookie", asked.Header.Get("Cookie")) // also when none is left: it is to replace the visitor's
	out.WriteHeader(http.StatusOK)
}

// authzRoom is the room in front of what was asked for.
func (s *Server) authzRoom(r *http.Request, v, asked *visit, proxy string) (string, *problem.Problem) {
	room, _, _ := s.cfg.Hall.Protects(asked.host, asked.path)
	if named := r.URL.Query()["room"]; proxy != "envoy" || v.path == envoyPath {
		if len(named) == 1 {
			room = named[0]
		}
	} else if written := r.Header.Values("X-Usher-Room"); room == "" && len(written) == 1 {
		room = written[0]
	}
	if _, ok := s.cfg.Hall.Line(room); ok {
		return room, nil
	}
	if !s.cfg.Hall.Known() {
		return "", problem.New(http.StatusServiceUnavailable, "unavailable", "The site cannot be shown right now. Please try again.").In(2 * time.Second)
	}
	return "", problem.New(http.StatusForbidden, "room-not-found", "No waiting room is in front of this address: name one by ?room=, or protect it by a room's settings.")
}

// original is the request that the proxy asks about. Its headers are the visitor's, as far
// as the proxy passes them on.
func original(r *http.Request, proxy string) (*http.Request, *problem.Problem) {
	fault := func(name string) (*http.Request, *problem.Problem) {
		return nil, problem.New(http.StatusForbidden, "authz-invalid", "The proxy does not say clearly what is asked for: see "+name+".")
	}
	said := map[string]string{}
	for _, name := range []string{"X-Original-Url", "X-Original-Uri", "X-Original-Method", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-Method"} {
		values := r.Header[name]
		if said[name] = strings.Join(values, ","); len(values) > 1 && strings.HasPrefix(name, "X-Original") == (proxy == "nginx") {
			return fault(name)
		}
	}
	host, uri, method := r.Host, "/", http.MethodGet
	given := func(into *string, name string) {
		if said[name] != "" {
			*into = said[name]
		}
	}
	switch {
	case proxy == "envoy":
		uri, method = r.URL.RequestURI(), r.Method
		uri = strings.TrimPrefix(uri, envoyPath)
		if !strings.HasPrefix(uri, "/") { // a check by hand, not Envoy's
			uri = "/"
		}
	case proxy == "nginx" && said["X-Original-Url"] != "":
		u, err := url.Parse(said["X-Original-Url"])
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return fault("X-Original-URL")
		}
		host, uri = u.Host, u.RequestURI()
		given(&method, "X-Original-Method")
	case proxy == "nginx":
		given(&host, "X-Forwarded-Host")
		given(&uri, "X-Original-Uri")
		given(&method, "X-Original-Method")
	default:
		given(&host, "X-Forwarded-Host")
		given(&uri, "X-Forwarded-Uri")
		given(&method, "X-Forwarded-Method")
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil || !strings.HasPrefix(uri, "/") || u.Host != "" || !isToken(method) {
		return fault("the original URI and method")
	}
	asked := r.Clone(r.Context())
	asked.Method, asked.Host, asked.URL, asked.RequestURI, asked.Body, asked.ContentLength = method, host, u, uri, http.NoBody, 0
	return asked, nil
}

// siteOf is where the visitor's browser is, as a proxy that is trusted says.
func siteOf(host string, secure bool) string {
	if secure {
		return "https://" + host
	}
	return "http://" + host
}

// authzAnswer puts an answer that is meant for the visitor into the words of the proxy
// that carries it. Locations are whole: a proxy would read a path as its own upstream's.
type authzAnswer struct {
	http.ResponseWriter
	site   string
	nginx  bool // knows three statuses and one Set-Cookie
	status int
}

func (a *authzAnswer) WriteHeader(status int) {
	h := a.Header()
	if path := h.Get("Location"); strings.HasPrefix(path, "/") {
		h.Set("Location", a.site+path)
	}
	a.status = status
	switch {
	case a.nginx && status == http.StatusSeeOther:
		h.Set(locationHeader, h.Get("Location"))
		h.Del("Location")
		status = http.StatusUnauthorized
	case a.nginx && status >= http.StatusBadRequest:
		status = http.StatusForbidden
	}
	if cookies := h["Set-Cookie"]; a.nginx && len(cookies) > 1 {
		h["Set-Cookie"] = cookies[len(cookies)-1:] // the pass; nginx would join the two to none
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *authzAnswer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(b)
}

// Status is how the visitor was answered.
func (a *authzAnswer) Status() int { return a.status }
