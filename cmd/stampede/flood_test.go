package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/internal/child"
)

func TestAnswersAreReadOneByOne(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, answers string
		want          []int  // the statuses, in turn
		body          string // of the last
	}{
		{"as a gateway answers", "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nX: y\r\n\r\n{}HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nplaceHTTP/1.1 ", []int{403, 201}, "place"},
		{"nothing to read", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", []int{204, 429}, ""},
		{"more than a buffer", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000) + "HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nn", []int{200, 404}, "n"},
		{"no length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", nil, ""},
		{"no answer", "SSH-2.0-OpenSSH_9.2 and more of that\r\n", nil, ""},
		{"a wrong length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in := bufio.NewReader(strings.NewReader(test.answers))
			for i := 0; ; i++ {
				status, body, err := readAnswer(in)
				if i == len(test.want) {
					if err == nil {
						t.Errorf("read %d %q more", status, body)
					}
					return
				}
				if err != nil || status != test.want[i] || i == len(test.want)-1 && string(body) != test.body {
					t.Fatalf("answer %d: %d %q, %v", i, status, body, err)
				}
			}
		})
	}
}

// A flood sends whether it is answered or not, each request with cookies that nobody has sent before, tells of places,
// and says at the end what came of it.
func TestAFloodSendsWithoutWaiting(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards the rest
	got, cookies := map[string]int{}, map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got[r.Method+" "+r.URL.Path]++
		n := len(cookies)
		cookies[r.Header.Get("Cookie")] = true
		mu.Unlock()
		if n == 0 {
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"token":"t"}`)
			return
		}
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(server.Close)
	c, err := child.Start(t.Context(), "flood")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	told, err := json.Marshal(flooding{Gateway: server.Listener.Addr().String(), Room: "arena", Holds: "/holds", Addresses: []string{"127.0.0.1", "127.0.0.1"}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Say(string(told)); err != nil {
		t.Fatal(err)
	}
	hear := func() (said flooded) {
		line, err := c.Hear()
		if err == nil {
			err = json.Unmarshal([]byte(line), &said)
		}
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	if place := hear(); place.Token != "t" || place.Address != "127.0.0.1" {
		t.Errorf("told of %+v", place)
	}
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return got["POST /api/v1/rooms/arena/places"] > 8 && got["GET /api/v1/rooms/arena/place"] > 4 && got["POST /holds"] > 4
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !enough() {
		if !pause(ctx, 10*time.Millisecond) {
			t.Fatalf("the server saw %v", got)
		}
	}
	c.Close()
	last := hear()
	mu.Lock()
	defer mu.Unlock()
	if last.Sent < len(cookies) || last.Seconds <= 0 || last.Answers["201"] != 1 || last.Answers["429"] == 0 {
		t.Errorf("said %+v of %d requests", last, len(cookies))
	}
	if all := got["POST /api/v1/rooms/arena/places"] + got["GET /api/v1/rooms/arena/place"] + got["POST /holds"]; all != len(cookies) {
		t.Errorf("%d requests with %d different cookies", all, len(cookies))
	}
}
