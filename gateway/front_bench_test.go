package gateway

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/gateway/policy"
)

// BenchmarkFront is what the gateway itself costs on the way of a request that it answers
// from memory, beside net/http: `go test ./gateway -run ^$ -bench Front -benchmem`.
func BenchmarkFront(b *testing.B) {
	s := open(b, func(c *Config) {
		setLimit(c, "visitor", 500_000, 1, 10_000)
		c.Policies.Policies = append(c.Policies.Policies, policy.Policy{Name: "shut", Match: policy.Match{Path: []string{"/api/v1/rooms/shut"}},
			Key: []policy.Part{policy.ByPrefix}, Quota: 1, Window: 3600, Burst: 1, Cost: policy.Cost{Base: 1}, Action: policy.Deny, Mode: policy.Enforce, Scope: policy.AllGateways})
	})
	s.set("gala", `{"title":"Gala","pace_per_min":1,"capacity":1,"presence_ttl_s":3600,"state":"open"}`)
	s.set("shut", `{"title":"Shut"}`)
	h := s.server.Handler()
	ask := func(method, path string, header ...string) *http.Request {
		text := method + " " + path + " HTTP/1.1\r\nHost: usher.example\r\n"
		for i := 0; i < len(header); i += 2 {
			text += header[i] + ": " + header[i+1] + "\r\n"
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
		if err != nil {
			b.Fatal(err)
		}
		r.RemoteAddr = "127.0.0.1:4000"
		return r
	}
	address := func(n int) string { return fmt.Sprintf("10.%d.%d.%d", byte(n>>16), byte(n>>8), byte(n)) }
	var token string
	for range 2 { // the first is called, and would be looked up
		w := httptest.NewRecorder()
		h.ServeHTTP(w, ask("POST", "/api/v1/rooms/gala/places", "X-Forwarded-For", "192.0.2.1"))
		var place struct{ Token string }
		if err := json.Unmarshal(w.Body.Bytes(), &place); err != nil || w.Code != http.StatusCreated {
			b.Fatal(w.Code, err)
		}
		token = place.Token
	}
	for _, c := range []struct {
		name    string
		status  int
		request *http.Request
	}{
		{"poll", 200, ask("GET", "/api/v1/rooms/gala/place", "X-Forwarded-For", "", "Cookie", "usher-place-gala="+token)},
		{"join", 201, ask("POST", "/api/v1/rooms/gala/places", "X-Forwarded-For", "")},
		{"room", 200, ask("GET", "/api/v1/rooms/gala", "X-Forwarded-For", "")},
		{"refusal", 429, ask("GET", "/api/v1/rooms/shut", "X-Forwarded-For", "192.0.2.9")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			w, n := &answered{}, 0
			if c.status == http.StatusTooManyRequests {
				for w.status != c.status {
					*w = answered{header: http.Header{}}
					h.ServeHTTP(w, c.request)
				}
			}
			before := cpuTime(b)
			if c.request.Method == http.MethodPost { // many at once, who share script calls
				var sent atomic.Int64
				b.SetParallelism(crowd / runtime.GOMAXPROCS(0))
				b.RunParallel(func(pb *testing.PB) {
					r, w := c.request.Clone(b.Context()), &answered{}
					for pb.Next() {
						*w = answered{header: http.Header{}}
						r.Header = http.Header{"X-Forwarded-For": {address(int(sent.Add(1)) % 1_000_000)}}
						h.ServeHTTP(w, r)
						if w.status != c.status {
							b.Error(w.status)
							return
						}
					}
				})
				n = int(sent.Load())
			}
			for c.request.Method == http.MethodGet && b.Loop() {
				if n++; c.status != http.StatusTooManyRequests {
					c.request.Header["X-Forwarded-For"][0] = address(n % 1_000_000)
				}
				*w = answered{header: http.Header{}}
				h.ServeHTTP(w, c.request)
				if w.status != c.status {
					b.Fatal(w.status)
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(n), "cpu-ns/op")
		})
	}
}

// crowd is how many join at once.
const crowd = 64

// answered is a ResponseWriter that keeps nothing of an answer but its status.
type answered struct {
	header http.Header
	status int
}

func (a *answered) Header() http.Header         { return a.header }
func (a *answered) WriteHeader(status int)      { a.status = status }
func (a *answered) Write(b []byte) (int, error) { return len(b), nil }

// cpuTime is what this process has used, so that a busy machine does not count.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
