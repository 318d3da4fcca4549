package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"usher/bench/site"
)

// What all limiters of the limits part are told: so many requests a second for each client address.
const (
	limitRate = 600
	limitRoom = "limits"
	manyKeys  = 100_000
)

// limits compares limit decisions over HTTP: by a gateway's policy, by envoyproxy/ratelimit and by redis_rate, all
// counting in the same Redis; and refusing with a bare gin handler that repeats a refusal.
func (b edgeBench) limits(ctx context.Context) ([]row, error) {
	usher, err := b.start(ctx, site.Config{RedisOverTCP: true, Settings: fmt.Sprintf(
		"policies: [{name: bench, match: {path: [/api/v1/rooms/%s]}, key: [prefix], quota: %d, window_s: 1}]\n", limitRoom, limitRate)})
	if err != nil {
		return nil, err
	}
	defer usher.Stop()
	if err := usher.Operate(ctx, http.MethodPut, "rooms/"+limitRoom, map[string]any{"title": "Limits"}, nil); err != nil {
		return nil, err
	}
	limiters := []limiter{{side: sideOf(usher), ask: askUsher}}
	var missing []row
	for _, p := range b.peerLimiters(usher.RedisURL) {
		stop, err := p.start(ctx)
		if err != nil {
			missing = append(missing, row{what: "  ÷ " + p.name, note: err.Error()})
			continue
		}
		defer stop()
		limiters = append(limiters, p.limiter)
	}
	var rows []row
	for _, kind := range []struct {
		what string
		key  func(n uint32) uint32
	}{
		{"limit decisions a second, one key of which most are denied", func(uint32) uint32 { return 1 }},
		{fmt.Sprintf("limit decisions a second, %d keys", manyKeys), func(n uint32) uint32 { return n % manyKeys }},
	} {
		var sides []side
		var loads []load
		for _, l := range limiters {
			sides, loads = append(sides, l.side), append(loads, l.load(kind.key))
		}
		took, err := b.inTurns(ctx, sides, loads)
		if err != nil {
			return nil, err
		}
		for i, s := range sides[1:] {
			rows = append(rows, ratioRow(kind.what+" ÷ "+s.name, took[0].perSecond, took[i+1].perSecond), cpuRow(took[0], took[i+1]))
		}
	}
	denied, err := b.denied(ctx, limiters[0])
	return slices.Concat(rows, denied, missing), err
}

// A limiter is one side of the limits part.
type limiter struct {
	side
	// ask appends the question whether the key may go on.
	ask func(out []byte, key uint32, address string) []byte
}

func (l limiter) load(key func(n uint32) uint32) load {
	return load{connections: connections, sent: new(atomic.Uint32), lean: true, write: func(out []byte, n uint32, address string) []byte {
		return l.ask(out, key(n), address)
	}}
}

// addressOf is the client address that stands for a key.
func addressOf(key uint32) string {
	return fmt.Sprintf("10.%d.%d.%d", byte(key>>16), byte(key>>8), byte(key))
}

func askUsher(out []byte, key uint32, address string) []byte {
	return fmt.Appendf(out, "GET /api/v1/rooms/%s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: %s\r\n\r\n", limitRoom, address, addressOf(key))
}

func askEnvoy(out []byte, key uint32, address string) []byte {
	body := fmt.Sprintf(`{"domain":"bench","descriptors":[{"entries":[{"key":"client","value":"%s"}]}]}`, addressOf(key))
	return fmt.Appendf(out, "POST /json HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", address, len(body), body)
}

func askRedisRate(out []byte, key uint32, address string) []byte {
	return fmt.Appendf(out, "GET /?%s HTTP/1.1\r\nHost: %s\r\n\r\n", addressOf(key), address)
}

// denied compares refusing one client with a bare gin handler that repeats the refusal.
func (b edgeBench) denied(ctx context.Context, usher limiter) ([]row, error) {
	one := usher.load(func(uint32) uint32 { return 2 })
	if _, err := one.run(ctx, usher.address, time.Second, 0); err != nil {
		return nil, err
	}
	answer, err := refused(ctx, "http://"+usher.address)
	if err != nil {
		return nil, err
	}
	bare, stop, err := startBare(ctx, answer)
	if err != nil {
		return nil, err
	}
	defer stop()
	took, err := b.inTurns(ctx, []side{usher.side, {"bare gin", bare}}, []load{one, one})
	if err != nil {
		return nil, err
	}
	return []row{ratioRow("refusals a second, one client ÷ bare gin, same bytes", took[0].perSecond, took[1].perSecond), cpuRow(took[0], took[1])}, nil
}

// refused asks as one client until it is refused, and keeps the answer.
func refused(ctx context.Context, gateway string) (recorded, error) {
	for range 4 * limitRate {
		answer, err := askOnce(ctx, http.MethodGet, gateway+"/api/v1/rooms/"+limitRoom, http.Header{"X-Forwarded-For": {addressOf(2)}})
		if err != nil {
			return recorded{}, err
		}
		if answer.Status == http.StatusTooManyRequests {
			answer.Route = "/api/v1/rooms/:room"
			return answer, nil
		}
	}
	return recorded{}, errors.New("the gateway refuses nobody")
}

// A peerLimiter is another limiter, and how to run it.
type peerLimiter struct {
	limiter
	start func(ctx context.Context) (stop func(), err error)
}

// peerLimiters are built from bench/peers, a module of its own.
func (b edgeBench) peerLimiters(redisURL string) []*peerLimiter {
	envoy := &peerLimiter{limiter: limiter{side: side{name: "envoyproxy/ratelimit, /json"}, ask: askEnvoy}}
	envoy.start = func(ctx context.Context) (func(), error) {
		program, err := b.buildPeer(ctx, "ratelimit", "github.com/envoyproxy/ratelimit/src/service_cmd")
		if err != nil {
			return nil, err
		}
		var stop func()
		envoy.served, stop, err = startEnvoy(ctx, b.folder, program, redisURL)
		return stop, err
	}
	rate := &peerLimiter{limiter: limiter{side: side{name: "redis_rate in a minimal handler"}, ask: askRedisRate}}
	rate.start = func(ctx context.Context) (func(), error) {
		program, err := b.buildPeer(ctx, "redis_rate", ".")
		if err != nil {
			return nil, err
		}
		if rate.address, err = freeAddress(); err != nil {
			return nil, err
		}
		var stop func()
		rate.pid, stop, err = startPeer(ctx, b.folder, rate.address, nil, program, "-listen", rate.address, "-redis-url", redisURL, "-rate", fmt.Sprint(limitRate))
		return stop, err
	}
	return []*peerLimiter{envoy, rate}
}

// buildPeer builds a program of the peers' module.
func (b edgeBench) buildPeer(ctx context.Context, name, of string) (string, error) {
	program := filepath.Join(b.folder, name)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, of)
	cmd.Dir = filepath.Join(b.root, "bench", "peers")
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot be built here: %.200s", said)
	}
	return program, nil
}

// startEnvoy runs envoyproxy/ratelimit with one limit for each client. It finds its limits in a folder of a fixed shape.
func startEnvoy(ctx context.Context, folder, program, redisURL string) (at served, stop func(), err error) {
	dir, err := peerFolder(folder, "envoy")
	if err != nil {
		return served{}, nil, err
	}
	limits := filepath.Join(dir, "bench", "config")
	if err := os.MkdirAll(limits, 0o777); err != nil {
		return served{}, nil, err
	}
	text := fmt.Sprintf("domain: bench\ndescriptors:\n  - key: client\n    rate_limit: {unit: second, requests_per_unit: %d}\n", limitRate)
	if err := os.WriteFile(filepath.Join(limits, "bench.yaml"), []byte(text), 0o666); err != nil {
		return served{}, nil, err
	}
	var ports []string
	for range 3 {
		free, err := freeAddress()
		if err != nil {
			return served{}, nil, err
		}
		_, port, err := net.SplitHostPort(free)
		if err != nil {
			return served{}, nil, err
		}
		ports = append(ports, port)
	}
	at.address = "127.0.0.1:" + ports[0]
	redis, err := url.Parse(redisURL)
	if err != nil {
		return served{}, nil, err
	}
	at.pid, stop, err = startPeer(ctx, dir, at.address, []string{
		"PORT=" + ports[0], "GRPC_PORT=" + ports[1], "DEBUG_PORT=" + ports[2], "HOST=127.0.0.1", "GRPC_HOST=127.0.0.1", "DEBUG_HOST=127.0.0.1",
		"RUNTIME_ROOT=" + dir, "RUNTIME_SUBDIRECTORY=bench", "RUNTIME_WATCH_ROOT=false", "USE_STATSD=false", "LOG_LEVEL=error",
		"BACKEND_TYPE=redis", "REDIS_SOCKET_TYPE=tcp", "REDIS_TYPE=SINGLE", "REDIS_URL=" + redis.Host,
	}, program)
	return at, stop, err
}
