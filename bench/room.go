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

func (b *roomBench) load(room string) load {
	return load{room: room, connections: connections, visitors: &b.visitors}
}

func (b *roomBench) gateway() string { return strings.TrimPrefix(b.site.Gateways[0].URL, "http://") }

// joins compares joining through the gateway with a bare gin handler that repeats a join's answer, in turns.
func (b *roomBench) joins(ctx context.Context) ([]row, error) {
	if err := b.newRoom(ctx, "joins"); err != nil {
		return nil, err
	}
	answer, err := record(ctx, b.site.Gateways[0].URL, "joins")
	if err != nil {
		return nil, err
	}
	bare, stop, err := startBare(ctx, answer)
	if err != nil {
		return nil, err
	}
	defer stop()
	l := b.load("joins")
	for _, address := range []string{b.gateway(), bare} { // pools and caches fill before it counts
		if _, err := l.run(ctx, address, time.Second, 0); err != nil {
			return nil, err
		}
	}
	profiled := make(chan error, 1)
	if b.profile != "" {
		go func() { profiled <- b.writeProfile(ctx) }()
	} else {
		profiled <- nil
	}
	var usher, plain, ratios []float64
	for round := range b.rounds {
		turns := []func() error{
			func() error { return turn(ctx, l, b.gateway(), b.round, &usher) },
			func() error { return turn(ctx, l, bare, b.round, &plain) },
		}
		first := round % 2
		if err := turns[first](); err != nil {
			return nil, err
		}
		if err := turns[1-first](); err != nil {
			return nil, err
		}
		ratios = append(ratios, usher[round]/plain[round])
	}
	if err := <-profiled; err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return []row{{
		what: "joins a second, 64 connections ÷ bare gin, same bytes", usher: fmt.Sprintf("%.0f", median(usher)),
		baseline: fmt.Sprintf("%.0f", median(plain)), ratio: fmt.Sprintf("%.2f", median(ratios)), note: spread(ratios),
	}}, nil
}

func turn(ctx context.Context, l load, address string, d time.Duration, into *[]float64) error {
	p, err := l.run(ctx, address, d, 0)
	*into = append(*into, p.perSecond())
	return err
}

// writeProfile takes a CPU profile of the gateway over all turns.
func (b *roomBench) writeProfile(ctx context.Context) error {
	seconds := int(float64(2*b.rounds)*b.round.Seconds()) - 1
	return b.fetch(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", b.site.Gateways[0].Admin, max(1, seconds)), b.profile)
}

func (b *roomBench) fetch(ctx context.Context, url, file string) error {
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
	p, err := b.load("memory").run(ctx, b.gateway(), time.Minute, b.waiting)
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
