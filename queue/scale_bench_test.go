package queue

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
)

// The benchmarks of a very full room; `go run ./bench -only queue` runs them and prints
// what they report. Each is one scenario, run once, on a real Redis of its own.

// hundredThousand is a crowd of local visitors, of calls, of sessions.
const hundredThousand = 100_000

// full is a room in which n wait, all present, one gateway watching.
type full struct {
	*testing.B
	rdb   redis.UniversalClient
	ring  *keyring.Ring
	line  *Line
	clock int64
	n     uint64
	// took is the longest script of each tick since watch, in milliseconds; nil before.
	took []float64
}

func newFull(b *testing.B, n uint64, p Patch) *full {
	b.Helper()
	f := &full{B: b, rdb: devtest.Redis(b), ring: keyring.Generate(start), clock: start.UnixMilli(), n: n}
	ctx := context.Background()
	f.do("CONFIG", "SET", "slowlog-log-slower-than", 0)
	f.do("SET", recordedKey, 1)
	h, err := NewHall(Config{Redis: f.rdb, Ring: f.ring, Log: quietLog(), clock: func() int64 { return f.clock }})
	if err != nil {
		b.Fatal(err)
	}
	made := make(chan error, 1)
	go func() {
		_, _, err := h.Configure(ctx, "r", p, Actor{ID: "k1", Name: "Ada"})
		made <- err
	}()
	for done := false; !done; { // a new room waits for its ceiling
		select {
		case err := <-made:
			if err != nil {
				b.Fatal(err)
			}
			done = true
		case <-time.After(time.Millisecond):
			if epoch := f.rdb.HGet(ctx, keyOf("r", "state"), "epoch").Val(); epoch != "" {
				if err := durableScript.Run(ctx, f.rdb, keysOf("r"), "0", epoch, n+1<<20, "").Err(); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	if err := h.look(ctx); err != nil {
		b.Fatal(err)
	}
	f.line, _ = h.Line("r")
	f.tick()
	f.fill()
	f.tick()
	return f
}

// fill lets n join at once, as the join script would have left it.
func (f *full) fill() {
	f.Helper()
	bits := bytes.Repeat([]byte{0xff}, int(f.n/8))
	for _, name := range []string{"counted", "live", "slot:0", "slot:1", "slot:2"} {
		f.do("SET", keyOf("r", name), bits)
	}
	f.do("HSET", keyOf("r", "state"), "next", f.n)
}

func (f *full) do(args ...any) {
	f.Helper()
	if err := f.rdb.Do(context.Background(), args...).Err(); err != nil {
		f.Fatal(err)
	}
}

func (f *full) tick() {
	f.Helper()
	var before float64
	if f.took != nil {
		f.do("SLOWLOG", "RESET")
		before = f.redisCPU()
	}
	if err := f.line.tick(context.Background()); err != nil {
		f.Fatal(err)
	}
	if f.took == nil {
		return
	}
	busy := f.redisCPU() - before
	log, err := f.rdb.SlowLogGet(context.Background(), 100).Result()
	if err != nil {
		f.Fatal(err)
	}
	longest := 0.0
	for _, entry := range log {
		if strings.HasPrefix(strings.ToUpper(entry.Args[0]), "EVAL") {
			longest = max(longest, float64(entry.Duration.Microseconds())/1000)
		}
	}
	f.took = append(f.took, min(longest, busy))
}

// redisCPU is what Redis' one thread has used, in milliseconds. A script takes at most what
// the clock says, and at most what its tick used: on a machine with other work the clock
// alone would tell of those who had the processor meanwhile.
func (f *full) redisCPU() (ms float64) {
	f.Helper()
	said, err := f.rdb.Info(context.Background(), "cpu").Result()
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(said) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user_main_thread" || name == "used_cpu_sys_main_thread" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				f.Fatal(err)
			}
			ms += 1000 * seconds
		}
	}
	return ms
}

// pass lets time pass with a tick each step.
func (f *full) pass(d, step time.Duration) {
	f.Helper()
	for ; d > 0; d -= step {
		f.clock += step.Milliseconds()
		f.tick()
	}
}

// watch forgets what the scripts have taken until now.
func (f *full) watch() { f.took = []float64{} }

func middle(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// report gives the figures and drops the time of the whole, which says nothing.
func (f *full) report(values map[string]float64) {
	f.ReportMetric(0, "ns/op")
	for unit, v := range values {
		f.ReportMetric(v, unit)
	}
}

var crowds = []uint64{1_000_000, 10_000_000}

func crowded(b *testing.B, run func(b *testing.B, n uint64)) {
	for _, n := range crowds {
		b.Run(strconv.FormatUint(n, 10), func(b *testing.B) { run(b, n) })
	}
}

// Memory of all keys of a room, a visitor, against a sorted set of ids.
func BenchmarkQueueMemory(b *testing.B) {
	crowded(b, func(b *testing.B, n uint64) {
		f := newFull(b, n, Patch{PacePerMin: opt(60_000), Capacity: opt(1_000_000)})
		f.pass(10*time.Second, time.Second) // called, claimed and passed ranks have their bitmaps, too
		ctx := context.Background()
		var total int64
		for _, key := range keysOf("r") {
			if size, err := f.rdb.MemoryUsage(ctx, key, 0).Result(); err == nil {
				total += size
			} else if err != redis.Nil {
				b.Fatal(err)
			}
		}
		const sample = 1_000_000 // a sorted set of ten million takes a gigabyte and a minute
		for from := 0; from < sample; from += 1000 {
			var members []redis.Z
			for i := range 1000 {
				members = append(members, redis.Z{Score: float64(from + i), Member: uuid.NewString()})
			}
			if err := f.rdb.ZAdd(ctx, "ids", members...).Err(); err != nil {
				b.Fatal(err)
			}
		}
		sorted, err := f.rdb.MemoryUsage(ctx, "ids", 0).Result()
		if err != nil {
			b.Fatal(err)
		}
		f.report(map[string]float64{"B/visitor": float64(total) / float64(n), "B/member-sorted-set": float64(sorted) / sample})
	})
}

// One advance that calls a thousand.
func BenchmarkQueueAdvance(b *testing.B) {
	crowded(b, func(b *testing.B, n uint64) {
		f := newFull(b, n, Patch{PacePerMin: opt(60_000), Capacity: opt(1_000_000), PresenceTTL: opt(3600)})
		f.pass(3*time.Second, time.Second)
		f.watch()
		before := f.line.View().calledTotal
		f.pass(20*time.Second, time.Second)
		took := f.took
		if called := f.line.View().calledTotal - before; called != 20_000 {
			b.Fatalf("%d called, want 20,000", called)
		}
		f.report(map[string]float64{"ms/advance": middle(took), "ms-longest": slices.Max(took)})
	})
}

// What a room does now and then: presence slots that end, marks in bulk, a hundred
// thousand calls and as many sessions that expire at once, bits that are dropped.
func BenchmarkQueueLongestScript(b *testing.B) {
	crowded(b, func(b *testing.B, n uint64) {
		values := map[string]float64{}
		longest := func(f *full, what string) {
			values["ms-"+what] = slices.Max(f.took)
			f.watch()
		}
		f := newFull(b, n, Patch{PacePerMin: opt(60_000), Capacity: opt(1_000_000), PresenceTTL: opt(60)})
		f.watch()
		v := f.line.View()
		for range 3 {
			for number := uint64(0); number < n; number += n / hundredThousand {
				f.line.Seen(Token{Room: "r", Epoch: v.epoch, Number: number})
			}
			f.line.mu.Lock()
			f.line.marks.sentAt = time.Time{}
			f.line.mu.Unlock()
			f.pass(time.Second, time.Second)
		}
		longest(f, "marks")
		f.pass(100*time.Second, time.Second) // all who were marked stay, the others' bits end
		longest(f, "presence")

		f = newFull(b, n, Patch{PacePerMin: opt(60_000), Capacity: opt(1_000_000), PresenceTTL: opt(3600), CallTTL: opt(600)})
		f.pass(120*time.Second, time.Second)
		ctx, till := context.Background(), f.clock+20_000
		batches, err := f.rdb.ZRange(ctx, keyOf("r", "calls"), 0, -1).Result()
		if err != nil || len(batches) < 100 {
			b.Fatal(len(batches), err)
		}
		clock := f.rdb.HGet(ctx, keyOf("r", "state"), "clock").Val()
		ends, _ := strconv.ParseInt(clock, 10, 64)
		for _, text := range batches { // the same end for all of them
			f.do("ZREM", keyOf("r", "calls"), text)
			f.do("ZADD", keyOf("r", "calls"), 0, fmt.Sprintf("%s:%d", text[:strings.LastIndexByte(text, ':')], ends+20_000))
		}
		for from := 0; from < hundredThousand; from += 1000 {
			var members []redis.Z
			for i := range 1000 {
				members = append(members, redis.Z{Score: float64(till), Member: f.ring.SessionID("r", v.epoch, uint64(from+i))})
			}
			if err := f.rdb.ZAdd(ctx, keyOf("r", "sessions"), members...).Err(); err != nil {
				b.Fatal(err)
			}
		}
		f.watch()
		f.pass(40*time.Second, 250*time.Millisecond)
		if left := f.rdb.ZCount(ctx, keyOf("r", "calls"), "-inf", "+inf").Val(); left > 160 { // those of the ticks meanwhile
			b.Fatalf("%d batches of calls are left", left)
		}
		longest(f, "expiries")

		// The frontier far on, everything before it settled, and bits of all kinds after it.
		f.do("HSET", keyOf("r", "state"), "frontier", n-n/20, "missed", 0, "open", 0)
		f.do("DEL", keyOf("r", "calls"), keyOf("r", "absent"), keyOf("r", "missed"))
		for _, name := range []string{"called", "claimed", "expired", "left", "once", "returning"} {
			f.do("SETBIT", keyOf("r", name), n-1, 0)
		}
		f.watch()
		f.pass(60*time.Second, time.Second)
		if base := f.line.View().base; base == 0 {
			b.Fatal("nothing was dropped")
		}
		longest(f, "dropping")
		f.report(values)
	})
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The CPU of a gateway for the exact positions of a hundred thousand, from asking Redis on.
func BenchmarkQueuePositions(b *testing.B) {
	crowded(b, func(b *testing.B, n uint64) {
		f := newFull(b, n, Patch{PacePerMin: opt(60_000), Capacity: opt(1_000_000), PresenceTTL: opt(3600)})
		locals, ahead := make([]uint64, hundredThousand), make([]uint64, hundredThousand)
		for i := range locals {
			locals[i] = rand.Uint64N(n)
		}
		round := func() {
			f.clock += pieceMillis // a piece of a long line is read with each tick
			f.tick()
			v := f.line.View()
			for i, number := range locals {
				if rank := v.rank(number); rank >= v.frontier {
					ahead[i] = v.ahead(rank)
				}
			}
		}
		for range 10 {
			round()
		}
		runtime.GC()
		const ticks = 100
		before := cpu(b)
		for range ticks {
			round()
		}
		used := cpu(b) - before
		v := f.line.View()
		for i, number := range locals { // all count from the frontier on
			if number >= v.frontier && ahead[i] != number-v.frontier {
				b.Fatalf("number %d: %d ahead, frontier %d", number, ahead[i], v.frontier)
			}
		}
		f.report(map[string]float64{"ms-CPU/tick": float64(used.Microseconds()) / 1000 / ticks})
	})
}

// From the opening to the first call of a draw, all bits and ranks in force.
func BenchmarkQueueDraw(b *testing.B) {
	crowded(b, func(b *testing.B, n uint64) {
		opens := start.Add(time.Minute)
		f := newFull(b, n, Patch{Method: opt(Random), LobbyAt: opt(start), OpensAt: opt(opens), PacePerMin: opt(60_000), Capacity: opt(1_000_000), PresenceTTL: opt(3600)})
		f.watch()
		ctx := context.Background()
		f.clock = opens.UnixMilli()
		began := time.Now()
		for f.line.View().calledTotal == 0 {
			f.tick()
			if v := f.line.View(); v.lobbySize != nil && !v.drawDurable { // as the Recorder does, less its fsync
				if err := durableScript.Run(ctx, f.rdb, keysOf("r"), "0", v.epoch, n+1<<20, strconv.FormatUint(n, 10)).Err(); err != nil {
					b.Fatal(err)
				}
			}
			f.clock += 100
		}
		took := time.Since(began)
		longest := slices.Max(f.took)
		v := f.line.View()
		seed := Seed(f.ring.DrawSecret("r", v.epoch), n, "")
		given := make([]bool, n)
		for number, rank := range v.ranks {
			if given[rank] {
				b.Fatalf("rank %d is given twice", rank)
			}
			given[rank] = true
			if number%997 == 0 && uint64(rank) != Rank(seed, n, uint64(number)) {
				b.Fatalf("number %d has rank %d, alone %d", number, rank, Rank(seed, n, uint64(number)))
			}
		}
		f.report(map[string]float64{"s-to-first-call": took.Seconds(), "ms-longest": longest})
	})
}
