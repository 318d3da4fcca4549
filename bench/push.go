package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"usher/bench/site"
	"usher/internal/child"
)

// pushBench measures what waiting WebSockets cost.
type pushBench struct {
	settings
	folder  string // for all state
	program string // built when first needed
}

// start runs a site of its own: what other parts left in a gateway's memory must not count.
func (b *pushBench) start(ctx context.Context, name string, gateways int) (*site.Site, error) {
	if b.program == "" {
		root, err := projectFolder()
		if err != nil {
			return nil, err
		}
		if b.program, err = site.Build(ctx, root, b.folder); err != nil {
			return nil, err
		}
	}
	state := filepath.Join(b.folder, name)
	if err := os.Mkdir(state, 0o755); err != nil {
		return nil, err
	}
	return site.Start(ctx, site.Config{Folder: state, Program: b.program, Gateways: gateways, Durable: true})
}

func hostOf(p *site.Process) string { return strings.TrimPrefix(p.URL, "http://") }

// makeRoom makes a room in which nobody is called yet.
func makeRoom(ctx context.Context, s *site.Site, room string) error {
	return s.Operate(ctx, http.MethodPut, "rooms/"+room, map[string]any{
		"title": room, "state": "paused", "pace_per_min": 600, "capacity": 10_000, "call_ttl_s": 3600,
	}, nil)
}

func openRoom(ctx context.Context, s *site.Site, room string) error {
	return s.Operate(ctx, http.MethodPut, "rooms/"+room, map[string]any{"state": "open"}, nil)
}

const (
	// settle is how long memory and figures may take to come to rest.
	settle = 15 * time.Second
	// window is how long one comparison of two writers takes.
	window = 10 * time.Second
)

// sockets compares a gateway's idle sockets and pushed positions with a bare gorilla writer that writes as many
// documents of the same length, to as many sockets, at the same time.
func (b *pushBench) sockets(ctx context.Context) ([]row, error) {
	s, err := b.start(ctx, "sockets", 1)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	const room = "sockets"
	if err := makeRoom(ctx, s, room); err != nil {
		return nil, err
	}
	bare, err := startChild(ctx, "bare-writer", likeOurs(b.idle/10, sighting{}, sighting{}))
	if err != nil {
		return nil, err
	}
	defer bare.Stop()
	bareHost, err := bare.Hear()
	if err != nil {
		return nil, err
	}
	gateway, writer := s.Gateways[0].PID(), bare.PID()
	// What is loaded once, code and pools, is no socket's.
	few := b.idle / 20
	warm, err := gather(ctx, crowd{Address: hostOf(s.Gateways[0]), Room: room, Count: few}, crowd{Address: bareHost, Count: few})
	if err != nil {
		return nil, err
	}
	warm.stop()
	pause(ctx, settle/3)
	before, err := usages(gateway, writer)
	if err != nil {
		return nil, err
	}
	ours, err := gather(ctx, crowd{Address: hostOf(s.Gateways[0]), Room: room, First: few, Count: b.idle})
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	theirs, err := gather(ctx, crowd{Address: bareHost, Count: b.idle})
	if err != nil {
		return nil, err
	}
	defer theirs.stop()
	if err := openRoom(ctx, s, room); err != nil {
		return nil, err
	}
	pause(ctx, settle)
	after, err := usages(gateway, writer)
	if err != nil {
		return nil, err
	}
	each := func(i int) float64 { return float64(after[i].rss-before[i].rss) / float64(b.idle) / 1024 }
	rows := []row{{
		what: fmt.Sprintf("KiB resident a waiting WebSocket, %d of them ÷ slim gorilla", b.idle), usher: fmt.Sprintf("%.1f", each(0)),
		baseline: fmt.Sprintf("%.1f", each(1)), ratio: fmt.Sprintf("%.2f", each(0)/each(1)),
		note: fmt.Sprintf("process %.0f MiB after, %.0f before", float64(after[0].rss)/(1<<20), float64(before[0].rss)/(1<<20)),
	}}
	pushed, err := b.compare(ctx, bare, []int{gateway, writer}, ours, theirs)
	return append(rows, pushed...), err
}

// compare measures CPU a document at both writers in the same windows.
func (b *pushBench) compare(ctx context.Context, bare *child.Child, pids []int, ours, theirs throng) ([]row, error) {
	var costs [2][]float64
	var ratios []float64
	rate := 0.0
	for round := range b.rounds + 1 {
		var used []usage
		var saw [2]sighting
		snapshot := func() (err error) {
			for i, t := range []throng{ours, theirs} {
				if saw[i], err = t.look(); err != nil {
					return err
				}
				if len(saw[i].Ends) > 0 || saw[i].Rises > 0 {
					return fmt.Errorf("sockets ended: %v; positions that rose: %d", saw[i].Ends, saw[i].Rises)
				}
			}
			used, err = usages(pids...)
			return err
		}
		if err := snapshot(); err != nil {
			return nil, err
		}
		used0, saw0 := used, saw
		pause(ctx, window)
		if err := snapshot(); err != nil {
			return nil, err
		}
		var cost [2]float64 // CPU seconds a million
		for i := range cost {
			documents := float64(saw[i].Messages - saw0[i].Messages)
			if documents == 0 {
				return nil, fmt.Errorf("nothing was written in %s", window)
			}
			cost[i] = (used[i].cpu - used0[i].cpu).Seconds() / documents * 1e6
		}
		rate = float64(saw[0].Messages-saw0[0].Messages) / window.Seconds()
		if err := bare.Say(likeOurs(int(rate), saw0[0], saw[0])); err != nil {
			return nil, err
		}
		if round == 0 {
			continue // the rates differ still
		}
		for i := range costs {
			costs[i] = append(costs[i], cost[i])
		}
		ratios = append(ratios, cost[0]/cost[1])
	}
	return []row{{
		what: "CPU seconds a million pushed positions ÷ a bare gorilla writer", usher: fmt.Sprintf("%.1f", median(costs[0])),
		baseline: fmt.Sprintf("%.1f", median(costs[1])), ratio: fmt.Sprintf("%.2f", median(ratios)),
		note: fmt.Sprintf("%s; %.0f documents a second", spread(ratios), rate),
	}}, nil
}

// crowd has very many sockets wait at three gateways while 600 a minute are admitted.
func (b *pushBench) crowd(ctx context.Context) ([]row, error) {
	const gateways = 3
	s, err := b.start(ctx, "crowd", gateways)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	const room = "crowd"
	if err := makeRoom(ctx, s, room); err != nil {
		return nil, err
	}
	pause(ctx, time.Second) // every gateway knows the room a second later
	pids := make([]int, gateways)
	for i, g := range s.Gateways {
		pids[i] = g.PID()
	}
	before, err := usages(pids...)
	if err != nil {
		return nil, err
	}
	var crowds []crowd
	for i, g := range s.Gateways {
		n := b.crowded / gateways
		crowds = append(crowds, crowd{Address: hostOf(g), Room: room, First: i * n, Count: n, Claims: true})
	}
	began := time.Now()
	all, err := gather(ctx, crowds...)
	if err != nil {
		return nil, err
	}
	defer all.stop()
	arrived := time.Since(began)
	pause(ctx, settle)
	idle, err := usages(pids...)
	if err != nil {
		return nil, err
	}
	if err := openRoom(ctx, s, room); err != nil {
		return nil, err
	}
	pause(ctx, settle) // everyone has heard of a first position
	start, err := usages(pids...)
	if err != nil {
		return nil, err
	}
	saw0, err := all.look()
	if err != nil {
		return nil, err
	}
	const admitting = time.Minute
	calls, fresh := saw0.Calls, 1.0
	var saw sighting
	for range admitting / settle {
		pause(ctx, settle)
		if saw, err = all.look(); err != nil {
			return nil, err
		}
		calls = append(calls, saw.Calls...)
		fresh = min(fresh, float64(saw.Fresh)/float64(max(saw.Open, 1)))
	}
	end, err := usages(pids...)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	admitted, err := inOrder(calls)
	if err != nil {
		return nil, err
	}
	if len(saw.Ends) > 0 || saw.Rises > 0 {
		return nil, fmt.Errorf("sockets ended: %v; positions that rose: %d", saw.Ends, saw.Rises)
	}
	var cpu []string
	var weigh, most, total float64
	for i := range pids {
		used := (end[i].cpu - start[i].cpu).Seconds() / admitting.Seconds()
		cpu = append(cpu, fmt.Sprintf("%.0f %%", 100*used))
		total += used
		weigh += float64(idle[i].rss-before[i].rss) / float64(b.crowded) / 1024
		most = max(most, float64(end[i].rss)/(1<<20))
	}
	documents := float64(saw.Messages-saw0.Messages) / admitting.Seconds()
	return []row{
		{what: fmt.Sprintf("%d WebSockets at %d gateways, all opened in", b.crowded, gateways), usher: fmt.Sprintf("%.0f s", arrived.Seconds()),
			note: fmt.Sprintf("%.1f KiB resident each, at most %.0f MiB a gateway", weigh, most)},
		{what: "  admitted a minute, in the order of ranks", usher: strconv.Itoa(admitted - len(saw0.Calls)),
			note: fmt.Sprintf("%d called since the opening; open still: %d", admitted, saw.Open)},
		{what: "  positions a second", usher: fmt.Sprintf("%.0f", documents),
			note: fmt.Sprintf("%.0f %% of all sockets had one in each %s", 100*fresh, settle)},
		{what: "  CPU of a gateway", usher: strings.Join(cpu, ", "),
			note: fmt.Sprintf("%.1f CPU seconds a million positions, admitting included", total/documents*1e6)},
	}, nil
}

// inOrder wants calls that were made in the order of their ranks, without a gap, and all answered with a pass.
func inOrder(calls []callSeen) (int, error) {
	at := make([]time.Time, len(calls))
	for _, c := range calls {
		switch {
		case c.Fault != "":
			return 0, fmt.Errorf("rank %d was called in vain: %s", c.Rank, c.Fault)
		case c.Rank >= uint64(len(calls)):
			return 0, fmt.Errorf("rank %d was called among the first %d", c.Rank, len(calls))
		case !at[c.Rank].IsZero():
			return 0, fmt.Errorf("rank %d was called twice", c.Rank)
		}
		at[c.Rank] = c.Expires
	}
	for rank := 1; rank < len(at); rank++ {
		if at[rank].Before(at[rank-1]) {
			return 0, fmt.Errorf("rank %d was called before rank %d", rank, rank-1)
		}
	}
	return len(calls), nil
}

func usages(pids ...int) (list []usage, err error) {
	for _, pid := range pids {
		u, err := usageOf(pid)
		if err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// likeOurs tells the bare writer how many documents a second to write, and that they are as long as those that Usher's
// clients had from one sighting to the next.
func likeOurs(rate int, from, to sighting) string {
	length := 400 // about that, before anything was seen
	if n := to.Messages - from.Messages; n > 0 {
		length = int((to.Bytes - from.Bytes) / n)
	}
	return fmt.Sprint(rate, length)
}
