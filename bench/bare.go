package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
)

// A recorded answer: what the bare handler repeats to requests of a method and a gin route.
type recorded struct {
	Method, Route string
	Status        int
	Header        http.Header
	Body          []byte
}

// placesRoute is where visitors join, and placeRoute where they ask for their place.
const (
	placesRoute = "/api/v1/rooms/:room/places"
	placeRoute  = "/api/v1/rooms/:room/place"
)

// record asks once and keeps the answer, less what net/http adds itself. cookie may be empty.
func record(ctx context.Context, method, gateway, route, room, cookie string) (recorded, error) {
	header := http.Header{"X-Forwarded-For": {"192.0.2.1"}}
	if cookie != "" {
		header.Set("Cookie", cookie)
	}
	answer, err := askOnce(ctx, method, gateway+strings.Replace(route, ":room", room, 1), header)
	if err == nil && answer.Status/100 != 2 {
		err = fmt.Errorf("%s %s: %d %s", method, route, answer.Status, answer.Body)
	}
	answer.Route = route
	return answer, err
}

// askOnce asks once and keeps the answer, whatever it is.
func askOnce(ctx context.Context, method, url string, header http.Header) (recorded, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return recorded{}, err
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return recorded{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return recorded{}, err
	}
	h := resp.Header.Clone()
	h.Del("Date")
	h.Del("Content-Length")
	return recorded{Method: method, Status: resp.StatusCode, Header: h, Body: body}, nil
}

// recordJoin keeps the answer to a join.
func recordJoin(ctx context.Context, gateway, room string) (recorded, error) {
	return record(ctx, http.MethodPost, gateway, placesRoute, room, "")
}

// A served side of a ratio: where it listens, and the process whose CPU it costs.
type served struct {
	address string
	pid     int
}

// usage is what its process has used, with those that it started: nginx has workers.
func (s served) usage() (usage, error) {
	all, err := usageOf(s.pid)
	if err != nil {
		return usage{}, err
	}
	started, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.pid))
	if err != nil {
		return usage{}, err
	}
	for child := range strings.FieldsSeq(string(started)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			return usage{}, err
		}
		one, err := usageOf(pid)
		if err != nil {
			return usage{}, err
		}
		all.cpu += one.cpu
		all.rss += one.rss
	}
	return all, nil
}

// startBare runs this program again as a gin server that does nothing but repeat the answer.
func startBare(ctx context.Context, answer recorded) (bare served, stop func(), err error) {
	said, err := json.Marshal(answer)
	if err != nil {
		return served{}, nil, err
	}
	c, err := startChild(ctx, "bare-gin", string(said))
	if err != nil {
		return served{}, nil, err
	}
	address, err := c.Hear()
	if err != nil {
		c.Stop()
		return served{}, nil, err
	}
	return served{address, c.PID()}, c.Stop, nil
}

// serveBare repeats the answer that it reads first to whoever asks, until in ends.
func serveBare(in io.Reader, out io.Writer) error {
	var answer recorded
	if err := json.NewDecoder(in).Decode(&answer); err != nil {
		return err
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Handle(answer.Method, answer.Route, func(c *gin.Context) {
		h := c.Writer.Header()
		for name, values := range answer.Header {
			h[name] = values
		}
		c.Writer.WriteHeader(answer.Status)
		_, _ = c.Writer.Write(answer.Body) // a client that left is its own affair
	})
	return serveOn(in, out, engine)
}
