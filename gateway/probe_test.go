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
