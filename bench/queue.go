package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// figures are what one of the queue's benchmarks reported: by unit.
type figures map[string]float64

// measureQueue runs the benchmarks of package queue, which reach into a room of ten million as no visitor could.
func measureQueue(ctx context.Context) ([]row, error) {
	root, err := projectFolder()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "./queue", "-run", "^$", "-bench", "^BenchmarkQueue", "-benchtime", "1x", "-timeout", "10m")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, said[max(0, len(said)-2000):])
	}
	found := readFigures(said)
	var rows []row
	for _, n := range []string{"1000000", "10000000"} {
		get := func(name, unit string) float64 { return found[name+"/"+n][unit] }
		add := func(what, usher, baseline, ratio, note string) {
			rows = append(rows, row{what: what + ", " + n + " waiting", usher: usher, baseline: baseline, ratio: ratio, note: note})
		}
		each, member := get("QueueMemory", "B/visitor"), get("QueueMemory", "B/member-sorted-set")
		add("bytes of Redis a visitor", fmt.Sprintf("%.2f", each), fmt.Sprintf("%.0f", member), fmt.Sprintf("%.4f", each/member), "÷ a sorted set of ids; at most 1")
		add("ms of Redis for an advance that calls 1,000", fmt.Sprintf("%.2f", get("QueueAdvance", "ms/advance")), "", "", "at most 1")
		for _, what := range []string{"marks", "presence", "expiries", "dropping"} {
			add("ms of the longest script, "+what, fmt.Sprintf("%.1f", get("QueueLongestScript", "ms-"+what)), "", "", "at most 5")
		}
		add("ms of the longest script, the draw put in force", fmt.Sprintf("%.1f", get("QueueDraw", "ms-longest")), "", "", "at most 5")
		add("ms of CPU a tick, exact positions of 100,000", fmt.Sprintf("%.2f", get("QueuePositions", "ms-CPU/tick")), "", "", "at most 2")
		add("s from a draw's opening to its first call", fmt.Sprintf("%.2f", get("QueueDraw", "s-to-first-call")), "", "", "at most 1 and 4")
	}
	few, many := found["QueueTraffic/1000/1000"], found["QueueTraffic/10000000/1000"]
	rows = append(rows, row{what: "commands a second of a gateway: 10000000 waiting ÷ 1000", usher: fmt.Sprintf("%.0f", many["commands/s"]), baseline: fmt.Sprintf("%.0f", few["commands/s"]),
		ratio: fmt.Sprintf("%.2f", many["commands/s"]/few["commands/s"]), note: "those inside scripts included; 0.9 to 1.1"})
	for _, name := range []string{"1000/1000", "1000000/1000", "10000000/1000", "10000000/16000"} {
		waiting, local, _ := strings.Cut(name, "/")
		said := found["QueueTraffic/"+name]
		rows = append(rows, row{what: "  KiB a second from Redis, and to it, " + waiting + " waiting, " + local + " of them here",
			usher: fmt.Sprintf("%.0f, %.0f", said["B-out/s"]/1024, said["B-in/s"]/1024)})
	}
	return rows, nil
}

// readFigures reads what go test -bench says: a name, the iterations, then values and their units.
func readFigures(said []byte) map[string]figures {
	found := map[string]figures{}
	for lines := bufio.NewScanner(bytes.NewReader(said)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 { // the number of processors
			name = name[:i]
		}
		found[name] = figures{}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				found[name][fields[i+1]] = v
			}
		}
	}
	return found
}
