package origin

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// sentBody is a request's body on its way: it knows whether any of it was taken, so that
// a request can be sent elsewhere as long as none was. A nil one is no body.
type sentBody struct {
	mu   sync.Mutex // guards all below; the transport reads in a goroutine of its own
	body io.ReadCloser
	any  bool
	last time.Time // when something was last read
	err  error     // of reading, but for the end
}

func sentOf(r *http.Request) *sentBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	return &sentBody{body: r.Body}
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.any = true
	b.mu.Unlock()
	n, err := b.body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = time.Now()
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// Close is the transport's word that it needs no more; another server may. The body itself
// is closed by the server that it came to.
func (b *sentBody) Close() error { return nil }

func (b *sentBody) begun() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.any
}

// failed tells that the client's side of the body broke.
func (b *sentBody) failed() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil
}

// lastRead is when the origin had what it needed to answer: start, or later where the
// client took its time.
func (b *sentBody) lastRead(start time.Time) time.Time {
	if b == nil {
		return start
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.After(start) {
		return b.last
	}
	return start
}
