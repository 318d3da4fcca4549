package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/bench/site"
)

const connections = 64

// roomBench measures the waiting room of a running site.
type roomBench struct {
	settings
	site     *site.Site
	visitors atomic.Uint32
}

// newRoom makes a room in which everyone waits: one call a minute, present for an hour.
func (b *roomBench) newRoom(ctx context.Context, room string) error {
	err := b.site.Operate(ctx, http.MethodPut, "rooms/"+room, map[string]any{
		"title": room, "pace_per_min": 1, "capacity": 1, "presence_ttl_s": 3600, "state": "open",
	}, nil)
	if err != nil {
		return fmt.Errorf("make room %s: %w", room, err)
	}
	return nil
}

func (b *roomBench) gateway() served {
	g := b.site.Gateways[0]
	return served{strings.TrimPrefix(g.URL, "http://"), g.PID()}
}

// joins compares joining through the gateway with a bare gin handler that repeats a join's answer.
func (b *roomBench) joins(ctx context.Context) ([]row, error) {
	if err := b.newRoom(ctx, "joins"); err != nil {
		return nil, err
	}
	answer, err := recordJoin(ctx, b.site.Gateways[0].URL, "joins")
	if err != nil {
		return nil, err
	}
	return b.compare(ctx, "joins a second", answer, joining("joins", &b.visitors))
}

// pollers is how many visitors poll in turns: so many that each stays far below what one may ask for.
const pollers = 20_000

// polls compares asking for one's place with a bare gin handler that repeats an answer.
func (b *roomBench) polls(ctx context.Context) ([]row, error) {
	if err := b.newRoom(ctx, "polls"); err != nil {
		return nil, err
	}
	gateway := b.site.Gateways[0].URL
	if _, err := recordJoin(ctx, gateway, "polls"); err != nil { // the first is called, and would be looked up
		return nil, err
	}
	cookies := make([]string, pollers)
	var group errgroup.Group
	group.SetLimit(connections)
	client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	for i := range cookies {
		group.Go(func() error {
			cookie, err := b.cookie(ctx, &client, "polls")
			cookies[i] = cookie
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	answer, err := record(ctx, http.MethodGet, gateway, placeRoute, "polls", cookies[0])
	if err != nil {
		return nil, err
	}
	var sent atomic.Uint32
	return b.compare(ctx, "polls a second", answer, polling("polls", cookies, &sent))
}

// cookie joins as a new visitor and returns what its browser would send from then on.
func (b *roomBench) cookie(ctx context.Context, client *http.Client, room string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.site.Gateways[0].URL+"/api/v1/rooms/"+room+"/places", nil)
	if err != nil {
		return "", err
	}
	n := b.visitors.Add(1)
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", byte(n>>16), byte(n>>8), byte(n)))
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	cookies := resp.Cookies()
	if resp.StatusCode != http.StatusCreated || len(cookies) == 0 {
		return "", fmt.Errorf("join: %s with %d cookies", resp.Status, len(cookies))
	}
	return cookies[0].Name + "=" + cookies[0].Value, nil
}

// compare lets the gateway and a bare gin handler that repeats the answer meet the load in turns.
func (b *roomBench) compare(ctx context.Context, what string, answer recorded, l load) ([]row, error) {
	bare, stop, err := startBare(ctx, answer)
	if err != nil {
		return nil, err
	}
	defer stop()
	for _, side := range []served{b.gateway(), bare} { // pools and caches fill before it counts
		if _, err := l.run(ctx, side.address, time.Second, 0); err != nil {
			return nil, err
		}
	}
	profiled := make(chan error, 1)
	if b.profile != "" {
		go func() {
			profiled <- writeProfile(ctx, b.site.Gateways[0].Admin, b.profile, time.Duration(2*b.rounds)*b.round)
		}()
	} else {
		profiled <- nil
	}
	var usher, plain turns
	var ratios []float64
	for round := range b.rounds {
		order := []func() error{
			func() error { return usher.add(ctx, l, b.gateway(), b.round) },
			func() error { return plain.add(ctx, l, bare, b.round) },
		}
		first := round % 2
		if err := order[first](); err != nil {
			return nil, err
		}
		if err := order[1-first](); err != nil {
			return nil, err
		}
		ratios = append(ratios, usher.perSecond[round]/plain.perSecond[round])
	}
	if err := <-profiled; err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return []row{
		{what: what + ", 64 connections ÷ bare gin, same bytes", usher: fmt.Sprintf("%.0f", median(usher.perSecond)),
			baseline: fmt.Sprintf("%.0f", median(plain.perSecond)), ratio: fmt.Sprintf("%.2f", median(ratios)), note: spread(ratios)},
		cpuRow(usher, plain),
	}, nil
}

// cpuRow is a row of what an answer costs two sides' processes.
func cpuRow(usher, other turns) row {
	cpu, otherCPU := median(usher.cpuMicros), median(other.cpuMicros)
	return row{what: "  µs of CPU of the server's process for each", usher: fmt.Sprintf("%.1f", cpu), baseline: fmt.Sprintf("%.1f", otherCPU),
		ratio: fmt.Sprintf("%.2f", cpu/otherCPU)}
}

// turns are what one side did in each of its turns.
type turns struct{ perSecond, cpuMicros []float64 }

// add lets a side meet the load once more.
func (t *turns) add(ctx context.Context, l load, side served, d time.Duration) error {
	before, err := side.usage()
	if err != nil {
		return err
	}
	p, err := l.run(ctx, side.address, d, 0)
	if err != nil {
		return err
	}
	after, err := side.usage()
	t.perSecond = append(t.perSecond, p.perSecond())
	t.cpuMicros = append(t.cpuMicros, float64((after.cpu-before.cpu).Microseconds())/float64(p.answers))
	return err
}

// writeProfile takes a CPU profile of a gateway over so long, and keeps it in file.
func writeProfile(ctx context.Context, admin, file string, over time.Duration) error {
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", admin, max(1, int(over.Seconds())-1))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return err
	}
	return out.Close()
}

// memory measures what a waiting visitor costs Redis: all of Redis before and after, and the room's own keys.
func (b *roomBench) memory(ctx context.Context) ([]row, error) {
	empty, err := b.usedMemory(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.newRoom(ctx, "memory"); err != nil {
		return nil, err
	}
	p, err := joining("memory", &b.visitors).run(ctx, b.gateway().address, time.Minute, b.waiting)
	if err != nil {
		return nil, err
	}
	if p.answers != b.waiting {
		return nil, fmt.Errorf("only %d joined in a minute", p.answers)
	}
	full, err := b.usedMemory(ctx)
	if err != nil {
		return nil, err
	}
	keys, bytes, err := b.roomKeys(ctx, "memory")
	if err != nil {
		return nil, err
	}
	sorted, err := b.sortedSet(ctx)
	if err != nil {
		return nil, err
	}
	a := float64(b.waiting)
	return []row{
		{what: fmt.Sprintf("bytes of Redis a waiting visitor, %d waiting: the room's keys ÷ a sorted set of ids", b.waiting), usher: fmt.Sprintf("%.2f", float64(bytes)/a),
			baseline: fmt.Sprintf("%.0f", float64(sorted)/a), ratio: fmt.Sprintf("%.4f", float64(bytes)/float64(sorted)), note: fmt.Sprintf("%d keys", keys)},
		{what: "  the same, all of Redis before and after", usher: fmt.Sprintf("%.2f", float64(full-empty)/a), note: "with buffers, streams and limits' keys that expire"},
	}, nil
}

// sortedSet is the memory of the usual waiting list: as many visitor ids in a sorted set.
func (b *roomBench) sortedSet(ctx context.Context) (int64, error) {
	const key = "bench:{sorted-set}"
	defer b.site.Redis.Unlink(ctx, key)
	const batch = 1000
	for from := int64(0); from < b.waiting; from += batch {
		var members []redis.Z
		for i := from; i < min(from+batch, b.waiting); i++ {
			members = append(members, redis.Z{Score: float64(i), Member: uuid.NewString()})
		}
		if err := b.site.Redis.ZAdd(ctx, key, members...).Err(); err != nil {
			return 0, err
		}
	}
	return b.site.Redis.MemoryUsage(ctx, key, 0).Result()
}

func (b *roomBench) usedMemory(ctx context.Context) (int64, error) {
	said, err := b.site.Redis.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(said) {
		if n, ok := strings.CutPrefix(line, "used_memory:"); ok {
			return strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("redis does not tell its memory")
}

// roomKeys counts a room's keys and their memory.
func (b *roomBench) roomKeys(ctx context.Context, room string) (keys int, bytes int64, err error) {
	found := b.site.Redis.Scan(ctx, 0, "usher:{"+room+"}:*", 1000).Iterator()
	for found.Next(ctx) {
		n, err := b.site.Redis.MemoryUsage(ctx, found.Val(), 0).Result()
		if err != nil {
			return 0, 0, err
		}
		keys++
		bytes += n
	}
	return keys, bytes, found.Err()
}
