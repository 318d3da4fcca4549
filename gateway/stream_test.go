package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"usher/queue"
)

// stream opens the visitor's Server-Sent Events and returns their lines.
func (v *visitor) stream(room string) <-chan string {
	v.site.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v.site.t.Cleanup(cancel)
	res, err := (&http.Client{Jar: v.client.Jar}).Do(v.request("GET", "/api/v1/rooms/"+room+"/place/events", "").WithContext(ctx))
	if err != nil {
		v.site.t.Fatal(err)
	}
	if kind := res.Header.Get("Content-Type"); res.StatusCode != 200 || kind != "text/event-stream" {
		v.site.t.Fatalf("%d of type %s", res.StatusCode, kind)
	}
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		defer res.Body.Close()
		scanner := bufio.NewScanner(res.Body)
		for scanner.Scan() {
			select {
			case lines <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

func TestOneClientCannotTakeAllStreams(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *Config) { c.MaxStreams = 8 })
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	for range 2 {
		<-fan.stream("gala") // it is open
	}
	fan.want(503, "too-many-connections", "GET", "/api/v1/rooms/gala/place/events", "")
	other := s.visitor()
	other.join("gala")
	<-other.stream("gala")
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	lines := fan.stream("gala")
	next := func(what string, good func(queue.Place) bool) {
		t.Helper()
		deadline := time.After(patience)
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					t.Fatalf("the stream ended before %s", what)
				}
				data, found := strings.CutPrefix(line, "data: ")
				if !found {
					continue
				}
				var p queue.Place
				if err := json.Unmarshal([]byte(data), &p); err != nil {
					t.Fatal(err)
				}
				if good(p) {
					return
				}
			case <-deadline:
				t.Fatalf("no %s", what)
			}
		}
	}
	next("first document", func(p queue.Place) bool { return p.State == queue.Waiting })
	s.set("gala", `{"message":"Soon."}`)
	next("message", func(p queue.Place) bool { return p.Message != nil })
	// One call a second: this one comes when the server's own timeouts are over.
	for range 4 {
		s.visitor().join("gala")
	}
	late := s.visitor()
	late.join("gala")
	late.site = s.behind(0, 3*time.Second) // far below what any process sets
	lines = late.stream("gala")
	s.set("gala", `{"pace_per_min":60}`)
	next("call", func(p queue.Place) bool { return p.State == queue.Called })
}
