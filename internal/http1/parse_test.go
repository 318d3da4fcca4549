package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// plain are requests that are served here: heads, and what belongs to them.
var plain = map[string]string{
	"the least":                    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"HEAD":                         "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST":                         "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"PUT":                          "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
	"PATCH":                        "PATCH /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nh",
	"DELETE":                       "DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n",
	"OPTIONS":                      "OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n",
	"a body for GET":               "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	"a length of zero":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"zeros before a length":        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000000000000005\r\n\r\nhello",
	"no length for POST":           "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a query":                      "GET /a/b?c=d&e=%20f+g;h#i HTTP/1.1\r\nHost: a\r\n\r\n",
	"an empty query":               "GET /? HTTP/1.1\r\nHost: a\r\n\r\n",
	"escapes":                      "GET /%2f%2F/%41/%c3%a4/a%20b HTTP/1.1\r\nHost: a\r\n\r\n",
	"dots":                         "GET /a/../b/./c// HTTP/1.1\r\nHost: a\r\n\r\n",
	"two slashes":                  "GET //a/b HTTP/1.1\r\nHost: a\r\n\r\n",
	"a scheme in the path":         "GET /http://b/c HTTP/1.1\r\nHost: a\r\n\r\n",
	"odd characters in the target": "GET /a\"<>\\^`{|}'()*,:;=@!$&+~ HTTP/1.1\r\nHost: a\r\n\r\n",
	"a star in the path":           "GET /* HTTP/1.1\r\nHost: a\r\n\r\n",
	"a port":                       "GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n",
	"an address":                   "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
	"host in lower case":           "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
	"host in the end":              "GET / HTTP/1.1\r\nAccept: */*\r\nHost: a\r\n\r\n",
	"no space behind a colon":      "GET / HTTP/1.1\r\nHost:a\r\nA:b\r\n\r\n",
	"spaces around values":         "GET / HTTP/1.1\r\nHost: \t a \t\r\nA: \t b c \t \r\n\r\n",
	"an empty value":               "GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB: \t \r\n\r\n",
	"names of any case":            "GET / HTTP/1.1\r\nHost: a\r\nx-fOO-bAr: b\r\nETAG: c\r\n\r\n",
	"a field three times":          "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\na: e\r\nA: \r\n\r\n",
	"odd names":                    "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~0: b\r\n\r\n",
	"bytes beyond ASCII in values": "GET / HTTP/1.1\r\nHost: a\r\nA: \x80\xff ä\r\n\r\n",
	"a colon in a value":           "GET / HTTP/1.1\r\nHost: a\r\nA: b:c:\r\n\r\n",
	"several cookies":              "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\nCookie: e=f\r\n\r\n",
	"close":                        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"close, written large":         "GET / HTTP/1.1\r\nHost: a\r\nConnection: CLOSE\r\n\r\n",
	"keep-alive":                   "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
	"keep-alive and close":         "GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\nConnection: close\r\n\r\n",
	"trailers would be understood": "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
	"a hundred fields":             "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 99) + "\r\n",
	"a large field":                "GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("b", 15<<10) + "\r\n\r\n",
	"a large target":               "GET /" + strings.Repeat("b", 15<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	"what a browser sends": "GET /q/concert?lang=en HTTP/1.1\r\nHost: tickets.example\r\nConnection: keep-alive\r\n" +
		"sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\nUpgrade-Insecure-Requests: 1\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n" +
		"Accept-Encoding: gzip, deflate, br\r\nCookie: __Host-a=b.c-d_e; f=\"g\"\r\nIf-None-Match: W/\"abc\"\r\n\r\n",
}

// strange are requests that net/http's server gets, whatever it makes of them.
var strange = map[string]string{
	"chunked":                         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"chunked twice":                   "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
	"chunked in two fields":           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
	"an unknown coding":               "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
	"an empty coding":                 "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
	"a length and chunks":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"chunks and a length":             "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
	"a coding whose name has a space": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"a coding with a control":         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
	"one length twice":                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	"two lengths":                     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
	"a list of lengths":               "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
	"no digits in a length":           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
	"a sign before a length":          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
	"a length below zero":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
	"a hexadecimal length":            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
	"a space in a length":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\nhello",
	"digits beyond ASCII":             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \u0665\r\n\r\nhello",
	"a fraction":                      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello",
	"a length that overflows":         "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
	"a length of sixteen digits":      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000005\r\n\r\nhello",
	"a length whose name has a space": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
	"a space before a colon":          "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
	"a space before a name":           "GET / HTTP/1.1\r\nHost: a\r\n A: b\r\n\r\n",
	"a first field with a space":      "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
	"a folded line":                   "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
	"a folded length":                 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 5\r\n\r\nhello",
	"no name":                         "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
	"no colon":                        "GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n",
	"a name beyond ASCII":             "GET / HTTP/1.1\r\nHost: a\r\nÄ: b\r\n\r\n",
	"a control in a name":             "GET / HTTP/1.1\r\nHost: a\r\nA\x01: b\r\n\r\n",
	"NUL in a value":                  "GET / HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n\r\n",
	"a control in a value":            "GET / HTTP/1.1\r\nHost: a\r\nA: b\x0bc\r\n\r\n",
	"DEL in a value":                  "GET / HTTP/1.1\r\nHost: a\r\nA: b\x7fc\r\n\r\n",
	"a bare CR in a value":            "GET / HTTP/1.1\r\nHost: a\r\nA: b\rContent-Length: 5\r\n\r\n",
	"a bare CR before a line's end":   "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\r\n\r\n",
	"a bare LF behind the first line": "GET / HTTP/1.1\nHost: a\r\n\r\n",
	"a bare LF behind a field":        "GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n",
	"a bare LF behind the last field": "GET / HTTP/1.1\r\nHost: a\r\nA: b\n\r\n",
	"a bare LF in the end":            "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\n",
	"nothing but bare LF":             "GET / HTTP/1.1\nHost: a\n\n",
	"a bare LF hides an end":          "GET / HTTP/1.1\r\nHost: a\n\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n",
	"no host":                         "GET / HTTP/1.1\r\nA: b\r\n\r\n",
	"no field":                        "GET / HTTP/1.1\r\n\r\n",
	"an empty host":                   "GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"one host twice":                  "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"two hosts":                       "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
	"an empty host and another":       "GET / HTTP/1.1\r\nHost:\r\nHost: b\r\n\r\n",
	"a space in the host":             "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	"a quote in the host":             "GET / HTTP/1.1\r\nHost: a\"b\r\n\r\n",
	"a host beyond ASCII":             "GET / HTTP/1.1\r\nHost: ä\r\n\r\n",
	"a whole address as target":       "GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n",
	"an authority as target":          "GET b:80 HTTP/1.1\r\nHost: a\r\n\r\n",
	"a star as target":                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	"a star to GET":                   "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
	"CONNECT":                         "CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n",
	"CONNECT to a path":               "CONNECT /b HTTP/1.1\r\nHost: b\r\n\r\n",
	"TRACE":                           "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
	"an unknown method":               "QUERY / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a method in lower case":          "get / HTTP/1.1\r\nHost: a\r\n\r\n",
	"no method":                       " / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a space before the method":       " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"no target":                       "GET HTTP/1.1\r\nHost: a\r\n\r\n",
	"an empty target":                 "GET  HTTP/1.1\r\nHost: a\r\n\r\n",
	"a relative target":               "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
	"a space in the target":           "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
	"a space before the target":       "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
	"a space behind the target":       "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
	"a space behind the version":      "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
	"a tab in the first line":         "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"a tab in the target":             "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
	"a CR in the target":              "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n",
	"NUL in the target":               "GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n",
	"DEL in the target":               "GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n",
	"a target beyond ASCII":           "GET /\x80\xff HTTP/1.1\r\nHost: a\r\n\r\n",
	"a broken escape":                 "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"a version more":                  "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
	"no version":                      "GET /\r\nHost: a\r\n\r\n",
	"HTTP/0.9":                        "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
	"HTTP/1.0":                        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
	"HTTP/1.0 to be kept":             "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
	"HTTP/1.2":                        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
	"HTTP/2.0":                        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
	"HTTP/1.10":                       "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
	"http/1.1":                        "GET / http/1.1\r\nHost: a\r\n\r\n",
	"the preface of HTTP/2":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"Expect":                          "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
	"Expect anything":                 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: wonders\r\n\r\nhello",
	"an upgrade":                      "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"an upgrade without Connection":   "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
	"an upgrade of Connection only":   "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
	"two tokens of Connection":        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
	"a field named by Connection":     "GET / HTTP/1.1\r\nHost: a\r\nConnection: A\r\nA: b\r\n\r\n",
	"an empty Connection":             "GET / HTTP/1.1\r\nHost: a\r\nConnection:\r\n\r\n",
	"Trailer":                         "POST / HTTP/1.1\r\nHost: a\r\nTrailer: A\r\nContent-Length: 5\r\n\r\nhello",
	"Pragma":                          "GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
	"a hundred and one fields":        "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 100) + "\r\n",
	"a head of 17 KiB":                "GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("b", 17<<10) + "\r\n\r\n",
	"a target of 17 KiB":              "GET /" + strings.Repeat("b", 17<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	"a head beyond every limit":       "GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("b", 2<<20) + "\r\n\r\n",
	"an empty line first":             "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"an empty line of LF first":       "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"nothing but empty lines":         "\r\n\r\n",
	"no HTTP at all":                  "hello\r\n\r\n",
}

// check fails if parse takes of in what net/http reads in another way, and tells whether it takes it.
func check(t *testing.T, in []byte) bool {
	t.Helper()
	n, _ := headEnd(in, 0)
	if len(in) < 1000 {
		line, end := 0, 0
		for come := 1; come <= len(in) && end == 0; come++ {
			end, line = headEnd(in[:come], line)
			if end > 0 && end != come {
				t.Fatalf("the end of %q is seen in the end of %q", in[:end], in[:come])
			}
		}
		if end != n {
			t.Fatalf("%q byte by byte ends at %d, and at once at %d", in, end, n)
		}
	}
	n = max(0, n)
	for _, end := range []int{len(in), max(0, n-1)} {
		if end != n && parse(in[:end], new(http.Request)) {
			t.Fatalf("parse takes %q, where no head ends", in[:end])
		}
	}
	got := new(http.Request)
	if !parse(in[:n], got) {
		return false
	}
	want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
	if err != nil {
		t.Fatalf("parse takes %q, net/http does not: %v", in[:n], err)
	}
	if want.ContentLength > 0 != (got.ContentLength > 0) || got.Body != http.NoBody { // which conn replaces
		t.Errorf("body of %q: %v", in[:n], got.Body)
	}
	want.Body = got.Body
	want.Pattern = got.Pattern
	if !reflect.DeepEqual(want.URL, got.URL) || !reflect.DeepEqual(want.Header, got.Header) || told(want) != told(got) || !reflect.DeepEqual(want, got) {
		t.Errorf("of %q parse reads\n%+v, net/http\n%+v", in[:n], got, want)
	}
	if want.TransferEncoding != nil || want.Trailer != nil {
		t.Errorf("%q has a coding or trailers", in[:n])
	}
	for name, values := range got.Header {
		if len(values) != cap(values) && len(values) == 1 {
			t.Errorf("what is added to %s of %q goes over the next value", name, in[:n])
		}
	}
	return true
}

// told is all of a request that a handler sees, but for its body.
func told(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %#v %q %q %d %d %q %d %v %q %v\n", r.Method, *r.URL, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Host,
		r.ContentLength, r.Close, r.TransferEncoding, r.Trailer)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&b, "%q: %q\n", name, r.Header[name])
	}
	return b.String()
}

func FuzzParse(f *testing.F) {
	for _, requests := range []map[string]string{plain, strange} {
		for _, text := range requests {
			if len(text) <= maxHead {
				f.Add([]byte(text))
			}
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) { check(t, in) })
}

func TestParseReadsAsNetHTTPDoes(t *testing.T) {
	for name, text := range plain {
		if !check(t, []byte(text)) {
			t.Errorf("%s is not plain: %.300q", name, text)
		}
	}
	for name, text := range strange {
		if len(text) <= maxHead && check(t, []byte(text)) {
			t.Errorf("%s is plain: %.300q", name, text)
		}
	}
}

// TestParseLooksAtEveryByte puts each byte in the place of, and before, each of a request's.
func TestParseLooksAtEveryByte(t *testing.T) {
	const text = "POST /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 12\r\nA: b\r\n\r\n"
	for i := range len(text) {
		for b := range 256 {
			check(t, []byte(text[:i]+string([]byte{byte(b)})+text[i+1:]))
			check(t, []byte(text[:i]+string([]byte{byte(b)})+text[i:]))
		}
		check(t, []byte(text[:i]+text[i+1:]))
		check(t, []byte(text[:i]+text[i:]+text[i:]))
	}
}

// TestHandlersSeeTheSameRequestAsBehindNetHTTP sends each request to both, and compares all that comes back.
func TestHandlersSeeTheSameRequestAsBehindNetHTTP(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		seen := fmt.Sprintf("%sbody %q, %v, none: %v\n", told(r), body, err, r.Body == http.NoBody)
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		w.Header().Set("Content-Length", strconv.Itoa(len(seen)))
		_, _ = io.WriteString(w, seen)
	})
	theirs := beside(t, &http.Server{Handler: echo})
	for kind, requests := range map[string]map[string]string{"plain": plain, "strange": strange} {
		for name, text := range requests {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				ours := open(t, &http.Server{Handler: echo})
				want, got := all(t, theirs, text), all(t, ours.address, text)
				if got != want {
					t.Errorf("%.300q is answered\n%.2000s\nby net/http\n%.2000s", text, got, want)
				}
				if handed := ours.handed.Load() > 0; handed != (kind == "strange") {
					t.Errorf("%.300q went to net/http: %v", text, handed)
				}
			})
		}
	}
}

// beside runs net/http's own server until the test and all its parts end.
func beside(t testing.TB, s *http.Server) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	return l.Addr().String()
}

// all is what a server says to a request behind which its client says no more.
func all(t *testing.T, address, text string) string {
	t.Helper()
	c := dial(t, address)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c, text) // a server that refuses need not read all
		_ = c.CloseWrite()
	}()
	said, err := io.ReadAll(c)
	if late, ok := err.(net.Error); ok && late.Timeout() {
		t.Fatalf("no end of the answer to %.300q", text)
	}
	<-sent
	_ = c.Close()
	return string(said)
}
