package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// bareWriter is the baseline of pushing: gorilla/websocket as slim as it goes, and documents that differ by a number
// alone.
type bareWriter struct {
	mu     sync.Mutex // guards all below
	list   []*websocket.Conn
	next   int
	rate   int // documents a second
	length int // of a document, in bytes
}

// writeEvery is a gateway's tick.
const writeEvery = 250 * time.Millisecond

// serveBareWriter tells its address, and then writes as many documents a second, and as long ones, as the newest line
// says, to one socket after the other, until in ends.
func serveBareWriter(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	b := &bareWriter{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Fprintln(out, l.Addr())
	server := http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second}
	fault := make(chan error, 2)
	go func() { fault <- server.Serve(l) }()
	go b.write() // ends with the process
	go func() {
		for lines.Scan() {
			var rate, length int
			if _, err := fmt.Sscan(lines.Text(), &rate, &length); err != nil {
				fault <- err
				return
			}
			b.mu.Lock()
			b.rate, b.length = rate, length
			b.mu.Unlock()
		}
		fault <- lines.Err()
	}()
	return <-fault
}

// ServeHTTP upgrades and returns, so that nothing of the request stays in memory.
func (b *bareWriter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := bareUpgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has been answered
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, conn)
	go b.read(conn)
}

// read ends with its connection.
func (b *bareWriter) read(conn *websocket.Conn) {
	for {
		if _, _, err := conn.NextReader(); err != nil {
			break
		}
	}
	conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = slices.DeleteFunc(b.list, func(c *websocket.Conn) bool { return c == conn })
}

var bareUpgrader = websocket.Upgrader{
	ReadBufferSize: 512, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{},
	CheckOrigin: func(*http.Request) bool { return true },
}

// write has two writers, as a gateway of two processors has.
func (b *bareWriter) write() {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for range tick.C {
		b.mu.Lock()
		var due []*websocket.Conn
		first := b.next
		if len(b.list) > 0 {
			for range min(int(float64(b.rate)*writeEvery.Seconds()), len(b.list)) {
				due = append(due, b.list[b.next%len(b.list)])
				b.next++
			}
		}
		length := b.length
		b.mu.Unlock()
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				doc := bytes.Repeat([]byte("."), length)
				for n := i * len(due) / 2; n < (i+1)*len(due)/2; n++ {
					strconv.AppendInt(doc[:0], int64(first+n), 10)
					_ = due[n].WriteMessage(websocket.TextMessage, doc) // its reader notices a client that is gone
				}
			})
		}
		both.Wait()
	}
}
