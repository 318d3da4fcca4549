package gateway

import (
	"net/http"
	"strings"
	"testing"
)

// An origin that is asked for a WebSocket is told no more than one that is asked for a page:
// nothing that is between the client and the edge alone, and a query that has one reading.
func TestWebSocketsAreAskedForWithoutWhatIsBetweenHops(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	s := inFront(t, scripted(t, func(r *http.Request) string {
		seen <- r
		return "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
	}))
	w := s.wireFrom("127.0.0.1")
	w.ask("GET", "/live?a=1&seat=1;seat=2&b=%zz", "Connection: Upgrade, X-Request-Id, X-Forwarded-For", "Connection: X-Private", "X-Private: 1", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: http://site.example", "Keep-Alive: timeout=5",
		"TE: trailers", "Content-Length: 0", "Proxy-Authorization: Basic x", "Proxy-Connection: keep-alive", "Trailer: X", "X-Plain: 1", "X-Plain: 2")
	res, body := w.answer()
	if res == nil || res.StatusCode != http.StatusForbidden || string(body) != "no" {
		t.Fatalf("%v %s", res, body)
	}
	got := <-seen
	if got.URL.RawQuery != "a=1" || got.Host != "site.example" {
		t.Errorf("query %q of %s", got.URL.RawQuery, got.Host)
	}
	for name, want := range map[string]string{
		"X-Request-Id": res.Header.Get("X-Request-Id"), "X-Forwarded-Host": "site.example", "X-Forwarded-Proto": "http", "X-Forwarded-For": "127.0.0.1", "X-Plain": "1,2",
		"Origin": "http://site.example", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13",
	} {
		if strings.Join(got.Header[name], ",") != want {
			t.Errorf("%s is %q, want %q", name, got.Header[name], want)
		}
		delete(got.Header, name)
	}
	if key := got.Header.Get("Sec-Websocket-Key"); key == "" || key == "dGhlIHNhbXBsZSBub25jZQ==" {
		t.Errorf("the client's own key: %q", key)
	}
	if delete(got.Header, "Sec-Websocket-Key"); len(got.Header) > 0 {
		t.Errorf("the origin sees %v as well", got.Header)
	}
}
