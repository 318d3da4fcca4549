package booking

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"usher/internal/problem"
)

const (
	// feedTick is how often viewers hear of changes at most.
	feedTick = 100 * time.Millisecond
	// feedKept is how many versions a slow viewer may be behind before it gets a snapshot.
	feedKept = 32
	// maxViewers bounds the sockets of one process; the next one is told to ask by GET.
	maxViewers = 10_000

	viewerWrite = 10 * time.Second // for one frame
	viewerPing  = 30 * time.Second
	viewerIdle  = 75 * time.Second // without a pong
)

// feed is one performance as its viewers here see it. One loop (runFeeds) asks Redis once
// a tick for all of them; each viewer's writer takes from what the feed keeps, at its own
// speed, and nothing is queued for it.
type feed struct {
	mu      sync.Mutex // guards everything below
	layout  *Layout
	now     *seatMap
	recent  []frame       // the latest versions' frames, oldest first, at most feedKept
	changed chan struct{} // closed at the next change
	viewers int
}

type frame struct {
	version int64
	text    []byte
}

type feedKey struct {
	event, performance uuid.UUID
	layout             int // viewers who came before a change of the layout keep theirs
}

func feedOf(l *Layout) feedKey { return feedKey{l.EventID, l.PerformanceID, l.Revision} }

// feeds are the performances that somebody watches on this process.
type feeds struct {
	mu      sync.Mutex // guards all and viewers
	all     map[feedKey]*feed
	viewers int
	closed  bool           // set once when the process drains
	writers sync.WaitGroup // one a viewer, from join to leave
	drain   chan struct{}  // closed with closed
}

func newFeeds() *feeds {
	return &feeds{all: make(map[feedKey]*feed), drain: make(chan struct{})}
}

// join returns the performance's feed with one viewer more, false when there are too many
// or the process is about to stop.
func (f *feeds) join(l *Layout) (*feed, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.viewers >= maxViewers {
		return nil, false
	}
	key := feedOf(l)
	fd, ok := f.all[key]
	if !ok {
		fd = &feed{layout: l, changed: make(chan struct{})}
		f.all[key] = fd
	}
	f.viewers++
	f.writers.Add(1)
	fd.mu.Lock()
	fd.viewers++
	fd.mu.Unlock()
	return fd, true
}

func (f *feeds) leave(fd *feed) {
	defer f.writers.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.viewers--
	fd.mu.Lock()
	fd.viewers--
	empty := fd.viewers == 0
	fd.mu.Unlock()
	if empty {
		delete(f.all, feedOf(fd.layout))
	}
}

func (f *feeds) list() []*feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*feed, 0, len(f.all))
	for _, fd := range f.all {
		out = append(out, fd)
	}
	return out
}

// stop ends every viewer's socket and waits for them.
func (f *feeds) stop() {
	f.mu.Lock()
	f.closed = true
	close(f.drain)
	f.mu.Unlock()
	f.writers.Wait()
}

// runFeeds keeps all feeds current until ctx ends, then ends their sockets.
func (s *Server) runFeeds(ctx context.Context) error {
	defer s.sales.feeds.stop()
	tick := time.NewTicker(feedTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, fd := range s.sales.feeds.list() {
			if err := s.refresh(ctx, fd); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "availability feed", "error", err, "event", fd.layout.Slug)
			}
		}
	}
}

// refresh asks Redis what changed and wakes the viewers.
func (s *Server) refresh(ctx context.Context, fd *feed) error {
	fd.mu.Lock()
	since := int64(0)
	if fd.now != nil {
		since = fd.now.version
	}
	fd.mu.Unlock()
	whole, versions, err := s.changesSince(ctx, fd.layout, since)
	if err != nil {
		return err
	}
	if whole == nil && len(versions) == 0 {
		return nil
	}
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.now != nil && fd.now.version != since {
		return nil // a joining viewer refreshed it meanwhile
	}
	if whole != nil {
		fd.now, fd.recent = whole, nil
	}
	for _, changes := range versions {
		text, err := json.Marshal(fd.now.apply(fd.layout, changes))
		if err != nil {
			return err
		}
		fd.recent = append(fd.recent, frame{fd.now.version, text})
	}
	if n := len(fd.recent) - feedKept; n > 0 {
		fd.recent = append([]frame(nil), fd.recent[n:]...)
	}
	close(fd.changed)
	fd.changed = make(chan struct{})
	return nil
}

// after returns the frames that a viewer at version lacks, and where it is then. A viewer
// that knows nothing, or too little, gets a snapshot.
func (fd *feed) after(version int64) (frames [][]byte, at int64, changed <-chan struct{}, err error) {
	fd.mu.Lock()
	defer fd.mu.Unlock()
	if fd.now == nil || version == fd.now.version {
		return nil, version, fd.changed, nil
	}
	first := fd.now.version - int64(len(fd.recent)) // what recent[0] builds upon
	if version == 0 || version < first || version > fd.now.version {
		text, err := json.Marshal(fd.now.snapshot(fd.layout))
		return [][]byte{text}, fd.now.version, fd.changed, err
	}
	for _, f := range fd.recent[version-first:] {
		frames = append(frames, f.text)
	}
	return frames, fd.now.version, fd.changed, nil
}

// The gateway in front checked the Origin; a server's own dial has none.
var viewerUpgrader = websocket.Upgrader{
	ReadBufferSize: 512, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{},
	CheckOrigin: sameOrigin,
	Error: func(w http.ResponseWriter, r *http.Request, status int, _ error) {
		problem.Write(w, r, problem.New(status, "websocket-required", "This address speaks WebSocket."))
	},
}

func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// watch upgrades and returns; the socket lives in its own goroutines, which runFeeds ends.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, l *Layout, until time.Time) error {
	fd, ok := s.sales.feeds.join(l)
	if !ok {
		return problem.New(http.StatusServiceUnavailable, "unavailable", "No more live views just now; ask for the availability instead.").In(5 * time.Second)
	}
	if err := s.refresh(r.Context(), fd); err != nil {
		s.sales.feeds.leave(fd)
		return err
	}
	conn, err := viewerUpgrader.Upgrade(w, r, nil)
	if err != nil { // answered by Upgrade
		s.sales.feeds.leave(fd)
		return nil
	}
	go func() {
		defer s.sales.feeds.leave(fd)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			readViewer(conn)
		}()
		s.sales.feeds.writeViewer(conn, fd, gone, until.Sub(s.now()))
		_ = conn.Close() // ends the reader
		<-gone
	}()
	return nil
}

// readViewer reads pongs until the viewer is gone; nothing else is expected of it.
func readViewer(conn *websocket.Conn) {
	conn.SetReadLimit(512)
	idle := func(string) error { return conn.SetReadDeadline(time.Now().Add(viewerIdle)) }
	if idle("") != nil {
		return
	}
	conn.SetPongHandler(idle)
	for {
		if _, _, err := conn.NextReader(); err != nil {
			return
		}
	}
}

// writeViewer is the only writer on conn. It ends with the pass.
func (f *feeds) writeViewer(conn *websocket.Conn, fd *feed, gone <-chan struct{}, lasts time.Duration) {
	ping := time.NewTicker(viewerPing)
	defer ping.Stop()
	over := time.NewTimer(lasts)
	defer over.Stop()
	at := int64(0)
	for {
		frames, next, changed, err := fd.after(at)
		if err != nil {
			return
		}
		for _, text := range frames {
			if conn.SetWriteDeadline(time.Now().Add(viewerWrite)) != nil || conn.WriteMessage(websocket.TextMessage, text) != nil {
				return
			}
		}
		at = next
		select {
		case <-changed:
		case <-gone:
			return
		case <-ping.C:
			if conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(viewerWrite)) != nil {
				return
			}
		case <-over.C:
			goodbye(conn, websocket.ClosePolicyViolation, "pass over")
			return
		case <-f.drain:
			goodbye(conn, websocket.CloseServiceRestart, "reconnect")
			return
		}
	}
}

func goodbye(conn *websocket.Conn, code int, why string) {
	// A viewer that is gone already needs no goodbye.
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, why), time.Now().Add(time.Second))
}
