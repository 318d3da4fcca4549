package devstack

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// RedisConfig says how a private redis-server runs.
type RedisConfig struct {
	Folder *Folder
	// Durable keeps an append-only file in the folder, synced each second.
	// Otherwise the server forgets everything when it ends.
	Durable bool
	// TCP also opens a loopback port, guarded by a password; see [Redis.TCPURL].
	// Otherwise there is the unix socket alone.
	TCP bool
	// Port and Password of TCP; default a free one and a random one.
	Port     int
	Password string
	// Open leaves the password out: for a replica set or cluster, whose members
	// would all need it. Any user of this machine can come in.
	Open bool
	// Directives are further lines of redis.conf.
	Directives []string

	args []string // after the configuration file
}

// Redis is a running redis-server.
type Redis struct {
	*Server
	TCPURL string      // redis://…, empty without RedisConfig.TCP
	Config RedisConfig // what it was started with, chosen values filled in
}

const redisSocket = "redis.sock"

// StartRedis starts a redis-server in the folder's "redis" and waits until it
// answers, at most until ctx ends.
func StartRedis(ctx context.Context, cfg RedisConfig) (*Redis, error) {
	bin, err := program("redis-server", "redis-server", "valkey-server")
	if err != nil {
		return nil, err
	}
	lock, err := cfg.Folder.lineage(ctx, "redis")
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	dir := filepath.Join(cfg.Folder.Path, "redis")
	if err := own(dir); err != nil {
		return nil, fmt.Errorf("make redis' folder: %w", err)
	}
	short, undo, err := shortPath(dir, redisSocket)
	if err != nil {
		return nil, err
	}
	lines := []string{
		"dir " + quoteRedis(within(dir)),
		"unixsocket " + redisSocket,
		"unixsocketperm 700",
		"daemonize no",
		`save ""`,
		"maxmemory-policy noeviction",
		"appendonly " + yes(cfg.Durable),
		"appendfsync everysec",
		"port 0",
	}
	socket := url.URL{Scheme: "unix", Path: filepath.Join(short, redisSocket)}
	r := &Redis{}
	if cfg.TCP {
		if cfg.Port == 0 {
			ports, err := FreePorts(1)
			if err != nil {
				return nil, err
			}
			cfg.Port = ports[0]
		}
		if cfg.Password == "" && !cfg.Open {
			cfg.Password = rand.Text()
		}
		lines = append(lines, fmt.Sprintf("port %d", cfg.Port), "bind 127.0.0.1", "requirepass "+quoteRedis(cfg.Password))
		r.TCPURL = fmt.Sprintf("redis://127.0.0.1:%d/0", cfg.Port)
		if !cfg.Open {
			// The user is named because redis-cli sends an empty name as one.
			r.TCPURL = fmt.Sprintf("redis://default:%s@127.0.0.1:%d/0", url.QueryEscape(cfg.Password), cfg.Port)
			socket.User = url.UserPassword("", cfg.Password)
		}
	}
	r.Config = cfg
	lines = append(lines, cfg.Directives...)
	conf := filepath.Join(dir, "redis.conf")
	if err := writeOwned(conf, strings.Join(lines, "\n")+"\n"); err != nil {
		return nil, fmt.Errorf("write redis.conf: %w", err)
	}

	c := child{
		name: "redis", folder: cfg.Folder, dir: dir, lock: lock,
		args:   append([]string{filepath.Join(within(dir), "redis.conf")}, cfg.args...),
		polite: syscall.SIGTERM, death: syscall.SIGTERM,
	}
	r.Server, err = c.start(ctx, bin)
	if err != nil {
		undo()
		return nil, err
	}
	r.URL, r.undo = socket.String(), undo
	opts, err := redis.ParseURL(r.URL)
	if err != nil {
		r.Kill()
		return nil, fmt.Errorf("read redis' own URL: %w", err)
	}
	opts.ContextTimeoutEnabled, opts.MaxRetries = true, -1
	client := redis.NewClient(opts)
	defer client.Close()
	err = r.ready(ctx, func(ctx context.Context) error {
		conn, err := net.Dial("unix", socket.Path) // go-redis would log each try
		if err != nil {
			return err
		}
		conn.Close()
		return client.Ping(ctx).Err()
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func quoteRedis(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// writeOwned writes a file that the server alone, and root, can read.
func writeOwned(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if !dropsRoot() {
		return nil
	}
	who, err := servant()
	if err != nil {
		return err
	}
	return os.Chown(path, int(who.uid), int(who.gid))
}
