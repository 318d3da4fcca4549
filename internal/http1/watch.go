package http1

import (
	"context"
	"sync"
	"time"
)

// watchAfter is how long a request lasts before anybody looks whether its client is there.
const watchAfter = 100 * time.Millisecond

// past is a deadline that ends what waits, whenever that is.
var past = time.Unix(1, 0)

// watch hears of a client that leaves during a request, without taking a byte from the connection. Only a request
// that lasts is watched.
type watch struct {
	mu      sync.Mutex         // guards all below
	since   time.Time          // when a request began whose body is read; zero else
	leave   context.CancelFunc // ends that request
	timer   *time.Timer        // of look; nil before the first request
	armed   bool               // it will look
	looking chan struct{}      // closed when the look under way is over; nil without one
}

// begin says that a request is under way, all of which has been read.
func (w *watch) begin(c *conn, now time.Time, leave context.CancelFunc) {
	if !canPeek {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.leave = now, leave
	if !w.armed && w.looking == nil {
		w.arm(c, watchAfter)
	}
}

func (w *watch) arm(c *conn, after time.Duration) {
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(after, func() { w.look(c) })
		return
	}
	w.timer.Reset(after)
}

// look waits until the client leaves or sends more, if a request lasts.
func (w *watch) look(c *conn) {
	w.mu.Lock()
	w.armed = false
	if w.since.IsZero() {
		w.mu.Unlock()
		return
	}
	if rest := watchAfter - time.Since(w.since); rest > 0 {
		w.arm(c, rest)
		w.mu.Unlock()
		return
	}
	over := make(chan struct{})
	w.looking = over
	leave := w.leave
	c.reading.tell(time.Time{}, c.net.SetReadDeadline)
	w.mu.Unlock()

	left := leaves(c.net)
	w.mu.Lock()
	w.looking = nil
	left = left && !w.since.IsZero() // else the look was ended
	w.mu.Unlock()
	close(over)
	if left {
		leave()
	}
}

// end says that the request is over; nobody looks any more when it returns.
func (w *watch) end(c *conn) {
	w.mu.Lock()
	w.since, w.leave = time.Time{}, nil
	over := w.looking
	if over != nil {
		c.reading.tell(past, c.net.SetReadDeadline)
	}
	w.mu.Unlock()
	if over != nil {
		<-over
	}
}
