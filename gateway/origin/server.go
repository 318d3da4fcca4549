package origin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// Deadlines of the way to a server.
const (
	dialTime = 3 * time.Second
	idleTime = 90 * time.Second // for a kept connection
	// A server is out when half of so many requests within the period failed, for outTime.
	outRequests = 20
	outPeriod   = 10 * time.Second
	outTime     = time.Second
)

// server is one of an origin's addresses.
type server struct {
	url       *url.URL
	base      string // put in front of paths; without its last slash
	lean      *lean  // of plain http; nil else
	transport *http.Transport
	interim   func(*http.Request, int, http.Header)
	breaker   circuitbreaker.CircuitBreaker[any]
	slowStart time.Duration

	inFlight atomic.Int64
	down     atomic.Bool
	backAt   atomic.Int64 // nanoseconds since 1970; 0: it never was away
}

func newServer(u *url.URL, cfg Config) *server {
	s := &server{url: u, base: strings.TrimSuffix(u.Path, "/"), interim: cfg.Interim, slowStart: cfg.SlowStart}
	s.transport = &http.Transport{
		DialContext:            dialWith(10 * cfg.Timeout),
		TLSHandshakeTimeout:    dialTime,
		ResponseHeaderTimeout:  cfg.Timeout,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        idleTime,
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    512,
		DisableCompression:     true, // what the origin encoded goes through as it is
		MaxResponseHeaderBytes: maxHeader,
	}
	if u.Scheme == "http" {
		base := &url.URL{Path: s.base}
		s.lean = &lean{
			address: address(u), host: u.Host, base: base.EscapedPath(), timeout: cfg.Timeout, silence: 10 * cfg.Timeout, interim: cfg.Interim,
		}
	}
	s.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(0.5, outRequests, outPeriod).
		WithSuccessThreshold(1).
		WithDelay(outTime).WithJitterFactor(0.2).
		OnClose(func(circuitbreaker.StateChangedEvent) { s.back() }).
		Build()
	return s
}

// RoundTrip sends r to this server, whatever host and base path its URL names. Interim
// answers on the way go to Config.Interim.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.lean != nil && simple(r) {
		return s.lean.RoundTrip(r)
	}
	at := *r.URL
	at.Scheme, at.Host = s.url.Scheme, s.url.Host
	if s.base != "" {
		at.Path = s.base + at.Path
		if at.RawPath != "" {
			at.RawPath = s.base + at.RawPath
		}
	}
	var mu sync.Mutex // guards over; the transport has interim answers told from a goroutine of its own
	over := false
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(status int, header textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			if !over {
				s.interim(r, status, http.Header(header))
			}
			return nil
		},
	}))
	out.URL, out.Close, out.Trailer = &at, false, nil
	if _, named := r.Header["User-Agent"]; !named {
		out.Header = r.Header.Clone()
		out.Header["User-Agent"] = nil // else the transport writes Go's own
	}
	res, err := s.transport.RoundTrip(out)
	mu.Lock()
	over = true
	mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusSwitchingProtocols:
		err = errSwitches
	case res.StatusCode < http.StatusContinue:
		err = errNoStatus
	default:
		return res, nil
	}
	_ = res.Body.Close()
	return nil, err
}

func (s *server) closeIdle() {
	s.transport.CloseIdleConnections()
	if s.lean != nil {
		s.lean.prune(0)
	}
}

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 64 << 10

// dialWith opens connections on which a read may wait for so long.
func dialWith(silence time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &heard{Conn: conn, silence: silence}, nil
	}
}

// heard is a connection that ends when its other side is silent for too long.
type heard struct {
	net.Conn
	silence time.Duration
}

func (h *heard) Read(b []byte) (int, error) {
	if err := h.SetReadDeadline(time.Now().Add(h.silence)); err != nil {
		return 0, err
	}
	return h.Conn.Read(b)
}

func (s *server) back() { s.backAt.Store(time.Now().UnixNano()) }

// load is how busy the server is beside its weight, which grows while it has just come back.
func (s *server) load(now time.Time) float64 {
	weight := 1.0
	if at := s.backAt.Load(); at != 0 {
		weight = min(1, 0.1+0.9*float64(now.UnixNano()-at)/float64(s.slowStart))
	}
	return float64(s.inFlight.Load()+1) / weight
}

// record tells the breaker how a request ended. An end that says nothing of the server
// is a failure only to one on trial, whose trial would never end otherwise.
func (s *server) record(ok, known bool) {
	switch {
	case known && ok:
		s.breaker.RecordSuccess()
	case known || s.breaker.IsHalfOpen():
		s.breaker.RecordFailure()
	}
}

// probe asks for the server's health again and again until ctx ends.
func (s *server) probe(ctx context.Context, name string, h Health, log *slog.Logger) {
	client := http.Client{
		Transport: s, Timeout: h.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	good, bad := 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := s.ask(ctx, &client, h)
		if ctx.Err() != nil {
			return
		}
		wait := h.Interval
		if err != nil {
			good, wait = 0, min(wait, time.Second)
			if bad++; bad == h.FailAfter && !s.down.Swap(true) {
				log.Warn("server is down", "origin", name, "server", s.url.Host, "error", err)
			}
		} else {
			bad = 0
			if good++; good >= h.RecoverAfter && s.down.Load() {
				s.back()
				s.down.Store(false)
				log.Info("server is up", "origin", name, "server", s.url.Host)
			}
		}
		timer.Reset(wait*3/4 + rand.N(wait/2+1)) // many gateways do not ask at once
	}
}

func (s *server) ask(ctx context.Context, client *http.Client, h Health) error {
	if h.Path == "" {
		ctx, cancel := context.WithTimeout(ctx, h.Timeout)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address(s.url))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	at := *s.url
	at.Path, at.RawQuery, _ = strings.Cut(h.Path, "?")
	at.RawPath = ""
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "usher-health")
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be kept
	if res.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s answers %s", h.Path, res.Status)
	}
	return nil
}

// address is where a server takes connections.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
