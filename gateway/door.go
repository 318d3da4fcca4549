package gateway

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"usher/internal/http1"
	"usher/internal/telemetry"
)

// proxyHeaderTime is how long a trusted peer may take to say for whom it speaks.
const proxyHeaderTime = 3 * time.Second

// Guard is l behind the door that all public listeners of this gateway share: it
// bounds the connections at once, in all and of one client prefix, and with
// Config.ProxyProtocol reads from trusted proxies whom each connection is from. Whom
// it refuses it hangs up on: a busy server has no words for those. l is of TCP.
func (s *Server) Guard(l net.Listener) net.Listener {
	if !s.cfg.ProxyProtocol {
		return &guarded{Listener: l, door: s.door}
	}
	p := &proxied{guarded: guarded{Listener: l, door: s.door}, arrived: make(chan arrival), closed: make(chan struct{})}
	p.ended.Go(p.run)
	return p
}

// door counts the open connections of a gateway.
type door struct {
	trusted        trustedProxies
	max, perPrefix int

	mu   sync.Mutex // guards all below
	open int
	of   map[netip.Prefix]int // of each client prefix; at most open entries
}

// enter takes one of all connections for one that has just come; false when none is left.
func (d *door) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open >= d.max {
		telemetry.ConnectionsRefused.WithLabelValues("full").Inc()
		return false
	}
	d.open++
	telemetry.Connections.Set(float64(d.open))
	return true
}

// admit takes one of the client's own for a connection that entered; nil when it has
// them all, and then the connection is closed. Trusted proxies stand for many clients
// and are not counted.
func (d *door) admit(conn *net.TCPConn, from net.Addr) net.Conn {
	g := &guest{TCP: http1.TCP{TCPConn: conn}, door: d, from: from}
	if addr, ok := addrOf(from); ok && !d.trusted.trusts(addr) {
		prefix := prefixOf(addr)
		d.mu.Lock()
		full := d.of[prefix] >= d.perPrefix
		if !full {
			d.of[prefix]++
			g.prefix = prefix
		}
		d.mu.Unlock()
		if full {
			telemetry.ConnectionsRefused.WithLabelValues("prefix").Inc()
			_ = g.Close()
			return nil
		}
	}
	return g
}

func (d *door) leave(prefix netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	telemetry.Connections.Set(float64(d.open))
	if !prefix.IsValid() {
		return
	}
	if d.of[prefix]--; d.of[prefix] == 0 {
		delete(d.of, prefix)
	}
}

func addrOf(a net.Addr) (netip.Addr, bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	addr := tcp.AddrPort().Addr()
	return addr.Unmap().WithZone(""), addr.IsValid()
}

// guarded is a listener whose connections come through the door.
type guarded struct {
	net.Listener
	door *door
}

func (l *guarded) Accept() (net.Conn, error) {
	for {
		conn, err := l.enter()
		if err != nil {
			return nil, err
		}
		if guest := l.door.admit(conn, conn.RemoteAddr()); guest != nil {
			return guest, nil
		}
	}
}

// enter waits for the next connection that finds room.
func (l *guarded) enter() (*net.TCPConn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			_ = conn.Close()
			return nil, errors.New("gateway: Guard needs a listener of TCP")
		}
		if l.door.enter() {
			return tcp, nil
		}
		_ = tcp.SetLinger(0) // a reset leaves nothing behind in the kernel
		_ = tcp.Close()
	}
}

// proxied is a guarded listener whose trusted peers begin with a PROXY header
// (haproxy.org/download/1.8/doc/proxy-protocol.txt), version 1 or 2. A peer that is
// not trusted is taken by its address; a header of its own is to HTTP and TLS what any
// other nonsense is.
type proxied struct {
	guarded
	arrived chan arrival
	closed  chan struct{}
	once    sync.Once
	ended   sync.WaitGroup
}

// arrival is what Accept returns.
type arrival struct {
	conn net.Conn
	err  error
}

func (l *proxied) Accept() (net.Conn, error) {
	select {
	case a := <-l.arrived:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *proxied) Close() error {
	l.once.Do(func() { close(l.closed) })
	err := l.Listener.Close()
	l.ended.Wait()
	return err
}

// run lets connections in. As many wait for their header as the door lets in, so one
// slow peer holds up nobody.
func (l *proxied) run() {
	for {
		conn, err := l.enter()
		if err != nil {
			if l.hand(arrival{err: err}) && !errors.Is(err, net.ErrClosed) {
				continue // the server waited before it asked again
			}
			return
		}
		l.ended.Go(func() { l.introduce(conn) })
	}
}

// hand passes a on to Accept; false when nobody accepts any more.
func (l *proxied) hand(a arrival) bool {
	select {
	case l.arrived <- a:
		return true
	case <-l.closed:
		return false
	}
}

// introduce finds out whom a connection is from and passes it on.
func (l *proxied) introduce(conn *net.TCPConn) {
	from := conn.RemoteAddr()
	if peer, ok := addrOf(from); ok && l.door.trusted.trusts(peer) {
		said, err := clientOf(conn)
		if err != nil {
			telemetry.ConnectionsRefused.WithLabelValues("proxy-header").Inc()
			_ = (&guest{TCP: http1.TCP{TCPConn: conn}, door: l.door}).Close()
			return
		}
		if said != nil {
			from = said
		}
	}
	if guest := l.door.admit(conn, from); guest != nil && !l.hand(arrival{conn: guest}) {
		_ = guest.Close()
	}
}

// clientOf reads the PROXY header of a connection: the address of its client, nil for
// one that the proxy opened for itself (a check of its own).
func clientOf(conn *net.TCPConn) (net.Addr, error) {
	if err := conn.SetReadDeadline(time.Now().Add(proxyHeaderTime)); err != nil {
		return nil, err
	}
	raw, err := proxyHeader(conn)
	if err != nil {
		return nil, err
	}
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, err
	}
	if header.Command.IsLocal() || header.TransportProtocol.IsUnspec() {
		return nil, conn.SetReadDeadline(time.Time{})
	}
	if client, _, ok := header.TCPAddrs(); ok {
		return client, conn.SetReadDeadline(time.Time{})
	}
	return nil, errors.New("the PROXY header is not about a TCP connection")
}

// The beginnings of the two versions, and the longest header of each.
const (
	proxySigned = "\r\n\r\n\x00\r\nQUIT\n" // version 2
	proxyLined  = "PROXY "                 // version 1
	maxProxied  = 4 << 10
	maxLine     = 107
)

var errProxyHeader = errors.New("no PROXY header")

// proxyHeader reads a header and not a byte more, so that the connection can be handed
// on as it is.
func proxyHeader(r io.Reader) ([]byte, error) {
	raw := make([]byte, len(proxySigned), maxLine)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	if string(raw) == proxySigned {
		raw = raw[:16]
		if _, err := io.ReadFull(r, raw[12:]); err != nil {
			return nil, err
		}
		length := int(binary.BigEndian.Uint16(raw[14:]))
		if length > maxProxied {
			return nil, errProxyHeader
		}
		raw = append(raw, make([]byte, length)...)
		_, err := io.ReadFull(r, raw[16:])
		return raw, err
	}
	if !strings.HasPrefix(string(raw), proxyLined) {
		return nil, errProxyHeader
	}
	for raw[len(raw)-1] != '\n' {
		if len(raw) == maxLine {
			return nil, errProxyHeader
		}
		raw = raw[:len(raw)+1]
		if _, err := io.ReadFull(r, raw[len(raw)-1:]); err != nil {
			return nil, err
		}
	}
	return raw, nil
}
