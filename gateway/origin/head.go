package origin

import (
	"bytes"
	"errors"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// appendHead writes the head of r for a server whose paths begin with base. Fields that
// belong to one connection are not r's any more, but for those of a body's framing, which
// are written by its ContentLength.
func appendHead(b []byte, r *http.Request, host, base string) ([]byte, error) {
	if r.Host != "" {
		host = r.Host
	}
	path := r.URL.EscapedPath()
	if path == "" && base == "" {
		path = "/"
	}
	if !token(r.Method) || !visible(base) || !visible(path) || !visible(r.URL.RawQuery) || !visible(host) {
		return b, errUnsendable
	}
	b = append(append(append(append(b, r.Method...), ' '), base...), path...)
	if r.URL.ForceQuery || r.URL.RawQuery != "" {
		b = append(append(b, '?'), r.URL.RawQuery...)
	}
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), host...), "\r\n"...)
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		}
		if !canonical(name) { // nor one of the four above, written otherwise
			return b, errUnsendable
		}
		for _, value := range values {
			if strings.IndexByte(value, '\n') >= 0 || strings.IndexByte(value, '\r') >= 0 || strings.IndexByte(value, 0) >= 0 {
				return b, errUnsendable
			}
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	switch {
	case r.ContentLength > 0:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10), "\r\n"...)
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = append(b, "Content-Length: 0\r\n"...) // many servers want to be told
	}
	return append(b, "\r\n"...), nil
}

// errUnsendable is the client's fault: characters that may not be in a head, a body that breaks off.
var errUnsendable = errors.New("the request cannot be sent")

// tokens are tchar of RFC 9110, section 5.6.2.
var tokens = func() (is [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		is[c] = true
	}
	return is
}()

func token(s string) bool {
	for i := range len(s) {
		if !tokens[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// canonical tells whether name is a field's, in the way that http.Header has it.
func canonical(name string) bool {
	begins := true
	for i := range len(name) {
		c := name[i]
		if !tokens[c] || begins && c >= 'a' && c <= 'z' || !begins && c >= 'A' && c <= 'Z' {
			return false
		}
		begins = c == '-'
	}
	return name != ""
}

// visible tells that nothing in s ends a request line, or a word of it.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// readHead reads the head of a final answer to a request of this method, which b begins with.
// It reads only what everybody reads in the same way: HTTP/1.1, whole lines that end with
// CRLF, a length that is told once, in digits, or no body by the status. For anything else
// it is nil, and http.ReadResponse decides; FuzzReadHead compares the two. size is how many
// bytes of b were the head. The answer has no Body yet unless that is http.NoBody.
func readHead(b []byte, method string) (res *http.Response, size int) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	const version = "HTTP/1.1 "
	if !bytes.HasPrefix(b, []byte(version)) || end < 0 {
		return nil, 0
	}
	text := string(b[:end+2]) // all strings of the answer are part of it
	line, fields, _ := strings.Cut(text, "\r\n")
	said := line[len(version):]
	if len(said) < len("200 ") || said[3] != ' ' || !plainText(said) {
		return nil, 0
	}
	code, err := strconv.ParseUint(said[:3], 10, 0)
	if err != nil || code < 200 || code > 599 {
		return nil, 0
	}
	n := strings.Count(fields, "\n")
	header, values := make(http.Header, n+2), make([]string, 0, n) // two more, as a proxy may add
	length := int64(-1)
	for fields != "" {
		var field string
		field, fields, _ = strings.Cut(fields, "\r\n")
		colon := strings.IndexByte(field, ':')
		if colon < 0 || !token(field[:colon]) {
			return nil, 0
		}
		value := strings.Trim(field[colon+1:], " \t")
		if !plainText(value) {
			return nil, 0
		}
		name := textproto.CanonicalMIMEHeaderKey(field[:colon])
		switch name {
		case "Transfer-Encoding", "Pragma": // chunks and their trailers; what http.ReadResponse makes a Cache-Control of
			return nil, 0
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return nil, 0
			}
		case "Content-Length":
			if length >= 0 || len(value) > 18 {
				return nil, 0
			}
			told, err := strconv.ParseUint(value, 10, 63)
			if err != nil {
				return nil, 0
			}
			length = int64(told)
		}
		if before := header[name]; before != nil {
			header[name] = append(before, value)
			continue
		}
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	res = &http.Response{
		Status: said, StatusCode: int(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: length,
	}
	switch {
	case method == http.MethodHead:
		res.Body = http.NoBody
	case code == http.StatusNoContent, code == http.StatusNotModified:
		res.Body, res.ContentLength = http.NoBody, 0
	case length < 0:
		return nil, 0 // it lasts until the connection ends
	case length == 0:
		res.Body = http.NoBody
	}
	return res, end + len("\r\n\r\n")
}

// plainText tells that s has no control characters but tabs.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
