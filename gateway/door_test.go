package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// wire is a connection on which a test writes what no client library would.
type wire struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

// wireFrom connects from an address of this machine.
func (s *site) wireFrom(address string) *wire {
	s.t.Helper()
	w, err := s.connect(address)
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

func (s *site) connect(address string) (*wire, error) {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	conn, err := d.Dial("tcp", s.url.Host)
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		s.t.Fatal(err)
	}
	return &wire{s.t, conn, bufio.NewReader(conn)}, nil
}

// servedFrom tells whether a new connection from an address is let in and answered; it
// stays open until the test ends.
func (s *site) servedFrom(address string) bool {
	s.t.Helper()
	w, err := s.connect(address) // whom the edge hangs up on may notice here already
	return err == nil && w.served()
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Logf("write: %v", err) // the other side may have hung up already
	}
}

// answer reads one answer; nil when the connection ends before one is whole.
func (w *wire) answer() (*http.Response, string) {
	res, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return nil, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, ""
	}
	return res, string(body)
}

const plainAsk = "GET /api/v1/events HTTP/1.1\r\nHost: shop.example\r\n\r\n"

// served tells whether a plain request is answered.
func (w *wire) served() bool {
	w.t.Helper()
	w.send(plainAsk)
	res, _ := w.answer()
	return res != nil && res.StatusCode == http.StatusOK
}

func trusting(addresses ...string) func(*Config) {
	return func(c *Config) {
		c.TrustedProxies = nil
		for _, a := range addresses {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(a+"/32"))
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, trusting("127.0.0.9"), func(c *Config) { c.MaxConnections, c.MaxConnectionsPerPrefix = 6, 3 })
	first := s.wireFrom("127.0.0.1")
	if !first.served() {
		t.Fatal("the first connection is not served")
	}
	for i, c := range []struct {
		from string
		ok   bool
	}{
		{"127.0.0.1", true}, {"127.0.0.1", true},
		{"127.0.0.1", false}, // all that one client may have
		{"127.0.0.9", true}, {"127.0.0.9", true}, {"127.0.0.2", true},
		{"127.0.0.3", false}, // all that there are
	} {
		if s.servedFrom(c.from) != c.ok {
			t.Fatalf("connection %d, from %s: want %v", i+2, c.from, c.ok)
		}
	}
	_ = first.Close()
	for deadline := time.Now().Add(3 * patience); !s.servedFrom("127.0.0.1"); {
		if time.Now().After(deadline) {
			t.Fatal("a connection that has ended is counted for ever")
		}
	}
}

func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	s := open(t, trusting("127.0.0.9"), func(c *Config) { c.ProxyProtocol = true })
	client := &net.TCPAddr{IP: net.ParseIP("198.18.7.7"), Port: 4711}
	client6 := &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 4711}
	here := &net.TCPAddr{IP: net.ParseIP("198.18.0.1"), Port: 443}
	here6 := &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 443}
	header := func(version byte, from, to net.Addr, change func(*proxyproto.Header)) string {
		h := proxyproto.HeaderProxyFromAddrs(version, from, to)
		if change != nil {
			change(h)
		}
		raw, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	stalled := s.wireFrom("127.0.0.9") // holds up nobody, and is hung up on in the end
	stalled.send("PROXY TCP4 198.18")
	for name, c := range map[string]struct{ from, header, seen string }{
		"version 1":       {"127.0.0.9", header(1, client, here, nil), "198.18.7.7"},
		"version 1, IPv6": {"127.0.0.9", header(1, client6, here6, nil), "2001:db8::7"},
		"version 2":       {"127.0.0.9", header(2, client, here, nil), "198.18.7.7"},
		"version 2, IPv6": {"127.0.0.9", header(2, client6, here6, nil), "2001:db8::7"},
		"version 2 with more to say": {"127.0.0.9", header(2, client, here, func(h *proxyproto.Header) {
			_ = h.SetTLVs([]proxyproto.TLV{{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("shop.example")}})
		}), "198.18.7.7"},
		"the proxy itself":                 {"127.0.0.9", header(2, client, here, func(h *proxyproto.Header) { h.Command = proxyproto.LOCAL }), "127.0.0.9"},
		"unknown":                          {"127.0.0.9", "PROXY UNKNOWN\r\n", "127.0.0.9"},
		"none from a trusted proxy":        {"127.0.0.9", "", ""},
		"garbage":                          {"127.0.0.9", "PROXY TCP4 198.18.7.7 x 1 2\r\n", ""},
		"a line without end":               {"127.0.0.9", "PROXY TCP4 " + strings.Repeat("1", 200), ""},
		"a stranger without":               {"127.0.0.2", "", "127.0.0.2"},
		"a stranger with a forged one":     {"127.0.0.2", header(1, client, here, nil), ""},
		"a stranger with a forged second":  {"127.0.0.2", header(2, client, here, nil), ""},
		"a second one after the proxy's":   {"127.0.0.9", header(1, client, here, nil) + header(1, client6, here6, nil), ""},
		"a length of 64 KiB and no more":   {"127.0.0.9", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", ""},
		"an address of no family we serve": {"127.0.0.9", "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("x", 216), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := s.wireFrom(c.from)
			w.send(c.header + plainAsk)
			res, body := w.answer()
			if c.seen == "" {
				if res != nil && res.StatusCode == http.StatusOK {
					t.Fatalf("served: %s", body)
				}
				return
			}
			if res == nil || res.StatusCode != http.StatusOK {
				t.Fatalf("not served: %v %s", res, body)
			}
			if got := decode[seen](t, answer{body: body}).Header.Get("X-Forwarded-For"); got != c.seen {
				t.Errorf("taken for %s, want %s", got, c.seen)
			}
		})
	}
	if res, _ := stalled.answer(); res != nil {
		t.Errorf("half a header was answered: %v", res)
	}
}

// Whom a PROXY header names may not name others: the header has said who asks.
func TestAProxiedClientForgesNoAddress(t *testing.T) {
	t.Parallel()
	s := open(t, trusting("127.0.0.9"), func(c *Config) { c.ProxyProtocol = true })
	w := s.wireFrom("127.0.0.9")
	w.send("PROXY TCP4 198.18.7.7 198.18.0.1 1 2\r\nGET /api/v1/events HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: https\r\n\r\n")
	_, body := w.answer()
	if h := decode[seen](t, answer{body: body}).Header; h.Get("X-Forwarded-For") != "198.18.7.7" || h.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("the origin was told %v", h)
	}
}

func TestABodyMustComeOn(t *testing.T) {
	t.Parallel()
	for got, want := range map[int64]time.Duration{0: bodyGrace, bodyRate - 1: bodyGrace, 10 * bodyRate: bodyGrace + 10*time.Second, 1 << 40: bodyTime} {
		if patience := bodyPatience(got); patience != want {
			t.Errorf("after %d bytes: %s, want %s", got, patience, want)
		}
	}
	failed := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &progress{ReadCloser: r.Body, control: http.NewResponseController(w), began: time.Now().Add(-bodyGrace)}
		_, err := io.ReadAll(body)
		failed <- err
	}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, errSlowBody) {
		t.Errorf("a body that stopped: %v", err)
	}
}

// deadlines remembers whether one is set.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error { d.set++; return nil }

// Once a body has ended the server itself reads, to see whether the client is still there:
// a deadline of ours would cancel a request whose answer takes longer.
func TestABodyThatHasEndedHasNoDeadline(t *testing.T) {
	t.Parallel()
	d := &deadlines{ResponseWriter: httptest.NewRecorder()}
	body := &progress{ReadCloser: io.NopCloser(strings.NewReader("x")), control: http.NewResponseController(d), began: time.Now()}
	if _, err := io.ReadAll(body); err != nil {
		t.Fatal(err)
	}
	before := d.set
	if n, err := body.Read(make([]byte, 1)); n != 0 || err != io.EOF || before == 0 || d.set != before {
		t.Errorf("read %d, %v; %d deadlines, then %d", n, err, before, d.set)
	}
}

// slow is a body that never ends by itself.
type slow struct{}

func (slow) Read([]byte) (int, error) { return 0, errSlowBody }
func (slow) Close() error             { return nil }

func TestASlowBodyIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("gala", `{}`)
	for _, path := range []string{"/api/v1/rooms/gala/places", "/api/v1/payments/sandbox/webhook"} {
		r := httptest.NewRequest(http.MethodPost, path, slow{})
		r.ContentLength = 10
		w := httptest.NewRecorder()
		s.server.Handler().ServeHTTP(w, r)
		if got := (answer{body: w.Body.String()}).code(); w.Code != http.StatusRequestTimeout || got != "request-timeout" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestToTLS(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, c := range []struct {
		port, method, host, target string
		status                     int
		to                         string
	}{
		{"443", "GET", "shop.example", "/rooms/gala?a=b%2F", 308, "https://shop.example/rooms/gala?a=b%2F"},
		{"443", "HEAD", "SHOP.example.:80", "/", 308, "https://shop.example/"},
		{"8443", "GET", "shop.example", "/", 308, "https://shop.example/"},
		{"8443", "GET", "localhost:8080", "/", 308, "https://localhost:8443/"},
		{"8443", "GET", "[::1]:8080", "/", 308, "https://[::1]:8443/"},
		{"443", "GET", "[2001:db8::1]", "/", 308, "https://[2001:db8::1]/"},
		{"443", "POST", "shop.example", "/", 403, ""},
		{"443", "GET", "evil.example/x", "/", 400, ""},
		{"443", "GET", "shop.example@evil.example", "/", 400, ""},
		{"443", "GET", "", "/", 400, ""},
		{"443", "GET", "shop.example", "//evil.example/", 400, ""},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		if strings.HasPrefix(c.target, "//") {
			r.URL.Host, r.URL.Path = "", c.target
		}
		r.Host = c.host
		w := httptest.NewRecorder()
		s.server.ToTLS(c.port).ServeHTTP(w, r)
		if w.Code != c.status || w.Header().Get("Location") != c.to {
			t.Errorf("%s %s on %s: %d %s, want %d %s", c.method, c.target, c.host, w.Code, w.Header().Get("Location"), c.status, c.to)
		}
	}
}

// Whatever comes, a header is read to its end and no further, and is an address or
// nothing.
func FuzzProxyHeader(f *testing.F) {
	for _, s := range []string{"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET", "PROXY UNKNOWN\r\n", "PROXY \n", proxySigned + "\x21\x11\x00\x0c" + "123456789012", proxySigned + "\x20\x00\x00\x00", "GET / HTTP/1.1\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bytes.NewReader(sent)
		raw, err := proxyHeader(r)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(sent, raw) || r.Len() != len(sent)-len(raw) {
			t.Fatalf("%q was read as %q, %d bytes are left", sent, raw, r.Len())
		}
		header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		if client, _, ok := header.TCPAddrs(); ok && client == nil {
			t.Fatalf("%q names a client of no address", sent)
		}
	})
}
