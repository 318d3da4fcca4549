package http1

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// demands are requests that bring or want something, or end in a special way.
func demands() []exchange {
	type say = func(format string, args ...any)
	post := func(length int, body string, fields ...string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n%s", length, strings.Join(append(fields, ""), "\r\n"), body)
	}
	hello := func(w http.ResponseWriter, _ *http.Request, _ say) { _, _ = io.WriteString(w, "hello") }
	many := func(n int) string { return strings.Repeat("x", n) }
	reads := func(n int) func(w http.ResponseWriter, r *http.Request, say say) {
		return func(w http.ResponseWriter, r *http.Request, say say) {
			b := make([]byte, n)
			m, err := io.ReadFull(r.Body, b)
			say("read %d, %v", m, err)
			_, _ = fmt.Fprintf(w, "%d of %d", m, r.ContentLength)
		}
	}
	all := func(w http.ResponseWriter, r *http.Request, say say) {
		b, err := io.ReadAll(r.Body)
		say("read %d of %d, %v", len(b), r.ContentLength, err)
		n, err := r.Body.Read(make([]byte, 10))
		say("then %d, %v", n, err)
		n, err = r.Body.Read(nil)
		say("then %d, %v", n, err)
		say("closed: %v", r.Body.Close())
		n, err = r.Body.Read(make([]byte, 10))
		say("then %d, %v", n, err)
		_, _ = w.Write(b)
	}
	chunked := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\n yo\r\n0\r\n\r\n"

	return []exchange{
		{name: "the client closes", sent: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", serve: hello},
		{name: "the client closes behind much", sent: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
			serve: func(w http.ResponseWriter, _ *http.Request, _ say) { _, _ = io.WriteString(w, many(1<<20)) }},
		{name: "both close", sent: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusNoContent)
		}},
		{name: "the client closes, the handler does not", sent: "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Set("Connection", "keep-alive")
			hello(w, r, say)
		}},
		{name: "the client would go on", sent: "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", serve: hello},
		{name: "the client says no more", stops: true, serve: hello},
		{name: "the client says no more within a head", sent: "GET / HTTP/1.1\r\nHost: a\r\n", stops: true, serve: hello,
			why: "nobody waits for this answer", ours: func(string) string { return "ends\n" }},

		{name: "a body", sent: post(5, "hello"), serve: all},
		{name: "a body of GET", sent: "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", serve: all},
		{name: "a large body", sent: post(1<<20, many(1<<20)), serve: all},
		{name: "a body of zero", sent: post(0, ""), serve: all},
		{name: "a body in small pieces", sent: post(5000, many(5000)), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			b, err := io.ReadAll(iotest.OneByteReader(r.Body))
			say("read %d, %v", len(b), err)
		}},
		{name: "a body's last bytes", sent: post(5, "hello"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			n, err := io.ReadFull(r.Body, make([]byte, 4))
			say("%d, %v", n, err)
			n, err = r.Body.Read(make([]byte, 10))
			say("%d, %v", n, err)
		}},
		{name: "a part of a body read", sent: post(10, "helloworld"), serve: reads(5)},
		{name: "a part of a larger body read", sent: post(200_000, many(200_000)), serve: reads(5)},
		{name: "a body not read", sent: post(10, "helloworld"), serve: hello},
		{name: "a larger body not read", sent: post(maxRest-1, many(maxRest-1)), serve: hello},
		{name: "the greatest body not read", sent: post(maxRest, many(maxRest)), serve: hello,
			why: "so much is read, and no more", ours: goesOn},
		{name: "too large a body not read", sent: post(maxRest+1, many(maxRest+1)), serve: hello},
		{name: "a huge body not read", sent: post(8<<20, many(8<<20)), serve: hello},
		{name: "all of a huge body read but a little", sent: post(1<<20, many(1<<20)), serve: reads(1<<20 - 1000)},
		{name: "a body not read, and closed", sent: post(10, "helloworld"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			say("%v", r.Body.Close())
			say("%v", r.Body.Close())
			n, err := r.Body.Read(make([]byte, 10))
			say("%d, %v", n, err)
			hello(w, r, say)
		}},
		{name: "a body replaced", sent: post(10, "helloworld"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			r.Body, r.ContentLength = http.NoBody, 0
			hello(w, r, say)
		}, why: "it is read whoever has it", ours: goesOn},
		{name: "a body not read by an answer of told length", sent: post(10, "helloworld"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Set("Content-Length", "5")
			hello(w, r, say)
		}},
		{name: "a body not read, and the client closes", sent: post(10, "helloworld", "Connection: close"), serve: hello},
		{name: "a huge body that could be read beside the answer", sent: post(8<<20, many(8<<20)), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			say("%v", http.NewResponseController(w).EnableFullDuplex())
			hello(w, r, say)
		}, why: "it is known when the answer is", ours: instead("Content-Length", "Connection: close\nContent-Length")},
		{name: "a body that could be read beside the answer", sent: post(10, "helloworld"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			say("%v", http.NewResponseController(w).EnableFullDuplex())
			hello(w, r, say)
		}, why: "what is left of it is little", ours: goesOn},
		{name: "a huge body not read, and the handler would go on", sent: post(8<<20, many(8<<20)), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Set("Connection", "keep-alive")
			hello(w, r, say)
		}},
		{name: "a huge body not read, and the client closes", sent: post(8<<20, many(8<<20), "Connection: close"), serve: hello},
		{name: "a body read behind a flush", sent: post(10, "helloworld"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			rc := http.NewResponseController(w)
			_ = rc.EnableFullDuplex()
			_ = rc.Flush()
			all(w, r, say)
		}},
		{name: "a body read behind a flush, which is too late", sent: post(10, "helloworld"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			_ = http.NewResponseController(w).Flush()
			all(w, r, say)
		}},
		{name: "a huge body read behind a flush", sent: post(1<<20, many(1<<20)), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			_ = http.NewResponseController(w).Flush()
			all(w, r, say)
		}},
		{name: "a body read within an answer", sent: post(1<<20, many(1<<20)), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			n, err := io.Copy(w, r.Body)
			say("copied %d, %v", n, err)
		}},
		{name: "a body that ends too early", sent: post(10, "hello"), stops: true, serve: all,
			why: "what is broken stays so, and is the last", ours: func(theirs string) string {
				return strings.NewReplacer("Content-Length", "Connection: close\nContent-Length", "0, EOF", "0, unexpected EOF",
					http.ErrBodyReadAfterClose.Error(), "unexpected EOF").Replace(theirs)
			}},
		{name: "a body that ends too early, not read", sent: post(10, "hello"), stops: true, serve: hello},
		{name: "a form", sent: "POST /?a=1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\na=2&b=3",
			serve: func(w http.ResponseWriter, r *http.Request, say say) { say("%v, %v", r.ParseForm(), r.Form) }},

		{name: "a body within its limit", sent: post(10, "helloworld"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			r.Body = http.MaxBytesReader(w, r.Body, 10)
			all(w, r, say)
		}},
		{name: "a body beyond its limit", sent: post(10, "helloworld"), serve: limited,
			why: "what is left of it is little", ours: goesOn},
		{name: "a huge body beyond its limit", sent: post(1<<20, many(1<<20)), serve: limited},

		{name: "chunks", sent: chunked, serve: all, handed: true},
		{name: "chunks not read", sent: chunked, serve: hello, handed: true},
		{name: "100-continue", sent: post(5, "hello", "Expect: 100-continue"), serve: all, handed: true},
		{name: "100-continue not read", sent: post(5, "hello", "Expect: 100-continue"), serve: hello, handed: true},
		{name: "chunks and others", sent: post(5, "hello") + chunked + get + post(5, "world"), serve: all, handed: true,
			asks: []string{"POST", "POST", "GET", "POST"}},
		{name: "a request that is refused behind others", sent: get + post(5, "hello") + "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", serve: all,
			asks: []string{"GET", "POST", "GET"}, handed: true},

		{name: "several in one packet", sent: get + post(5, "hello") + "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + get, serve: all, asks: []string{"GET", "POST", "HEAD", "GET"}},
		{name: "several whose bodies are not read", sent: post(5, "hello") + post(7000, many(7000)) + post(0, "") + get, serve: hello, asks: []string{"POST", "POST", "POST", "GET"}},
		{name: "several whose bodies look like requests", sent: post(len(get), get) + post(len(get), get) + get, serve: hello, asks: []string{"POST", "POST", "GET"}},
		{name: "several, and one closes", sent: get + "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + get, serve: hello, asks: []string{"GET", "GET"}},
		{name: "several, and the client says no more", sent: get + get + get, stops: true, serve: hello, asks: []string{"GET", "GET", "GET"}},
		{name: "several, and one is too long written", sent: get + get, asks: []string{"GET", "GET"}, serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hell")
			_, _ = io.WriteString(w, "oworld")
		}},
		{name: "a line's end behind a body", sent: post(5, "hello") + "\r\n" + get, serve: all, asks: []string{"POST", "GET"}},
		{name: "a line's end behind no body", sent: get + "\r\n" + get, serve: all, asks: []string{"GET", "GET"},
			why: "RFC 9112 asks to bear it, and not behind POST only", ours: func(theirs string) string {
				first, _, _ := strings.Cut(theirs, "HTTP/1.1 400")
				said := theirs[strings.Index(theirs, "handler:"):]
				return first + first + `goes on: 200 OK "next" <nil>` + "\n" + said + said
			}},
		{name: "two line's ends behind no body", sent: get + "\r\n\r\n" + get, serve: all, asks: []string{"GET", "GET"}, handed: true},
		{name: "very many", sent: strings.Repeat(get, 500), asks: strings.Split(strings.Repeat("GET ", 499)+"GET", " "), serve: all},

		{name: "a panic", serve: func(http.ResponseWriter, *http.Request, say) { panic("a") }},
		{name: "a panic with nil", serve: func(http.ResponseWriter, *http.Request, say) { panic(nil) }},
		{name: "an abort", serve: func(http.ResponseWriter, *http.Request, say) { panic(http.ErrAbortHandler) }},
		{name: "an abort behind a status", serve: func(w http.ResponseWriter, _ *http.Request, _ say) {
			w.WriteHeader(http.StatusOK)
			panic(http.ErrAbortHandler)
		}},
		{name: "an abort behind a little", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			hello(w, r, say)
			panic(http.ErrAbortHandler)
		}},
		{name: "an abort behind a little that is flushed", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			hello(w, r, say)
			_ = http.NewResponseController(w).Flush()
			hello(w, r, say)
			panic(http.ErrAbortHandler)
		}},
		{name: "an abort behind a part of what was told", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Set("Content-Length", "10")
			hello(w, r, say)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "an abort before a body is read", sent: post(10, "helloworld"), serve: func(http.ResponseWriter, *http.Request, say) { panic(http.ErrAbortHandler) }},
		{name: "an abort among several", sent: get + get + get, asks: []string{"GET", "GET", "GET"}, serve: func(w http.ResponseWriter, r *http.Request, say say) {
			hello(w, r, say)
			panic(http.ErrAbortHandler)
		}},

		{name: "a deadline of reading that is past", sent: post(10, "hello"), serve: func(w http.ResponseWriter, r *http.Request, say say) {
			say("%v", http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)))
			_, err := io.ReadFull(r.Body, make([]byte, 10))
			var late interface{ Timeout() bool }
			say("late: %v", errors.As(err, &late) && late.Timeout())
			hello(w, r, say)
		}},
		{name: "no hijacking", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			_, ok := w.(http.Hijacker)
			say("%v", ok)
		}, why: "only net/http's connections can be taken", ours: instead("true", "false")},
		{name: "what the context has", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
			say("%v, %v, %v", ok, server.Handler != nil, r.Context().Err())
			host, _, _ := strings.Cut(r.RemoteAddr, ":")
			say("%s, %v", host, r.TLS)
		}},
	}
}

// goesOn is an exchange behind which net/http closes, and we do not.
func goesOn(theirs string) string {
	return strings.NewReplacer("Connection: close\n", "", "ends", `goes on: 200 OK "next" <nil>`).Replace(theirs)
}

func limited(w http.ResponseWriter, r *http.Request, say func(format string, args ...any)) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 5))
	var large *http.MaxBytesError
	say("read %q, too large: %v", b, errors.As(err, &large))
	http.Error(w, "no", http.StatusRequestEntityTooLarge)
}

func TestDemandsLookAsBehindNetHTTP(t *testing.T) {
	for _, x := range demands() {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			x.compare(t)
		})
	}
}

func TestHowARequestIsCutMakesNoDifference(t *testing.T) {
	t.Parallel()
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %q %q %v", r.Method, r.URL, body, err)
	})
	const post = "\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nA: \r\n\r\nhello\r\n\r\nyo\n"
	for _, x := range []exchange{
		{name: "plain", sent: post[2:] + get + post[2:] + post + get, asks: []string{"POST", "GET", "POST", "POST", "GET"}},
		{name: "chunked", sent: get + "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + get, asks: []string{"GET", "POST", "GET"}, handed: true},
		{name: "with bare LF", sent: get + "GET / HTTP/1.1\nHost: a\n\n" + get, asks: []string{"GET", "GET", "GET"}, handed: true},
	} {
		want := x.look(t, beside(t, &http.Server{Handler: serve}))
		ours := open(t, &http.Server{Handler: serve})
		for cut := range len(x.sent) {
			ours.cut.Store(int64(cut))
			if got := x.look(t, ours.address); got != want {
				t.Fatalf("%s, cut at %d, looks like\n%s\nand should look like\n%s", x.name, cut, got, want)
			}
		}
		if handed := ours.handed.Load(); x.handed != (handed == int64(len(x.sent))) || !x.handed && handed != 0 {
			t.Errorf("%s: %d connections of %d went to net/http", x.name, handed, len(x.sent))
		}
	}
}

func TestOnlyPanicsThatAreNoAbortsAreLogged(t *testing.T) {
	t.Parallel()
	for cause, logged := range map[any]bool{"a strange cause": true, http.ErrAbortHandler: false} {
		var said transcript
		p := open(t, &http.Server{
			ErrorLog: log.New(&said, "", 0),
			Handler:  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(cause) }),
		})
		c := dial(t, p.address)
		c.send(get)
		c.ended()
		if text := said.taken(); strings.Contains(text, fmt.Sprint("panic serving ", c.LocalAddr(), ": ", cause)) != logged || !logged && text != "" {
			t.Errorf("of %v is logged %q", cause, text)
		}
	}
}
