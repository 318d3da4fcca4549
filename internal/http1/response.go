package http1

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	keptBody = 4 << 10         // of an answer are kept until its length is known
	outRoom  = keptBody + 2048 // for a head and what was kept, in one write
	sniffed  = 512             // of a body are what http.DetectContentType looks at
)

var connectionClose = []string{"close"}

// space is what an answer is put together in.
type space struct {
	out  [outRoom]byte
	kept [keptBody]byte
}

var spaces = sync.Pool{New: func() any { return new(space) }}

// response is the http.ResponseWriter of one request.
type response struct {
	c      *conn
	head   bool  // the request is HEAD
	asked  *body // of the request; nil without one
	header http.Header

	status int         // 0 until WriteHeader
	begun  bool        // the head is complete, in out or sent
	over   atomic.Bool // the handler has returned
	duplex bool        // what it has not read of the body when the head is complete is for it all the same

	// What the head says, as WriteHeader found it.
	length     int64 // -1: untold
	chunked    bool
	closes     bool     // the connection ends with this answer
	connection []string // the handler's, unless it ends
	typed      bool     // no type is to be guessed
	dated      bool     // by the handler
	trails     bool     // fields follow the body, which is chunked for them
	trailers   []string // announced

	space   *space // pooled; nil before the first byte
	out     []byte // of space: the head, and what follows it until it is sent
	kept    []byte // of space: of the body, while the head is not complete
	written int64  // of the body
	err     error  // the first of writing
}

func (w *response) Header() http.Header { return w.header }

func (w *response) room() {
	if w.space == nil {
		w.space = spaces.Get().(*space)
		w.out, w.kept = w.space.out[:0], w.space.kept[:0]
	}
}

// WriteHeader implements http.ResponseWriter. A status of 1xx is sent at once.
func (w *response) WriteHeader(status int) {
	if w.status != 0 || w.over.Load() {
		return
	}
	if status < 100 || status > 999 {
		panic("http1: no status: " + strconv.Itoa(status))
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.start(status)
		return
	}
	w.room()
	w.out = appendStatus(w.out, status)
	w.out = appendFields(w.out, w.header, bodiless)
	w.out = append(w.out, "\r\n"...)
	w.send(nil)
}

// start begins the head with what the handler says now.
func (w *response) start(status int) {
	w.room()
	w.status = status
	w.out = appendStatus(w.out, status)
	w.out = appendFields(w.out, w.header, w.keeps)
}

// keeps tells whether a field of the handler's is written as it is, and takes notice of what it says.
func (w *response) keeps(name string, values []string) bool {
	switch name {
	case "Content-Length":
		if len(values) == 1 && bodyAllowed(w.status) {
			if n, ok := length(values[0]); ok {
				w.length = n
			}
		}
		return false // it is written when the head is complete
	case "Content-Type":
		w.typed = true
		return w.status != http.StatusNotModified
	case "Content-Encoding":
		w.typed = w.typed || len(values) > 0 && values[0] != ""
	case "Transfer-Encoding": // whether the body is chunked is decided here
		return false
	case "Date":
		w.dated = true
	case "Connection":
		w.closes = w.closes || httpguts.HeaderValuesContainsToken(values, "close")
		w.connection = values
		return false // it is written when the head is complete
	case "Trailer":
		w.trails = true
		for _, line := range values {
			for name := range strings.SplitSeq(line, ",") {
				name = http.CanonicalHeaderKey(strings.TrimSpace(name))
				if httpguts.ValidTrailerHeader(name) {
					w.trailers = append(w.trailers, name)
				}
			}
		}
	}
	if strings.HasPrefix(name, http.TrailerPrefix) {
		w.trails = true
		return false
	}
	return true
}

// complete ends the head. Of a body whose length is not told either all is kept and over, or it is chunked.
func (w *response) complete() {
	w.begun = true
	has := bodyAllowed(w.status)
	if has && !w.typed && len(w.kept) > 0 {
		w.out = append(append(append(w.out, "Content-Type: "...), http.DetectContentType(w.kept)...), "\r\n"...)
	}
	if has && w.length < 0 && w.over.Load() && !w.trails && (!w.head || w.written > 0) {
		w.length = w.written
	}
	switch {
	case !has:
	case w.length >= 0:
		w.out = append(strconv.AppendInt(append(w.out, "Content-Length: "...), w.length, 10), "\r\n"...)
	case !w.head:
		w.chunked = true
		w.out = append(w.out, "Transfer-Encoding: chunked\r\n"...)
	}
	if !w.dated {
		w.out = append(append(append(w.out, "Date: "...), date(time.Now())...), "\r\n"...)
	}
	if w.asked != nil && !w.closes && !w.duplex {
		w.closes = !w.asked.drop()
		if !w.over.Load() && w.asked.left.Load() == 0 { // the handler goes on
			w.c.watch.begin(w.c, w.c.now, w.asked.leave)
		}
	}
	if w.closes = w.closes || w.c.server.closing.Load(); w.closes {
		w.connection = connectionClose
	}
	w.out = appendField(w.out, "Connection", w.connection)
	w.out = append(w.out, "\r\n"...)
	if !w.head {
		w.put(w.kept)
	}
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if w.over.Load() {
		return 0, errOver
	}
	if w.status == 0 {
		w.start(http.StatusOK)
	}
	switch {
	case len(b) == 0:
		return 0, nil
	case w.err != nil:
		return 0, w.err
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(b)) > w.length:
		return 0, http.ErrContentLength
	}
	w.written += int64(len(b))
	rest := b
	if !w.begun {
		if (w.length < 0 || !w.typed) && len(w.kept)+len(b) <= keptBody {
			w.kept = append(w.kept, b...)
			return len(b), nil
		}
		if n := min(sniffed-len(w.kept), len(b)); !w.typed && n > 0 {
			w.kept, rest = append(w.kept, b[:n]...), b[n:]
		}
		w.complete()
	}
	if !w.head {
		w.put(rest)
	}
	return len(b), w.err
}

// put adds a piece of the body behind the head.
func (w *response) put(b []byte) {
	if len(b) == 0 {
		return
	}
	w.room()
	const frame = len("\r\n") + 16 + len("\r\n")
	if len(w.out)+len(b)+frame > outRoom && len(w.out) > 0 && len(b) <= keptBody {
		w.send(nil)
	}
	if w.chunked {
		w.out = append(strconv.AppendInt(w.out, int64(len(b)), 16), "\r\n"...)
	}
	if len(w.out)+len(b)+frame <= outRoom {
		w.out = append(w.out, b...)
	} else {
		w.send(b)
	}
	if w.chunked {
		w.out = append(w.out, "\r\n"...)
	}
}

// send writes out, and then more.
func (w *response) send(more []byte) {
	if w.err == nil && len(w.out) > 0 {
		_, w.err = w.c.write(w.out)
	}
	w.out = w.out[:0]
	if w.err == nil && len(more) > 0 {
		_, w.err = w.c.write(more)
	}
}

// FlushError sends all that was written. http.ResponseController calls it.
func (w *response) FlushError() error {
	if w.over.Load() {
		return errOver
	}
	if w.status == 0 {
		w.start(http.StatusOK)
	}
	if !w.begun {
		w.complete()
	}
	w.send(nil)
	return w.err
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() } // the next write tells

// SetReadDeadline is http.ResponseController's.
func (w *response) SetReadDeadline(t time.Time) error {
	if w.over.Load() { // the connection is another request's
		return errOver
	}
	return w.c.reading.set(t, w.c.net.SetReadDeadline)
}

// SetWriteDeadline is http.ResponseController's.
func (w *response) SetWriteDeadline(t time.Time) error {
	if w.over.Load() {
		return errOver
	}
	return w.c.writing.set(t, w.c.net.SetWriteDeadline)
}

// EnableFullDuplex is http.ResponseController's: the body can still be read when the answer has begun.
func (w *response) EnableFullDuplex() error {
	w.duplex = true
	return nil
}

var errOver = errors.New("http1: the handler has returned")

// finish sends what is left. The connection is good for another request if it returns true. reads tells whether
// all of this one was read.
func (w *response) finish(reads bool) bool {
	w.over.Store(true)
	w.closes = w.closes || !reads
	if w.status == 0 {
		w.start(http.StatusOK)
	}
	if !w.begun {
		w.complete()
	}
	if w.chunked {
		w.room()
		w.out = append(w.out, "0\r\n"...)
		for name, values := range w.header {
			if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
				w.out = appendField(w.out, name, values)
			}
		}
		for _, name := range w.trailers {
			w.out = appendField(w.out, name, w.header[name])
		}
		w.out = append(w.out, "\r\n"...)
	}
	w.send(nil)
	spaces.Put(w.space)
	w.space, w.out, w.kept = nil, nil, nil
	short := !w.head && w.length >= 0 && w.written < w.length
	return w.err == nil && !w.closes && !short
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

func appendStatus(out []byte, status int) []byte {
	out = strconv.AppendInt(append(out, "HTTP/1.1 "...), int64(status), 10)
	out = append(out, ' ')
	if text := http.StatusText(status); text != "" {
		return append(append(out, text...), "\r\n"...)
	}
	return append(strconv.AppendInt(append(out, "status code "...), int64(status), 10), "\r\n"...)
}

// bodiless keeps the fields of an answer that has no body.
func bodiless(name string, _ []string) bool {
	return name != "Content-Length" && name != "Transfer-Encoding"
}

// appendFields writes the fields that keep wants.
func appendFields(out []byte, h http.Header, keep func(name string, values []string) bool) []byte {
	for name, values := range h {
		if keep(name, values) {
			out = appendField(out, name, values)
		}
	}
	return out
}

// appendField writes a line for each value. A name that is none is left away, and a line's end in a value is a space.
func appendField(out []byte, name string, values []string) []byte {
	if !httpguts.ValidHeaderFieldName(name) {
		return out
	}
	for _, value := range values {
		out = append(append(out, name...), ": "...)
		from := len(out)
		out = append(out, strings.Trim(value, " \t\r\n")...)
		for i := from; i < len(out); i++ {
			if out[i] == '\r' || out[i] == '\n' {
				out[i] = ' '
			}
		}
		out = append(out, "\r\n"...)
	}
	return out
}

// date is now as a Date tells it, made once a second.
func date(now time.Time) string {
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}

type stamp struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[stamp]
