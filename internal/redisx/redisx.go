package redisx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/telemetry"
)

// Open connects to the Redis that rawURL names and checks that it answers and
// never evicts. The caller closes the client.
func Open(ctx context.Context, rawURL string) (redis.UniversalClient, error) {
	takeChatter()
	rdb, err := client(rawURL)
	if err != nil {
		return nil, err
	}
	rdb.AddHook(counter{})
	if err := refuseEviction(ctx, rdb); err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return rdb, nil
}

// clusterLook is how old the knowledge of who has which slots may be: a master that is
// killed answers with no redirection, so only looking tells who took over.
const clusterLook = time.Second

func client(rawURL string) (redis.UniversalClient, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return nil, errors.New("redis URL has no scheme")
	}
	switch scheme {
	case "redis", "rediss", "unix":
		o, err := redis.ParseURL(rawURL)
		if err != nil {
			return nil, invalid(err)
		}
		o.ContextTimeoutEnabled = true
		patient(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		return redis.NewClient(o), nil
	case "redis+sentinel":
		u, err := spread(rest)
		if err != nil {
			return nil, err
		}
		q := u.Query()
		q.Set("master_name", strings.Trim(u.Path, "/"))
		u.RawQuery, u.Path = q.Encode(), ""
		o, err := redis.ParseFailoverURL(u.String())
		if err != nil {
			return nil, invalid(err)
		}
		o.ContextTimeoutEnabled = true
		patient(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		return redis.NewFailoverClient(o), nil
	case "redis+cluster":
		u, err := spread(rest)
		if err != nil {
			return nil, err
		}
		o, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return nil, invalid(err)
		}
		o.ContextTimeoutEnabled = true
		o.ClusterStateReloadInterval = clusterLook
		patient(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		return redis.NewClusterClient(o), nil
	}
	return nil, fmt.Errorf("redis URL scheme %q is none of redis, rediss, unix, redis+sentinel, redis+cluster", scheme)
}

// patient sets the bounds of a connection that its URL does not.
func patient(dial, read, write *time.Duration) {
	*dial = cmp.Or(*dial, deadline.Of(5*time.Second))
	*read = cmp.Or(*read, deadline.Of(3*time.Second))
	*write = cmp.Or(*write, deadline.Of(3*time.Second))
}

// spread turns "user:pw@a:1,b:2/path?q" into go-redis' form, with every address
// but the first as a query parameter.
func spread(rest string) (*url.URL, error) {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user := ""
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, authority = authority[:i+1], authority[i+1:]
	}
	hosts := strings.Split(authority, ",")
	u, err := url.Parse("redis://" + user + hosts[0] + tail)
	if err != nil {
		return nil, invalid(err)
	}
	q := u.Query()
	for _, h := range hosts[1:] {
		q.Add("addr", h)
	}
	u.RawQuery = q.Encode()
	return u, nil
}

// invalid drops the URL from a parser's error: it may hold a password.
func invalid(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("redis URL: %w", err)
}

func refuseEviction(ctx context.Context, rdb redis.UniversalClient) error {
	ctx, cancel := deadline.In(ctx, 5*time.Second)
	defer cancel()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis does not answer: %w", err)
	}
	check := func(ctx context.Context, node redis.Cmdable) error {
		info, err := node.Info(ctx, "memory").Result()
		if err != nil {
			return fmt.Errorf("ask redis for its memory policy: %w", err)
		}
		for line := range strings.Lines(info) {
			policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:")
			if ok && policy != "noeviction" {
				return fmt.Errorf("redis may evict keys (maxmemory-policy %s), so it could forget who waits: set maxmemory-policy noeviction", policy)
			}
		}
		return nil
	}
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return check(ctx, node) })
	}
	return check(ctx, rdb)
}

// counter counts commands into usher_redis_commands_total.
type counter struct{}

func (counter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		telemetry.RedisCommands.Inc()
		return next(ctx, cmd)
	}
}

func (counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		telemetry.RedisCommands.Add(float64(len(cmds)))
		return next(ctx, cmds)
	}
}
