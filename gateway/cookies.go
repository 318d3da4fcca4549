package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"usher/internal/pass"
	"usher/queue"
)

const (
	passHeader  = "Usher-Pass"
	placeScheme = "Place" // of Authorization, for apps
	// placeProtocol precedes an app's token in Sec-WebSocket-Protocol.
	placeProtocol = "place."
	placeCookie   = "usher-place-"
	hostOnly      = "__Host-"

	// placeCookieLife outlasts any on-sale; the epoch ends a place, not the cookie.
	placeCookieLife = 30 * 24 * time.Hour
)

func placeCookieName(room string, secure bool) string {
	if secure {
		return hostOnly + placeCookie + room
	}
	return placeCookie + room
}

func isPlaceCookie(name string) bool {
	return strings.HasPrefix(bareName(name), placeCookie)
}

// bareName is a cookie's name in lower case, with or without __Host-.
func bareName(name string) string { return strings.TrimPrefix(strings.ToLower(name), "__host-") }

// plantable tells that a cookie is one of ours without __Host-: over TLS we never set it,
// but any sibling domain can, and so bring a visitor into its own place, session and orders.
func plantable(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, placeCookie) || strings.HasPrefix(name, "usher-pass-") || name == "usher-operator" || bareCheckCookie(name)
}

func isOperatorCookie(name string) bool {
	return bareName(name) == "usher-operator"
}

// setCookie is http.SetCookie for names and values of ours, in which there is nothing to
// quote: every join sets one.
func setCookie(w http.ResponseWriter, name, value string, life time.Duration, secure bool) {
	b := make([]byte, 0, 400)
	b = append(append(append(b, name...), '='), value...)
	b = append(b, "; Path=/; Max-Age="...)
	b = strconv.AppendInt(b, int64(max(0, life)/time.Second), 10)
	b = append(b, "; HttpOnly"...)
	if secure {
		b = append(b, "; Secure"...)
	}
	b = append(b, "; SameSite=Lax"...)
	h := w.Header()
	h["Set-Cookie"] = append(h["Set-Cookie"], string(b))
}

func setPlaceCookie(w http.ResponseWriter, room, token string, secure bool) {
	setCookie(w, placeCookieName(room, secure), token, placeCookieLife, secure)
}

func setPassCookie(w http.ResponseWriter, audience, token string, life time.Duration, secure bool) {
	setCookie(w, pass.CookieName(audience, secure), token, max(life, time.Second), secure)
}

// place finds the visitor's place in room: what an app sends in Authorization or
// as a WebSocket protocol, else the cookie. byToken tells that it was not the
// cookie, which browsers send by themselves. A token that is not ours, or of
// another room, is none.
func (s *Server) place(r *http.Request, room string) (t queue.Token, byToken, ok bool) {
	if scheme, token, _ := strings.Cut(fieldIn(r.Header, "Authorization"), " "); strings.EqualFold(scheme, placeScheme) {
		t, ok = s.openPlace(token, room)
		return t, true, ok
	}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for protocol := range strings.SplitSeq(line, ",") {
			if token, found := strings.CutPrefix(strings.TrimSpace(protocol), placeProtocol); found {
				t, ok = s.openPlace(token, room)
				return t, true, ok
			}
		}
	}
	for _, prefix := range [...]string{hostOnly + placeCookie, placeCookie} {
		tried := 0
		for value := range pass.CookiesNamed(r.Header, prefix, room) {
			if tried++; tried > pass.SameNamed {
				break
			}
			if t, ok = s.openPlace(value, room); ok {
				return t, false, true
			}
		}
	}
	return queue.Token{}, false, false
}

func (s *Server) openPlace(sealed, room string) (queue.Token, bool) {
	t, err := queue.OpenToken(s.cfg.Ring, sealed)
	return t, err == nil && t.Room == room
}
