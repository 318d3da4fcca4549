package queue

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/devstack/devtest"
	"usher/internal/keyring"
	"usher/internal/redisx"
)

// gatewayEnv makes the test binary a gateway's queue on the Redis that it names, with the
// keys of the file keysEnv; it does what its standard input says.
const gatewayEnv, keysEnv = "QUEUE_TEST_GATEWAY", "QUEUE_TEST_KEYS"

func TestMain(m *testing.M) {
	if url := os.Getenv(gatewayEnv); url != "" {
		if err := runGateway(url, os.Getenv(keysEnv), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runGateway knows three words: "tick MS" at a room time, "join N", "claim TOKEN". It
// answers each with lines, the last of them "done".
func runGateway(url, keys string, in io.Reader, out io.Writer) error {
	ctx := context.Background()
	ring, err := keyring.Load(keys)
	if err != nil {
		return err
	}
	rdb, err := redisx.Open(ctx, url)
	if err != nil {
		return err
	}
	defer rdb.Close()
	var clock atomic.Int64
	h, err := NewHall(Config{Redis: rdb, Ring: ring, Log: quietLog(), clock: clock.Load})
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		word, arg, _ := strings.Cut(lines.Text(), " ")
		l, known := h.Line("r")
		var err error
		switch {
		case word == "tick":
			var at int64
			if _, err = fmt.Sscan(arg, &at); err == nil {
				clock.Store(at)
				if err = h.look(ctx); err == nil && known {
					err = l.tick(ctx)
				}
			}
		case !known:
			err = errors.New("tick first")
		case word == "join":
			var n int
			if _, err = fmt.Sscan(arg, &n); err == nil {
				err = joinAloud(ctx, l, n, out)
			}
		case word == "claim":
			var t Token
			if t, err = OpenToken(ring, arg); err == nil {
				var s Session
				if s, err = l.Claim(ctx, t); err == nil {
					fmt.Fprintln(out, s.ID, s.Expires.UnixMilli())
				}
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
		fmt.Fprintln(out, "done")
	}
	return nil
}

// joinAloud lets n visitors join and tells each token as soon as it is there.
func joinAloud(ctx context.Context, l *Line, n int, out io.Writer) error {
	tokens, failed := make(chan string), make(chan error, n)
	var joining sync.WaitGroup
	for range n {
		joining.Go(func() {
			t, err := l.Join(ctx)
			if err != nil {
				failed <- err
				return
			}
			tokens <- SealToken(l.ring, t)
		})
	}
	go func() {
		joining.Wait()
		close(tokens)
	}()
	for t := range tokens {
		if _, err := fmt.Fprintln(out, t); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// gatewayProcess is a gateway's queue in a process of its own.
type gatewayProcess struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func startGateway(t *testing.T, url string, ring *keyring.Ring) *gatewayProcess {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := ring.Save(keys); err != nil {
		t.Fatal(err)
	}
	g := &gatewayProcess{cmd: exec.Command(os.Args[0])}
	g.cmd.Env = append(os.Environ(), gatewayEnv+"="+url, keysEnv+"="+keys)
	g.cmd.Stderr = os.Stderr
	var err error
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.out = bufio.NewScanner(out)
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.kill)
	return g
}

// kill is kill -9; a second one changes nothing.
func (g *gatewayProcess) kill() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait() // killed, as the test wants it
}

// do says a line and returns the answer; enough ends it early.
func (g *gatewayProcess) do(t *testing.T, enough int, format string, args ...any) (answer []string) {
	t.Helper()
	if _, err := fmt.Fprintf(g.in, format+"\n", args...); err != nil {
		t.Fatal(err)
	}
	for g.out.Scan() {
		if g.out.Text() == "done" {
			return answer
		}
		if answer = append(answer, g.out.Text()); len(answer) == enough {
			return answer
		}
	}
	t.Fatalf("the gateway ended at %q", fmt.Sprintf(format, args...))
	return nil
}

// TestLossOfAGateway: of three, the one in a process of its own is killed with joins under
// way. Its visitors come to the others; whoever it admitted stays inside.
func TestLossOfAGateway(t *testing.T) {
	t.Parallel()
	url := devtest.RedisURL(t)
	d := newDrill(t, func() redis.UniversalClient { return client(t, url) }, drillPatch(), 1000)
	third := startGateway(t, url, d.ring)
	d.halls = d.halls[:2]
	come := func(answer []string) {
		t.Helper()
		d.lock.Lock() // others join meanwhile
		defer d.lock.Unlock()
		for _, text := range answer {
			token, err := OpenToken(d.ring, text)
			if err != nil {
				t.Fatal(err)
			}
			if d.given[token.Number] {
				t.Fatalf("number %d was given twice", token.Number)
			}
			d.given[token.Number] = true
			d.fans = append(d.fans, &fan{token: token})
		}
	}
	third.do(t, 0, "tick %d", d.clock.Load())
	come(third.do(t, 0, "join 500"))
	d.sell(2 * time.Second)
	// It admits some; the others have only heard of it from Redis.
	d.clock.Add(250)
	d.tick()
	d.look(false)
	admitted := 0
	for _, f := range d.fans {
		if f.state != Called || admitted == 20 {
			continue
		}
		var ms int64
		session := &Session{}
		if _, err := fmt.Sscan(third.do(t, 0, "claim %s", SealToken(d.ring, f.token))[0], &session.ID, &ms); err != nil {
			t.Fatal(err)
		}
		session.Expires = time.UnixMilli(ms).UTC()
		f.session, f.state = session, Admitted
		d.shop = append(d.shop, f)
		admitted++
	}
	if admitted == 0 {
		t.Fatal("nobody was called")
	}
	d.cut(func() {
		come(third.do(t, 300, "join 2000"))
		third.kill()
	})
	d.cuts-- // nothing that was said is lost
	d.finish("one of three gateways killed")
}
