package http1

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// body is what a request of known length brings.
type body struct {
	c     *conn
	leave context.CancelFunc // ends the request when its client leaves after the body

	left atomic.Int64 // not read yet; goes down under mu

	mu     sync.Mutex // guards failed
	failed error
}

// Read implements io.Reader. The error is io.ErrUnexpectedEOF for a body that is shorter than was said.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failed != nil:
		return 0, b.failed
	case b.left.Load() == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	return b.read(p)
}

func (b *body) read(p []byte) (n int, err error) {
	p = p[:min(int64(len(p)), b.left.Load())]
	if n = copy(p, b.c.in); n > 0 {
		b.c.in = b.c.in[n:]
	} else {
		n, err = b.c.read(p)
	}
	if b.left.Add(-int64(n)) == 0 {
		b.c.watch.begin(b.c, b.c.now, b.leave)
		return n, io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	b.failed = err
	return n, err
}

// Close implements io.Closer: what was not read stays where it is.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = http.ErrBodyReadAfterClose
	}
	return nil
}

// much tells whether so much is left that nobody will read it to get at another request.
func (b *body) much() bool {
	return b.left.Load() >= maxRest
}

// end reads what the handler left, if that is not much. The connection is good for another request if it returns true.
func (b *body) end() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	broken := b.failed != nil && b.failed != http.ErrBodyReadAfterClose
	b.failed = http.ErrBodyReadAfterClose // for who still has it
	if broken || b.much() {
		return false
	}
	var space [512]byte
	for b.left.Load() > 0 {
		if _, err := b.read(space[:]); err != nil && b.left.Load() > 0 {
			return false
		}
		b.failed = http.ErrBodyReadAfterClose
	}
	return true
}
