package http1

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A Server answers plain requests itself, and has net/http's server answer all others.
type Server struct {
	// HTTP is that server. Its Handler, which must be set, its timeouts, MaxHeaderBytes and ErrorLog hold for plain requests
	// too; its hooks hear only of connections that go to it.
	HTTP *http.Server

	closing atomic.Bool

	mu       sync.Mutex // guards all below
	listener net.Listener
	rest     *hand
	conns    map[*conn]struct{}
	serving  sync.WaitGroup // of conns
}

// Serve answers on l until Shutdown or Close, and then returns http.ErrServerClosed. It is called once.
func (s *Server) Serve(l net.Listener) error {
	rest := &hand{address: l.Addr(), conns: make(chan net.Conn), closed: make(chan struct{})}
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		_ = l.Close()
		return http.ErrServerClosed
	}
	s.listener, s.rest, s.conns = l, rest, map[*conn]struct{}{}
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		err := s.HTTP.Serve(rest)
		if !s.closing.Load() {
			_ = l.Close() // nothing is served by half
		}
		ended <- err
	}()
	err := s.accept(l)
	if !s.closing.Load() {
		_ = rest.Close()
	}
	if other := <-ended; errors.Is(err, net.ErrClosed) {
		err = other
	}
	if s.closing.Load() {
		return http.ErrServerClosed
	}
	return err
}

// maxHead is how long a plain request's head may be.
func (s *Server) maxHead() int {
	if n := s.HTTP.MaxHeaderBytes; n > 0 {
		return min(maxHead, n)
	}
	return maxHead
}

// accept serves each connection of l in a goroutine of its own.
func (s *Server) accept(l net.Listener) error {
	base := context.WithValue(context.Background(), http.ServerContextKey, s.HTTP)
	const least, most = 5 * time.Millisecond, time.Second
	for wait := least; ; {
		accepted, err := l.Accept()
		if err != nil {
			var passing interface{ Temporary() bool }
			if s.closing.Load() || !errors.As(err, &passing) || !passing.Temporary() {
				return err
			}
			s.logf("http1: accept: %v; again in %v", err, wait)
			time.Sleep(wait)
			wait = min(2*wait, most)
			continue
		}
		wait = least
		if tcp, ok := accepted.(*net.TCPConn); ok {
			accepted = &TCP{TCPConn: tcp}
		}
		plain, ok := accepted.(Conn)
		if !ok {
			if !s.rest.hand(accepted) {
				_ = accepted.Close()
			}
			continue
		}
		c := &conn{server: s, net: plain, base: context.WithValue(base, http.LocalAddrContextKey, plain.LocalAddr()), from: plain.RemoteAddr().String()}
		s.mu.Lock()
		ends := s.closing.Load()
		if !ends {
			s.conns[c] = struct{}{}
			s.serving.Add(1)
		}
		s.mu.Unlock()
		if ends {
			_ = accepted.Close()
			continue
		}
		go c.serve()
	}
}

// forget takes a connection from those that are served here.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.serving.Done()
}

// Shutdown ends what is idle at once and lets requests under way be answered, until ctx is over, as http.Server's.
func (s *Server) Shutdown(ctx context.Context) error {
	s.HTTP.SetKeepAlivesEnabled(false)
	err := s.stop(func(c *conn) bool { return c.state.CompareAndSwap(idle, closed) })
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.serving.Wait()
	}()
	select {
	case <-over:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	return errors.Join(err, s.HTTP.Shutdown(ctx))
}

// Close ends everything at once, as http.Server's.
func (s *Server) Close() error {
	err := s.stop(func(*conn) bool { return true })
	return errors.Join(s.HTTP.Close(), err)
}

// stop accepts no more, and closes the connections that which picks.
func (s *Server) stop(which func(*conn) bool) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing.Swap(true) && s.listener != nil {
		err = s.listener.Close()
	}
	for c := range s.conns {
		if which(c) {
			_ = c.net.Close()
		}
	}
	return err
}

func (s *Server) logf(format string, args ...any) {
	if s.HTTP.ErrorLog != nil {
		s.HTTP.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

// hand is the listener by which net/http gets its connections.
type hand struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// hand tells whether net/http has taken the connection.
func (h *hand) hand(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.closed:
		return false
	}
}

func (h *hand) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *hand) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *hand) Addr() net.Addr { return h.address }
