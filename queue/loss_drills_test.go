package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/internal/devstack"
	"usher/internal/devstack/devtest"
)

// server is a redis-server that a drill can kill and start again on the same folder.
type server struct {
	t      *testing.T
	folder *devstack.Folder
	cfg    devstack.RedisConfig
	*devstack.Redis
}

func newServer(t *testing.T, cfg devstack.RedisConfig) *server {
	t.Helper()
	folder, err := devstack.Lock(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Folder = folder
	s := &server{t: t, folder: folder, cfg: cfg}
	s.start()
	t.Cleanup(func() {
		s.Kill()
		folder.Unlock()
	})
	return s
}

func (s *server) start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	r, err := devstack.StartRedis(ctx, s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Redis = r
	s.cfg = r.Config // the same port and password the next time
}

func TestLossOfEverything(t *testing.T) {
	t.Parallel()
	url := devtest.RedisURL(t)
	d := newDrill(t, func() redis.UniversalClient { return client(t, url) }, drillPatch(), 2000)
	d.sell(4 * time.Second)
	away := d.cut(func() {
		if err := d.rdb.FlushAll(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
	})
	d.finish(fmt.Sprintf("FLUSHALL, restored in %s", away.Round(time.Millisecond)))
}

func TestLossByRestartWithoutPersistence(t *testing.T) {
	t.Parallel()
	s := newServer(t, devstack.RedisConfig{})
	d := newDrill(t, func() redis.UniversalClient { return client(t, s.URL) }, drillPatch(), 2000)
	d.sell(4 * time.Second)
	away := d.cut(func() {
		s.Kill()
		s.start()
	})
	d.finish(fmt.Sprintf("kill -9 without persistence, restored in %s", away.Round(time.Millisecond)))
}

// TestLossOfTheNewestWrites: Redis is killed and comes back from an older state of its
// append-only file, as after a power cut, and no gateway lives that remembers.
func TestLossOfTheNewestWrites(t *testing.T) {
	t.Parallel()
	s := newServer(t, devstack.RedisConfig{Durable: true, Directives: []string{"appendfsync always"}})
	d := newDrill(t, func() redis.UniversalClient { return client(t, s.URL) }, drillPatch(), 1000)
	d.sell(4 * time.Second)
	kept := filepath.Join(t.TempDir(), "kept")
	aof := filepath.Join(s.folder.Path, "redis", "appendonlydir")
	if err := os.CopyFS(kept, os.DirFS(aof)); err != nil {
		t.Fatal(err)
	}
	d.join(500)
	d.tick()
	d.look(false)
	away := d.cut(func() {
		s.Kill()
		for _, entry := range must(os.ReadDir(kept)) {
			if err := os.WriteFile(filepath.Join(aof, entry.Name()), must(os.ReadFile(filepath.Join(kept, entry.Name()))), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s.start()
		for i := range d.halls {
			fresh := d.gateway()
			d.halls = d.halls[:len(d.halls)-1]
			fresh.cfg.Redis = client(t, s.URL)
			d.halls[i] = fresh
		}
	})
	d.finish(fmt.Sprintf("kill -9 with the newest writes and all gateways gone, back in %s", away.Round(time.Millisecond)))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// replicated starts a set of servers that ends with the test.
func replicated(t *testing.T, start func(context.Context, string) (*devstack.RedisSet, error)) *devstack.RedisSet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	set, err := start(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Kill)
	return set
}

// TestLossOfThePrimary: sentinels promote a replica that has not got the newest writes.
func TestLossOfThePrimary(t *testing.T) {
	t.Parallel()
	failover(t, replicated(t, devstack.StartSentinel), "the primary of a sentinel set")
}

// TestLossOfAClusterNode: the master of the room's slot is killed, and its replica has
// not got the newest writes.
func TestLossOfAClusterNode(t *testing.T) {
	t.Parallel()
	failover(t, replicated(t, devstack.StartCluster), "a master of a cluster")
}

func failover(t *testing.T, set *devstack.RedisSet, what string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	primary, err := set.Owner(ctx, keyOf("r", "state"))
	if err != nil {
		t.Fatal(err)
	}
	d := newDrill(t, func() redis.UniversalClient { return client(t, set.URL) }, drillPatch(), 2000)
	d.sell(4 * time.Second)
	// From here on no replica learns of anything: they come back with a wrong password.
	each := func(args ...any) {
		for _, m := range set.Members {
			if m == primary {
				continue
			}
			c := client(t, m.URL)
			if err := c.Do(ctx, args...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	each("CONFIG", "SET", "masterauth", "wrong")
	if err := client(t, primary.URL).Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	before := d.line(0).View()
	d.join(300)
	d.sell(time.Second)
	if v := d.line(0).View(); v.next == before.next || v.frontier == before.frontier {
		t.Fatal("nothing was written that could be lost")
	}
	away := d.cut(func() {
		// Longer than the replicas are cut off already, divided by ten.
		if err := set.FailAfter(ctx, 3*time.Second); err != nil {
			t.Fatal(err)
		}
		primary.Kill()
		each("CONFIG", "SET", "masterauth", "")
	})
	if err := set.FailAfter(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	d.finish(fmt.Sprintf("%s killed with its newest writes, others took over in %s", what, away.Round(time.Millisecond)))
}

// wire is a TCP proxy that a drill can cut: it then refuses whoever comes, or keeps
// everybody waiting.
type wire struct {
	to       string
	listener net.Listener
	lock     sync.Mutex // guards the rest
	passing  *sync.Cond
	hanging  bool
	refusing bool
	conns    map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{to: to, listener: l, conns: map[net.Conn]bool{}}
	w.passing = sync.NewCond(&w.lock)
	var running errgroup.Group
	running.Go(func() error { return w.accept(&running) })
	t.Cleanup(func() {
		l.Close()
		w.set(false, true)
		if err := running.Wait(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *wire) accept(running *errgroup.Group) error {
	for {
		in, err := w.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := net.Dial("tcp", w.to)
		if err != nil {
			in.Close()
			continue
		}
		w.lock.Lock()
		refuse := w.refusing
		if !refuse {
			w.conns[in], w.conns[out] = true, true
		}
		w.lock.Unlock()
		if refuse {
			in.Close()
			out.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			running.Go(func() error {
				_, _ = io.Copy(pair[0], gate{pair[1], w}) // ends when either side is closed
				w.lock.Lock()
				defer w.lock.Unlock()
				for _, c := range pair {
					c.Close()
					delete(w.conns, c)
				}
				return nil
			})
		}
	}
}

// gate lets nothing through while the wire hangs.
type gate struct {
	net.Conn
	wire *wire
}

func (g gate) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.wire.lock.Lock()
	defer g.wire.lock.Unlock()
	for g.wire.hanging {
		g.wire.passing.Wait()
	}
	return n, err
}

func (w *wire) set(hanging, refusing bool) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.hanging, w.refusing = hanging, refusing
	if refusing {
		for c := range w.conns {
			c.Close()
		}
	}
	w.passing.Broadcast()
}

// TestLossOfTheNetwork: all gateways are cut off for 30 seconds, by a wire that first says
// nothing and then refuses.
func TestLossOfTheNetwork(t *testing.T) {
	t.Parallel()
	s := newServer(t, devstack.RedisConfig{TCP: true})
	w := newWire(t, fmt.Sprintf("127.0.0.1:%d", s.Config.Port))
	url := strings.Replace(s.TCPURL, fmt.Sprint(s.Config.Port), fmt.Sprint(w.listener.Addr().(*net.TCPAddr).Port), 1)
	url += "?read_timeout=10s&max_retries=-1" // of a wire that hangs
	d := newDrill(t, func() redis.UniversalClient { return client(t, url) }, drillPatch(), 2000)
	d.sell(4 * time.Second)
	d.cut(func() {
		w.set(true, false)
		var ticks errgroup.Group
		for _, l := range d.lines() {
			ticks.Go(func() error {
				if l.tick(context.Background()) == nil {
					return errors.New("a tick succeeds through a wire that hangs")
				}
				return nil
			})
		}
		if err := ticks.Wait(); err != nil {
			t.Error(err)
		}
		d.clock.Add(15_000)
		w.set(false, true)
		for _, l := range d.lines() {
			if l.tick(context.Background()) == nil {
				t.Error("a tick succeeds through a wire that refuses")
			}
			p, _, err := l.Place(context.Background(), d.fans[len(d.fans)-1].token)
			if err != nil || p.Phase != Paused || p.State != Waiting || p.Position == nil {
				t.Errorf("while Redis is away a place is shown as %+v (%v)", p, err)
			}
		}
		d.clock.Add(15_000)
		w.set(false, false)
	})
	d.finish("30 s of network cut")
}

// TestJoinsWaitForReplicas: with fewer replicas than are asked for nobody gets a place,
// and the numbers are burnt.
func TestJoinsWaitForReplicas(t *testing.T) {
	t.Parallel()
	set := replicated(t, devstack.StartSentinel)
	d := newDrill(t, func() redis.UniversalClient { return client(t, set.URL) }, drillPatch(), 0)
	ctx := context.Background()
	for _, l := range d.lines() {
		l.replicas = 2
	}
	first := d.stage.join(0, 1)[0]
	set.Members[2].Kill()
	unavailable := &Unavailable{}
	if _, err := d.line(0).Join(ctx); !errors.As(err, &unavailable) || unavailable.RetryAfter <= 0 {
		t.Fatalf("one replica of two has the number, and joining gives %v", err)
	}
	for _, l := range d.lines() {
		l.replicas = 1
	}
	if second := d.stage.join(0, 1)[0]; second.Number != first.Number+2 {
		t.Errorf("after number %d and a burnt one comes %d", first.Number, second.Number)
	}
}
