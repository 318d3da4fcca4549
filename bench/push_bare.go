package main

import (
	"bufio"
	"errors"
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

// bareWriter is the baseline of pushing: gorilla/websocket as slim as it goes, and one document for everybody.
type bareWriter struct {
	doc  []byte
	mu   sync.Mutex // guards all below
	list []*websocket.Conn
	next int
	rate int // documents a second
}

// writeEvery is a gateway's tick.
const writeEvery = 250 * time.Millisecond

// serveBareWriter takes a document's line, tells its address, and then writes as many of it a second as the newest line
// says, to one socket after the other, until in ends.
func serveBareWriter(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return errors.New("no document is given")
	}
	b := &bareWriter{doc: []byte(lines.Text())}
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
			rate, err := strconv.Atoi(lines.Text())
			if err != nil {
				fault <- err
				return
			}
			b.mu.Lock()
			b.rate = rate
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
		if len(b.list) > 0 {
			for range min(int(float64(b.rate)*writeEvery.Seconds()), len(b.list)) {
				due = append(due, b.list[b.next%len(b.list)])
				b.next++
			}
		}
		b.mu.Unlock()
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				for _, conn := range due[i*len(due)/2 : (i+1)*len(due)/2] {
					_ = conn.WriteMessage(websocket.TextMessage, b.doc) // its reader notices a client that is gone
				}
			})
		}
		both.Wait()
	}
}
