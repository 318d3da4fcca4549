package http1

import (
	"io"
	"log"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Pieces that change what others make of the bytes around them.
var edges = []string{
	"\r\n", "\n", "\r", " ", "\t", ":", ",", "\x00", "\x7f", "\x80", "0", "5", "1", "\r\n\r\n", "\n\n", " HTTP/1.1", "HTTP/1.0", "\r\n ",
	"Content-Length: 5\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Host: b\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n",
	"Expect: 100-continue\r\n", "0\r\n\r\n", "5\r\nhello\r\n", "GET /x HTTP/1.1\r\nHost: b\r\n\r\n",
}

// TestStrangePipelinesAreSplitAsBehindNetHTTP sends mutilated requests one behind the other. Handlers must see the same
// ones, with the same bodies, though one server may refuse earlier than the other.
func TestStrangePipelinesAreSplitAsBehindNetHTTP(t *testing.T) {
	t.Parallel()
	behind := func(heard *transcript) *http.Server {
		return &http.Server{
			ErrorLog: log.New(io.Discard, "", 0),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				request := told(r) // before a chunked body's trailers are read
				body, err := io.ReadAll(r.Body)
				heard.say("%s%q, %v", request, body, err)
				w.WriteHeader(http.StatusNoContent)
			}),
		}
	}
	var atTheirs, atOurs transcript
	theirs, ours := beside(t, behind(&atTheirs)), open(t, behind(&atOurs))
	var texts []string
	for _, requests := range []map[string]string{plain, plain, strange} {
		for _, name := range slices.Sorted(maps.Keys(requests)) {
			if text := requests[name]; len(text) < 1000 {
				texts = append(texts, text)
			}
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		sent := strings.Join(rapid.SliceOfN(rapid.SampledFrom(texts), 1, 4).Draw(r, "requests"), "")
		for range rapid.IntRange(0, 3).Draw(r, "edges") {
			at := rapid.IntRange(0, len(sent)).Draw(r, "at")
			end := min(len(sent), at+rapid.SampledFrom([]int{0, 0, 1, 2, 20}).Draw(r, "gone"))
			sent = sent[:at] + rapid.SampledFrom(edges).Draw(r, "edge") + sent[end:]
		}
		ours.cut.Store(int64(rapid.IntRange(0, len(sent)).Draw(r, "cut")))
		all(t, theirs, sent)
		all(t, ours.address, sent)
		want, got := atTheirs.taken(), atOurs.taken()
		if !strings.HasPrefix(want, got) && !strings.HasPrefix(got, want) {
			r.Fatalf("of %q handlers see\n%s\nand behind net/http\n%s", sent, got, want)
		}
	})
}
