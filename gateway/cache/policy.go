package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// staleOnError is how long past its time an answer is given while the origin is away, when
// it does not say itself; maxStale bounds what it may say.
const (
	staleOnError = 5 * time.Minute
	maxStale     = 24 * time.Hour
)

// directives are those of a Cache-Control header that a shared cache goes by.
type directives map[string]string

func directivesOf(h http.Header) directives {
	d := directives{}
	for _, line := range h.Values("Cache-Control") {
		for part := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			name = strings.ToLower(strings.TrimSpace(name))
			if _, twice := d[name]; name != "" && !twice {
				d[name] = strings.Trim(strings.TrimSpace(value), `"`)
			}
		}
	}
	return d
}

func (d directives) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { _, ok := d[name]; return ok })
}

// span is a directive in seconds; one that is no number is 0, as if it were over.
func (d directives) span(name string) (time.Duration, bool) {
	text, ok := d[name]
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, true
	}
	return time.Duration(n) * time.Second, true
}

// lifetime is how long an answer is fresh, counted from its making; 0 where it says nothing.
func lifetime(h http.Header, d directives) time.Duration {
	for _, name := range []string{"s-maxage", "max-age"} {
		if n, ok := d.span(name); ok {
			return n
		}
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0
	}
	made, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return max(0, expires.Sub(made))
}

// storable tells whether a shared cache may keep an answer, by its header alone.
func storable(res *http.Response, maxEntry int64) bool {
	switch res.StatusCode {
	case http.StatusOK, http.StatusMovedPermanently, http.StatusPermanentRedirect, http.StatusNotFound, http.StatusGone:
	default:
		return false
	}
	h := res.Header
	d := directivesOf(h)
	if d.has("no-store", "private", "no-cache") || len(h["Set-Cookie"]) > 0 || h.Get("Content-Range") != "" ||
		len(res.Trailer) > 0 || res.ContentLength > maxEntry || lifetime(h, d) == 0 {
		return false
	}
	names, ok := varyOf(h)
	return ok && !slices.Contains(names, "Cookie") && !slices.Contains(names, "Authorization")
}

// varyOf are the canonical names of the request's fields that chose the answer; false where
// that is everything.
func varyOf(h http.Header) ([]string, bool) {
	var names []string
	for _, line := range h.Values("Vary") {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.TrimSpace(name); name {
			case "":
			case "*":
				return nil, false
			default:
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

// codings are the content codings that are told apart; clients write them in many ways.
var codings = []string{"br", "gzip", "zstd"}

// plainEncoding is an Accept-Encoding in the one way that says which of codings it takes.
func plainEncoding(h http.Header) string {
	var taken []string
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		name = strings.ToLower(strings.TrimSpace(name))
		q, weighed := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if slices.Contains(codings, name) && (!weighed || strings.Trim(q, "0.") != "") {
			taken = append(taken, name)
		}
	}
	slices.Sort(taken)
	return strings.Join(slices.Compact(taken), ", ")
}

// entry is one kept answer. It never changes.
type entry struct {
	status  int
	header  http.Header
	body    []byte
	vary    []string
	asked   []string // the request's values of vary, in its order
	got     time.Time
	age     time.Duration // when got
	fresh   time.Duration // counted like age
	onError time.Duration // past fresh, while the origin is away
	working time.Duration // past fresh, while it is being asked again
}

// newEntry keeps an answer to r that took from sent to now to come. most caps its freshness; 0 does not.
func newEntry(r *http.Request, status int, header http.Header, body []byte, sent, now time.Time, most time.Duration) *entry {
	d := directivesOf(header)
	e := &entry{status: status, header: header, body: body, got: now, age: now.Sub(sent), fresh: lifetime(header, d)}
	if n, err := strconv.ParseUint(header.Get("Age"), 10, 31); err == nil {
		e.age += time.Duration(n) * time.Second
	}
	if most > 0 {
		e.fresh = min(e.fresh, most)
	}
	if !d.has("must-revalidate", "proxy-revalidate", "s-maxage") {
		e.onError = staleOnError
		if n, ok := d.span("stale-if-error"); ok {
			e.onError = min(n, maxStale)
		}
		e.working, _ = d.span("stale-while-revalidate")
		e.working = min(e.working, maxStale)
	}
	e.vary, _ = varyOf(header)
	for _, name := range e.vary {
		e.asked = append(e.asked, strings.Join(r.Header.Values(name), ","))
	}
	return e
}

// left is how long the entry is fresh still; negative once it is stale.
func (e *entry) left(now time.Time) time.Duration { return e.fresh - e.age - now.Sub(e.got) }

// answers tells whether the entry is for a request with such a header.
func (e *entry) answers(h http.Header) bool {
	for i, name := range e.vary {
		if strings.Join(h.Values(name), ",") != e.asked[i] {
			return false
		}
	}
	return true
}

// weight is about how many bytes the entry takes.
func (e *entry) weight() int {
	n := len(e.body) + 512
	for name, values := range e.header {
		for _, v := range values {
			n += len(name) + len(v) + 32
		}
	}
	return n
}

// unchanged tells whether a client that sent h has the entry already (RFC 9110, section 13).
func (e *entry) unchanged(h http.Header) bool {
	if e.status != http.StatusOK {
		return false
	}
	if sent := h.Values("If-None-Match"); len(sent) > 0 {
		tag := strings.TrimPrefix(e.header.Get("Etag"), "W/")
		for part := range strings.SplitSeq(strings.Join(sent, ","), ",") { // a tag with a comma in it is merely sent again
			part = strings.TrimSpace(part)
			if part == "*" || tag != "" && strings.TrimPrefix(part, "W/") == tag {
				return true
			}
		}
		return false
	}
	since, err := http.ParseTime(h.Get("If-Modified-Since"))
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(e.header.Get("Last-Modified"))
	return err == nil && !modified.After(since)
}
