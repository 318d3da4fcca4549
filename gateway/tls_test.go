package gateway

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
)

// Over TLS: HTTP/2 for pages, HTTP/1.1 for WebSockets, cookies that no other host can set.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(s.server.Handler())
	front.EnableHTTP2, front.Listener = true, s.server.Guard(l)
	front.StartTLS()
	t.Cleanup(front.Close)
	client := front.Client()
	client.Timeout = patience

	res, err := client.Post(front.URL+"/api/v1/rooms/gala/places", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	cookie := res.Header.Get("Set-Cookie")
	if res.ProtoMajor != 2 || res.StatusCode != http.StatusCreated || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s %d %v", res.Proto, res.StatusCode, res.Header)
	}
	for _, part := range []string{"__Host-usher-place-gala=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie %q is without %q", cookie, part)
		}
	}
	pair, _, _ := strings.Cut(cookie, ";")
	d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: client.Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"}, HandshakeTimeout: patience}
	conn, _, err := d.Dial("wss"+strings.TrimPrefix(front.URL, "https")+"/api/v1/rooms/gala/place/ws", http.Header{"Cookie": {pair}, "Origin": {front.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p, err := readPlace(t, conn); err != nil || p.Room != "gala" {
		t.Errorf("%+v, %v", p, err)
	}
	// Whoever asks for a WebSocket over HTTP/2 is told what to do instead, and nothing hangs.
	r, err := http.NewRequest(http.MethodGet, front.URL+"/api/v1/rooms/gala/place/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", pair)
	r.Header.Set("Origin", front.URL)
	refused, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Body.Close()
	if refused.StatusCode < 400 || refused.StatusCode >= 500 {
		t.Errorf("a WebSocket over HTTP/2: %d", refused.StatusCode)
	}
}
