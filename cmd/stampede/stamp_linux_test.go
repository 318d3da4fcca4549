package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A connection tells when an answer arrived, not when somebody came to read it, and how long each took alone.
func TestTimesAreThoseOfTheWire(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := stamp(dialled.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.took() != 0 {
		t.Error("something took time before anything was asked")
	}
	in, back := bufio.NewReader(server), bufio.NewReader(conn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // the kernel begins to stamp a little after the first who asks for it
		began := time.Now()
		conn.wrote.Store(0)
		if _, err := io.WriteString(conn, "a question\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(server, "an answer\n"); err != nil {
			t.Fatal(err)
		}
		answered := time.Since(began)
		pause(ctx, 10*time.Millisecond) // the client is late: what is measured does not show it
		if _, err := back.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		took := conn.took()
		if took > 0 && took <= answered {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("took %s, the answer was there after %s", took, answered)
		}
	}
	server.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("past the deadline: %v", err)
	}
}
