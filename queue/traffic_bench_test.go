package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// trafficTime is how long a gateway is watched: more than two readings of the longest line.
const trafficTime = 12 * time.Second

// tickTime is what a Hall has when it is told nothing else.
const tickTime = 250 * time.Millisecond

// What one gateway asks of Redis in a second, a visitor of a thousand leaving each second:
// in a short line, and in a very long one with few and with many of its visitors here.
func BenchmarkQueueTraffic(b *testing.B) {
	for _, c := range []struct {
		waiting uint64
		local   int
	}{{1000, 1000}, {1_000_000, 1000}, {10_000_000, 1000}, {10_000_000, 16_000}} {
		b.Run(fmt.Sprintf("%d/%d", c.waiting, c.local), func(b *testing.B) { traffic(b, c.waiting, c.local) })
	}
}

func traffic(b *testing.B, waiting uint64, local int) {
	f := newFull(b, waiting, Patch{PacePerMin: opt(60), Capacity: opt(1_000_000)})
	ctx, epoch := context.Background(), f.line.View().epoch
	ticker := time.NewTicker(tickTime) // real time: it decides when a long line is read again
	defer ticker.Stop()
	step, leaver, ticks := waiting/uint64(local), waiting/2, 0
	second := func() { // everyone here is heard of each ten seconds, and somebody leaves
		for i := ticks % 10; i < local; i += 10 {
			f.line.Seen(Token{Room: "r", Epoch: epoch, Number: uint64(i) * step})
		}
		leaver++
		if err := f.line.Leave(ctx, Token{Room: "r", Epoch: epoch, Number: leaver}); err != nil {
			b.Fatal(err)
		}
		for range time.Second / tickTime {
			<-ticker.C
			f.clock += tickTime.Milliseconds()
			f.tick()
		}
		ticks++
	}
	second() // what a first look costs is no part of it
	before := f.traffic()
	for range int(trafficTime / time.Second) {
		second()
	}
	after := f.traffic()
	values := map[string]float64{}
	for name := range after {
		values[name+"/s"] = (after[name] - before[name]) / trafficTime.Seconds()
	}
	f.report(values)
}

// traffic is what the server has done until now: commands from the gateway, those that
// scripts ran included, and bytes both ways.
func (f *full) traffic() map[string]float64 {
	f.Helper()
	found := map[string]float64{}
	said, err := f.rdb.Info(context.Background(), "stats", "commandstats").Result()
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(said) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch name {
		case "total_net_input_bytes":
			found["B-in"], err = strconv.ParseFloat(value, 64)
		case "total_net_output_bytes":
			found["B-out"], err = strconv.ParseFloat(value, 64)
		default:
			command, isCommand := strings.CutPrefix(name, "cmdstat_")
			calls, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			if !isCommand || command == "info" {
				continue
			}
			var n float64
			n, err = strconv.ParseFloat(calls, 64)
			found["commands"] += n
		}
		if err != nil {
			f.Fatal(line, err)
		}
	}
	return found
}
