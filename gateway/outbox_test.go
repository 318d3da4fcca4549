package gateway

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// connecting makes a connection and returns both its ends.
type connecting func(*testing.T) (near, far net.Conn)

// bothWays runs a test on a connection that is watched by its descriptor, and on one
// under TLS.
func bothWays(t *testing.T, test func(*testing.T, connecting)) {
	t.Helper()
	for name, connect := range map[string]connecting{"plain": connected, "TLS": connectedTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, connect)
		})
	}
}

// fill writes documents until one has to wait, and tells how many there were.
func fill(t *testing.T, out *outbox, doc func(n int) []byte) int {
	t.Helper()
	for n := 0; ; n++ {
		if !out.empty() {
			return n
		}
		if err := out.write(doc(n)); err != nil {
			t.Fatalf("document %d: %v", n, err)
		}
	}
}

// A reader that stops must not hold up the others, and is given up in the end.
func TestASlowSocketBlocksNobody(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, connect connecting) {
		slow, fast := paired(t, connect), paired(t, connect)
		doc := make([]byte, 1<<10)
		fill(t, &slow.out, func(int) []byte { return doc })
		var err error
		for range 2 * maxRest / len(doc) {
			if err = slow.out.write(doc); err != nil {
				break
			}
		}
		if !errors.Is(err, errStuck) {
			t.Errorf("what waits for a slow socket grows without end: %v", err)
		}
		if err := fast.out.write([]byte("hello\n")); err != nil {
			t.Error(err)
		}
		if line, err := bufio.NewReader(fast.far).ReadString('\n'); err != nil || line != "hello\n" {
			t.Errorf("%q, %v", line, err)
		}
		slow.out.since = time.Now().Add(-2 * stuckTime)
		if err := slow.out.flush(); !errors.Is(err, errStuck) {
			t.Errorf("stuck for long: %v", err)
		}
	})
}

// What did not fit arrives whole and in order once the reader goes on.
func TestOutboxLosesNothing(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, connect connecting) {
		p := paired(t, connect)
		sent := fill(t, &p.out, func(n int) []byte { return []byte(strings.Repeat(string(rune('a'+n%26)), 999) + "\n") })
		done := make(chan int)
		go func() {
			got := 0
			lines := bufio.NewReader(p.far)
			for got < sent {
				line, err := lines.ReadString('\n')
				if err != nil || len(line) != 1000 || line[0] != byte('a'+got%26) {
					break
				}
				got++
			}
			done <- got
		}()
		deadline := time.After(patience)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case got := <-done:
				if got != sent {
					t.Errorf("%d of %d lines arrived whole", got, sent)
				}
				return
			case <-tick.C:
				if err := p.out.flush(); err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				t.Fatal("it never all arrived")
			}
		}
	})
}

type pair struct {
	out outbox
	far net.Conn
}

func connected(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func paired(t *testing.T, connect connecting) pair {
	t.Helper()
	near, far := connect(t)
	p := pair{newOutbox(near), far}
	t.Cleanup(p.out.close)
	return p
}

func connectedTLS(t *testing.T) (near, far net.Conn) {
	t.Helper()
	near, far = connected(t)
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS() // for its certificate
	t.Cleanup(server.Close)
	over := tls.Server(near, server.TLS)
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := over.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return over, client
}
