// Package origintest is an origin for tests that says whatever bytes it is told to.
package origintest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// HangUp at the end of an answer is not sent: the connection is closed in its place.
const HangUp = "<close>"

// Scripted starts a server that answers each request by the bytes that script gives; "" closes
// the connection. It counts the connections that it was given.
func Scripted(t *testing.T, script func(r *http.Request) string) (address string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = &atomic.Int64{}
	var open sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			context.AfterFunc(ctx, func() { conn.Close() })
			open.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					answer, last := strings.CutSuffix(script(r), HangUp)
					if _, err := io.WriteString(conn, answer); err != nil || answer == "" || last {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); open.Wait() })
	return l.Addr().String(), connections
}
