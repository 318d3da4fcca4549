package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/child"
)

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
	c, hear := startFlood(t, server, "127.0.0.1", "127.0.0.1")
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

// What hangs up on a flood does not end it.
func TestAFloodComesBack(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(server.Close)
	c, hear := startFlood(t, server, "127.0.0.1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for served.Load() < 5 {
		if !pause(ctx, 10*time.Millisecond) {
			t.Fatalf("it asked %d times", served.Load())
		}
	}
	c.Close()
	if last := hear(); last.Sent < 5 || last.Answers["connection lost"] < 4 {
		t.Errorf("said %+v of %d requests", last, served.Load())
	}
}

// startFlood floods a server from these addresses, and hears what is said of it.
func startFlood(t *testing.T, server *httptest.Server, addresses ...string) (*child.Child, func() flooded) {
	t.Helper()
	c, err := child.Start(t.Context(), "flood")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	told, err := json.Marshal(flooding{Gateway: server.Listener.Addr().String(), Room: "arena", Holds: "/holds", Addresses: addresses, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Say(string(told)); err != nil {
		t.Fatal(err)
	}
	return c, func() (said flooded) {
		t.Helper()
		line, err := c.Hear()
		if err == nil {
			err = json.Unmarshal([]byte(line), &said)
		}
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
}
