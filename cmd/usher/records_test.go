package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
)

// gatewayAlone is a running `usher gateway` in a process of its own.
type gatewayAlone struct {
	base  string
	log   string
	cmd   *exec.Cmd
	ended chan struct{}
}

func startGateway(t *testing.T, redisURL, keys string, args ...string) *gatewayAlone {
	t.Helper()
	address := "127.0.0.1:" + devtest.Port(t)
	g := &gatewayAlone{base: "http://" + address, log: filepath.Join(t.TempDir(), "log"), ended: make(chan struct{})}
	log, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	g.cmd = exec.Command(os.Args[0], append([]string{"gateway", "--listen=" + address, "--admin-listen=127.0.0.1:0", "--redis-url=" + redisURL,
		"--keys-file=" + keys, "--log-format=text"}, args...)...)
	g.cmd.Env = append(os.Environ(), actAs+"=1")
	g.cmd.Stdout, g.cmd.Stderr = log, log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = g.cmd.Wait() // killed, as the test wants it
		close(g.ended)
	}()
	t.Cleanup(g.kill)
	return g
}

func (g *gatewayAlone) kill() {
	_ = g.cmd.Process.Kill() // it may have ended already
	<-g.ended
}

// join brings a visitor in, coming again as long as it is told to.
func (g *gatewayAlone) join(ctx context.Context, number int) (*visitor, string, uint64, error) {
	v := newVisitor(g.base, fmt.Sprintf("127.0.%d.%d", 1+number/200, 1+number%200))
	var place struct {
		Token, Epoch string
		Number       uint64
	}
	err := until(ctx, func() error { return v.call(ctx, http.MethodPost, "/api/v1/rooms/gala/places", nil, &place) })
	v.head.Set("Authorization", "Place "+place.Token)
	return v, place.Epoch, place.Number, err
}

// TestSiteWithoutPostgres: rooms come from --config, one gateway keeps their record. Redis is
// wiped, that gateway is killed, and both at once: nobody's place is lost, and no number is
// given twice, at whichever gateway.
func TestSiteWithoutPostgres(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	url, store := devtest.RedisURL(t), devtest.Redis(t)
	dir := t.TempDir()
	keys, config, records := filepath.Join(dir, "keys.json"), filepath.Join(dir, "usher.yaml"), filepath.Join(dir, "records")
	if err := keyring.Generate(time.Now()).Save(keys); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte("rooms:\n  gala: {pace_per_min: 0, presence_ttl_s: 2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keeper := startGateway(t, url, keys, "--config="+config, "--records-dir="+records)
	other := startGateway(t, url, keys)

	type fan struct {
		*visitor
		number   uint64
		position uint64
	}
	var fans []*fan
	given := map[string]bool{}
	come := func(g *gatewayAlone, n int) {
		t.Helper()
		for range n {
			v, epoch, number, err := g.join(ctx, len(fans))
			if err != nil {
				said, _ := os.ReadFile(g.log)
				t.Fatalf("join: %v\n%s", err, said)
			}
			if id := fmt.Sprint(epoch, number); given[id] {
				t.Fatalf("number %d was given twice", number)
			} else {
				given[id] = true
			}
			fans = append(fans, &fan{visitor: v, number: number})
		}
	}
	look := func(g *gatewayAlone) {
		t.Helper()
		for _, f := range fans {
			f.base = g.base
			var place struct {
				State    string
				Number   uint64
				Position *uint64
			}
			err := until(ctx, func() error {
				if err := f.call(ctx, http.MethodGet, "/api/v1/rooms/gala/place", nil, &place); err != nil {
					return err
				}
				if place.Position == nil {
					return errors.New("no position is shown yet")
				}
				return nil
			})
			if err != nil || place.State != "waiting" || place.Number != f.number || f.position > 0 && *place.Position > f.position {
				t.Fatalf("place %d, position %d before: %+v, %v", f.number, f.position, place, err)
			}
			f.position = *place.Position
		}
	}
	wipe := func() {
		t.Helper()
		if err := store.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	come(keeper, 20)
	come(other, 20)
	look(other)
	wipe()
	come(other, 5)
	come(keeper, 5)
	look(keeper)

	keeper.kill()
	come(other, 5) // below the ceiling
	wipe()
	keeper = startGateway(t, url, keys, "--config="+config, "--records-dir="+records)
	come(keeper, 5)
	come(other, 5)
	look(other)
	look(keeper)

	// A second keeper of the folder does not start.
	second := startGateway(t, url, keys, "--config="+config, "--records-dir="+records)
	select {
	case <-second.ended:
	case <-ctx.Done():
		t.Error("two gateways keep one record")
	}
	raw, err := os.ReadFile(filepath.Join(records, "rooms", "gala", "room.json"))
	var room struct{ Epoch string }
	if err == nil {
		err = json.Unmarshal(raw, &room)
	}
	for id := range given {
		if err != nil || room.Epoch == "" || !strings.HasPrefix(id, room.Epoch) {
			t.Fatalf("a place of %s, the record is of epoch %s: %v", id, room.Epoch, err)
		}
	}
}
