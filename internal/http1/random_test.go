package http1

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// script is what a handler does for one request, in this order.
type script struct {
	reads    int // bytes of the body
	hints    bool
	fields   http.Header
	length   int // told; -1: untold
	status   int // 0: untold
	writes   []int
	flushes  []bool // before each write, and in the end
	trailers http.Header
	aborts   bool
}

// request is one of a connection's, and what is done for it.
type request struct {
	method string
	body   int
	closes bool
	script script
}

func drawnRequest(r *rapid.T) request {
	among := func(what string, values ...int) int { return rapid.SampledFrom(values).Draw(r, what) }
	q := request{method: rapid.SampledFrom([]string{"GET", "HEAD", "POST"}).Draw(r, "method"), closes: among("close", 0, 0, 0, 0, 1) == 1}
	if q.method == "POST" {
		q.body = among("body", 0, 1, 10, 3000, 70_000, 300_000)
	}
	s := script{fields: http.Header{}, trailers: http.Header{}, length: -1}
	s.reads = among("reads", 0, 1, 5000, 1<<20)
	s.hints = among("hints", 0, 0, 1) == 1
	s.status = among("status", 0, 200, 204, 304, 404, 299)
	switch among("type", 0, 1, 2) {
	case 1:
		s.fields["Content-Type"] = []string{"text/x"}
	case 2:
		s.fields["Content-Type"] = nil
	}
	for _, field := range [][2]string{{"A", "b\r\nC: d"}, {"Set-Cookie", "a=b"}, {"Connection", "close"}, {"Trailer", "T, U"}, {"Content-Encoding", "x"}, {http.TrailerPrefix + "V", "w"}} {
		if among(field[0], 0, 0, 0, 1) == 1 {
			s.fields.Add(field[0], field[1])
		}
	}
	// What is not flushed has less than 2 KiB or more than 4: in between net/http chunks what is told here.
	total := 0
	for range among("writes", 0, 1, 2, 4) {
		n := among("bytes", 0, 1, 7, 100, 400, 5000, 9000)
		s.writes = append(s.writes, n)
		s.flushes = append(s.flushes, among("flush", 0, 0, 0, 1) == 1)
		total += n
	}
	s.flushes = append(s.flushes, among("flush", 0, 0, 1) == 1)
	switch among("length", 0, 0, 1, 2) {
	case 1:
		s.length = total
	case 2:
		s.length = total + 3
	}
	for _, name := range []string{"T", "U", http.TrailerPrefix + "X", "Y"} {
		if among(name, 0, 1) == 1 {
			s.trailers[name] = []string{"z", "z"}
		}
	}
	s.aborts = s.flushes[len(s.flushes)-1] && among("abort", 0, 0, 0, 1) == 1
	q.script = s
	return q
}

// content is n bytes that look like a page at first, and then like requests.
func content(n int) string {
	return ("<html>" + strings.Repeat("\r\n\r\n"+get, n/len(get)+1))[:n]
}

func (q request) text(path int) string {
	text := fmt.Sprintf("%s /%d HTTP/1.1\r\nHost: a\r\n", q.method, path)
	if q.closes {
		text += "Connection: close\r\n"
	}
	if q.method == "POST" {
		text += fmt.Sprintf("Content-Length: %d\r\n", q.body)
	}
	return text + "\r\n" + content(q.body)
}

func (s script) play(w http.ResponseWriter, r *http.Request, say func(format string, args ...any)) {
	b := make([]byte, s.reads)
	n, err := io.ReadFull(r.Body, b)
	say("read %d, %v, as sent: %v", n, err, string(b[:n]) == content(n))
	for name, values := range s.fields {
		w.Header()[name] = values
	}
	if s.hints {
		w.WriteHeader(http.StatusEarlyHints)
	}
	if s.length >= 0 {
		w.Header().Set("Content-Length", strconv.Itoa(s.length))
	}
	if s.status > 0 {
		w.WriteHeader(s.status)
	}
	flush := func(wanted bool) {
		if wanted {
			say("flushed: %v", http.NewResponseController(w).Flush())
		}
	}
	for i, n := range s.writes {
		flush(s.flushes[i])
		n, err := io.WriteString(w, content(n))
		say("wrote %d, %v", n, err)
	}
	for name, values := range s.trailers {
		w.Header()[name] = values
	}
	flush(s.flushes[len(s.writes)])
	if s.aborts {
		panic(http.ErrAbortHandler)
	}
}

func TestAnyExchangeLooksAsBehindNetHTTP(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[[]request]
	var heard transcript
	settings := func() *http.Server {
		return &http.Server{
			ErrorLog: log.New(io.Discard, "", 0),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if i, err := strconv.Atoi(r.URL.Path[1:]); err == nil {
					(*now.Load())[i].script.play(w, r, heard.say)
				}
			}),
		}
	}
	theirs, ours := beside(t, settings()), open(t, settings())
	rapid.Check(t, func(r *rapid.T) {
		requests := rapid.SliceOfN(rapid.Custom(drawnRequest), 1, 4).Draw(r, "requests")
		now.Store(&requests)
		x := exchange{}
		for i, q := range requests {
			x.sent += q.text(i)
			x.asks = append(x.asks, q.method)
		}
		ours.cut.Store(int64(rapid.IntRange(0, min(len(x.sent), 5000)).Draw(r, "cut")))
		want := x.look(t, theirs) + heard.taken()
		got := x.look(t, ours.address) + heard.taken()
		if got != want {
			r.Fatalf("looks like\n%.3000s\nand should look like\n%.3000s", got, want)
		}
	})
	if handed := ours.handed.Load(); handed > 0 {
		t.Errorf("%d connections went to net/http", handed)
	}
}
