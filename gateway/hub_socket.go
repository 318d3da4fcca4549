package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"
	"unique"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"

	"usher/queue"
)

// socket is one visitor's connection after gorilla's handshake. Thousands of them
// wait, so it holds little: documents are framed in borrowed buffers, and its reader
// waits for the connection itself with hardly any stack and no buffer.
type socket struct {
	out    *outbox
	token  queue.Token
	prefix netip.Prefix

	in      frames // belongs to the reader
	chatter int

	// Below belongs to its shard's goroutine.
	at    int         // its seat
	shown uint64      // digest of the last document sent
	state queue.State // when last asked
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

// document sends a Place as one text message.
func (s *socket) document(p *queue.Place) error {
	buffer := documents.Get().(*[]byte)
	defer documents.Put(buffer)
	const room = 4 // for the longest header that a document needs
	b := appendPlace(append((*buffer)[:0], make([]byte, room)...), p)
	*buffer = b
	size := len(b) - room
	if size > 0xffff {
		return errors.New("a document of more than 64 KiB")
	}
	if size < 126 {
		b = b[2:]
		b[1] = byte(size)
	} else {
		b[1] = 126
		binary.BigEndian.PutUint16(b[2:], uint16(size))
	}
	b[0] = finalBit | websocket.TextMessage
	_, err := s.out.Write(b)
	return err
}

// close sends a close frame; the client's answer, or its silence, ends the reader.
func (s *socket) close(code int, reason string) {
	if s.out.control(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason)) == nil {
		_ = s.out.SetReadDeadline(time.Now().Add(2 * time.Second))
	}
}

// read takes what the client sends until the connection ends, and is its end.
func (s *socket) read(h *hub, d *shard) {
	ping := pingEvery(d.line)
	for s.alive(ping) == nil && s.receive() == nil {
	}
	_ = s.out.Close() // the reader's end is the connection's
	d.remove(s)
	h.release(s)
	h.readers.Done()
}

// alive gives the client the time until its next pong.
func (s *socket) alive(ping time.Duration) error {
	if s.out.isShut() {
		return nil // close has set the last time
	}
	return s.out.SetReadDeadline(time.Now().Add(2*ping + 5*time.Second))
}

// scraps lends buffers for what clients send, which is hardly anything.
var scraps = sync.Pool{New: func() any { return new([512]byte) }}

// receive waits until a client sends something and deals with it.
func (s *socket) receive() (err error) {
	if s.out.raw == nil {
		b := scraps.Get().(*[512]byte)
		defer scraps.Put(b)
		n, err := s.out.Read(b[:])
		return errors.Join(s.in.feed(b[:n], s.take), err)
	}
	waited := s.out.raw.Read(func(fd uintptr) bool {
		b := scraps.Get().(*[512]byte)
		defer scraps.Put(b)
		n, fault := unix.Read(int(fd), b[:])
		switch {
		case errors.Is(fault, unix.EAGAIN):
			return false
		case errors.Is(fault, unix.EINTR): // the next call goes on
		case fault != nil:
			err = fault
		case n == 0:
			err = io.EOF
		default:
			err = s.in.feed(b[:n], s.take)
		}
		return true
	})
	return errors.Join(err, waited)
}

var errChatter = errors.New("nothing is expected from clients")

// take deals with one frame of the client; an error ends the connection.
func (s *socket) take(kind byte, payload []byte) error {
	switch kind {
	case websocket.PongMessage:
		return nil // whatever comes shows that the client is there
	case websocket.PingMessage:
		return s.out.control(websocket.PongMessage, payload)
	case websocket.CloseMessage:
		code := payload[:min(2, len(payload))]
		_ = s.out.control(websocket.CloseMessage, code) // nothing if it answers ours
		return io.EOF
	}
	if s.chatter++; s.chatter > maxChatter {
		s.close(websocket.ClosePolicyViolation, "nothing is expected from you")
		return errChatter
	}
	return nil
}

const (
	finalBit = 0x80
	maskBit  = 0x80
	// maxFrame is the longest frame that a client may send.
	maxFrame = 512
	// maxControl is the longest payload of a control frame (RFC 6455, section 5.5).
	maxControl = 125
)

var errFrame = errors.New("not a frame that a client may send")

// frames puts together what a client sends, piece by piece (RFC 6455, section 5.2).
// The payload of data frames is thrown away.
type frames struct {
	head    [8]byte // so far
	read    uint8   // bytes of head
	masked  uint8   // bytes of the payload so far, modulo 4
	left    uint16  // bytes of the payload to come
	payload []byte  // of a control frame
}

// feed reads b and calls take for each frame that is whole.
func (f *frames) feed(b []byte, take func(kind byte, payload []byte) error) error {
	for len(b) > 0 {
		if f.read < 2 || f.read < f.size() {
			f.head[f.read] = b[0]
			f.read++
			b = b[1:]
			if f.read == 2 && !f.sane() {
				return errFrame
			}
			if f.read < 2 || f.read < f.size() {
				continue
			}
			if f.left = uint16(f.head[1] &^ maskBit); f.left == 126 {
				f.left = binary.BigEndian.Uint16(f.head[2:])
			}
			if f.left > maxFrame {
				return errFrame
			}
		}
		piece := b[:min(len(b), int(f.left))]
		b = b[len(piece):]
		f.left -= uint16(len(piece))
		if kind := f.kind(); kind >= websocket.CloseMessage {
			mask := f.head[f.size()-4:]
			for _, c := range piece {
				f.payload = append(f.payload, c^mask[f.masked%4])
				f.masked++
			}
		}
		if f.left == 0 {
			kind, payload := f.kind(), f.payload
			*f = frames{}
			if err := take(kind, payload); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *frames) kind() byte { return f.head[0] & 0x0f }

// size is the length of the header, mask included, once two bytes of it are known.
func (f *frames) size() uint8 {
	if f.head[1]&^maskBit == 126 {
		return 8
	}
	return 6
}

// sane looks at the first two bytes.
func (f *frames) sane() bool {
	const reserved = 0x70
	length := f.head[1] &^ maskBit
	if f.head[0]&reserved != 0 || f.head[1]&maskBit == 0 || length == 127 {
		return false
	}
	switch f.kind() {
	case 0, websocket.TextMessage, websocket.BinaryMessage:
		return true
	case websocket.CloseMessage, websocket.PingMessage, websocket.PongMessage:
		return f.head[0]&finalBit != 0 && length <= maxControl
	}
	return false
}
