package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// hosting serves h to guests, and yields each guest as it comes.
func hosting(t *testing.T, h http.HandlerFunc) (address string, came <-chan *guest) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	guests := make(chan *guest, 16)
	s.Listener = &guarded{Listener: s.Listener, door: &door{max: 100, perPrefix: 100, of: map[netip.Prefix]int{}}}
	s.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		ctx = ConnContext(ctx, conn)
		guests <- conn.(*guest)
		return ctx
	}
	s.Config.ReadHeaderTimeout, s.Config.IdleTimeout = patience, 2*patience
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), guests
}

// caller is a client that writes bytes and reads answers.
type caller struct {
	net.Conn
	in *bufio.Reader
}

func call(t *testing.T, address string) caller {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return caller{conn, bufio.NewReader(conn)}
}

func (c caller) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func (c caller) hear(t *testing.T, want string) {
	t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
		t.Fatalf("answer %q, %v, want %q", got, err, want)
	}
}

// eventually waits for cond.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !cond(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("it never came that %s", what)
		}
	}
}

// beingWatched waits until the guest's client is watched, or not any more.
func beingWatched(t *testing.T, g *guest, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("the client is watched: %v", want), func() bool {
		g.watch.mu.Lock()
		defer g.watch.mu.Unlock()
		return (g.watch.looking != nil) == want
	})
}

func TestClientWhoLeavesEndsTheRequest(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	address, _ := hosting(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	c := call(t, address)
	c.say(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.Close()
	select {
	case err := <-ended:
		if err != context.Canceled {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the request goes on without its client")
	}
}

// A connection whose request was watched goes on: the next request is read, whether it comes
// during the first, after it, or in pieces.
func TestWatchTakesNothing(t *testing.T) {
	t.Parallel()
	goOn := make(chan bool)
	address, came := hosting(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-goOn
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, r.URL.Path, string(body))
	})
	const slow, next = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
	c := call(t, address)
	c.say(t, slow)
	g := <-came
	beingWatched(t, g, true)
	goOn <- true
	c.hear(t, "/slow")
	beingWatched(t, g, false)

	c.say(t, slow)
	beingWatched(t, g, true)
	c.say(t, next) // seen, and left where it is
	beingWatched(t, g, false)
	goOn <- true
	c.hear(t, "/slow")
	c.hear(t, "/nextok")

	for range 3 { // both in one packet
		c.say(t, slow+next+slow)
		goOn <- true
		goOn <- true
		c.hear(t, "/slow")
		c.hear(t, "/nextok")
		c.hear(t, "/slow")
	}
	c.say(t, "GET /slow HTTP/1.1\r\n")
	c.say(t, "Host: a\r\n\r\n")
	goOn <- true
	c.hear(t, "/slow")
}

// A buffer may have room for one byte of what a client says: that one is wanted.
func TestOneByteThatIsWanted(t *testing.T) {
	t.Parallel()
	address, _ := hosting(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.Header.Get("Long"))) })
	c := call(t, address)
	const begin, end, buffer = "GET / HTTP/1.1\r\nHost: a\r\nLong: ", "\r\n\r\n", 4096
	for length := buffer - len(begin) - 3; length < buffer-len(begin)+3; length++ {
		for range 2 {
			c.say(t, begin+strings.Repeat("x", length))
			c.say(t, end)
			c.hear(t, fmt.Sprint(length))
		}
	}
}

// Who takes the connection over has all that comes, byte by byte.
func TestConnectionTakenOver(t *testing.T) {
	t.Parallel()
	watched := make(chan bool)
	address, came := hosting(t, func(w http.ResponseWriter, r *http.Request) {
		<-watched
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		var b [1]byte
		for {
			n, err := conn.Read(b[:])
			if err != nil {
				return
			}
			if n != 1 {
				t.Error("a read of one byte brought none")
				return
			}
			if _, err := conn.Write(b[:]); err != nil {
				return
			}
		}
	})
	c := call(t, address)
	c.say(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	beingWatched(t, <-came, true)
	watched <- true
	const said = "one by one"
	c.say(t, said)
	got := make([]byte, len(said))
	if _, err := io.ReadFull(c.in, got); err != nil || string(got) != said {
		t.Errorf("%q, %v", got, err)
	}
}

// A deadline is never told for earlier than it is wanted, nor for later than lateness.
func TestDeadlinesAreToldWhenNeeded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, test := range []struct {
		name         string
		told, wanted time.Time
		tells        bool
	}{
		{"none", time.Time{}, time.Time{}, false},
		{"the first", time.Time{}, now, true},
		{"none any more", now, time.Time{}, true},
		{"the same", now, now, false},
		{"somewhat later than wanted", now.Add(lateness), now, false},
		{"too late", now.Add(lateness + 1), now, true},
		{"too early", now.Add(-1), now, true},
		{"at once", now.Add(lateness), past, true},
	} {
		w := way{told: test.told, wanted: test.wanted}
		var got []time.Time
		tell := func(t time.Time) error { got = append(got, t); return nil }
		if err := w.begin(tell); err != nil {
			t.Fatal(err)
		}
		if told := len(got) == 1; told != test.tells || told && !got[0].Equal(test.wanted) {
			t.Errorf("%s: told %v", test.name, got)
		}
		if err := w.set(now, tell); err != nil || !w.told.Equal(now) { // something waits
			t.Errorf("%s: told %v while it waits", test.name, w.told)
		}
		w.end()
		if err := w.set(past, tell); err != nil || !w.told.Equal(now) { // nothing does
			t.Errorf("%s: told %v while nothing waits", test.name, w.told)
		}
	}
}

// What waits ends when another sets a deadline in the past, and a connection is as good as
// before after that.
func TestDeadlineEndsWhatWaits(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := call(t, l.Addr().String())
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{TCPConn: conn.(*net.TCPConn), door: &door{}}
	defer g.Close()
	failed := make(chan error, 1)
	var b [8]byte
	go func() {
		_, err := g.Read(b[:])
		failed <- err
	}()
	eventually(t, "it reads", func() bool {
		g.reading.mu.Lock()
		defer g.reading.mu.Unlock()
		return g.reading.under == 1
	})
	if err := g.SetReadDeadline(past); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the read ended with %v", err)
	}
	if err := g.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c.say(t, "more")
	if n, err := g.Read(b[:]); err != nil || string(b[:n]) != "more" {
		t.Errorf("%q, %v", b[:n], err)
	}
}
