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
	var shown uint64
	var doc []byte
	var due time.Time
	rank := uint64(noRank)
	quiet, last := s.now(), wordOf(line.View().Live())
	beat := time.NewTicker(min(heartbeat, presence(line)/3))
	defer beat.Stop()
	for news := true; ; {
		changed, now, live := line.Changed(), s.now(), line.View().Live()
		line.Seen(t)
		if word := wordOf(live); !news && (rank < live.Frontier || word != last || !now.Before(due)) {
			asking, cancel := context.WithTimeout(ctx, 2*time.Second)
			asked, _, err := line.Place(asking, t)
			cancel()
			last = word
			if news = err == nil; news {
				place = asked
			} else {
				rank, due = noRank, now.Add(time.Second) // Redis is away
			}
		}
		if news {
			news = false
			var pace time.Duration
			pace, rank = outlook(place, live.Frontier, presence(line))
			due = now.Add(pace)
			doc = appendPlace(doc[:0], &place)
			if digest := digestOf(doc); digest != shown {
				if _, err := fmt.Fprintf(out, "data: %s\n\n", doc); err != nil || out.control.Flush() != nil {
					return
				}
				shown, quiet = digest, now
			}
			if place.State.Final() {
				return
			}
		}
		if now.Sub(quiet) >= heartbeat {
			if _, err := fmt.Fprint(out, ": still here\n\n"); err != nil || out.control.Flush() != nil {
				return
			}
			quiet = now
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
