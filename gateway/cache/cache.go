package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/internal/telemetry"
)

const (
	maxEntry    = 4 << 20          // bytes of a body that is kept
	maxVariants = 8                // of one address
	waitTime    = 10 * time.Second // for another's request
	fetchTime   = time.Minute      // for one that is to be kept, body and all
	passTime    = 5 * time.Second  // for which an address that cannot be kept is remembered
	maxReading  = 64 << 20         // bytes of bodies that are being read to be kept, at once
	restTime    = time.Second      // for which an origin that is away is not asked about what there is of it
)

// Cache keeps answers of all origins. It is safe for concurrent use.
type Cache struct {
	now     func() time.Time
	entries *otter.Cache[string, *resource]
	reading atomic.Int64 // bytes that are reserved for bodies under way

	mu      sync.Mutex // guards flights, and storing
	flights map[string]*flight
}

// resource is what is known of one address. It is replaced, never changed.
type resource struct {
	variants []*entry  // newest first
	passTill time.Time // until then requests go past the cache
	restTill time.Time // until then a stale entry is good enough
}

func (r *resource) weight() uint32 {
	n := 256
	for _, e := range r.variants {
		n += e.weight()
	}
	return uint32(n)
}

// flight is a request under way that others wait for.
type flight struct {
	done  chan struct{}
	entry *entry // all below are set before done is closed
	how   string // entry came to be
	err   error
	alone bool // everyone has to ask for oneself
}

// New makes a cache of so many bytes. now is the clock, time.Now when nil.
func New(maxBytes uint64, now func() time.Time) *Cache {
	if now == nil {
		now = time.Now
	}
	return &Cache{now: now, flights: map[string]*flight{}, entries: otter.Must(&otter.Options[string, *resource]{
		MaximumWeight: maxBytes, Weigher: func(key string, r *resource) uint32 { return uint32(len(key)) + r.weight() },
	})}
}

// Transport answers requests of one origin from the cache, or from Next.
type Transport struct {
	Cache *Cache
	// Name is the origin's.
	Name string
	Next http.RoundTripper
	// Public tells which requests anyone may get the same answer to. It is asked of every
	// request without credentials that reads.
	Public func(*http.Request) bool
	// Purges tells which requests change what Public ones read, once they succeed.
	Purges func(*http.Request) bool
	// MaxFresh caps how long an answer is fresh; 0 does not.
	MaxFresh time.Duration

	generation atomic.Uint64 // part of every key; another one forgets all
}

// RoundTrip answers r.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || !t.Public(r) {
		res, err := t.Next.RoundTrip(r)
		if err == nil && res.StatusCode < http.StatusBadRequest && t.Purges(r) {
			t.generation.Add(1)
		}
		return res, err
	}
	if r.Header.Get("Authorization") != "" || r.Header.Get("Range") != "" || r.ContentLength != 0 {
		return t.past(r, "bypass")
	}
	c, key := t.Cache, t.key(r)
	encoding := plainEncoding(r.Header)
	sent := r.Header.Clone() // as the origin would get it
	for _, name := range []string{"Cookie", "Usher-Pass", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range"} {
		sent.Del(name)
	}
	if sent.Set("Accept-Encoding", encoding); encoding == "" {
		sent.Set("Accept-Encoding", "identity")
	}
	found, _ := c.entries.GetIfPresent(key)
	e, now := found.variant(sent), c.now()
	switch {
	case e != nil && e.left(now) > 0:
		return t.give(r, e, "hit")
	case r.Method == http.MethodHead:
		return t.past(r, "method")
	case found != nil && now.Before(found.passTill):
		return t.past(r, "miss")
	case e != nil && now.Before(found.restTill) && e.left(now) > -e.onError:
		return t.give(r, e, "stale")
	}
	return t.share(r, sent, key, key+"\n"+encoding, e)
}

func (t *Transport) key(r *http.Request) string {
	return strconv.FormatUint(t.generation.Load(), 36) + " " + t.Name + " " + r.Header.Get("X-Forwarded-Proto") + " " + r.Host + " " + r.URL.EscapedPath() + "?" + r.URL.RawQuery
}

// variant is the entry for a request with such a header, or nil.
func (r *resource) variant(sent http.Header) *entry {
	if r == nil {
		return nil
	}
	for _, e := range r.variants {
		if e.answers(sent) {
			return e
		}
	}
	return nil
}

// past asks the origin alone, and tells why.
func (t *Transport) past(r *http.Request, why string) (*http.Response, error) {
	telemetry.CacheAnswers.WithLabelValues(t.Name, "passed").Inc()
	res, err := t.Next.RoundTrip(r)
	if err == nil {
		res.Header.Add("Cache-Status", "usher; fwd="+why)
	}
	return res, err
}

// share joins the request for the same that is under way, or makes it. stale is what there
// is already, or nil.
func (t *Transport) share(r *http.Request, sent http.Header, key, flightKey string, stale *entry) (*http.Response, error) {
	c := t.Cache
	c.mu.Lock()
	f, under := c.flights[flightKey]
	if !under {
		found, _ := c.entries.GetIfPresent(key) // what one that has just ended brought
		if e := found.variant(sent); e != nil && e.left(c.now()) > 0 {
			c.mu.Unlock()
			return t.give(r, e, "hit")
		}
		f = &flight{done: make(chan struct{})}
		c.flights[flightKey] = f
		c.mu.Unlock()
		return t.lead(r, sent, key, flightKey, f, stale)
	}
	c.mu.Unlock()
	if stale != nil && stale.left(c.now()) > -stale.working {
		return t.give(r, stale, "stale")
	}
	late := time.NewTimer(waitTime)
	defer late.Stop()
	select {
	case <-f.done:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-late.C:
		if stale != nil && stale.left(c.now()) > -stale.onError {
			return t.give(r, stale, "stale")
		}
		return nil, errLate{}
	}
	switch {
	case f.alone || f.entry != nil && !f.entry.answers(sent):
		return t.past(r, "miss")
	case f.err != nil:
		return nil, f.err
	}
	return t.give(r, f.entry, f.how+"; collapsed")
}

// errLate says that another's request for the same took too long.
type errLate struct{}

func (errLate) Error() string   { return "another request for the same takes too long" }
func (errLate) Timeout() bool   { return true }
func (errLate) Temporary() bool { return true }

// lead asks the origin for all who wait. A client that goes away does not end it.
func (t *Transport) lead(r *http.Request, sent http.Header, key, flightKey string, f *flight, stale *entry) (*http.Response, error) {
	c := t.Cache
	f.alone = true // unless it turns out otherwise
	finished := sync.OnceFunc(func() {
		c.mu.Lock()
		delete(c.flights, flightKey)
		c.mu.Unlock()
		close(f.done)
	})
	defer finished()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), fetchTime)
	fetch := r.WithContext(ctx)
	fetch.Header = sent
	if stale != nil && stale.status == http.StatusOK {
		if tag := stale.header.Get("Etag"); tag != "" {
			fetch.Header.Set("If-None-Match", tag)
		} else if modified := stale.header.Get("Last-Modified"); modified != "" {
			fetch.Header.Set("If-Modified-Since", modified)
		}
	}
	begun := c.now()
	res, err := t.Next.RoundTrip(fetch)
	if stale != nil && stale.left(c.now()) > -stale.onError && (err != nil || res.StatusCode >= http.StatusInternalServerError && res.StatusCode <= http.StatusGatewayTimeout) {
		cancel()
		if err == nil {
			_ = res.Body.Close()
		}
		c.rest(key)
		f.alone, f.entry, f.how = false, stale, "stale"
		return t.give(r, stale, "stale")
	}
	if err != nil {
		cancel()
		f.alone, f.err = false, err
		return nil, err
	}
	if res.StatusCode == http.StatusNotModified && stale != nil {
		cancel()
		_ = res.Body.Close()
		e := stale.freshened(fetch, res.Header, begun, c.now(), t.MaxFresh)
		c.store(key, e)
		f.alone, f.entry, f.how = false, e, "revalidated"
		return t.give(r, e, "revalidated")
	}
	if !storable(res, maxEntry) {
		c.pass(key)
		finished()
		return t.through(r, res, res.Body, cancel), nil
	}
	reserved := res.ContentLength
	if reserved < 0 {
		reserved = maxEntry
	}
	defer c.reading.Add(-reserved)
	if c.reading.Add(reserved) > maxReading {
		finished()
		return t.through(r, res, res.Body, cancel), nil
	}
	var body bytes.Buffer
	if res.ContentLength > 0 {
		body.Grow(int(res.ContentLength))
	}
	n, err := io.Copy(&body, io.LimitReader(res.Body, maxEntry+1))
	switch {
	case err != nil: // an answer that breaks off is nobody's
		cancel()
		_ = res.Body.Close()
		f.alone, f.err = false, fmt.Errorf("read an answer to keep: %w", err)
		return nil, f.err
	case n > maxEntry:
		c.pass(key)
		finished()
		return t.through(r, res, io.MultiReader(&body, res.Body), cancel), nil
	}
	cancel()
	_ = res.Body.Close()
	e := newEntry(fetch, res.StatusCode, res.Header, body.Bytes(), begun, c.now(), t.MaxFresh)
	c.store(key, e)
	f.alone, f.entry, f.how = false, e, "stored"
	return t.give(r, e, "stored")
}

// through hands on an answer that is not kept; from here on its client may end it.
func (t *Transport) through(r *http.Request, res *http.Response, body io.Reader, cancel context.CancelFunc) *http.Response {
	telemetry.CacheAnswers.WithLabelValues(t.Name, "passed").Inc()
	stop := context.AfterFunc(r.Context(), cancel)
	res.Body = &handedOn{Reader: body, whole: res.Body, end: func() { stop(); cancel() }}
	res.Header.Add("Cache-Status", "usher; fwd=uri-miss")
	return res
}

type handedOn struct {
	io.Reader
	whole io.Closer
	end   func()
}

func (h *handedOn) Close() error {
	err := h.whole.Close()
	h.end()
	return err
}

// freshened is the entry with the news of a 304.
func (e *entry) freshened(r *http.Request, news http.Header, sent, now time.Time, most time.Duration) *entry {
	h := e.header.Clone()
	h.Del("Age")
	for name, values := range news {
		switch name {
		case "Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Set-Cookie", "Vary":
		default:
			h[name] = values
		}
	}
	return newEntry(r, e.status, h, e.body, sent, now, most)
}

// store keeps an entry beside the other variants of its address.
func (c *Cache) store(key string, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := &resource{variants: []*entry{e}}
	if found, ok := c.entries.GetIfPresent(key); ok {
		for _, old := range found.variants {
			if len(next.variants) < maxVariants && !(slices.Equal(old.vary, e.vary) && slices.Equal(old.asked, e.asked)) {
				next.variants = append(next.variants, old)
			}
		}
	}
	c.entries.Set(key, next)
}

// pass remembers that an address cannot be kept.
func (c *Cache) pass(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Set(key, &resource{passTill: c.now().Add(passTime)})
}

// rest leaves an origin that is away alone for a moment.
func (c *Cache) rest(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.entries.GetIfPresent(key); ok {
		c.entries.Set(key, &resource{variants: found.variants, restTill: c.now().Add(restTime)})
	}
}

// outcomes of answers from the cache, for metrics and Cache-Status (RFC 9211).
var outcomes = map[string]struct{ metric, status string }{
	"hit":                    {"hit", "usher; hit"},
	"stale":                  {"stale", "usher; hit; detail=stale"},
	"stale; collapsed":       {"stale", "usher; fwd=stale; collapsed; detail=stale"},
	"stored":                 {"fetched", "usher; fwd=uri-miss; stored"},
	"stored; collapsed":      {"hit", "usher; fwd=uri-miss; collapsed"},
	"revalidated":            {"fetched", "usher; fwd=stale; fwd-status=304"},
	"revalidated; collapsed": {"hit", "usher; fwd=stale; fwd-status=304; collapsed"},
}

// give answers r by an entry.
func (t *Transport) give(r *http.Request, e *entry, how string) (*http.Response, error) {
	out, now := outcomes[how], t.Cache.now()
	telemetry.CacheAnswers.WithLabelValues(t.Name, out.metric).Inc()
	h := maps.Clone(e.header)
	h["Age"] = []string{strconv.Itoa(max(0, int((e.age+now.Sub(e.got))/time.Second)))}
	status := out.status + "; ttl=" + strconv.Itoa(int(e.left(now)/time.Second))
	h["Cache-Status"] = append(slices.Clip(h["Cache-Status"]), status)
	res := &http.Response{
		Status: http.StatusText(e.status), StatusCode: e.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Request: r, Body: http.NoBody,
	}
	if e.unchanged(r.Header) {
		res.StatusCode = http.StatusNotModified
		for _, name := range []string{"Content-Length", "Content-Encoding", "Content-Type"} {
			h.Del(name)
		}
		return res, nil
	}
	res.ContentLength = int64(len(e.body))
	h["Content-Length"] = []string{strconv.Itoa(len(e.body))}
	if r.Method != http.MethodHead {
		res.Body = io.NopCloser(bytes.NewReader(e.body))
	}
	return res, nil
}
