package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"sync"
	"unique"

	"github.com/gorilla/websocket"

	"usher/internal/telemetry"
	"usher/queue"
)

// socket is one visitor's connection after gorilla's handshake. Thousands of them
// wait, so it holds little: no goroutine, no buffer. It belongs to its shard's goroutine.
type socket struct {
	// What a document needs lies together, for no processor's cache holds thousands of these.
	token queue.Token
	state queue.State // when last asked
	shown uint64      // digest of the last document sent
	out   outbox

	at     int // its seat
	prefix netip.Prefix

	in      frames
	chatter uint8  // messages so far
	asked   []byte // the newest ping that is not answered; nil for none
	// deaf: what comes is not understood or not welcome, and is thrown away unread.
	deaf bool
	gone bool // guarded by its shard's mutex

	// next lets the reader of a connection without descriptor go on; closed at the end.
	next chan struct{}
}

func newSocket(t queue.Token, prefix netip.Prefix) *socket {
	for _, text := range []*string{&t.Room, &t.Epoch, &t.Commitment} { // the same for all who wait in a room
		*text = unique.Make(*text).Value()
	}
	return &socket{token: t, prefix: prefix}
}

func (s *socket) watched() watched { return watched{s.token.Room, s.token.Number} }

// documents lends buffers for one message at a time.
var documents = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// tell sends a Place as one text message, and a ping in the same packet if asked to. It
// sends nothing, and is false, when the last message said the same.
func (s *socket) tell(p *queue.Place, ping bool) (sent bool, err error) {
	buffer := documents.Get().(*[]byte)
	defer documents.Put(buffer)
	const room = 4 // for the longest header that a document needs
	b := appendPlace(append((*buffer)[:0], make([]byte, room)...), p)
	*buffer = b
	digest := digestOf(b[room:])
	if digest == s.shown {
		return false, nil
	}
	size := len(b) - room
	if size > 0xffff {
		return false, errors.New("a document of more than 64 KiB")
	}
	if ping {
		b = append(b, finalBit|websocket.PingMessage, 0)
	}
	if size < 126 {
		b = b[2:]
		b[1] = byte(size)
	} else {
		b[1] = 126
		binary.BigEndian.PutUint16(b[2:], uint16(size))
	}
	b[0] = finalBit | websocket.TextMessage
	if err := s.out.write(b); err != nil {
		return false, err
	}
	s.shown = digest
	telemetry.WSMessages.Inc()
	return true, nil
}

const (
	// maxChatter is how many messages a client may send, though none is expected.
	maxChatter = 16
	// maxFrames is how many frames of any kind a client may send between two ticks.
	maxFrames = 16
)

// receive deals with what a client sent between two ticks. An error is the end: io.EOF
// when the client has said goodbye.
func (s *socket) receive(b []byte) error {
	count := 0
	err := s.in.feed(b, func(kind byte, payload []byte) error {
		if count++; count > maxFrames {
			return errChatter
		}
		return s.take(kind, payload)
	})
	if err == nil {
		err = s.pong()
	}
	return err
}

// pong answers the newest ping, which speaks for those before it (RFC 6455, section 5.5.3).
func (s *socket) pong() error {
	if s.asked == nil || s.out.shut {
		return nil
	}
	defer func() { s.asked = nil }()
	return s.out.control(websocket.PongMessage, s.asked)
}

// take deals with one frame.
func (s *socket) take(kind byte, payload []byte) error {
	switch kind {
	case websocket.PongMessage:
		return nil // whatever comes shows that the client is there
	case websocket.PingMessage:
		s.asked = append(make([]byte, 0, len(payload)), payload...) // not nil
		return nil
	case websocket.CloseMessage:
		code, err := goodbye(payload)
		if err != nil {
			return err
		}
		_ = s.pong()
		_ = s.out.control(websocket.CloseMessage, code) // nothing if it answers ours
		return io.EOF
	}
	if s.chatter++; s.chatter > maxChatter {
		return errChatter
	}
	return nil
}
