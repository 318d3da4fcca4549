package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	floodRate = 200 // requests a second that each address of a flood has to send
	// floodPace is what it tries to: a little more, for what is late when the siege ends.
	floodPace = 202
)

// A flooding is what a process that floods is told, in its first line.
type flooding struct {
	Gateway   string   `json:"gateway"` // host and port
	Room      string   `json:"room"`
	Holds     string   `json:"holds"` // the path at which seats are held; "" where nothing is sold
	Addresses []string `json:"addresses"`
	Seed      uint64   `json:"seed"`
}

// flooded is a line of what such a process has to say: a place that it got; at the end, with Seconds, what it sent.
type flooded struct {
	Token   string         `json:"token,omitempty"`
	Address string         `json:"address,omitempty"`
	Sent    int            `json:"sent,omitempty"`
	Seconds float64        `json:"seconds,omitempty"`
	Answers map[string]int `json:"answers,omitempty"`
}

// flood is the whole life of such a process. It sends until in ends.
func flood(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	f := &flooder{said: json.NewEncoder(out)}
	if err := json.Unmarshal(first, &f.flooding); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, lines) // its end is all that counts
		stop()
	}()
	started := time.Now()
	var all sync.WaitGroup
	for i, a := range f.Addresses {
		all.Go(func() { f.from(ctx, a, rand.New(rand.NewPCG(f.Seed, uint64(i)))) })
	}
	all.Wait()
	last := flooded{Sent: int(f.sent.Load()), Seconds: time.Since(started).Seconds(), Answers: map[string]int{}}
	for status := range f.answers {
		if n := f.answers[status].Load(); n > 0 {
			last.Answers[strconv.Itoa(status)] = int(n)
		}
	}
	for word, n := range map[string]*atomic.Int64{"connection lost": &f.lost, "no connection": &f.unheard} {
		if n := n.Load(); n > 0 {
			last.Answers[word] = int(n)
		}
	}
	return f.say(last)
}

type flooder struct {
	flooding
	sent, lost, unheard atomic.Int64
	answers             [600]atomic.Int64 // by status

	mu   sync.Mutex // guards said
	said *json.Encoder
}

func (f *flooder) say(line flooded) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.Encode(line)
}

// from sends requests from one address, each at its time whether those before are answered or not, over one
// connection for as long as that lasts. What was late is sent as soon as it can be.
func (f *flooder) from(ctx context.Context, address string, rng *rand.Rand) {
	const every = time.Second / floodPace
	local := &net.TCPAddr{IP: net.ParseIP(address)}
	start := time.Now().Add(rand.N(every)) // bots keep no common beat
	var readers sync.WaitGroup
	defer readers.Wait()
	var conn net.Conn // closed when its reader ends, which ctx sees to
	var request []byte
	for n := 0; pause(ctx, time.Until(start.Add(time.Duration(n)*every))); n++ {
		if conn == nil {
			d := net.Dialer{LocalAddr: local, Timeout: requestTimeout}
			made, err := d.DialContext(ctx, "tcp4", f.Gateway)
			if err != nil {
				f.unheard.Add(1)
				continue
			}
			conn = made
			readers.Go(func() {
				defer context.AfterFunc(ctx, func() { made.Close() })()
				f.read(made, address)
			})
		}
		request = f.request(request[:0], rng, n)
		if _, err := conn.Write(request); err != nil {
			conn.Close()
			conn = nil
			continue
		}
		f.sent.Add(1)
	}
}

// request is one of what bots send, with fresh cookies: half of them joins, the rest forged places and passes.
func (f *flooder) request(out []byte, rng *rand.Rand, n int) []byte {
	method, path, body := "POST", "/api/v1/rooms/"+f.Room+"/places", "{}"
	switch n % 4 {
	case 1:
		method, path, body = "GET", "/api/v1/rooms/"+f.Room+"/place", ""
	case 3:
		if f.Holds != "" {
			path, body = f.Holds, `{"best":{"quantity":2,"adjacent":true}}`
		}
	}
	return fmt.Appendf(out, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nCookie: usher-place-%s=%016x%016x; usher-pass-%s=%016x%016x; usher-check=%016x%016x\r\n\r\n%s",
		method, path, f.Gateway, len(body), f.Room, rng.Uint64(), rng.Uint64(), f.Room, rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64(), body)
}

// read counts the answers of one connection until it ends, and closes it.
func (f *flooder) read(conn net.Conn, address string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		status, body, err := readAnswer(in)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				f.lost.Add(1)
			}
			return
		}
		f.answers[status].Add(1)
		if status != 201 {
			continue
		}
		var p placeDoc
		if json.Unmarshal(body, &p) == nil && p.Token != "" {
			_ = f.say(flooded{Token: p.Token, Address: address}) // who listens may be gone, and then this is too
		}
	}
}

// readAnswer reads one answer as a bot does that wants to be quick: status and body. body is good until the next call.
func readAnswer(in *bufio.Reader) (status int, body []byte, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first:
			if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
				return 0, nil, fmt.Errorf("%.40q is no answer", line)
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil || status < 200 || status > 599 {
				return 0, nil, fmt.Errorf("%.40q is no answer", line)
			}
		case len(line) == 0:
			if length < 0 && status != 204 && status != 304 {
				return 0, nil, errors.New("an answer without a length")
			}
			if length > in.Size() {
				_, err := in.Discard(length)
				return status, nil, err
			}
			body, err := in.Peek(max(0, length))
			if err != nil {
				return 0, nil, err
			}
			_, err = in.Discard(len(body))
			return status, body, err
		default:
			name, value, _ := bytes.Cut(line, []byte(":"))
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
					return 0, nil, fmt.Errorf("%.40q is no length", line)
				}
			}
		}
	}
}
