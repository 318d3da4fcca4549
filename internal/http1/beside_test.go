package http1

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// exchange is what one connection brings, which must look to its client as it does with net/http's server.
type exchange struct {
	name  string
	sent  string   // get if there is none
	stops bool     // the client says so behind it
	asks  []string // the methods of its requests; GET if there are none
	serve func(w http.ResponseWriter, r *http.Request, say func(format string, args ...any))

	handed bool // net/http's server answers in any case

	// Where we differ from net/http on purpose: why, and what its exchange would look like as ours.
	why     string
	ours    func(theirs string) string
	unasked bool // by HEAD, to which net/http says other nonsense
}

// compare has the exchange once with each server.
func (x exchange) compare(t *testing.T) {
	var heard transcript
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			w.Header().Set("Content-Length", "4")
			_, _ = io.WriteString(w, "next")
			return
		}
		x.serve(w, r, heard.say)
	})
	theirs := beside(t, &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)})
	want := x.look(t, theirs) + heard.taken()
	ours := open(t, &http.Server{Handler: h})
	got := x.look(t, ours.address) + heard.taken()
	if x.ours != nil {
		differs := x.ours(want)
		if differs == want {
			t.Errorf("here net/http no longer differs (%s):\n%s", x.why, want)
		}
		want = differs
	}
	if got != want {
		t.Errorf("looks like\n%.3000s\nand should look like\n%.3000s", got, want)
	}
	if handed := ours.handed.Load() > 0; handed != x.handed {
		t.Errorf("went to net/http: %v", handed)
	}
}

// transcript keeps what handlers say, and what is logged.
type transcript struct {
	mu   sync.Mutex // guards said
	said strings.Builder
}

func (s *transcript) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.said, "handler: "+format+"\n", args...)
}

// Write implements io.Writer.
func (s *transcript) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(b)
}

func (s *transcript) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.said.Reset()
	return s.said.String()
}

// look has the exchange, and tells what its client sees: its answers, and whether another request is answered.
func (x exchange) look(t *testing.T, address string) string {
	sent, asks := x.sent, x.asks
	if sent == "" {
		sent = get
	}
	if asks == nil {
		asks = []string{http.MethodGet}
	}
	c := dial(t, address)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.WriteString(c, sent) // a server need not read all
		if x.stops {
			_ = c.CloseWrite()
		}
	}()
	defer func() {
		_ = c.Close()
		<-done
	}()
	var seen strings.Builder
	for _, method := range asks {
		if !c.see(method, &seen) {
			return seen.String()
		}
	}
	if <-done; !x.stops {
		_, _ = io.WriteString(c, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n") // or it is closed, which shows below
	}
	res, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return seen.String() + c.end(err)
	}
	body, err := io.ReadAll(res.Body)
	fmt.Fprintf(&seen, "goes on: %s %q %v\n", res.Status, body, err)
	return seen.String()
}

// end tells that the connection has ended, which looks like this or that as the bytes happen to meet.
func (c *client) end(err error) string {
	if late, ok := err.(net.Error); ok && late.Timeout() {
		return "hangs\n"
	}
	return "ends\n"
}

// see tells what the next answer is, with those that precede it, and returns false when the connection ends with it.
func (c *client) see(method string, seen *strings.Builder) bool {
	for {
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := c.in.ReadString('\n')
			if err != nil {
				seen.WriteString(head.String() + line + c.end(err))
				return false
			}
			head.WriteString(line)
		}
		lines := strings.Split(strings.TrimSuffix(head.String(), "\r\n\r\n"), "\r\n")
		for i, line := range lines {
			value, _ := strings.CutPrefix(line, "Date: ")
			if at, err := http.ParseTime(value); err == nil && time.Since(at).Abs() < time.Hour {
				lines[i] = "Date: now"
			}
		}
		slices.Sort(lines[1:])
		seen.WriteString(strings.Join(lines, "\n") + "\n")
		c.in = bufio.NewReader(io.MultiReader(strings.NewReader(head.String()), c.in))
		res, err := http.ReadResponse(c.in, &http.Request{Method: method})
		if err != nil {
			seen.WriteString("no answer: " + err.Error() + "\n")
			return false
		}
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(res.Body)
		if len(body) <= 100 {
			fmt.Fprintf(seen, "body %q\n", body)
		} else {
			fmt.Fprintf(seen, "body of %d bytes, %x\n", len(body), sha256.Sum256(body))
		}
		for _, name := range slices.Sorted(maps.Keys(res.Trailer)) {
			fmt.Fprintf(seen, "trailer %s: %q\n", name, res.Trailer[name])
		}
		if err != nil {
			seen.WriteString("cut; " + c.end(err))
			return false
		}
		return true
	}
}

// instead is what differs when only this does.
func instead(old, new string) func(string) string {
	return func(theirs string) string { return strings.Replace(theirs, old, new, 1) }
}
