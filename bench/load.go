package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A load sends requests over a number of kept connections.
type load struct {
	connections int
	sent        *atomic.Uint32 // how many were, in all turns
	// write appends the nth request to out.
	write  func(out []byte, n uint32, address string) []byte
	status int  // that every answer has to have; 0: 200 or 429, as limiters answer
	lean   bool // see drive
}

// joining is a load of joins, each for another client address, as a trusted proxy in front would send them: the
// gateway's limits see every visitor once.
func joining(room string, sent *atomic.Uint32) load {
	return load{connections: connections, sent: sent, status: http.StatusCreated, write: func(out []byte, n uint32, address string) []byte {
		return fmt.Appendf(out, "POST /api/v1/rooms/%s/places HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 10.%d.%d.%d\r\nContent-Length: 0\r\n\r\n",
			room, address, byte(n>>16), byte(n>>8), byte(n))
	}}
}

// polling is a load of questions for their places by visitors who take turns, each from an address of its own.
func polling(room string, cookies []string, sent *atomic.Uint32) load {
	return load{connections: connections, sent: sent, status: http.StatusOK, write: func(out []byte, n uint32, address string) []byte {
		i := n % uint32(len(cookies))
		return fmt.Appendf(out, "GET /api/v1/rooms/%s/place HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 10.%d.%d.%d\r\nCookie: %s\r\n\r\n",
			room, address, byte(i>>16), byte(i>>8), byte(i), cookies[i])
	}}
}

// A pace is how much was answered in how long.
type pace struct {
	answers int64
	took    time.Duration
}

func (p pace) perSecond() float64 { return float64(p.answers) / p.took.Seconds() }

// run loads address until d is over or the number of answers is limit (0: none). An answer of another status is an error.
func (l load) run(ctx context.Context, address string, d time.Duration, limit int64) (pace, error) {
	if l.lean && limit == 0 {
		return l.drive(ctx, address, d)
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var answers, begun atomic.Int64
	var group errgroup.Group
	start := time.Now()
	for range l.connections {
		group.Go(func() error {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := conn.SetDeadline(start.Add(d + 10*time.Second)); err != nil {
				return err
			}
			in := bufio.NewReaderSize(conn, 4096)
			var out []byte
			for ctx.Err() == nil {
				if begun.Add(1) > limit && limit > 0 {
					return nil
				}
				out = l.write(out[:0], l.sent.Add(1), address)
				if _, err := conn.Write(out); err != nil {
					return err
				}
				if err := readAnswer(in, l.status); err != nil {
					return err
				}
				answers.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return pace{answers.Load(), time.Since(start)}, err
}

// readAnswer reads one response with a Content-Length and wants it to have the status (see load). It makes no memory: what
// the load costs is taken from what it measures.
func readAnswer(in *bufio.Reader, want int) error {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	const before = "HTTP/1.1 "
	if len(line) < len(before)+3 || string(line[:len(before)]) != before {
		return fmt.Errorf("no answer of HTTP: %q", line)
	}
	status := decimal(line[len(before) : len(before)+3])
	length := -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		const name = "Content-Length:"
		if len(line) > len(name) && line[len(name)-1] == ':' && strings.EqualFold(string(line[:len(name)]), name) {
			length = decimal(bytes.TrimSpace(line[len(name):]))
		}
	}
	if length < 0 {
		return fmt.Errorf("answer %d without a content length", status)
	}
	if !wanted(status, want) {
		body := make([]byte, min(length, 300))
		_, _ = io.ReadFull(in, body) // the status is the news
		return fmt.Errorf("want %d, got %d %s", want, status, body)
	}
	_, err = in.Discard(length)
	return err
}

// answerSize is how long the answer is that in begins with, 0 as long as nobody can tell. It has a Content-Length, written
// as usual, and the status wanted (see load).
func answerSize(in []byte, want int) (int, error) {
	const statusEnd = len("HTTP/1.1 200")
	head := bytes.Index(in, []byte("\r\n\r\n"))
	if head < statusEnd {
		return 0, nil
	}
	status, length := decimal(in[statusEnd-3:statusEnd]), -1
	const name = "\r\nContent-Length: "
	if at := bytes.Index(in[:head], []byte(name)); at >= 0 {
		said, _, _ := bytes.Cut(in[at+len(name):head], []byte("\r"))
		length = decimal(said)
	}
	body := in[head+len("\r\n\r\n"):]
	switch {
	case length < 0:
		return 0, fmt.Errorf("answer %d without a content length", status)
	case !wanted(status, want):
		return 0, fmt.Errorf("want %d, got %d %.300s", want, status, body)
	}
	return len(in) - len(body) + length, nil
}

// wanted tells whether an answer has the status that a load wants.
func wanted(status, want int) bool {
	return status == want || want == 0 && (status == http.StatusOK || status == http.StatusTooManyRequests)
}

// decimal is the number that digits say, -1 where they say none.
func decimal(digits []byte) int {
	n := 0
	if len(digits) == 0 {
		return -1
	}
	for _, c := range digits {
		if c < '0' || c > '9' || n > 1<<30 {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}
