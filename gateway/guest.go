package gateway

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// guest is a connection that counts until it is closed. Thousands of them wait: it is
// small, and leaves the descriptor in reach of those who write to it directly.
//
// It also spares the server most of what an HTTP/1 request costs beside itself: the seven
// deadlines that net/http sets for one (see way), and its listening for the client in a
// goroutine of its own (see watch).
type guest struct {
	*net.TCPConn
	door   *door
	from   net.Addr
	prefix netip.Prefix // whose connection it is; zero for a trusted proxy's own
	left   atomic.Bool

	reading, writing way
	watch            *watch // nil where nobody would hear of what it sees; see ConnContext
}

func (g *guest) RemoteAddr() net.Addr { return g.from }

func (g *guest) Close() error {
	if g.left.CompareAndSwap(false, true) {
		g.door.leave(g.prefix)
	}
	return g.TCPConn.Close()
}

// handOver tells that somebody holds the connection's descriptor beyond Close, and
// counts until he calls leave, once.
func (g *guest) handOver() (leave func()) {
	if !g.left.CompareAndSwap(false, true) {
		return func() {} // it is closed, and counted out
	}
	return func() { g.door.leave(g.prefix) }
}

func (g *guest) Read(p []byte) (int, error) {
	if g.watch != nil {
		if len(p) == 1 && g.watch.begin(g) {
			return 0, nil
		}
		g.watch.end(g)
	}
	if err := g.reading.begin(g.TCPConn.SetReadDeadline); err != nil {
		return 0, err
	}
	defer g.reading.end()
	return g.TCPConn.Read(p)
}

// WriteTo is Read and Write, not what the kernel can do without them.
func (g *guest) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{g}) }

func (g *guest) Write(p []byte) (int, error) {
	if err := g.writing.begin(g.TCPConn.SetWriteDeadline); err != nil {
		return 0, err
	}
	defer g.writing.end()
	return g.TCPConn.Write(p)
}

func (g *guest) ReadFrom(r io.Reader) (int64, error) {
	if err := g.writing.begin(g.TCPConn.SetWriteDeadline); err != nil {
		return 0, err
	}
	defer g.writing.end()
	return g.TCPConn.ReadFrom(r)
}

// SetDeadline is called by who takes the connection over from the server, and its reads
// are meant as they are from then on.
func (g *guest) SetDeadline(t time.Time) error {
	if g.watch != nil {
		g.watch.end(g)
		g.watch = nil
	}
	if err := g.SetReadDeadline(t); err != nil {
		return err
	}
	return g.SetWriteDeadline(t)
}

func (g *guest) SetReadDeadline(t time.Time) error {
	return g.reading.set(t, g.TCPConn.SetReadDeadline)
}

func (g *guest) SetWriteDeadline(t time.Time) error {
	return g.writing.set(t, g.TCPConn.SetWriteDeadline)
}

// lateness is by how much a deadline may be missed, so that most need not be told.
const lateness = 2 * time.Second

// past is a deadline that ends what waits, whenever that is.
var past = time.Unix(1, 0)

// way is one direction of a connection. The deadline wanted of it is told to the runtime only
// by what is read or written, and only when the one told before would come too early, or more
// than lateness too late.
type way struct {
	mu           sync.Mutex // guards all below
	wanted, told time.Time  // zero: none
	under        int        // reads or writes under way, which another deadline is for at once
}

// begin must be followed by end when it returns nil.
func (w *way) begin(tell func(time.Time) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.good() {
		if err := tell(w.wanted); err != nil {
			return err
		}
		w.told = w.wanted
	}
	w.under++
	return nil
}

func (w *way) good() bool {
	if w.wanted.IsZero() || w.told.IsZero() {
		return w.wanted.IsZero() && w.told.IsZero()
	}
	late := w.told.Sub(w.wanted)
	return late >= 0 && late <= lateness
}

func (w *way) end() {
	w.mu.Lock()
	w.under--
	w.mu.Unlock()
}

func (w *way) set(t time.Time, tell func(time.Time) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = t
	if w.under == 0 {
		return nil
	}
	w.told = t
	return tell(t)
}

// watchAfter is how long a request lasts before anybody looks whether its client is there.
const watchAfter = 100 * time.Millisecond

// watch hears of a client that leaves during a request. To hear of it net/http's server begins
// to read one byte in a goroutine of its own when it has read a request, and ends that read
// when the request is over: a call of the system in vain, two deadlines and two wakes for
// each. A guest answers this read at once with nothing, which the server takes for a read
// that is over; who reads one byte and wants it asks again, as io.Reader says. A request that
// lasts is watched from here, and not a byte is taken from the connection.
type watch struct {
	leave context.CancelFunc // ends what is done for the connection's client

	mu      sync.Mutex    // guards all below
	since   time.Time     // when a request began that is under way; zero between two
	timer   *time.Timer   // of look; nil before the first request
	armed   bool          // it will look
	looking chan struct{} // closed when the look under way is over; nil without one
}

// ConnContext, as a http.Server's, lets the guests of that server watch for their clients' leaving;
// without it the server does so itself. What a client has asked for ends when it has left.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	g, ok := conn.(*guest)
	if !ok || !canPeek {
		return ctx
	}
	ctx, leave := context.WithCancel(ctx)
	g.watch = &watch{leave: leave}
	return ctx
}

// begin tells whether a read of one byte is the server's that listens for the client.
func (w *watch) begin(g *guest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		return false
	}
	w.since = time.Now()
	if !w.armed {
		w.arm(g, watchAfter)
	}
	return true
}

func (w *watch) arm(g *guest, after time.Duration) {
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(after, func() { w.look(g) })
		return
	}
	w.timer.Reset(after)
}

// look waits until the client leaves or sends more, if a request lasts.
func (w *watch) look(g *guest) {
	w.mu.Lock()
	w.armed = false
	if w.since.IsZero() {
		w.mu.Unlock()
		return
	}
	if rest := watchAfter - time.Since(w.since); rest > 0 {
		w.arm(g, rest)
		w.mu.Unlock()
		return
	}
	over := make(chan struct{})
	w.looking = over
	g.reading.tell(time.Time{}, g.TCPConn.SetReadDeadline)
	w.mu.Unlock()

	left := leaves(g.TCPConn)
	w.mu.Lock()
	w.looking = nil
	left = left && !w.since.IsZero() // else the look was ended
	w.mu.Unlock()
	close(over)
	if left {
		w.leave()
	}
}

// end says that the request is over; nobody looks any more when it returns.
func (w *watch) end(g *guest) {
	w.mu.Lock()
	w.since = time.Time{}
	over := w.looking
	if over != nil {
		g.reading.tell(past, g.TCPConn.SetReadDeadline)
	}
	w.mu.Unlock()
	if over != nil {
		<-over
	}
}

// tell sets another deadline than the one wanted, which the next read will tell again.
func (w *way) tell(t time.Time, tell func(time.Time) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = t
	_ = tell(t) // a closed connection needs none
}
