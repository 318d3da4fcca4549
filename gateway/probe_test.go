package gateway

import (
	"net/http"
	"testing"
	"time"

	"usher/gateway/origin"
)

// What a server says before its answer to a probe concerns nobody.
func TestProbesMayBeAnsweredWithHints(t *testing.T) {
	t.Parallel()
	probes := make(chan struct{})
	inFront(t, scripted(t, func(r *http.Request) string {
		if r.URL.Path == "/health" {
			select {
			case probes <- struct{}{}:
			case <-t.Context().Done():
			}
		}
		return "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + page("ok")
	}), func(c *origin.Config) {
		c.Health = origin.Health{Path: "/health", Interval: 100 * time.Millisecond}
	})
	for range 2 { // the second tells that the first was survived
		select {
		case <-probes:
		case <-time.After(patience):
			t.Fatal("nobody asks for the server's health any more")
		}
	}
}

// A client of HTTP/1.0, which an nginx in front is by default, knows no answer before the answer.
func TestOldClientsGetNoHints(t *testing.T) {
	t.Parallel()
	s := inFront(t, scripted(t, func(*http.Request) string {
		return "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + page("ok")
	}))
	for _, method := range ways {
		w := s.wireFrom("127.0.0.1")
		w.send(method + " / HTTP/1.0\r\nHost: site.example\r\n\r\n")
		if res, body := w.answer(); res == nil || res.StatusCode != http.StatusOK || string(body) != "ok" {
			t.Errorf("%s: %v %s", method, res, body)
		}
	}
}

// What is no status that a client may be told is no answer.
func TestStatusesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"000", "099"} {
		s := inFront(t, scripted(t, func(*http.Request) string { return "HTTP/1.1 " + status + " Odd\r\nContent-Length: 2\r\n\r\nok" }))
		for _, method := range ways {
			w := s.wireFrom("127.0.0.1")
			w.ask(method, "/")
			if res, body := w.answer(); res == nil || res.StatusCode != http.StatusBadGateway || res.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s: status %s: %v %s", method, status, res, body)
			}
		}
	}
}
