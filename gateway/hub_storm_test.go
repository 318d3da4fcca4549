package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"usher/queue"
)

// waiting is a hub of a room in which nobody is called, for sockets that no handshake made.
type waiting struct {
	hub  *hub
	line *queue.Line
	site *site
	// now is ahead of the clock by so many nanoseconds.
	ahead atomic.Int64
	ends  []atomic.Int32 // how often each connection ended
}

func waitingHub(t *testing.T, sockets int) *waiting {
	t.Helper()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	w := &waiting{line: s.line("gala"), site: s, ends: make([]atomic.Int32, sockets)}
	until(t, w.line, "the room opens", func() bool { return w.line.View().Phase() == queue.Open })
	w.hub = newHub(hubLimits{sockets: sockets, perPrefix: sockets, drainRate: 2000}, 2, func() time.Time {
		return time.Now().Add(time.Duration(w.ahead.Load()))
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w.hub.drain(ctx)
	})
	return w
}

// seat makes the n-th socket. before may do something to it, as long as nobody else has it.
func (w *waiting) seat(t *testing.T, n int, conn net.Conn, before func(*outbox)) seat {
	t.Helper()
	token := queue.Token{Room: "gala", Epoch: w.line.View().Live().Epoch, Number: uint64(n), IssuedAt: time.Now().UTC()}
	s := newSocket(token, netip.Prefix{})
	if p := w.hub.reserve(s); p != nil {
		t.Fatal(p.Detail)
	}
	s.out = newOutbox(conn)
	s.out.leave = func() { w.ends[n].Add(1) }
	if before != nil {
		before(&s.out)
	}
	now := w.hub.now().UnixMilli()
	return seat{socket: s, heard: now, ping: now + pingTime.Milliseconds(), slow: !s.out.empty()}
}

// sit gives the hub such a socket.
func (w *waiting) sit(t *testing.T, n int, conn net.Conn, before func(*outbox)) {
	t.Helper()
	if k := w.seat(t, n, conn, before); !w.hub.keep(w.line, k) {
		t.Fatal("the hub is closed")
	}
}

func (w *waiting) open() int {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return w.hub.open
}

// Thousands end at once, each in another way, while the gateway drains. Every connection is closed
// once, nothing is left of any, and no descriptor of anybody else's is touched.
func TestEveryDescriptorIsClosedOnce(t *testing.T) {
	t.Parallel()
	const sockets = 5000
	w := waitingHub(t, sockets)
	far := make([]net.Conn, sockets)
	doc := append([]byte{finalBit | websocket.TextMessage, 126, 4, 0}, make([]byte, 1<<10)...)
	for n := range sockets {
		near, other := connected(t)
		far[n] = other
		var before func(*outbox)
		if n%10 == 0 { // it has read nothing for long
			before = func(out *outbox) {
				fill(t, out, func(int) []byte { return doc })
				out.since = time.Now().Add(-2 * stuckTime)
			}
		}
		w.sit(t, n, near, before)
	}

	var innocent, busy sync.WaitGroup
	stop := make(chan struct{})
	for range 4 { // others open and close descriptors all the time
		innocent.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := passAlong(); err != nil {
					t.Errorf("a pipe of somebody else: %v", err)
					return
				}
			}
		})
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		w.hub.drain(ctx)
	}()
	for n, conn := range far {
		busy.Go(func() {
			switch n % 5 {
			case 0: // it never reads; those of n%10 are stuck as well
				return
			case 1:
				_ = conn.Close()
			case 2: // a reset
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			case 3:
				_, _ = conn.Write(clientFrame(finalBit|websocket.CloseMessage, "\x03\xe9"))
				_, _ = io.Copy(io.Discard, conn)
			case 4: // nonsense, and one half closed
				_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
				_ = conn.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			}
		})
	}
	select {
	case <-drained:
	case <-time.After(2 * patience):
		t.Fatal("the drain does not end")
	}
	busy.Wait()
	close(stop)
	innocent.Wait()
	for n := range w.ends {
		if ends := w.ends[n].Load(); ends != 1 {
			t.Errorf("connection %d ended %d times", n, ends)
		}
	}
	if len(w.hub.perPlace) > 0 || len(w.hub.perPrefix) > 0 || w.open() != 0 {
		t.Errorf("left: %d places, %d prefixes, %d open", len(w.hub.perPlace), len(w.hub.perPrefix), w.open())
	}
}

// passAlong sends a word through a pipe of its own.
func passAlong() error {
	r, w, err := os.Pipe()
	if errors.Is(err, syscall.EMFILE) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := w.WriteString("word"); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "word" {
		return fmt.Errorf("%q, %w", b, err)
	}
	return nil
}

// A phone that is gone without a word is given up when its pong stays away; one that answers
// stays, and so does one that pings by itself.
func TestHalfOpenSocketsAreGivenUp(t *testing.T) {
	t.Parallel()
	w := waitingHub(t, 3)
	d := &shard{hub: w.hub, line: w.line, running: true} // we are its goroutine
	var far []net.Conn
	for n := range 3 {
		near, other := connected(t)
		far = append(far, other)
		d.add(w.seat(t, n, near, nil))
	}
	d.settle()
	word := d.tick(t.Context(), "")
	const silent, answering, pinging = 0, 1, 2
	pong := bufio.NewReader(far[answering])
	for step := 0; w.ends[silent].Load() == 0; step++ {
		if step == 20 {
			t.Fatal("the silent one is never given up")
		}
		w.ahead.Add(int64(5 * time.Second))
		if _, err := far[pinging].Write(clientFrame(finalBit|websocket.PingMessage, "still here")); err != nil {
			t.Fatal(err)
		}
		asked := d.seats[answering].ping
		word = d.tick(t.Context(), word)
		if d.seats[answering].ping != asked {
			if err := far[answering].SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			for kind := byte(0); kind != finalBit|websocket.PingMessage; {
				var err error
				if kind, _, err = readFrame(pong); err != nil {
					t.Fatalf("waiting for a ping: %v", err)
				}
			}
			if _, err := far[answering].Write(clientFrame(finalBit|websocket.PongMessage, "")); err != nil {
				t.Fatal(err)
			}
		}
		until(t, w.line, "what was sent is heard", func() bool {
			word = d.tick(t.Context(), word)
			now := w.hub.now().UnixMilli()
			return now-d.seats[pinging].heard < 4000 && (d.seats[answering].ping == asked || now-d.seats[answering].heard < 4000)
		})
	}
	if w.ends[answering].Load() != 0 || w.ends[pinging].Load() != 0 {
		t.Error("one that was heard of was given up")
	}
	for _, conn := range far {
		conn.Close()
	}
	until(t, w.line, "the others' ends are noticed", func() bool {
		word = d.tick(t.Context(), word)
		return !d.settle()
	})
}

// What clients may not send ends in a close frame that says why, and costs nobody else anything.
func TestUnwelcomeFramesAreRefusedWithAWord(t *testing.T) {
	t.Parallel()
	attacks := map[string]struct {
		sent []byte
		code int
	}{
		"no mask":                   {[]byte{0x81, 2, 'h', 'i'}, websocket.CloseProtocolError},
		"HTTP again":                {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), websocket.CloseProtocolError},
		"a ping in parts":           {clientFrame(0x09, "hi"), websocket.CloseProtocolError},
		"a close in parts":          {clientFrame(0x08, "\x03\xe8"), websocket.CloseProtocolError},
		"a close of one byte":       {clientFrame(0x88, "\x03"), websocket.CloseProtocolError},
		"a close of no code":        {clientFrame(0x88, "\x03\xed"), websocket.CloseProtocolError},
		"a message of 8 EiB":        {[]byte{0x82, maskBit | 127, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0}, websocket.CloseMessageTooBig},
		"a long message":            {clientFrame(0x81, strings.Repeat("x", maxFrame+1)), websocket.CloseMessageTooBig},
		"many messages":             {bytes.Repeat(clientFrame(0x81, "hello"), maxChatter+1), websocket.ClosePolicyViolation},
		"a flood of pings":          {bytes.Repeat(clientFrame(0x89, "are you there"), 10_000), websocket.ClosePolicyViolation},
		"a flood of empty pongs":    {bytes.Repeat(clientFrame(0x8a, ""), 10_000), websocket.ClosePolicyViolation},
		"a flood of pieces":         {bytes.Repeat(clientFrame(0x00, ""), maxChatter+1), websocket.ClosePolicyViolation},
		"a goodbye that is allowed": {clientFrame(0x88, "\x03\xe8bye"), websocket.CloseNormalClosure},
	}
	bothWays(t, func(t *testing.T, connect connecting) {
		w := waitingHub(t, len(attacks)+1)
		near, bystander := connect(t)
		w.sit(t, len(attacks), near, nil)
		n := 0
		for name, attack := range attacks {
			near, far := connect(t)
			w.sit(t, n, near, nil)
			n++
			go func() { _, _ = far.Write(attack.sent) }() // it may be cut off
			if err := readToClose(far, attack.code); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			far.Close()
		}
		until(t, w.line, "all attackers are gone", func() bool { return w.open() == 1 })
		if err := bystander.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		w.site.set("gala", `{"message":"Still here."}`)
		for read, b := "", make([]byte, 4096); !strings.Contains(read, "Still here."); {
			got, err := bystander.Read(b)
			if err != nil {
				t.Fatalf("after %q: %v", read, err)
			}
			read += string(b[:got])
		}
	})
}
