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
	leave context.CancelFunc // ends the request

	left atomic.Int64 // not read yet; goes down under mu
	over atomic.Bool  // nothing of it is for the handler any more

	mu     sync.Mutex // guards failed, and is held while somebody reads
	failed error
}

// Read implements io.Reader. The error is io.ErrUnexpectedEOF for a body that is shorter than was said.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.over.Load():
		return 0, http.ErrBodyReadAfterClose
	case b.failed != nil:
		return 0, b.failed
	case b.left.Load() == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	n, err := b.read(p)
	switch {
	case err == io.EOF:
		b.c.watch.begin(b.c, b.c.now, b.leave)
	case err != nil && b.over.Load(): // end is why
		err = http.ErrBodyReadAfterClose
	}
	return n, err
}

// read reads of what is left. The last of it comes with io.EOF, and any other error is for good.
func (b *body) read(p []byte) (n int, err error) {
	p = p[:min(int64(len(p)), b.left.Load())]
	if n = copy(p, b.c.in); n > 0 {
		b.c.in = b.c.in[n:]
	} else {
		n, err = b.c.read(p)
	}
	if b.left.Add(-int64(n)) == 0 {
		return n, io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if b.failed = err; err != nil {
		b.leave()
	}
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
func (b *body) much() bool { return b.left.Load() > maxRest }

// drop reads what the handler did not before it answers, if that is not much and nobody reads on: a client may send all
// before it reads. Then nothing of it is for the handler any more. The connection is good for another request unless it
// returns false.
func (b *body) drop() bool {
	if !b.mu.TryLock() {
		return false // who reads on may go on, and the connection ends after it
	}
	defer b.mu.Unlock()
	if b.much() {
		return false
	}
	b.over.Store(true)
	return b.drain()
}

// end is drop when the handler has returned, and ends who reads on. The connection is good for another request if it
// returns true.
func (b *body) end() bool {
	b.over.Store(true)
	if !b.mu.TryLock() {
		_ = b.c.reading.set(past, b.c.net.SetReadDeadline) // a closed connection needs none
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	return b.drain()
}

func (b *body) drain() bool {
	if b.failed != nil && b.failed != http.ErrBodyReadAfterClose || b.much() {
		return false
	}
	space := rooms.Get().(*[inRoom]byte)
	defer rooms.Put(space)
	for b.left.Load() > 0 {
		if _, err := b.read(space[:]); err != nil && err != io.EOF {
			return false
		}
	}
	return true
}
