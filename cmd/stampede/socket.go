package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// silence is how long a healthy socket may say nothing, pings included, before the fan dials again.
const silence = 90 * time.Second

var writeBuffers sync.Pool

// A socket is one connection to …/place/ws.
type socket struct {
	conn    *websocket.Conn
	gateway int
	quiet   time.Time // when the fan means to stop reading; zero: never
	stop    func() bool
}

// errQuiet says that the socket was closed at the time that the fan had set for it.
var errQuiet = errors.New("the fan closed its socket")

// dialPlace opens the fan's socket; quiet is when the fan will close it itself (zero: it stays).
func (c *client) dialPlace(ctx context.Context, room string, quiet time.Time) (*socket, error) {
	i, gateway := c.gateway()
	d := websocket.Dialer{
		NetDialContext:   c.dial,
		HandshakeTimeout: requestTimeout,
		ReadBufferSize:   512,
		WriteBufferSize:  512,
		WriteBufferPool:  &writeBuffers,
		Jar:              c.jar,
		Subprotocols:     []string{"usher.v1"},
	}
	header := http.Header{}
	if c.app {
		d.Subprotocols = append(d.Subprotocols, "place."+c.token)
	} else {
		header.Set("Origin", gateway.Scheme+"://"+gateway.Host)
	}
	u := *gateway.JoinPath("/api/v1/rooms", room, "place/ws")
	u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
	conn, resp, err := d.DialContext(ctx, u.String(), header)
	if err != nil {
		if resp != nil && errors.Is(err, websocket.ErrBadHandshake) {
			r := &refusal{Status: resp.StatusCode, requestID: resp.Header.Get("X-Request-Id")}
			body := make([]byte, 1024)
			n, _ := resp.Body.Read(body) // gorilla keeps at most 1024 bytes of it
			if json.Unmarshal(body[:n], r) != nil {
				r.Detail = fmt.Sprintf("%.120q", body[:n])
			}
			if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
				r.retryAfter = time.Duration(s) * time.Second
			}
			r.Status = resp.StatusCode
			return nil, r
		}
		return nil, err
	}
	conn.SetReadLimit(64 << 10)
	s := &socket{conn: conn, gateway: i, quiet: quiet}
	s.extend()
	conn.SetPingHandler(func(text string) error {
		s.extend()
		err := conn.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(5*time.Second))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil
		}
		return err
	})
	s.stop = context.AfterFunc(ctx, func() { conn.Close() })
	return s, nil
}

// extend gives the next message its time; an error shows at the read.
func (s *socket) extend() {
	until := time.Now().Add(silence)
	if !s.quiet.IsZero() && s.quiet.Before(until) {
		until = s.quiet
	}
	_ = s.conn.SetReadDeadline(until)
}

// read returns the next Place, or errQuiet at the time set, or why the connection ended.
func (s *socket) read() (placeDoc, error) {
	var p placeDoc
	kind, b, err := s.conn.ReadMessage()
	if err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() && !s.quiet.IsZero() && !time.Now().Before(s.quiet) {
			return p, errQuiet
		}
		return p, err
	}
	s.extend()
	if kind != websocket.TextMessage {
		return p, fmt.Errorf("message of kind %d, want text", kind)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("read a Place: %w", err)
	}
	return p, nil
}

func (s *socket) close() {
	s.stop()
	s.conn.Close()
}

// returnAfter is how long the server asks a closed client to stay away: "reconnect=1.5s" as the close reason. Without one
// the client chooses.
func returnAfter(err error) (time.Duration, bool) {
	var ce *websocket.CloseError
	if !errors.As(err, &ce) {
		return 0, false
	}
	asked, ok := strings.CutPrefix(ce.Text, "reconnect=")
	d, err := time.ParseDuration(asked)
	if !ok || err != nil {
		return 0, false
	}
	return min(max(d, 0), time.Minute), true
}
