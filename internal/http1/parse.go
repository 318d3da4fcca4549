package http1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

const version = " HTTP/1.1" // of every plain request

const (
	maxFields = 100
	maxDigits = 15 // of a length: no number of so many overflows
)

// parse fills r from the head of a request, from its first byte to the empty line that ends it. It returns false for
// one that is not plain. The request's strings are parts of one copy of the head.
func parse(head []byte, r *http.Request) bool {
	line, rest, ok := cutLine(string(head))
	if !ok {
		return false
	}
	method, target, _ := strings.Cut(line, " ")
	target, ok = strings.CutSuffix(target, version)
	if !ok || target == "" || target[0] != '/' || !visible(target) {
		return false
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		return false
	}
	fields := strings.Count(rest, "\r\n") - 1 // and the empty line
	if fields < 1 || fields > maxFields {
		return false
	}
	where, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	r.Method, r.URL, r.RequestURI = method, where, target
	r.Proto, r.ProtoMajor, r.ProtoMinor = version[1:], 1, 1
	r.Header, r.Body = make(http.Header, fields), http.NoBody
	values := make([]string, 0, fields) // one piece of memory for all
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return false
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if value = textproto.TrimString(value); !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch name {
		case "Host":
			if r.Host != "" || value == "" || !httpguts.ValidHostHeader(value) {
				return false
			}
			r.Host = value
			continue
		case "Content-Length":
			if r.ContentLength, ok = length(value); !ok || r.Header[name] != nil {
				return false
			}
		case "Connection":
			switch {
			case strings.EqualFold(value, "close"):
				r.Close = true
			case !strings.EqualFold(value, "keep-alive"):
				return false
			}
		case "Transfer-Encoding", "Trailer", "Upgrade", "Expect", "Pragma": // the last may change another field
			return false
		}
		if before := r.Header[name]; before != nil {
			r.Header[name] = append(before, value)
			continue
		}
		values = append(values, value)
		r.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return rest == "" && r.Host != ""
}

// cutLine cuts a line off, which ends with CR LF and has neither in it.
func cutLine(s string) (line, rest string, ok bool) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || s[i-1] != '\r' {
		return "", "", false
	}
	line = s[:i-1]
	return line, s[i+1:], strings.IndexByte(line, '\r') < 0
}

// visible tells whether there are only the characters of a target: printing ones of ASCII, and no space.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// length reads a Content-Length.
func length(s string) (n int64, ok bool) {
	if s == "" || len(s) > maxDigits {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int64(s[i]-'0')
	}
	return n, true
}

// headEnd looks for the end of a head, of which all lines before the one at from were looked at. It returns 0 as end, and
// where the last line begins, while the head is not whole; and -1 as soon as no plain head can come of it.
func headEnd(in []byte, from int) (end, line int) {
	for {
		i := bytes.IndexByte(in[from:], '\n')
		if i < 0 {
			return 0, from
		}
		i += from
		switch {
		case i == 0 || in[i-1] != '\r', from == 0 && !bytes.HasSuffix(in[:i-1], []byte(version)):
			return -1, 0
		case i == from+1:
			return i + 1, 0
		}
		from = i + 1
	}
}
