package gateway

import (
	"encoding/binary"

	"github.com/gorilla/websocket"
)

const (
	finalBit = 0x80
	maskBit  = 0x80
	// maxFrame is the longest frame that a client may send.
	maxFrame = 512
	// maxControl is the longest payload of a control frame (RFC 6455, section 5.5).
	maxControl = 125
)

// unwelcome is why a client is sent away, as a close frame says it.
type unwelcome struct {
	code   int
	reason string
}

func (u *unwelcome) Error() string { return u.reason }

var (
	errFrame   = &unwelcome{websocket.CloseProtocolError, "not a frame that a client may send"}
	errLong    = &unwelcome{websocket.CloseMessageTooBig, "nothing as long is expected from you"}
	errChatter = &unwelcome{websocket.ClosePolicyViolation, "nothing is expected from you"}
)

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
			if f.read == 2 {
				if err := f.sane(); err != nil {
					return err
				}
			}
			if f.read < 2 || f.read < f.size() {
				continue
			}
			if f.left = uint16(f.head[1] &^ maskBit); f.left == 126 {
				f.left = binary.BigEndian.Uint16(f.head[2:])
			}
			if f.left > maxFrame {
				return errLong
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
func (f *frames) sane() error {
	const reserved, long = 0x70, 127
	length := f.head[1] &^ maskBit
	if f.head[0]&reserved != 0 || f.head[1]&maskBit == 0 {
		return errFrame
	}
	switch f.kind() {
	case 0, websocket.TextMessage, websocket.BinaryMessage:
		if length == long {
			return errLong
		}
		return nil
	case websocket.CloseMessage, websocket.PingMessage, websocket.PongMessage:
		if f.head[0]&finalBit != 0 && length <= maxControl {
			return nil
		}
	}
	return errFrame
}

// goodbye is what answers a client's close frame: the same code, if it may be sent (RFC
// 6455, section 7.4).
func goodbye(payload []byte) ([]byte, error) {
	if len(payload) == 0 {
		return nil, nil
	}
	if len(payload) == 1 {
		return nil, errFrame
	}
	switch code := binary.BigEndian.Uint16(payload); {
	case code < 1000, code >= 1004 && code <= 1006, code >= 1015 && code < 3000, code >= 5000:
		return nil, errFrame
	}
	return payload[:2], nil
}
