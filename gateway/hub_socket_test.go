package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"usher/queue"
)

// clientFrame is a masked frame as browsers send it.
func clientFrame(first byte, payload string) []byte {
	b := []byte{first, maskBit | byte(min(len(payload), 126))}
	if len(payload) > maxControl {
		b = append(b, byte(len(payload)>>8), byte(len(payload)))
	}
	mask := [4]byte{7, 0, 200, 91}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// Whatever the pieces in which a network delivers them, the same frames come out.
func TestFramesInAnyPieces(t *testing.T) {
	t.Parallel()
	type frame struct {
		kind    byte
		payload string
	}
	stream := bytes.Join([][]byte{
		clientFrame(0x8a, ""), clientFrame(0x81, strings.Repeat("x", 300)), clientFrame(0x89, "are you there"),
		clientFrame(0x01, "half"), clientFrame(0x80, "other half"), clientFrame(0x88, "\x03\xe8gone shopping"),
	}, nil)
	want := []frame{{websocket.PongMessage, ""}, {websocket.TextMessage, ""}, {websocket.PingMessage, "are you there"},
		{websocket.TextMessage, ""}, {0, ""}, {websocket.CloseMessage, "\x03\xe8gone shopping"}}
	for size := 1; size <= len(stream); size++ {
		var f frames
		var got []frame
		for at := 0; at < len(stream); at += size {
			err := f.feed(stream[at:min(at+size, len(stream))], func(kind byte, payload []byte) error {
				got = append(got, frame{kind, string(payload)})
				return nil
			})
			if err != nil {
				t.Fatalf("pieces of %d: %v", size, err)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("pieces of %d: %d frames, want %d", size, len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("pieces of %d: frame %d is %+v, want %+v", size, i, got[i], want[i])
			}
		}
	}
}

func TestFramesThatNoClientMaySend(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"without a mask":    {0x81, 2, 'h', 'i'},
		"reserved bits":     clientFrame(0xc1, "hi"),
		"an unknown kind":   clientFrame(0x83, "hi"),
		"a ping in parts":   clientFrame(0x09, "hi"),
		"a long ping":       clientFrame(0x89, strings.Repeat("x", 126)),
		"a ping of 16 bits": {0x89, maskBit | 126, 0, 1, 0, 0, 0, 0, 0},
	} {
		var f frames
		if err := f.feed(b, func(byte, []byte) error { return nil }); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"a long message":          clientFrame(0x81, strings.Repeat("x", maxFrame+1)),
		"a message of many bytes": {0x81, maskBit | 127, 0, 0, 0, 0, 0, 1, 0, 0},
	} {
		var f frames
		if err := f.feed(b, func(byte, []byte) error { return nil }); !errors.Is(err, errLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(clientFrame(0x89, "are you there"))
	f.Add([]byte{0x81, maskBit | 126, 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole, pieces frames
		count := func(n *int) func(byte, []byte) error {
			return func(kind byte, payload []byte) error {
				if len(payload) > maxControl {
					t.Errorf("kind %d with %d bytes", kind, len(payload))
				}
				*n++
				return nil
			}
		}
		var atOnce, apart int
		err := whole.feed(b, count(&atOnce))
		var other error
		for i := 0; i < len(b) && other == nil; i++ {
			other = pieces.feed(b[i:i+1], count(&apart))
		}
		if atOnce != apart || !errors.Is(other, err) {
			t.Errorf("%d frames and %v at once, %d and %v byte by byte", atOnce, err, apart, other)
		}
	})
}

// A browser's ping is answered, its goodbye too.
func TestASocketAnswersPingAndClose(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{"pace_per_min":0}`)
	fan := s.visitor()
	fan.join("gala")
	conn := fan.watch("gala")
	ponged := make(chan string, 1)
	conn.SetPongHandler(func(text string) error {
		select {
		case ponged <- text:
		default:
		}
		return nil
	})
	deadline := time.Now().Add(patience)
	if err := conn.WriteControl(websocket.PingMessage, []byte("there?"), deadline); err != nil {
		t.Fatal(err)
	}
	bye := websocket.FormatCloseMessage(websocket.CloseGoingAway, "")
	if err := conn.WriteControl(websocket.CloseMessage, bye, deadline); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, err = readPlace(t, conn)
	}
	if !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the goodbye was answered with %v", err)
	}
	select {
	case text := <-ponged:
		if text != "there?" {
			t.Errorf("pong %q", text)
		}
	default:
		t.Error("no pong")
	}
}

// Who reads nothing is given up, with a word that says to come back; others lose nothing.
func TestAStuckSocketIsAskedToComeBack(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, connect connecting) {
		p := paired(t, connect)
		s := newSocket(queue.Token{Room: "gala"}, netip.Prefix{})
		s.out = p.out
		d := &shard{seats: []seat{{socket: s}}}
		k := &d.seats[0]
		doc := bytes.Repeat([]byte("x"), 1<<10)
		fill(t, &s.out, func(int) []byte { return append([]byte{finalBit | websocket.TextMessage, 126, 4, 0}, doc...) })
		s.out.since = time.Now().Add(-2 * stuckTime)
		d.push(k, time.Now())
		if !k.ended || !s.out.shut || k.due != never {
			t.Fatal("a stuck socket is not given up")
		}
		done := make(chan error, 1)
		go func() { done <- readToClose(p.far, websocket.CloseTryAgainLater) }()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		deadline := time.After(patience)
		for {
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				return
			case <-tick.C:
				d.push(k, time.Now())
			case <-deadline:
				t.Fatal("the goodbye never came")
			}
		}
	})
}

// readToClose wants whole documents and pings, and then a close frame of the code.
func readToClose(r io.Reader, code int) error {
	for in := bufio.NewReader(r); ; {
		kind, payload, err := readFrame(in)
		if err != nil {
			return err
		}
		switch kind {
		case finalBit | websocket.CloseMessage:
			if got := int(payload[0])<<8 | int(payload[1]); got != code {
				return fmt.Errorf("closed with %d, %q", got, payload[2:])
			}
			return nil
		case finalBit | websocket.TextMessage, finalBit | websocket.PingMessage, finalBit | websocket.PongMessage:
		default:
			return fmt.Errorf("a frame that begins with %x", kind)
		}
	}
}

// readFrame reads a frame of the server.
func readFrame(in *bufio.Reader) (first byte, payload []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:2]); err != nil {
		return 0, nil, err
	}
	size := int(head[1])
	if size == 126 {
		if _, err := io.ReadFull(in, head[2:]); err != nil {
			return 0, nil, err
		}
		size = int(head[2])<<8 | int(head[3])
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(in, payload)
	return head[0], payload, err
}
