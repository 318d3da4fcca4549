package http1

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// answers are handlers' ways to answer a request that brings nothing.
func answers() []exchange {
	type say = func(format string, args ...any)
	type serve = func(w http.ResponseWriter, r *http.Request, say func(format string, args ...any))
	write := func(w io.Writer, say say, pieces ...string) {
		for _, piece := range pieces {
			n, err := io.WriteString(w, piece)
			say("wrote %d, %v", n, err)
		}
	}
	// writes sets fields, each a name and a value behind it, and then writes.
	writes := func(fields []string, pieces ...string) serve {
		return func(w http.ResponseWriter, _ *http.Request, say say) {
			for i := 0; i < len(fields); i += 2 {
				w.Header()[fields[i]] = append(w.Header()[fields[i]], fields[i+1])
			}
			write(w, say, pieces...)
		}
	}
	// status is an answer of this status, which writes.
	status := func(status int, fields []string, pieces ...string) serve {
		return func(w http.ResponseWriter, r *http.Request, say say) {
			writes(fields)(w, r, say)
			w.WriteHeader(status)
			write(w, say, pieces...)
		}
	}
	flush := func(w http.ResponseWriter, say say) { say("flushed, %v", http.NewResponseController(w).Flush()) }
	none := []string(nil)
	typed := []string{"Content-Type", "text/x"}
	length := func(n int, more ...string) []string {
		return append([]string{"Content-Length", strconv.Itoa(n)}, more...)
	}
	long := strings.Repeat("0123456789", 1000)

	all := []exchange{
		{name: "nothing", serve: writes(none)},
		{name: "nothing, written", serve: writes(none, "")},
		{name: "nothing, of a type", serve: writes(typed)},
		{name: "a little", serve: writes(none, "hello")},
		{name: "a little, of a type", serve: writes(typed, "hello")},
		{name: "pieces", serve: writes(none, "hello", "", ", ", "world")},
		{name: "much in pieces", serve: writes(none, long, "hello", long, long, "hello")},
		{name: "copied", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			n, err := io.Copy(w, io.LimitReader(strings.NewReader(strings.Repeat(long, 10)), 70_000))
			say("copied %d, %v", n, err)
		}},
		{name: "an error", serve: func(w http.ResponseWriter, _ *http.Request, _ say) { http.Error(w, "no", http.StatusTeapot) }},
		{name: "not found", serve: func(w http.ResponseWriter, r *http.Request, _ say) { http.NotFound(w, r) }},
		{name: "elsewhere", serve: func(w http.ResponseWriter, r *http.Request, _ say) { http.Redirect(w, r, "/b", http.StatusSeeOther) }},
		{name: "a part of content", serve: func(w http.ResponseWriter, r *http.Request, _ say) {
			r.Header.Set("Range", "bytes=1000-8999")
			http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), strings.NewReader(long))
		}},

		{name: "length told", serve: writes(length(5), "hello")},
		{name: "length told, pieces", serve: writes(length(10), "hello", "world")},
		{name: "length told, much", serve: writes(length(10_000), long)},
		{name: "length told, much of a type", serve: writes(length(10_000, typed...), long)},
		{name: "length told, much in pieces", serve: writes(length(20_000), "hello", long, long[5:])},
		{name: "length told, none", serve: writes(length(0))},
		{name: "length told, none and more", unasked: true, serve: writes(length(0), "hello"),
			why: "nothing is missing, and nothing too much was sent", ours: instead("ends", `goes on: 200 OK "next" <nil>`)},
		{name: "length told, nothing written", serve: writes(length(5))},
		{name: "length told, too little", serve: writes(length(5), "hell")},
		{name: "length told, too little of much", serve: writes(length(10_001), long)},
		{name: "length told, too much at once", serve: writes(length(5), "hello!")},
		{name: "length told, too much of much", serve: writes(length(15_000), long, long)},
		{name: "length told, too much after all", unasked: true, serve: writes(length(5), "hello", "!"),
			why: "nothing is missing, and nothing too much was sent", ours: instead("ends", `goes on: 200 OK "next" <nil>`)},
		{name: "length told with zeros", serve: writes([]string{"Content-Length", "0005"}, "hello"),
			why: "the length is written anew", ours: instead("Length: 0005", "Length: 5")},
		{name: "length told with a sign", unasked: true, serve: writes([]string{"Content-Length", "+5"}, "hello"),
			why: "that is no length", ours: func(theirs string) string {
				return strings.NewReplacer("Length: +5", "Length: 5", "no answer: bad Content-Length \"+5\"", "body \"hello\"\n"+`goes on: 200 OK "next" <nil>`).Replace(theirs)
			}},
		{name: "length below zero", unasked: true, serve: writes([]string{"Content-Length", "-5"}, "hello"),
			why: "net/http chunks for no reason", ours: asTold(5)},
		{name: "length that is none", unasked: true, serve: writes([]string{"Content-Length", "five"}, "hello"),
			why: "net/http chunks for no reason", ours: asTold(5)},
		{name: "length that is none of much", unasked: true, serve: writes([]string{"Content-Length", "five"}, long)},
		{name: "length told twice", serve: writes([]string{"Content-Length", "5", "Content-Length", "5"}, "hello"),
			why: "one length is enough", ours: instead("Content-Length: 5\n", "")},
		{name: "two lengths", unasked: true, serve: writes([]string{"Content-Length", "6", "Content-Length", "5"}, "hello"),
			why: "neither is to be believed", ours: func(string) string {
				return "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Type: text/plain; charset=utf-8\nDate: now\nbody \"hello\"\n" +
					"goes on: 200 OK \"next\" <nil>\nhandler: wrote 5, <nil>\n"
			}},

		{name: "204", serve: status(204, none)},
		{name: "204 with a body", serve: status(204, none, "hello", "")},
		{name: "204 with a type and a length", serve: status(204, length(5, typed...), "hello")},
		{name: "205", serve: status(205, none)},
		{name: "304", serve: status(304, []string{"Etag", `"a"`})},
		{name: "304 with a body", serve: status(304, length(5, typed...), "hello")},
		{name: "201", serve: status(201, []string{"Location", "/b"}, "hello")},
		{name: "an unknown status", serve: status(299, none, "hello")},
		{name: "the greatest status", serve: status(999, none, "hello")},
		{name: "no status", serve: status(0, none)},
		{name: "a status too great", serve: status(1000, none)},
		{name: "no status after one", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.WriteHeader(http.StatusCreated)
			w.WriteHeader(0)
		}},
		{name: "two statuses", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.WriteHeader(http.StatusCreated)
			w.WriteHeader(http.StatusAccepted)
			write(w, say, "hello")
			w.WriteHeader(http.StatusTeapot)
		}},
		{name: "101 to who did not ask", serve: status(101, []string{"Connection", "Upgrade", "Upgrade", "a"})},
		{name: "103", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Add("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("A", "b")
			write(w, say, "hello")
		}},
		{name: "103 twice and 100 and 102", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Add("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Add("Link", "</b>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(http.StatusContinue)
			write(w, say, long)
			w.WriteHeader(http.StatusEarlyHints)
		}},
		{name: "103 tells no length", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.Header().Set("Content-Length", "5")
			w.Header().Set("Content-Type", "text/x")
			w.Header().Set("Transfer-Encoding", "chunked")
			w.Header().Set("Trailer:B", "c")
			w.WriteHeader(http.StatusEarlyHints)
			clear(w.Header())
			write(w, say, "hello")
		}},
		{name: "103 and a length", serve: func(w http.ResponseWriter, r *http.Request, say say) {
			w.WriteHeader(http.StatusEarlyHints)
			status(404, length(5, typed...), "hello")(w, r, say)
		}},

		{name: "flushed", serve: func(w http.ResponseWriter, _ *http.Request, say say) { flush(w, say); flush(w, say) }},
		{name: "flushed before a body", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			flush(w, say)
			write(w, say, "hello", long)
		}},
		{name: "flushed behind a body", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			write(w, say, "hello")
			flush(w, say)
		}},
		{name: "flushed within a body", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			for _, piece := range []string{"hello", "", long, "hello"} {
				write(w, say, piece)
				flush(w, say)
			}
			w.(http.Flusher).Flush()
		}},
		{name: "flushed within a body of told length", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header().Set("Content-Length", "10")
			flush(w, say)
			write(w, say, "hello")
			flush(w, say)
			write(w, say, "world")
		}},
		{name: "flushed without a body", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.WriteHeader(http.StatusNoContent)
			flush(w, say)
			write(w, say, "hello")
		}},

		{name: "trailers", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header().Set("Trailer", "A, b,, C ")
			w.Header().Add("Trailer", "D")
			write(w, say, "hello")
			w.Header().Set("A", "1")
			w.Header()["B"] = []string{"2", "3\r\nE: 4"}
			w.Header().Set("D", " ")
			w.Header().Set("F", "5")
		}},
		{name: "trailers behind much", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header().Set("Trailer", "A")
			write(w, say, long)
			w.Header().Set("A", "1")
		}},
		{name: "trailers behind nothing", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header().Set("Trailer", "A")
			w.Header().Set("A", "1")
		}},
		{name: "trailers with a length", serve: writes(length(5, "Trailer", "A", "A", "1"), "hello")},
		{name: "trailers that do not come", serve: writes([]string{"Trailer", "A"}, "hello")},
		{name: "no trailers", serve: writes([]string{"Trailer", ""}, "hello")},
		{name: "trailers that may be none", serve: writes([]string{"Trailer", "Content-Length, Transfer-Encoding", "Trailer", "If-Match, Host"}, "hello")},
		{name: "trailers that may be none, and come", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header().Set("Trailer", "If-Match, Set-Cookie, A")
			write(w, say, "hello")
			for _, name := range []string{"If-Match", "Set-Cookie", "A"} {
				w.Header().Set(name, "b")
			}
		}},
		{name: "trailers by prefix", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			write(w, say, "hello")
			flush(w, say)
			w.Header().Set(http.TrailerPrefix+"A", "1")
			w.Header()[http.TrailerPrefix+"b"] = []string{"2", "3"}
			w.Header()[http.TrailerPrefix+"c d"] = []string{"4"}
		}},
		{name: "trailers by prefix behind much", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			write(w, say, long)
			w.Header().Set(http.TrailerPrefix+"A", "1")
		}},
		{name: "trailers by prefix before a little", serve: writes([]string{http.TrailerPrefix + "A", "1"}, "hello")},
		{name: "trailers by prefix too late", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			write(w, say, "hello")
			w.Header().Set(http.TrailerPrefix+"A", "1")
		}},
		{name: "trailers of both kinds", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header().Set("Trailer", "A")
			w.Header().Set(http.TrailerPrefix+"B", "2")
			write(w, say, "hello")
			w.Header().Set("A", "1")
		}},

		{name: "fields after the status", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header()["A"] = []string{"1"}
			w.Header().Set("B", "2")
			w.WriteHeader(http.StatusOK)
			w.Header()["A"][0] = "3"
			w.Header().Del("B")
			w.Header().Set("C", "4")
			w.Header().Set("Content-Length", "4")
			w.Header().Set("Content-Type", "text/x")
			w.Header().Set("Connection", "close")
			w.Header().Set("Date", "")
			write(w, say, "hello")
		}},
		{name: "fields after the body", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			write(w, say, "hello")
			w.Header().Set("C", "4")
			w.Header().Set("Content-Type", "text/x")
		}},
		{name: "fields replaced", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			h := w.Header()
			h.Set("A", "1")
			clear(h)
			h.Set("B", "2")
			write(w, say, "hello")
		}},
		{name: "several cookies", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			for _, name := range []string{"a", "b", "c"} {
				http.SetCookie(w, &http.Cookie{Name: name, Value: "d e", HttpOnly: true})
			}
		}},
		{name: "lines in values", serve: writes([]string{"A", "b\r\nC: d", "A", "\n\r b\r\n\r\n", "A", "b\nc", "A", "\r", "Location", "/\r\n\r\n<b>"}, "hello")},
		{name: "spaces around values", serve: writes([]string{"A", " \t b c \t", "A", "", "A", "\xff\x01"}, "hello")},
		{name: "names that are none", serve: writes([]string{"A b", "c", "A:", "c", "", "c", "ä", "c", "A\r\nB", "c", "\x00", "c"}, "hello")},
		{name: "names as they are", serve: writes([]string{"a-b", "c", "A-B", "d", "server", "e"}, "hello")},
		{name: "a field without values", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header()["A"], w.Header()["B"], w.Header()["Connection"] = nil, []string{}, nil
			write(w, say, "hello")
		}},
		{name: "large fields", serve: writes([]string{"A", long, "B", long}, "hello")},
		{name: "large fields and much", serve: writes([]string{"A", long}, long)},
		{name: "many fields", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			for i := range 1000 {
				w.Header().Add(fmt.Sprint("A", i), "b")
			}
			w.WriteHeader(http.StatusEarlyHints)
			write(w, say, "hello")
		}},
		{name: "its own date", serve: writes([]string{"Date", "yesterday"}, "hello")},
		{name: "no date", serve: func(w http.ResponseWriter, _ *http.Request, say say) { w.Header()["Date"] = nil }},

		{name: "a guessed type", serve: writes(none, "<html>")},
		{name: "a guessed type in pieces", serve: writes(none, "<", "ht", "ml>")},
		{name: "a guessed type of told length in pieces", serve: writes(length(6), "<", "ht", "ml>")},
		{name: "a guessed type of much", serve: writes(none, "<", "html>"+long)},
		{name: "a guessed type of told length and much", serve: writes(length(10_006), "<", "html>"+long)},
		{name: "a guessed type of much in pieces", serve: writes(none, " \n", strings.Repeat(" ", 300), strings.Repeat(" ", 180), "<html>", long)},
		{name: "a type guessed by the last byte", serve: writes(none, strings.Repeat(" ", 506), "<html>"+long)},
		{name: "a type guessed by one byte too few", serve: writes(none, strings.Repeat(" ", 507), "<html>"+long)},
		{name: "a type not to be guessed by the end", serve: writes(none, strings.Repeat(" ", 509), "<html>", long)},
		{name: "a guessed type of what is flushed", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			write(w, say, "<")
			flush(w, say)
			write(w, say, "html>")
		}},
		{name: "an empty type", serve: writes([]string{"Content-Type", ""}, "<html>")},
		{name: "no type", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header()["Content-Type"] = nil
			write(w, say, "<html>")
		}},
		{name: "no type of much", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			w.Header()["Content-Type"] = nil
			write(w, say, "<html>", long)
		}},
		{name: "no type of the encoded", serve: writes([]string{"Content-Encoding", "gzip"}, "<html>")},
		{name: "an empty encoding", serve: writes([]string{"Content-Encoding", ""}, "<html>")},

		{name: "close", serve: writes([]string{"Connection", "close"}, "hello")},
		{name: "close behind much", serve: writes([]string{"Connection", "close"}, long)},
		{name: "close, written large", serve: writes([]string{"Connection", "Close"}, "hello"),
			why: "what is said is done, and said in one way", ours: func(theirs string) string {
				return strings.NewReplacer("Connection: Close", "Connection: close", `goes on: 200 OK "next" <nil>`, "ends").Replace(theirs)
			}},
		{name: "close and more", serve: writes([]string{"Connection", "A, close"}, "hello"),
			why: "what is said is done, and said in one way", ours: func(theirs string) string {
				return strings.NewReplacer("Connection: A, close", "Connection: close", `goes on: 200 OK "next" <nil>`, "ends").Replace(theirs)
			}},
		{name: "keep-alive", serve: writes([]string{"Connection", "keep-alive"}, "hello")},
		{name: "an upgrade is wanted", serve: status(426, []string{"Connection", "Upgrade", "Upgrade", "b/1"})},

		{name: "chunked by the handler", serve: writes([]string{"Transfer-Encoding", "chunked", "Content-Type", "text/x"}, long)},
		{name: "a little chunked by the handler", serve: writes([]string{"Transfer-Encoding", "chunked", "Content-Type", "text/x"}, "hello"),
			why: "it is not for the handler to say", ours: asTold(5)},
		{name: "chunked and of a told length", serve: writes(length(5, "Transfer-Encoding", "chunked", "Content-Type", "text/x"), "hello"),
			why: "it is not for the handler to say", ours: asTold(5)},
		{name: "until the connection ends", unasked: true, serve: writes([]string{"Transfer-Encoding", "identity", "Content-Type", "text/x"}, "hello"),
			why: "it is not for the handler to say", ours: func(theirs string) string {
				return strings.NewReplacer("Connection: close", "Content-Length: 5", "ends", `goes on: 200 OK "next" <nil>`).Replace(theirs)
			}},

		{name: "deadlines far off", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			rc := http.NewResponseController(w)
			say("%v", rc.SetReadDeadline(time.Now().Add(time.Hour)))
			say("%v", rc.SetWriteDeadline(time.Now().Add(time.Hour)))
			write(w, say, "hello")
			say("%v", rc.SetReadDeadline(time.Time{}))
			say("%v", rc.SetWriteDeadline(time.Time{}))
			say("%v", rc.EnableFullDuplex())
		}},
		{name: "a deadline of writing that is past", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			rc := http.NewResponseController(w)
			say("%v", rc.SetWriteDeadline(time.Unix(1, 0)))
			write(w, say, "hello")
			say("late: %v", strings.Contains(fmt.Sprint(rc.Flush()), "timeout"))
		}},
		{name: "a deadline of writing that is past before the end", serve: func(w http.ResponseWriter, _ *http.Request, say say) {
			write(w, say, "hello")
			flush(w, say)
			say("%v", http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0)))
			write(w, say, "world")
		}},
	}
	for _, n := range []int{1, 511, 512, 513, 2047, 2048, 2049, 4095, 4096, 4097, 6143, 6144, 6145, 8192, 300_000} {
		for kind, fields := range map[string][]string{"": nil, " of a type": typed} {
			whole := strings.Repeat("0123456789", n/10+1)[:n]
			var pieces []string
			for rest := whole; rest != ""; {
				m := min(1000, len(rest))
				pieces, rest = append(pieces, rest[:m]), rest[m:]
			}
			for way, pieces := range map[string][]string{"at once": {whole}, "in pieces": pieces} {
				x := exchange{name: fmt.Sprintf("%d bytes %s%s", n, way, kind), serve: writes(fields, pieces...)}
				if n > 2048 && n <= keptBody {
					x.why, x.ours = "net/http keeps no more than 2 KiB until it knows their length", asTold(n)
				}
				all = append(all, x)
			}
		}
	}
	return all
}

// asTold is an answer of net/http's whose length would be told.
func asTold(length int) func(string) string {
	return func(theirs string) string {
		head, rest, _ := strings.Cut(theirs, "\nbody ")
		lines := strings.Split(head, "\n")
		told := []string{lines[0]}
		added := false
		for _, line := range lines[1:] {
			if line == "Transfer-Encoding: chunked" || strings.HasPrefix(line, "Content-Length: ") {
				continue
			}
			if !added && line > "Content-Length" {
				told, added = append(told, fmt.Sprint("Content-Length: ", length)), true
			}
			told = append(told, line)
		}
		return strings.Join(told, "\n") + "\nbody " + rest
	}
}

func TestAnswersLookAsBehindNetHTTP(t *testing.T) {
	for _, x := range answers() {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			x.compare(t)
			if x.unasked {
				return
			}
			x.sent, x.asks = "HEAD"+strings.TrimPrefix(get, http.MethodGet), []string{http.MethodHead}
			x.compare(t)
		})
	}
}
