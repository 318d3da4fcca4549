package origin

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Whatever readHead reads, the standard library reads in the same way and to the same byte.
func FuzzReadHead(f *testing.F) {
	for _, answer := range odd {
		f.Add([]byte(answer), false)
		f.Add([]byte(answer), true)
	}
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\t \r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nx-lower: a\r\nX-Lower: b\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nX\xc3\xa9: a\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 \xc3\xa9\r\nX: \xc3\xa9\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 2\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nPragma: no-cache\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nTrailer: X\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 599 \r\n\r\n", "HTTP/1.1 204 \r\n\r\n", "\r\n\r\n",
	} {
		f.Add([]byte(answer), false)
	}
	f.Fuzz(func(t *testing.T, sent []byte, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		got, size := readHead(sent, method)
		if got == nil {
			return
		}
		in := bufio.NewReaderSize(bytes.NewReader(sent), len(sent)+16)
		want, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q is read, but %v", sent, err)
		}
		if got.StatusCode != want.StatusCode || got.Status != want.Status || got.ContentLength != want.ContentLength || got.Close != want.Close ||
			!reflect.DeepEqual(got.Header, want.Header) || len(want.Trailer) > 0 || len(want.TransferEncoding) > 0 {
			t.Fatalf("%q\nis read as %+v\ninstead of %+v", sent, got, want)
		}
		if (got.Body == http.NoBody) != (want.Body == http.NoBody) || got.Body == nil && got.ContentLength <= 0 {
			t.Fatalf("%q: a body is %v, should be %v", sent, got.Body, want.Body)
		}
		if rest, _ := io.ReadAll(in); want.Body == http.NoBody && string(rest) != string(sent[size:]) || !bytes.HasSuffix(sent, rest) {
			t.Fatalf("%q: the header has %d bytes, and %q follow", sent, size, rest)
		}
	})
}

// Whatever is written is one request, and the one that was meant.
func FuzzAppendHead(f *testing.F) {
	f.Add("GET", "example.com", "/a/b", "x=1", "X-A", "b", int64(0))
	f.Add("POST", "example.com:80", "/a b\r\nX: y", "x=1 HTTP/1.1\r\nHost: evil\r\n\r\n", "X-A\r\nX-B", "b\r\n\r\nGET / HTTP/1.1", int64(3))
	f.Add("GET / HTTP/1.1\r\nX:", "a\r\nb", "//x/../y", "", "Content-Length", "7", int64(0))
	f.Add("PUT", "", "*", "%", "Transfer-Encoding", "chunked", int64(0))
	f.Add("GET", "a b", "?", "#", "Host", "evil", int64(0))
	f.Add("PUT", "a", "/", "", "transfer-EncodiNg", "chunked", int64(34))
	f.Fuzz(func(t *testing.T, method, host, path, query, name, value string, length int64) {
		r := &http.Request{Method: method, Host: host, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{name: {value}, "X-Last": {"1"}}, ContentLength: length}
		said, err := appendHead(nil, r, "server.example", "/base")
		if err != nil || !strings.HasPrefix(path, "/") || length < 0 || length > maxSent {
			return
		}
		in := bufio.NewReader(bytes.NewReader(append(said, make([]byte, length)...)))
		got, err := http.ReadRequest(in)
		if err != nil {
			if strings.HasPrefix(string(said), method+" /base/") && !strings.Contains(host, "\r") {
				return // a server refuses what a client may send: a host, a value of control characters
			}
			t.Fatalf("%q: %v", said, err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || int64(len(body)) != length || in.Buffered() > 0 || got.ContentLength != length {
			t.Fatalf("%q has a body of %d, %v, and %d more", said, len(body), err, in.Buffered())
		}
		if got.Method != method || got.URL.Path != "/base"+path || got.URL.RawQuery != query || host != "" && got.Host != host {
			t.Fatalf("%q is %s %s of %s", said, got.Method, got.URL, got.Host)
		}
		known := []string{http.CanonicalHeaderKey(name), "X-Last", "Content-Length"}
		for field := range maps.Keys(got.Header) {
			if !slices.Contains(known, field) {
				t.Fatalf("%q has %s", said, field)
			}
		}
	})
}
