package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The requests of a storm. Each has an id that is in all its parts, and must be in all the parts of its answer.
const (
	echoes   = "echo"   // answers with the body
	ignores  = "ignore" // does not read it
	late     = "late"   // reads it when the answer is over
	streams  = "stream" // flushes pieces
	big      = "big"    // answers more than any room holds
	slow     = "slow"   // lasts until it is watched
	waits    = "wait"   // for its client to leave
	breaks   = "break"  // ends without an answer
	breaking = "breaking"
)

// storm is who answers, and counts.
type storm struct {
	t                 *testing.T
	begun, over, left atomic.Int64
	answered          [2]atomic.Int64 // here, and by net/http
	readers           sync.WaitGroup  // of bodies whose handler has returned
	plain             bool            // nothing goes to net/http
}

// of is so much of a body or an answer that is of one request.
func of(id string, n int) string { return strings.Repeat(id+" ", n) }

func (s *storm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.begun.Add(1)
	defer s.over.Add(1)
	kind, id, _ := strings.Cut(r.URL.Path[1:], "/")
	fields := 2
	if r.Header["Content-Length"] != nil {
		fields++
	}
	if r.Host != id || r.Header.Get("Id") != id || r.Header.Get("Only-"+id) != id || len(r.Header) != fields || r.URL.RawQuery != "q="+id {
		s.t.Errorf("%s came as %s of %s with %v", id, r.URL, r.Host, r.Header)
	}
	if err := r.Context().Err(); err != nil && kind != waits {
		s.t.Errorf("%s began: %v", id, err)
	}
	if len(w.Header()) > 0 {
		s.t.Errorf("the answer to %s has %v", id, w.Header())
	}
	_, here := w.(*response)
	w.Header().Set("Of", id)
	w.Header().Set("Only-"+id, id)
	switch kind {
	case slow:
		select {
		case <-time.After(watchAfter * 3 / 2):
		case <-r.Context().Done():
			s.t.Errorf("%s ended though its client stays", id)
		}
		fallthrough
	case echoes:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.t.Errorf("the body of %s (here: %v): %v", id, here, err)
		}
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, id, body)
	case ignores:
		_, _ = io.WriteString(w, id)
	case late:
		s.readers.Go(func() {
			body, err := io.ReadAll(r.Body)
			got, all := string(body), of(id, len(body)+1)
			begins := strings.HasPrefix(all, got) || !here && strings.Contains(all, got) // net/http reads beside him
			if !begins || err != nil && err != http.ErrBodyReadAfterClose {
				s.t.Errorf("%s read %.100q (here: %v), %v", id, got, here, err)
			}
		})
		_, _ = io.WriteString(w, id)
	case streams:
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "%s.%d ", id, i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				s.t.Errorf("%s: %v", id, err)
			}
		}
	case big:
		for range 10 {
			_, _ = io.WriteString(w, of(id, 500))
		}
	case waits:
		_, _ = io.Copy(io.Discard, r.Body) // before it is all there, nobody can see who leaves
		select {
		case <-r.Context().Done():
		case <-time.After(long):
			s.t.Errorf("%s waits for a client that has left", id)
		}
		return
	case breaking:
		_, _ = io.WriteString(w, id)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case breaks:
		panic(http.ErrAbortHandler)
	}
	if err := r.Context().Err(); err != nil && kind != late {
		s.t.Errorf("%s (here: %v) ended: %v", id, here, err)
	}
	if here {
		s.answered[0].Add(1)
	} else {
		s.answered[1].Add(1)
	}
}

// ask is one request of a client's, and what answers it.
type ask struct {
	kind, id, method, text, want string
}

func (s *storm) ask(rng *rand.Rand, id string, last bool) (a ask) {
	kinds := []string{echoes, echoes, echoes, ignores, streams, big}
	if rng.IntN(20) == 0 {
		kinds = []string{slow}
	}
	if last && rng.IntN(10) == 0 {
		kinds = []string{waits, waits, breaks, breaking, late}
	}
	a = ask{kind: kinds[rng.IntN(len(kinds))], id: id, method: http.MethodGet}
	body := ""
	switch {
	case a.kind == breaks || a.kind == breaking: // without a body, which left unread resets the connection under other answers
	case rng.IntN(2) == 0 || a.kind == late:
		a.method = http.MethodPost
		body = of(id, []int{1, 10, 1000, 10000}[rng.IntN(4)])
	case rng.IntN(4) == 0:
		a.method = http.MethodHead
	}
	switch a.kind {
	case slow, echoes:
		a.want = fmt.Sprintf("%s %s %s", a.method, id, body)
	case ignores, late:
		a.want = id
	case streams:
		a.want = fmt.Sprintf("%[1]s.0 %[1]s.1 %[1]s.2 ", id)
	case big:
		a.want = of(id, 5000)
	}
	if a.method == http.MethodHead {
		a.want = ""
	}
	a.text = fmt.Sprintf("%s /%s/%s?q=%[3]s HTTP/1.1\r\nHost: %[3]s\r\nId: %[3]s\r\nOnly-%[3]s: %[3]s\r\n", a.method, a.kind, id)
	switch {
	case body == "":
		a.text += "\r\n"
	case rng.IntN(30) == 0 && !s.plain:
		a.text += fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	default:
		a.text += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	return a
}

// call makes one connection, asks over it for a while, and checks each answer.
func (s *storm) call(rng *rand.Rand, address, name string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(long))
	in := bufio.NewReader(conn)
	for batch := range 1 + rng.IntN(20) {
		asks, text := make([]ask, 1+rng.IntN(3)), ""
		for i := range asks {
			asks[i] = s.ask(rng, fmt.Sprintf("%s-%d-%d", name, batch, i), i == len(asks)-1)
			text += asks[i].text
		}
		cut := len(text)
		if rng.IntN(2) == 0 {
			cut = rng.IntN(len(text))
		}
		for _, piece := range []string{text[:cut], text[cut:]} {
			_, _ = io.WriteString(conn, piece) // the answers tell
		}
		for _, a := range asks {
			switch a.kind {
			case waits:
				s.left.Add(1)
				return
			case breaks, breaking:
				if got, err := io.ReadAll(in); a.kind == breaks && len(got) > 0 || strings.HasSuffix(string(got), "0\r\n\r\n") {
					s.t.Errorf("%s broke with %q, %v", a.id, got, err)
				}
				return
			}
			res, err := http.ReadResponse(in, &http.Request{Method: a.method})
			if err != nil {
				s.t.Errorf("%s %s: %v", a.kind, a.id, err)
				return
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || string(body) != a.want {
				s.t.Errorf("%s %s is answered %d bytes of %d, %.100q, %v", a.kind, a.id, len(body), len(a.want), body, err)
				return
			}
			if res.Header.Get("Of") != a.id || res.Header.Get("Only-"+a.id) != a.id {
				s.t.Errorf("%s %s is answered with %v", a.kind, a.id, res.Header)
			}
			for name := range res.Header {
				switch name {
				case "Of", "Only-" + http.CanonicalHeaderKey(a.id), "Content-Type", "Content-Length", "Date", "Connection":
				default:
					if !strings.EqualFold(name, "Only-"+a.id) {
						s.t.Errorf("%s %s is answered with %v", a.kind, a.id, res.Header)
					}
				}
			}
			if res.Close {
				if a.kind != late {
					s.t.Errorf("%s %s ended its connection", a.kind, a.id)
				}
				return
			}
		}
	}
}

// Many clients at once get each their own answers, whatever the others do, and nothing of another request.
func TestStorm(t *testing.T) {
	t.Parallel()
	s := &storm{t: t}
	p := open(t, &http.Server{Handler: s, ReadHeaderTimeout: long, ReadTimeout: long, WriteTimeout: long, IdleTimeout: long})
	const clients = 64
	end := time.Now().Add(3 * time.Second)
	var calling sync.WaitGroup
	for i := range clients {
		calling.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for n := 0; !t.Failed() && (n < 3 || time.Now().Before(end)); n++ {
				s.call(rng, p.address, fmt.Sprintf("c%d-%d", i, n))
			}
		})
	}
	calling.Wait()
	s.readers.Wait()
	eventually(t, "all requests are over", func() bool { return s.begun.Load() == s.over.Load() })
	eventually(t, "all connections are over", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.conns) == 0
	})
	t.Logf("%d requests were answered here and %d by net/http, %d clients left", s.answered[0].Load(), s.answered[1].Load(), s.left.Load())
	if s.answered[0].Load() == 0 || s.answered[1].Load() == 0 || s.left.Load() == 0 {
		t.Error("that is no storm")
	}
}

// A shutdown cuts no answer: to each request comes a whole one, or nothing at all.
func TestShutdownInAStorm(t *testing.T) {
	t.Parallel()
	for round := range 5 {
		s := &storm{t: t, plain: true} // net/http may close a connection at the moment of its request
		p := open(t, &http.Server{Handler: s})
		var calling, warm sync.WaitGroup
		const clients = 16
		warm.Add(clients)
		for i := range clients {
			c := dial(t, p.address)
			calling.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				for n := 0; ; n++ {
					if n == 3 {
						warm.Done()
					}
					a := s.ask(rng, fmt.Sprintf("c%d-%d", i, n), false)
					_, err := io.WriteString(c, a.text)
					if _, none := c.in.Peek(1); none != nil {
						if n < 3 {
							t.Errorf("%s: %v, %v", a.id, err, none)
							warm.Done()
						}
						return
					}
					res, err := http.ReadResponse(c.in, &http.Request{Method: a.method})
					if err != nil {
						t.Errorf("%s %s: %v", a.kind, a.id, err)
						continue // to the end of the connection
					}
					if body, err := io.ReadAll(res.Body); err != nil || string(body) != a.want {
						t.Errorf("%s %s is answered %d bytes of %d, %v", a.kind, a.id, len(body), len(a.want), err)
					}
				}
			})
		}
		warm.Wait()
		if err := p.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		calling.Wait()
	}
}
