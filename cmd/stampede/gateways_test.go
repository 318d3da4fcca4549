package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/bench/site"
	"usher/internal/child"
)

// TestTwoGatewaysServeOneRoom rehearses over two gateways and one booking process on one Redis and Postgres: fans change
// the gateway at each reconnect, and every invariant has to hold over both.
func TestTwoGatewaysServeOneRoom(t *testing.T) {
	t.Parallel()
	usher := startSite(t, 2)
	openSale(t, usher, "duo", 1200)
	bases := strings.Join([]string{usher.Gateways[0].URL, usher.Gateways[1].URL}, ",")
	rehearse(t, "--base", bases, "--operator-key", site.OperatorKey, "--room", "duo", "--event", "duo",
		"--fans", "300", "--arrive", "2s", "--seed", "7", "--duration", "2m", "--capacity", "60", "--pace", "1800")
}

// TestADrawIsRecomputed rehearses an opening: a lobby, a draw, and every rank checked against the revealed secret.
func TestADrawIsRecomputed(t *testing.T) {
	t.Parallel()
	usher := startSite(t, 2)
	if err := usher.Operate(t.Context(), http.MethodPut, "rooms/lottery", map[string]any{"title": "Lottery", "beacon": "a public word"}, nil); err != nil {
		t.Fatal(err)
	}
	bases := strings.Join([]string{usher.Gateways[0].URL, usher.Gateways[1].URL}, ",")
	said := rehearse(t, "--base", bases, "--operator-key", site.OperatorKey, "--room", "lottery",
		"--fans", "120", "--arrive", "4s", "--seed", "3", "--duration", "1m", "--draw-in", "12s", "--capacity", "40", "--pace", "1200")
	if !strings.Contains(said, "ranks of a lobby of") {
		t.Errorf("no draw was checked:\n%s", said)
	}
}

// rehearse runs stampede and fails the test, with the whole report, unless all held.
func rehearse(t *testing.T, args ...string) string {
	t.Helper()
	var said, progress bytes.Buffer
	if err := run(t.Context(), args, &said, &progress); err != nil {
		t.Fatalf("%v\n%s\n%s", err, progress.String(), said.String())
	}
	t.Log(said.String())
	return said.String()
}

// built is the program under test, built once; TestMain removes it.
var built = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	return site.Build(ctx, root, buildFolder)
})

var buildFolder string

func TestMain(m *testing.M) {
	if kind := child.Kind(); kind != "" { // a rehearsal's
		if err := children.Serve(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(func() int {
		var err error
		if buildFolder, err = os.MkdirTemp("", "usher-built-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(buildFolder)
		return m.Run()
	}())
}

func startSite(t *testing.T, gateways int) *site.Site {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	usher, err := site.Start(ctx, site.Config{Folder: t.TempDir(), Program: program, Gateways: gateways})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(usher.Stop)
	return usher
}

// openSale puts a venue of so many seats, an event of that name and its room, through the operators' calls.
func openSale(t *testing.T, usher *site.Site, name string, seats int) {
	t.Helper()
	const row = 50
	var rows []map[string]any
	for from := 0; from < seats; from += row {
		var line []map[string]any
		for i := from; i < min(from+row, seats); i++ {
			line = append(line, map[string]any{
				"seat_guid": fmt.Sprintf("s%d", i), "seat_number": fmt.Sprint(i%row + 1), "category": "Stalls",
				"position": map[string]any{"x": 20 * (i % row), "y": 0},
			})
		}
		rows = append(rows, map[string]any{
			"row_number": fmt.Sprint(from/row + 1), "position": map[string]any{"x": 0, "y": 20 * (from / row)}, "seats": line,
		})
	}
	calls := []struct {
		path string
		body map[string]any
	}{
		{"rooms/" + name, map[string]any{"title": name}},
		{"venues/" + name + "/plan", map[string]any{
			"name": "Hall", "size": map[string]any{"width": 1000, "height": 1000},
			"categories": []map[string]any{{"name": "Stalls", "color": "#336699"}},
			"zones":      []map[string]any{{"name": "Floor", "position": map[string]any{"x": 0, "y": 0}, "rows": rows, "areas": []any{}}},
		}},
		{"events/" + name, map[string]any{
			"title": name, "venue": name, "currency": "EUR", "status": "on_sale", "room": name,
			"prices":       []map[string]any{{"category": "Stalls", "amount": 4500}},
			"performances": []map[string]any{{"starts_at": time.Now().Add(30 * 24 * time.Hour).UTC()}},
			"limits":       map[string]any{"max_seats_per_session": 6},
		}},
	}
	for _, c := range calls {
		if err := usher.Operate(t.Context(), http.MethodPut, c.path, c.body, nil); err != nil {
			t.Fatal(err)
		}
	}
}
