package gateway

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"usher/internal/problem"
	"usher/queue"
)

// heartbeat is the longest silence of a stream; proxies cut quieter ones.
const heartbeat = 15 * time.Second

// getEvents sends the documents of the WebSocket as Server-Sent Events. Each stream
// holds its request's goroutine, so there are fewer of them.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request, v *visit, line *queue.Line, t queue.Token) {
	place, _, err := line.Place(r.Context(), t)
	if err != nil {
		problem.Write(w, r, s.refusal(r, "ask for a place", err))
		return
	}
	var end func()
	if !s.isDraining() {
		end = s.streams.take(v.prefix)
	}
	if end == nil {
		problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "too-many-connections", "No live connection is free here. Your place is safe: ask again instead.").In(5*time.Second))
		return
	}
	defer end()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.WriteHeader(http.StatusOK)
	s.stream(r.Context(), steadily(w), line, t, place)
}

// stream sends until the client goes, the place ends, or the gateway drains.
func (s *Server) stream(ctx context.Context, out *steady, line *queue.Line, t queue.Token, place queue.Place) {
	shown, quiet, due := uint64(0), s.now(), time.Time{}
	last := wordOf(line.View().Live())
	beat := time.NewTicker(min(heartbeat, presence(line)/3))
	defer beat.Stop()
	for {
		changed, now := line.Changed(), s.now()
		line.Seen(t)
		live := line.View().Live()
		word := wordOf(live)
		called := place.State == queue.Waiting && place.Rank != nil && *place.Rank < live.Frontier
		if !due.IsZero() && (called || word != last || !now.Before(due)) {
			last = word
			var err error
			asking, cancel := context.WithTimeout(ctx, 2*time.Second)
			place, _, err = line.Place(asking, t)
			cancel()
			if err != nil {
				due = now.Add(time.Second) // Redis is away: the next round asks again
				place = queue.Place{}
			}
		}
		switch digest := digestOf(place); {
		case place.Room != "" && digest != shown:
			if _, err := fmt.Fprintf(out, "data: %s\n\n", appendPlace(nil, &place)); err != nil || out.control.Flush() != nil {
				return
			}
			shown, quiet = digest, now
		case now.Sub(quiet) >= heartbeat:
			if _, err := fmt.Fprint(out, ": still here\n\n"); err != nil || out.control.Flush() != nil {
				return
			}
			quiet = now
		}
		if place.State.Final() {
			return
		}
		if place.Room != "" {
			due = now.Add(pace(place, presence(line)/2))
		}
		select {
		case <-changed:
		case <-beat.C:
		case <-s.draining:
			after := s.hub.comeBack(line)
			_, _ = fmt.Fprintf(out, "retry: %d\n\n", after.Milliseconds()) // the stream ends either way
			_ = out.control.Flush()
			return
		case <-ctx.Done():
			return
		}
	}
}
