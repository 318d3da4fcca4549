package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

const (
	floodRate = 200 // requests a second that each address of a flood has to send
	// floodPace is what it tries to: a little more, for what is late when the siege ends.
	floodPace = 202
	every     = time.Second / floodPace // from one request of a bot to its next
	// lateSpan is how many milliseconds of lateness are told apart.
	lateSpan = 1000
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
	LateMS  int            `json:"late_ms,omitempty"` // 99 of 100 were sent within it after their time
	Answers map[string]int `json:"answers,omitempty"`
}

// requests writes what bots send. Their parts are made once: what floods from 50 addresses shares this machine with the
// gateway, which in life it does not.
type requests struct {
	heads, tails [4][]byte // before the cookies and after them
	cookies      [3]string
}

// newRequests prepares what is sent in turn: half of it joins, the rest forged places and passes.
func newRequests(f flooding) *requests {
	r := &requests{cookies: [3]string{"usher-place-" + f.Room + "=", "; usher-pass-" + f.Room + "=", "; usher-check="}}
	for turn := range r.heads {
		method, path, body := "POST", "/api/v1/rooms/"+f.Room+"/places", "{}"
		switch turn {
		case 1:
			method, path, body = "GET", "/api/v1/rooms/"+f.Room+"/place", ""
		case 3:
			if f.Holds != "" {
				path, body = f.Holds, `{"best":{"quantity":2,"adjacent":true}}`
			}
		}
		r.heads[turn] = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nCookie: ", method, path, f.Gateway, len(body))
		r.tails[turn] = []byte("\r\n\r\n" + body)
	}
	return r
}

// append adds the n-th request of one bot, with cookies that nobody sent before.
func (r *requests) append(out []byte, rng *rand.ChaCha8, n int) []byte {
	turn := n % len(r.heads)
	out = append(out, r.heads[turn]...)
	for _, cookie := range r.cookies {
		var fresh [16]byte
		_, _ = rng.Read(fresh[:]) // never fails
		out = hex.AppendEncode(append(out, cookie...), fresh[:])
	}
	return append(out, r.tails[turn]...)
}

// errPart says that an answer has not arrived as a whole.
var errPart = errors.New("part of an answer")

// cutAnswer takes the first answer off what a connection brought: its status and its body.
func cutAnswer(in []byte) (status int, body, rest []byte, err error) {
	head, rest, whole := bytes.Cut(in, []byte("\r\n\r\n"))
	if !bytes.HasPrefix(in, []byte("HTTP/1.1 ")[:min(9, len(in))]) {
		return 0, nil, nil, fmt.Errorf("%.40q is no answer", in)
	}
	if !whole {
		return 0, nil, nil, errPart
	}
	line, fields, _ := bytes.Cut(head, []byte("\r\n"))
	if len(line) < 12 {
		return 0, nil, nil, fmt.Errorf("%.40q is no answer", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil || status < 200 || status > 599 {
		return 0, nil, nil, fmt.Errorf("%.40q is no answer", line)
	}
	length := -1
	for field := range bytes.SplitSeq(fields, []byte("\r\n")) {
		name, value, _ := bytes.Cut(field, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return 0, nil, nil, fmt.Errorf("%.40q is no length", field)
			}
		}
	}
	if length < 0 {
		if status != 204 && status != 304 {
			return 0, nil, nil, errors.New("an answer without a length")
		}
		length = 0
	}
	if len(rest) < length {
		return 0, nil, nil, errPart
	}
	return status, rest[:length], rest[length:], nil
}

// within is the least lateness, in milliseconds, that at most one of a hundred exceeds.
func within(late []int) int {
	all := 0
	for _, n := range late {
		all += n
	}
	for ms, seen := 0, 0; ms < len(late); ms++ {
		if seen += late[ms]; seen*100 >= all*99 {
			return ms + 1
		}
	}
	return len(late)
}
