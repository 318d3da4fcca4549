package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/internal/deadline"
)

// RedisSet is several redis-servers that stand in for each other: a primary and its
// replicas under the watch of sentinels, or a cluster. It forgets everything when it
// ends and has no passwords: it is for tests and benchmarks.
type RedisSet struct {
	URL     string   // redis+sentinel://… or redis+cluster://…
	Members []*Redis // of the data, not the sentinels

	folders   []*Folder
	sentinels []*Redis
}

const (
	// primaryName is what the sentinels call the primary.
	primaryName = "usher"
	// hasty is after how long a silent member is taken for dead while a set starts, and
	// calm later on: a machine that stands still for seconds is no failure.
	hasty, calm = 500 * time.Millisecond, time.Minute
	// sentinelQuorum of three.
	sentinelQuorum = 2
)

// replication makes replicas follow at once; the backlog holds what a test writes.
var replication = []string{"repl-diskless-sync-delay 0", "repl-ping-replica-period 1", "repl-timeout 5"}

// StartSentinel starts a primary, two replicas and three sentinels in dir, and waits
// until all of them know each other.
func StartSentinel(ctx context.Context, dir string) (_ *RedisSet, err error) {
	s := &RedisSet{}
	defer func() {
		if err != nil {
			s.Kill()
		}
	}()
	if err := s.start(ctx, dir, 3, &s.Members, func(int) RedisConfig { return RedisConfig{Directives: replication} }); err != nil {
		return nil, err
	}
	primary := s.Members[0].Config.Port
	for _, r := range s.Members[1:] {
		if err := r.do(ctx, "REPLICAOF", "127.0.0.1", primary); err != nil {
			return nil, fmt.Errorf("follow the primary: %w", err)
		}
	}
	watch := []string{
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d %d", primaryName, primary, sentinelQuorum),
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", primaryName, hasty.Milliseconds()),
		fmt.Sprintf("sentinel failover-timeout %s 3000", primaryName),
	}
	err = s.start(ctx, filepath.Join(dir, "sentinels"), 3, &s.sentinels, func(int) RedisConfig {
		return RedisConfig{Directives: watch, args: []string{"--sentinel"}}
	})
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, r := range s.sentinels {
		addresses = append(addresses, r.address())
		// After standing still for a moment it would only watch for half a minute.
		if err := r.do(ctx, "SENTINEL", "DEBUG", "tilt-period", 1000); err != nil {
			return nil, fmt.Errorf("tell a sentinel to act soon again: %w", err)
		}
		err := until(ctx, func() error {
			primary, err := r.fields(ctx, "SENTINEL", "MASTER", primaryName)
			switch {
			case err != nil:
				return err
			case primary["num-slaves"] != "2" || primary["num-other-sentinels"] != "2" || primary["flags"] != "master":
				return fmt.Errorf("a sentinel knows %s replicas and %s others", primary["num-slaves"], primary["num-other-sentinels"])
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, r := range s.Members[1:] {
		if err := r.linked(ctx); err != nil {
			return nil, err
		}
	}
	s.URL = "redis+sentinel://" + strings.Join(addresses, ",") + "/" + primaryName
	return s, s.FailAfter(ctx, calm)
}

// StartCluster starts three masters and a replica of each in dir, and waits until all of
// them agree on who has which slots.
func StartCluster(ctx context.Context, dir string) (_ *RedisSet, err error) {
	const masters, slots = 3, 16384
	s := &RedisSet{}
	defer func() {
		if err != nil {
			s.Kill()
		}
	}()
	config := func(bus int) RedisConfig {
		return RedisConfig{Directives: append([]string{
			"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-require-full-coverage no",
			fmt.Sprintf("cluster-node-timeout %d", hasty.Milliseconds()), fmt.Sprintf("cluster-port %d", bus),
			"cluster-replica-validity-factor 0", // also a replica that was cut off for long may take over
		}, replication...)}
	}
	if err := s.start(ctx, dir, 2*masters, &s.Members, config); err != nil {
		return nil, err
	}
	ids := make([]string, len(s.Members))
	for i, r := range s.Members {
		if err := r.do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1); err != nil {
			return nil, fmt.Errorf("number the members: %w", err)
		}
		if i < masters {
			if err := r.do(ctx, "CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1); err != nil {
				return nil, fmt.Errorf("give out the slots: %w", err)
			}
		}
		id, err := r.ask(ctx, "CLUSTER", "MYID")
		if err != nil {
			return nil, err
		}
		ids[i], _ = id.(string)
	}
	for _, r := range s.Members[1:] {
		bus := strings.Fields(r.Config.Directives[4])[1]
		if err := s.Members[0].do(ctx, "CLUSTER", "MEET", "127.0.0.1", r.Config.Port, bus); err != nil {
			return nil, fmt.Errorf("make the members meet: %w", err)
		}
	}
	for i, r := range s.Members[masters:] {
		if err := until(ctx, func() error { return r.do(ctx, "CLUSTER", "REPLICATE", ids[i]) }); err != nil {
			return nil, fmt.Errorf("follow a master: %w", err)
		}
	}
	for _, r := range s.Members {
		err := until(ctx, func() error {
			known, err := r.ask(ctx, "CLUSTER", "NODES")
			if err != nil {
				return err
			}
			health, err := r.ask(ctx, "CLUSTER", "INFO")
			if err != nil {
				return err
			}
			text, state := fmt.Sprint(known), fmt.Sprint(health)
			switch {
			case !strings.Contains(state, "cluster_state:ok"):
				return fmt.Errorf("the cluster is not up:\n%s", state)
			case strings.Count(text, " connected") != len(s.Members) || strings.Count(text, "slave ") != masters ||
				strings.Contains(text, "fail") || strings.Contains(text, "handshake"):
				return fmt.Errorf("the cluster is not whole:\n%s", text)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var addresses []string
	for i, r := range s.Members {
		addresses = append(addresses, r.address())
		if i >= masters {
			if err := r.linked(ctx); err != nil {
				return nil, err
			}
		}
	}
	s.URL = "redis+cluster://" + strings.Join(addresses, ",")
	return s, s.FailAfter(ctx, calm)
}

// start starts n servers at once, each in a folder of its own and on a port of its own.
// config gets a second free port.
func (s *RedisSet) start(ctx context.Context, dir string, n int, into *[]*Redis, config func(port int) RedisConfig) error {
	ports, err := FreePorts(2 * n)
	if err != nil {
		return err
	}
	servers := make([]*Redis, n)
	var starting errgroup.Group
	for i := range n {
		folder, err := Lock(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return err
		}
		s.folders = append(s.folders, folder)
		cfg := config(ports[2*i+1])
		cfg.Folder, cfg.TCP, cfg.Open, cfg.Port = folder, true, true, ports[2*i]
		starting.Go(func() (err error) {
			servers[i], err = StartRedis(ctx, cfg)
			return err
		})
	}
	err = starting.Wait()
	for _, r := range servers {
		if r != nil {
			*into = append(*into, r)
		}
	}
	return err
}

// Kill ends all of it without warning.
func (s *RedisSet) Kill() {
	for _, r := range append(s.sentinels, s.Members...) {
		r.Kill()
	}
	for _, f := range s.folders {
		f.Unlock()
	}
}

// FailAfter sets for how long a member may be silent before another takes over: a minute,
// until this is called. Sentinels let no replica take over that was out of step for more
// than ten times as long.
func (s *RedisSet) FailAfter(ctx context.Context, d time.Duration) error {
	for _, r := range s.sentinels {
		if err := r.do(ctx, "SENTINEL", "SET", primaryName, "down-after-milliseconds", d.Milliseconds()); err != nil {
			return fmt.Errorf("tell a sentinel when to act: %w", err)
		}
	}
	if len(s.sentinels) > 0 {
		return nil
	}
	for _, r := range s.Members {
		select {
		case <-r.Done():
			continue // killed
		default:
		}
		if err := r.do(ctx, "CONFIG", "SET", "cluster-node-timeout", d.Milliseconds()); err != nil {
			return fmt.Errorf("tell a member when to act: %w", err)
		}
	}
	return nil
}

// Owner is the member that takes writes of the key: the primary, or the master of the
// key's slot, as the first member that answers believes.
func (s *RedisSet) Owner(ctx context.Context, key string) (*Redis, error) {
	if len(s.sentinels) > 0 {
		at, err := s.sentinels[0].ask(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", primaryName)
		if err != nil {
			return nil, fmt.Errorf("ask who is the primary: %w", err)
		}
		if list, ok := at.([]any); ok && len(list) == 2 {
			return s.at(list[1])
		}
		return nil, fmt.Errorf("a sentinel answers %v", at)
	}
	var faults []error
	for _, r := range s.Members {
		slot, err := r.ask(ctx, "CLUSTER", "KEYSLOT", key)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		ranges, err := r.ask(ctx, "CLUSTER", "SLOTS")
		if err != nil {
			return nil, fmt.Errorf("ask who has which slots: %w", err)
		}
		list, _ := ranges.([]any)
		for _, e := range list {
			entry, _ := e.([]any) // first, last, [address, port, id], replicas…
			if entry[0].(int64) <= slot.(int64) && slot.(int64) <= entry[1].(int64) {
				return s.at(entry[2].([]any)[1])
			}
		}
	}
	return nil, errors.Join(append(faults, fmt.Errorf("nobody has the slot of %s", key))...)
}

func (s *RedisSet) at(port any) (*Redis, error) {
	for _, r := range s.Members {
		if strconv.Itoa(r.Config.Port) == fmt.Sprint(port) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("no member has port %v", port)
}

func (r *Redis) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Config.Port)) }

// linked waits until the replica has its master's data.
func (r *Redis) linked(ctx context.Context) error {
	return until(ctx, func() error {
		info, err := r.ask(ctx, "INFO", "replication")
		if text, _ := info.(string); err == nil && !strings.Contains(text, "master_link_status:up") {
			err = fmt.Errorf("a replica is not in step:\n%s", text)
		}
		return err
	})
}

func (r *Redis) do(ctx context.Context, args ...any) error {
	_, err := r.ask(ctx, args...)
	return err
}

func (r *Redis) ask(ctx context.Context, args ...any) (any, error) {
	client := r.client()
	defer client.Close()
	return client.Do(ctx, args...).Result()
}

func (r *Redis) fields(ctx context.Context, args ...any) (map[string]string, error) {
	client := r.client()
	defer client.Close()
	cmd := redis.NewMapStringStringCmd(ctx, args...)
	_ = client.Process(ctx, cmd) // the same error is in cmd
	return cmd.Result()
}

func (r *Redis) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: r.address(), MaxRetries: -1, DialerRetries: 1, Protocol: 2, ContextTimeoutEnabled: true,
		ReadTimeout: deadline.Of(3 * time.Second), WriteTimeout: deadline.Of(3 * time.Second)})
}

// until asks again and again, until there is no error or ctx ends.
func until(ctx context.Context, right func() error) error {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		err := right()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-retry.C:
		}
	}
}
