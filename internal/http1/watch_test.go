package http1

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const knock = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// untilGone is a handler that waits until its client has left, and tells why it ended.
func untilGone(ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		ended <- r.Context().Err()
	}
}

func TestClientWhoLeavesEndsTheRequest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, request string
		leave         func(*client) error
	}{
		{"at once", knock, func(c *client) error { return c.Close() }},
		{"after a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok", func(c *client) error { return c.Close() }},
		{"by a reset", knock, func(c *client) error { _ = c.SetLinger(0); return c.Close() }},
		{"by sending no more", knock, func(c *client) error { return c.CloseWrite() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			p := open(t, &http.Server{Handler: untilGone(ended)})
			c := dial(t, p.address)
			c.send(test.request)
			if err := test.leave(c); err != nil {
				t.Fatal(err)
			}
			if err := within(t, "the request's end", ended); err != context.Canceled {
				t.Errorf("the request ended with %v", err)
			}
		})
	}
}

// A client that leaves while it is watched already, which is another moment than before.
func TestClientWhoLeavesLateEndsTheRequest(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	p := open(t, &http.Server{Handler: untilGone(ended)})
	c := dial(t, p.address)
	c.send(knock)
	beingWatched(t, p, true)
	_ = c.Close()
	if err := within(t, "the request's end", ended); err != context.Canceled {
		t.Errorf("the request ended with %v", err)
	}
}

// Who leaves before his body has come whole ends the read of it.
func TestClientWhoLeavesEndsTheReadOfHisBody(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if string(body) != "ok" {
			t.Errorf("read %q", body)
		}
		ended <- err
	})})
	c := dial(t, p.address)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nok")
	_ = c.Close()
	if err := within(t, "the read's end", ended); err != io.ErrUnexpectedEOF {
		t.Errorf("the read ended with %v", err)
	}
}

// single is the one connection that p serves.
func single(t testing.TB, p *place) (one *conn) {
	t.Helper()
	eventually(t, "one connection is served", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.conns {
			one = c
		}
		return len(p.conns) == 1
	})
	return one
}

// beingWatched waits until the client of p's one connection is watched, or not any more.
func beingWatched(t testing.TB, p *place, want bool) {
	t.Helper()
	c := single(t, p)
	eventually(t, fmt.Sprintf("the client is watched: %v", want), func() bool {
		c.watch.mu.Lock()
		defer c.watch.mu.Unlock()
		return (c.watch.looking != nil) == want
	})
}

// A connection whose request was watched goes on: the next request is read, whether it comes during the first, after
// it, or in pieces.
func TestWatchTakesNothing(t *testing.T) {
	t.Parallel()
	goOn := make(chan bool)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			within(t, "leave to go on", goOn)
		}
		body, _ := io.ReadAll(r.Body)
		if err := r.Context().Err(); err != nil {
			t.Errorf("%s ended: %v", r.URL, err)
		}
		_, _ = fmt.Fprint(w, r.URL.Path, string(body))
	})})
	const slow, next = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
	c := dial(t, p.address)
	hear := func(want string) {
		t.Helper()
		if _, got := c.answer(http.MethodGet); got != want {
			t.Fatalf("answered %q, want %q", got, want)
		}
	}
	c.send(slow)
	beingWatched(t, p, true)
	goOn <- true
	hear("/slow")
	beingWatched(t, p, false)

	c.send(slow)
	beingWatched(t, p, true)
	c.send(next) // seen, and left where it is
	beingWatched(t, p, false)
	goOn <- true
	hear("/slow")
	hear("/nextok")

	for range 3 { // both in one packet
		c.send(slow + next + slow)
		goOn <- true
		goOn <- true
		hear("/slow")
		hear("/nextok")
		hear("/slow")
	}
	c.send("GET /slow HTTP/1.1\r\n")
	c.send("Host: a\r\n\r\n")
	goOn <- true
	hear("/slow")
	if n := p.handed.Load(); n != 0 {
		t.Errorf("%d connections went to net/http", n)
	}
}

// A request goes on for longer than its client has for sending it.
func TestWatchHasNoDeadline(t *testing.T) {
	t.Parallel()
	settings := &http.Server{ReadHeaderTimeout: never, ReadTimeout: short}
	settings.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			_, _ = io.WriteString(w, "once more")
			return
		}
		select {
		case <-time.After(short + watchAfter + lateness*3/2):
			_, _ = io.WriteString(w, "done")
		case <-r.Context().Done():
			t.Error("the request ended while its client waits")
		}
	})
	p := open(t, settings)
	const length = 3 * inRoom // so that some of it is read under that deadline
	answer := ""
	for range 20 { // a machine that stalls has its body late
		c := dial(t, p.address)
		c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", length, strings.Repeat("x", length)))
		if _, answer = c.answer(http.MethodPost); answer != "once more" {
			break
		}
	}
	if answer != "done" {
		t.Errorf("answered %q", answer)
	}
}

// A request whose body was read is watched from then on, and not once more when its answer begins.
func TestOneLookAtATime(t *testing.T) {
	t.Parallel()
	goOn := make(chan bool)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		within(t, "leave to go on", goOn)
		_ = http.NewResponseController(w).Flush()
		watch := &w.(*response).c.watch
		watch.mu.Lock()
		if watch.looking == nil || watch.armed {
			t.Errorf("looking: %v, and about to: %v", watch.looking != nil, watch.armed)
		}
		watch.mu.Unlock()
	})})
	c := dial(t, p.address)
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
		beingWatched(t, p, true)
		goOn <- true
		c.answer(http.MethodPost)
		beingWatched(t, p, false)
	}
}

// A request that goes to net/http after a watched one has no deadline of the watch's.
func TestWatchedConnectionIsHandedOver(t *testing.T) {
	t.Parallel()
	goOn := make(chan bool)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		within(t, "leave to go on", goOn)
		_, _ = io.Copy(w, r.Body)
	})})
	c := dial(t, p.address)
	c.send(knock)
	beingWatched(t, p, true)
	goOn <- true
	c.answer(http.MethodGet)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
	goOn <- true
	c.send("0\r\n\r\n")
	if _, body := c.answer(http.MethodPost); body != "ok" {
		t.Errorf("answered %q", body)
	}
	if n := p.handed.Load(); n != 1 {
		t.Errorf("%d connections went to net/http", n)
	}
}

// The room for what is read is used up to its last byte, and grows where a head is longer.
func TestHeadsAsLongAsTheRoom(t *testing.T) {
	t.Parallel()
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("Long"))
	})})
	const begin, end = "GET / HTTP/1.1\r\nHost: a\r\nLong: ", "\r\n\r\n"
	for _, room := range []int{inRoom / 2, inRoom, 2 * inRoom, maxHead} {
		for length := room - len(begin) - 6; length <= room-len(begin); length++ {
			c, value := dial(t, p.address), strings.Repeat("x", length-1)+"y"
			for _, pieces := range [][]string{
				{begin + value + end},
				{begin + value, end},
				{begin + value + end[:1], end[1:]},
				{begin + value + end[:2], end[2:]},
				{begin + value + end[:3], end[3:] + begin + "z" + end},
				{begin + value + end + begin[:9], begin[9:] + "z" + end},
				{begin + "z" + end + begin + value, end},
			} {
				for _, piece := range pieces {
					c.send(piece)
				}
				for range strings.Count(strings.Join(pieces, ""), begin) {
					if _, got := c.answer(http.MethodGet); got != value && got != "z" {
						t.Fatalf("of %d a field of %d bytes came", length, len(got))
					}
				}
			}
			if n := p.handed.Load(); n > 0 && room < maxHead {
				t.Fatalf("a head of %d bytes is not plain", len(begin)+length+len(end))
			}
		}
	}
}
