package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// A load sends POST requests for a new place over a number of kept connections, each for another client address, as a
// trusted proxy in front would: the gateway's limits see every visitor once.
type load struct {
	room        string
	connections int
	visitors    *atomic.Uint32 // how many addresses were used, so that none comes again
}

// A pace is how much was answered in how long.
type pace struct {
	answers int64
	took    time.Duration
}

func (p pace) perSecond() float64 { return float64(p.answers) / p.took.Seconds() }

// run loads address until d is over or the number of answers is limit (0: none). Answers other than 201 are an error.
func (l load) run(ctx context.Context, address string, d time.Duration, limit int64) (pace, error) {
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
			in := bufio.NewReaderSize(conn, 4096)
			var out []byte
			for ctx.Err() == nil {
				if begun.Add(1) > limit && limit > 0 {
					return nil
				}
				n := l.visitors.Add(1)
				out = fmt.Appendf(out[:0], "POST /api/v1/rooms/%s/places HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 10.%d.%d.%d\r\nContent-Length: 0\r\n\r\n",
					l.room, address, byte(n>>16), byte(n>>8), byte(n))
				if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
					return err
				}
				if _, err := conn.Write(out); err != nil {
					return err
				}
				if err := readCreated(in); err != nil {
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

// readCreated reads one response with a Content-Length and wants it to be a 201.
func readCreated(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	created := bytes.HasPrefix(status, []byte("HTTP/1.1 201 "))
	said := string(status)
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return fmt.Errorf("content length: %w", err)
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("answer without a content length: %s", said)
	}
	if !created {
		body := make([]byte, min(length, 300))
		_, _ = io.ReadFull(in, body) // the status is the news
		return fmt.Errorf("want 201, got %s%s", said, body)
	}
	_, err = in.Discard(length)
	return err
}
