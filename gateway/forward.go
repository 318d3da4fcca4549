package gateway

import (
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/gateway/origin"
	"usher/internal/problem"
)

// exchange passes r on and its answer back (RFC 9110, section 7.6), as
// httputil.ReverseProxy does, but edits r's header in place: it is nobody's after this.
// It panics with http.ErrAbortHandler where an answer breaks off, so that its client sees that.
func (o *hop) exchange(w http.ResponseWriter, r *http.Request) {
	v := visitOf(r)
	r.URL.RawQuery = plainQuery(r.URL.RawQuery)
	trailers, id := tells(r.Header["Te"], "trailers"), r.Header[problem.RequestIDHeader]
	dropHops(r.Header)
	r.Header[problem.RequestIDHeader] = id // whatever Connection names
	if trailers {
		r.Header["Te"] = []string{"trailers"} // chosen by us
	}
	sanitise(r.Header, v, r.Host, o.ours)
	out := steadily(w)
	v.client = out
	res, err := o.transport.RoundTrip(r)
	if err != nil {
		o.fail(w, r, o.log, err)
		return
	}
	defer res.Body.Close()

	h := w.Header()
	if o.ours {
		unharden(h) // the answer's own headers stand
	}
	delete(res.Header, problem.RequestIDHeader) // the edge has set its own
	dropHops(res.Header)
	addAll(h, res.Header)
	orElse(h, "Content-Type", nil) // else the server guesses one
	if v.given {
		h["Cache-Control"] = noStore // whatever the origin lets caches keep: it carries a pass
	}
	if o.ours {
		for i := range hardening {
			orElse(h, hardening[i].name, hardening[i].value)
		}
		if v.secure {
			orElse(h, "Strict-Transport-Security", strictTransport)
		}
	}
	announced := len(res.Trailer)
	if announced > 0 {
		h["Trailer"] = append(h["Trailer"], strings.Join(slices.Sorted(maps.Keys(res.Trailer)), ", "))
	}
	w.WriteHeader(res.StatusCode)
	if err := out.copy(res); err != nil {
		o.log.DebugContext(r.Context(), "an answer breaks off", "origin", o.name, "path", v.path, "error", err)
		panic(http.ErrAbortHandler)
	}
	if len(res.Trailer) == 0 {
		return
	}
	out.flush() // a body of known length has no trailers; this makes its length unknown
	if len(res.Trailer) == announced {
		addAll(h, res.Trailer)
		return
	}
	for name, values := range res.Trailer {
		h[http.TrailerPrefix+name] = values
	}
}

// steady gives each write to the client its own deadline, so that a stream may last
// and a reader that stops cannot hold a connection.
type steady struct {
	http.ResponseWriter
	control http.ResponseController
}

func steadily(w http.ResponseWriter) *steady {
	return &steady{ResponseWriter: w, control: *http.NewResponseController(w)}
}

func (s *steady) Write(b []byte) (int, error) {
	s.progress()
	return s.ResponseWriter.Write(b)
}

func (s *steady) flush() {
	s.progress()
	_ = s.control.Flush() // a client that left is seen at the next write
}

func (s *steady) progress() {
	// A writer without deadlines (a test's recorder) has nothing to hold.
	_ = s.control.SetWriteDeadline(time.Now().Add(progressTime))
}

// copy writes res' body. What cannot be known to end soon goes out whenever nothing more of
// it is here, its header first.
func (s *steady) copy(res *http.Response) error {
	if res.Body == http.NoBody {
		return nil
	}
	streams := res.ContentLength < 0
	if said := res.Header["Content-Type"]; len(said) > 0 && !streams {
		kind, _, _ := strings.Cut(said[0], ";")
		streams = strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
	}
	tellsWhen := streams && origin.BeforeWait(res.Body, s.flush)
	if streams && !tellsWhen {
		s.flush()
	}
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	for {
		n, err := res.Body.Read(buffer[:])
		if n > 0 {
			if _, err := s.Write(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case streams && !tellsWhen:
			s.flush()
		}
	}
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// interim passes an answer of 1xx on.
func (s *steady) interim(status int, header http.Header) {
	h := s.Header()
	final := maps.Clone(h)
	clear(h)
	dropHops(header)
	maps.Copy(h, header)
	s.progress()
	s.WriteHeader(status)
	clear(h)
	maps.Copy(h, final)
}

// dropHops takes away what is between two hops alone: fields that say so by their name, and
// those that Connection names.
func dropHops(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for name := range h {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
			delete(h, name)
		}
	}
}

// tells whether a list has a word.
func tells(lines []string, word string) bool {
	for _, line := range lines {
		for said := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(said), word) {
				return true
			}
		}
	}
	return false
}

func addAll(to, from http.Header) {
	for name, values := range from {
		if before := to[name]; len(before) > 0 {
			values = slices.Concat(before, values)
		}
		to[name] = values
	}
}

func orElse(h http.Header, name string, values []string) {
	if _, set := h[name]; !set {
		h[name] = values
	}
}

// plainQuery leaves away the parameters of a query that programs read in different ways:
// those with semicolons, spaces and percent signs of their own.
func plainQuery(query string) string {
	for i := 0; i < len(query); i++ {
		switch c := query[i]; {
		case c == '%' && i+2 < len(query) && hexadecimal(query[i+1]) && hexadecimal(query[i+2]):
			i += 2
		case c == '%' || c == ';' || c <= ' ' || c == 0x7f:
			values, _ := url.ParseQuery(query) // its error names one that is left away
			return values.Encode()
		}
	}
	return query
}

func hexadecimal(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
