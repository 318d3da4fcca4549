package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"usher/internal/pass"
	"usher/internal/problem"
)

const (
	bridgeRead   = 64 << 10 // from the client
	bridgeAnswer = 4 << 20  // from the origin
	bridgeWrite  = 10 * time.Second

	handshakeTime = 6 * time.Second // to the origin
	bridgeSilent  = 2*pingTime + 5*time.Second
)

// handshakeFields are of the client's handshake; the dialer writes its own.
var handshakeFields = []string{"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions", "Sec-Websocket-Protocol"}

// bridge ends the client's WebSocket here and opens one to the origin, one to one.
// It lasts until either side closes, until the pass ends, or until a drain.
func (s *Server) bridge(w http.ResponseWriter, r *http.Request, o *hop) {
	v := visitOf(r)
	end := s.bridges.take(v.prefix)
	if end == nil {
		problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "too-many-connections", "No live connection is free here. Please ask again instead.").In(5*time.Second))
		return
	}
	client, far := s.connect(w, r, v, o)
	if client == nil {
		end()
		return
	}
	session := v.ends // what is under way lasts as long as the connection
	v.ends = nil
	s.hold(func() {
		defer end()
		if session != nil {
			defer session()
		}
		s.carry(client, far, v.claims)
	})
}

// hold runs a function that keeps connections; Drain waits for it.
func (s *Server) hold(keep func()) {
	s.mu.Lock()
	if s.drained {
		s.mu.Unlock()
		keep() // sees the drain at once and ends
		return
	}
	s.held.Go(keep)
	s.mu.Unlock()
}

// connect opens both sides; a nil client means that the refusal is written.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, v *visit, o *hop) (client, far *websocket.Conn) {
	header := r.Header.Clone()
	dropHops(header)
	header[problem.RequestIDHeader] = r.Header[problem.RequestIDHeader] // whatever Connection names
	for _, name := range handshakeFields {
		delete(header, name)
	}
	sanitise(header, v, r.Host, o.ours)
	header.Set("Host", r.Host)
	orElse(header, "User-Agent", nil) // else the dialer names itself
	protocols := slices.DeleteFunc(websocket.Subprotocols(r), func(p string) bool { return strings.HasPrefix(p, placeProtocol) })
	dialer := websocket.Dialer{
		HandshakeTimeout: handshakeTime, Subprotocols: protocols,
		ReadBufferSize: 4096, WriteBufferSize: 1024, WriteBufferPool: s.hub.upgrader.WriteBufferPool,
	}
	target, opened, err := o.Open(r)
	if err != nil {
		o.fail(w, r, s.log, err)
		return nil, nil
	}
	target.Scheme = map[string]string{"http": "ws", "https": "wss"}[target.Scheme]
	target.RawQuery = plainQuery(target.RawQuery)
	far, answer, err := dialer.DialContext(r.Context(), target.String(), header)
	opened(err == nil || answer != nil && answer.StatusCode < http.StatusBadGateway, err == nil || r.Context().Err() == nil)
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && answer != nil && answer.StatusCode >= http.StatusBadRequest:
		// The origin's own refusal, as far as the dialer kept its body.
		defer answer.Body.Close()
		for _, name := range []string{"Content-Type", "Retry-After", "Www-Authenticate"} {
			if value := answer.Header.Get(name); value != "" {
				w.Header().Set(name, value)
			}
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, io.LimitReader(answer.Body, 64<<10))
		return nil, nil
	case err != nil:
		o.fail(w, r, s.log, err)
		return nil, nil
	}
	upgrader := s.hub.upgrader
	upgrader.ReadBufferSize, upgrader.Subprotocols = 1024, nil
	if chosen := far.Subprotocol(); chosen != "" {
		upgrader.Subprotocols = []string{chosen}
	}
	client, err = upgrade(&upgrader, w, r)
	if err != nil { // Upgrade has answered
		_ = far.Close()
		return nil, nil
	}
	return client, far
}

// upgrade answers a WebSocket's handshake, with the request's id as in every answer.
func upgrade(u *websocket.Upgrader, w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	return u.Upgrade(w, r, http.Header{problem.RequestIDHeader: r.Header[problem.RequestIDHeader]})
}

// carry owns both connections until they end.
func (s *Server) carry(client, far *websocket.Conn, claims *pass.Claims) {
	client.SetReadLimit(bridgeRead)
	far.SetReadLimit(bridgeAnswer)
	alive := func(string) error { return client.SetReadDeadline(time.Now().Add(bridgeSilent)) }
	client.SetPongHandler(alive)
	_ = alive("") // a dead connection shows at the first read

	down := make(chan struct{}) // from the origin to the client
	up := make(chan struct{})
	go func() { defer close(down); pump(client, far) }()
	go func() { defer close(up); pump(far, client) }()

	ping := time.NewTicker(pingTime)
	defer ping.Stop()
	var expiry, look <-chan time.Time // of a pass, if there is one
	if claims != nil {
		timer, ticker := time.NewTimer(time.Until(claims.ExpiresAt)), time.NewTicker(time.Second)
		defer timer.Stop()
		defer ticker.Stop()
		expiry, look = timer.C, ticker.C
	}
	say := func(code int, reason string) {
		_ = client.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second))
	}
wait:
	for {
		select {
		case <-down:
			break wait
		case <-up:
			break wait
		case <-expiry:
			say(websocket.ClosePolicyViolation, "pass-expired")
			break wait
		case <-look:
			if s.cfg.Hall.Ended(claims.Session) {
				say(websocket.ClosePolicyViolation, "pass-ended")
				break wait
			}
		case <-s.draining:
			say(websocket.CloseServiceRestart, "reconnect=1.0s")
			break wait
		case <-ping.C:
			_ = client.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) // its failure ends a pump
		}
	}
	_ = far.Close()
	_ = client.Close()
	<-down
	<-up
}

// pump copies messages to a connection until one side ends, and passes a close on.
func pump(to, from *websocket.Conn) {
	for {
		kind, message, err := from.ReadMessage()
		if err != nil {
			code, reason := websocket.CloseGoingAway, ""
			var closed *websocket.CloseError
			if errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure && closed.Code != websocket.CloseNoStatusReceived {
				code, reason = closed.Code, closed.Text
			}
			_ = to.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second))
			return
		}
		_ = to.SetWriteDeadline(time.Now().Add(bridgeWrite))
		if err := to.WriteMessage(kind, message); err != nil {
			return
		}
	}
}

// monitor streams a room's live figures to an operator.
func (s *Server) monitor(w http.ResponseWriter, r *http.Request, next func() (any, <-chan struct{})) {
	end := s.monitors.take(visitOf(r).prefix)
	if end == nil {
		problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "too-many-connections", "Too many consoles are connected here.").In(5*time.Second))
		return
	}
	conn, err := upgrade(&s.hub.upgrader, w, r)
	if err != nil { // Upgrade has answered
		end()
		return
	}
	s.hold(func() {
		defer end()
		ctx, cancel := context.WithCancel(context.Background())
		reader := make(chan struct{})
		go func() {
			defer close(reader)
			defer cancel()
			conn.SetReadLimit(512)
			alive := func(string) error { return conn.SetReadDeadline(time.Now().Add(bridgeSilent)) }
			conn.SetPongHandler(alive)
			for alive("") == nil {
				if _, _, err := conn.NextReader(); err != nil {
					return
				}
			}
		}()
		s.broadcast(ctx, conn, next)
		_ = conn.Close()
		<-reader
	})
}

// maxMonitors bounds the consoles of one gateway.
const maxMonitors = 200

// broadcast writes what next returns, now and whenever its channel closes.
func (s *Server) broadcast(ctx context.Context, conn *websocket.Conn, next func() (any, <-chan struct{})) {
	beat := time.NewTicker(pingTime)
	defer beat.Stop()
	for {
		figures, changed := next()
		_ = conn.SetWriteDeadline(time.Now().Add(bridgeWrite))
		if conn.WriteJSON(figures) != nil {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
			_ = conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) // its failure ends the reader
		case <-s.draining:
			_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseServiceRestart, "reconnect=1.0s"), time.Now().Add(time.Second))
			return
		case <-ctx.Done():
			return
		}
	}
}
