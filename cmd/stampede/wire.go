package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Documents of the public surface, as far as a fan reads them.
type (
	placeDoc struct {
		Room        string     `json:"room"`
		Epoch       string     `json:"epoch"`
		Number      uint64     `json:"number"`
		Phase       string     `json:"phase"`
		State       string     `json:"state"`
		Rank        *int64     `json:"rank"`
		Position    *int64     `json:"position"`
		Ahead       *int64     `json:"ahead"`
		Progress    float64    `json:"progress"`
		CallExpires *time.Time `json:"call_expires_at"`
		Now         time.Time  `json:"now"`
		Token       string     `json:"token"`
		Commitment  string     `json:"commitment"`
	}
	passDoc struct {
		Pass    string    `json:"pass"`
		Expires time.Time `json:"expires_at"`
	}
	eventDoc struct {
		Slug         string `json:"slug"`
		Performances []struct {
			ID     string `json:"id"`
			Status string `json:"status"`
		} `json:"performances"`
		Room  *string `json:"room"`
		Areas []struct {
			Name     string `json:"name"`
			Capacity int    `json:"capacity"`
		} `json:"areas"`
		Limits struct {
			MaxSeats int `json:"max_seats_per_session"`
		} `json:"limits"`
	}
	availabilityDoc struct {
		Version uint64     `json:"version"`
		Seats   []byte     `json:"seats"`
		Areas   []areaFree `json:"areas"`
	}
	areaFree struct {
		ID   string `json:"id"`
		Free int    `json:"free"`
	}
	areaWish struct {
		ID       string `json:"id"`
		Quantity int    `json:"quantity"`
	}
	holdDoc struct {
		ID    string     `json:"id"`
		Seats []int      `json:"seats"`
		Areas []areaWish `json:"areas"`
	}
	orderDoc struct {
		ID      string `json:"id"`
		State   string `json:"state"`
		Access  string `json:"access"`
		Payment struct {
			ID string `json:"id"`
		} `json:"payment"`
		Tickets []struct {
			ID        string `json:"id"`
			SeatLabel string `json:"seat_label"`
			Area      string `json:"area"`
			Code      string `json:"code"`
		} `json:"tickets"`
	}
	liveDoc struct {
		Phase         string    `json:"phase"`
		State         string    `json:"state"`
		Waiting       int64     `json:"waiting"`
		Present       int64     `json:"present"`
		Called        int64     `json:"called"`
		Sessions      int64     `json:"sessions"`
		AdmittedTotal int64     `json:"admitted_total"`
		Missed        int64     `json:"missed"`
		Lapsed        int64     `json:"lapsed"`
		Left          int64     `json:"left"`
		PacePerMin    float64   `json:"pace_per_min"`
		Capacity      int64     `json:"capacity"`
		Frontier      *int64    `json:"frontier"` // beyond the contract
		Now           time.Time `json:"now"`      // beyond the contract
		CallTTL       float64   `json:"call_ttl_s"`
		PresenceTTL   float64   `json:"presence_ttl_s"`
		Challenge     string    `json:"challenge"` // beyond the contract
	}
)

// A refusal is an answer outside 2xx.
type refusal struct {
	Status      int             `json:"status"`
	Code        string          `json:"code"`
	Detail      string          `json:"detail"`
	Alternative json.RawMessage `json:"alternative"`
	Challenge   json.RawMessage `json:"challenge"`
	retryAfter  time.Duration
	requestID   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%d %s: %s (request %s)", r.Status, cmp.Or(r.Code, "without a code"), r.Detail, r.requestID)
}

// retryable says whether the same request may be sent again later.
func (r *refusal) retryable() bool {
	return r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable ||
		r.Status == http.StatusBadGateway || r.Status == http.StatusGatewayTimeout || r.Code == "idempotency-conflict"
}

// asRefusal finds a refusal in err.
func asRefusal(err error) (*refusal, bool) {
	var r *refusal
	return r, errors.As(err, &r)
}

const (
	maxAnswer      = 4 << 20
	requestTimeout = 30 * time.Second
	maxRetries     = 40
)

// A client is one visitor's browser or app: an address of its own, cookies or tokens, and the gateways it may use.
type client struct {
	gateways []*url.URL
	local    net.Addr // nil: the system's choice
	app      bool     // sends tokens in headers and has neither cookies nor an Origin
	retries  *tally
	refused  *tally // 429s and 5xxs by status; nil: not counted

	turn   int // the gateway of the next request, counted up at each reconnect
	http   *http.Client
	jar    http.CookieJar
	dialer *net.Dialer
	token  string // the place
	pass   string
}

func newClient(gateways []*url.URL, local net.Addr, app bool, retries *tally) *client {
	c := &client{gateways: gateways, local: local, app: app, retries: retries}
	c.dialer = &net.Dialer{LocalAddr: local, Timeout: 15 * time.Second}
	if !app {
		c.jar, _ = cookiejar.New(nil) // New fails never without options
	}
	c.http = &http.Client{
		Jar:           c.jar,
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         c.dialStamped,
			MaxConnsPerHost:     2,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     5 * time.Second,
			ReadBufferSize:      1024,
			WriteBufferSize:     4096, // a join with its proof in one write
		},
	}
	return c
}

// dial keeps to IPv4 where the fan has an address of its own: those are all 127.x.y.z.
func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if c.local != nil {
		network = "tcp4"
	}
	return c.dialer.DialContext(ctx, network, address)
}

// dialStamped is dial, with times of arrival.
func (c *client) dialStamped(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	made, err := stamp(conn.(*net.TCPConn))
	if err != nil {
		conn.Close()
		return nil, err
	}
	return made, nil
}

func (c *client) gateway() (int, *url.URL) {
	i := c.turn % len(c.gateways)
	return i, c.gateways[i]
}

// call sends one request and decodes a 2xx answer into out (nil: not read). Errors are refusals or the transport's.
func (c *client) call(ctx context.Context, method, path string, in, out any, header ...string) (Timing, int, error) {
	_, gateway := c.gateway()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return Timing{}, 0, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	var conn *stamped
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, watched(&conn)), method, gateway.JoinPath(path).String(), body)
	if err != nil {
		return Timing{}, 0, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if c.app {
		if c.token != "" {
			req.Header.Set("Authorization", "Place "+c.token)
		}
		if c.pass != "" {
			req.Header.Set("Usher-Pass", c.pass)
		}
	} else {
		req.Header.Set("Origin", gateway.Scheme+"://"+gateway.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	t := Timing{At: time.Now()}
	resp, err := c.http.Do(req)
	if err != nil {
		return t, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	t.Took = time.Since(t.At)
	if conn != nil {
		t.Wire = conn.took()
	}
	if err != nil {
		return t, 0, err
	}
	if resp.StatusCode/100 != 2 {
		r := &refusal{requestID: resp.Header.Get("X-Request-Id")}
		if json.Unmarshal(b, r) != nil {
			r.Detail = fmt.Sprintf("%.120q", b)
		}
		r.Status = resp.StatusCode
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			r.retryAfter = time.Duration(s) * time.Second
		}
		c.countRefusal(r.Status)
		return t, resp.StatusCode, r
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return t, resp.StatusCode, fmt.Errorf("answer to %s %s: %w", method, path, err)
		}
	}
	return t, resp.StatusCode, nil
}

// countRefusal counts what an honest visitor should never meet.
func (c *client) countRefusal(status int) {
	if c.refused != nil && (status == http.StatusTooManyRequests || status >= http.StatusInternalServerError) {
		c.refused.add("answers", strconv.Itoa(status))
	}
}

// insist is call, repeated where a person would: too fast, momentarily away, connection lost. The Timing is of the
// last attempt.
func (c *client) insist(ctx context.Context, method, path string, in, out any, header ...string) (Timing, int, error) {
	for attempt := 0; ; attempt++ {
		t, status, err := c.call(ctx, method, path, in, out, header...)
		if err == nil || ctx.Err() != nil || attempt == maxRetries {
			return t, status, err
		}
		wait := time.Duration(min(attempt+1, 10)) * 200 * time.Millisecond
		if r, ok := asRefusal(err); ok {
			if !r.retryable() || r.Challenge != nil {
				return t, status, err
			}
			c.retries.add(method+" "+shape(path), cmp.Or(r.Code, strconv.Itoa(r.Status)))
			wait = max(wait, min(r.retryAfter, time.Minute))
		} else {
			c.retries.add(method+" "+shape(path), "connection")
			c.turn++ // another gateway, where there is one
		}
		if !pause(ctx, wait) {
			return t, status, err
		}
	}
}

// shape cuts what differs from request to request out of a path, so that paths can be counted.
func shape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if len(p) > 24 {
			parts[i] = "…"
		}
	}
	return strings.Join(parts, "/")
}

// pause waits d, or returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A tally counts by words; its words come from a bounded set of calls and codes.
type tally struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

func (t *tally) add(what, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[what+": "+why]++
}
