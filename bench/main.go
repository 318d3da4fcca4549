package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"usher/bench/site"
	"usher/internal/child"
)

func main() {
	if kind := child.Kind(); kind != "" {
		if err := children.Serve(kind); err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", kind, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

type settings struct {
	only    string
	rounds  int
	round   time.Duration
	profile string
	waiting int64
	orders  int
	idle    int
	crowded int
}

// A row of the table.
type row struct{ what, usher, baseline, ratio, note string }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.only, "only", "", "run one part alone: joins, polls, memory, queue, orders, sockets, crowd, proxy or limits")
	flags.IntVar(&s.rounds, "rounds", 5, "how often both sides of a ratio take turns")
	flags.DurationVar(&s.round, "round", 3*time.Second, "how long a side's turn is")
	flags.StringVar(&s.profile, "profile", "", "write a CPU profile of the gateway under joins, polls or protected requests to this file")
	flags.Int64Var(&s.waiting, "waiting", 100_000, "how many visitors wait in the memory part")
	flags.IntVar(&s.orders, "orders", 1000, "how many orders a turn of the orders part pays")
	flags.IntVar(&s.idle, "idle", 10_000, "how many WebSockets are open in the sockets part")
	flags.IntVar(&s.crowded, "crowd", 48_000, "how many WebSockets three gateways hold in the crowd part")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	folder, err := os.MkdirTemp("", "usher-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := os.Chmod(folder, 0o755); err != nil { // postgres runs as another user where we are root
		return err
	}

	var rows []row
	part := func(name string, measure func() ([]row, error)) error {
		if s.only != "" && s.only != name {
			return nil
		}
		fmt.Fprintf(stderr, "measuring %s\n", name)
		r, err := measure()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, r...)
		return nil
	}
	var root, program string
	if s.only == "" || slices.Contains([]string{"joins", "polls", "memory", "proxy", "limits"}, s.only) {
		if root, err = projectFolder(); err != nil {
			return err
		}
		if program, err = site.Build(ctx, root, folder); err != nil {
			return err
		}
	}
	if s.only == "" || s.only == "joins" || s.only == "polls" || s.only == "memory" {
		state := filepath.Join(folder, "site")
		if err := os.Mkdir(state, 0o755); err != nil {
			return err
		}
		usher, err := site.Start(ctx, site.Config{Folder: state, Program: program, Gateways: 1, Durable: true, TrustedProxies: "127.0.0.1/32"})
		if err != nil {
			return err
		}
		defer usher.Stop()
		b := roomBench{settings: s, site: usher}
		if err := errors.Join(part("memory", func() ([]row, error) { return b.memory(ctx) }),
			part("joins", func() ([]row, error) { return b.joins(ctx) }), part("polls", func() ([]row, error) { return b.polls(ctx) })); err != nil {
			return err
		}
	}
	if err := part("queue", func() ([]row, error) { return measureQueue(ctx) }); err != nil {
		return err
	}
	if err := part("orders", func() ([]row, error) { return measureOrders(ctx, s, folder) }); err != nil {
		return err
	}
	push := pushBench{settings: s, folder: folder}
	if err := part("sockets", func() ([]row, error) { return push.sockets(ctx) }); err != nil {
		return err
	}
	if err := part("crowd", func() ([]row, error) { return push.crowd(ctx) }); err != nil {
		return err
	}
	edge := edgeBench{settings: s, root: root, folder: folder, program: program}
	if err := part("proxy", func() ([]row, error) { return edge.proxy(ctx) }); err != nil {
		return err
	}
	if err := part("limits", func() ([]row, error) { return edge.limits(ctx) }); err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s %s/%s, %d CPUs, load on the same machine, medians of %d rounds\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.rounds)
	fmt.Fprintln(w, "measured\tUsher\tbaseline\tratio\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.what, r.usher, r.baseline, r.ratio, r.note)
	}
	return w.Flush()
}

// projectFolder is the folder of go.mod, at or above where bench was started.
func projectFolder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module usher\n") {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("start it inside the project")
		}
		dir = filepath.Dir(dir)
	}
}

// median of a list that is not empty.
func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func spread(list []float64) string {
	return fmt.Sprintf("%.2f to %.2f", slices.Min(list), slices.Max(list))
}
