package devtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"usher/internal/deadline"
	"usher/internal/devstack"
	"usher/internal/postgres"
)

// startTime is how long a server may take to start, or to answer, on a machine that is
// busy with other tests.
const startTime = time.Minute

// A test whose machine stands still for seconds has found nothing.
func init() { deadline.SetFloor(startTime) }

var redisURLs sync.Map // testing.TB → URL; the test's cleanup removes it

// RedisURL starts a redis-server for this test alone and returns its unix://
// URL; asked again by the same test, the same one.
func RedisURL(t testing.TB) string {
	t.Helper()
	if u, ok := redisURLs.Load(t); ok {
		return u.(string)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	folder, err := devstack.Lock(scratch(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(folder.Unlock)
	server, err := devstack.StartRedis(ctx, devstack.RedisConfig{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	redisURLs.Store(t, server.URL)
	t.Cleanup(func() {
		redisURLs.Delete(t)
		server.Kill()
	})
	return server.URL
}

// Redis is a client of the test's own redis-server.
func Redis(t testing.TB) redis.UniversalClient {
	t.Helper()
	opts, err := redis.ParseURL(RedisURL(t))
	if err != nil {
		t.Fatal(err)
	}
	opts.ContextTimeoutEnabled = true
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = startTime, startTime, startTime
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

// Postgres makes a migrated database for this test alone and returns a pool on
// it and its URL. It is dropped when the test ends.
func Postgres(t testing.TB) (*pgxpool.Pool, string) {
	t.Helper()
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	name := fmt.Sprintf("test_%d", databases.Add(1))
	if err := server.admin(ctx, `CREATE DATABASE `+name+` TEMPLATE `+devstack.Database); err != nil {
		t.Fatalf("create the test's database: %v", err)
	}
	t.Cleanup(func() {
		if err := server.admin(ctx, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	address := server.database(name)
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 8 // many tests share the server's connections
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, address
}

var databases atomic.Int64

// sharedPostgres is the test process' one postgres; its database "usher" is
// the migrated template.
type sharedPostgres struct {
	server *devstack.Server
	life   *os.File // closed by the kernel when this process ends
	url    url.URL
	lock   sync.Mutex // held while a database is made or dropped: copies of one template exclude each other
}

var shared = sync.OnceValues(func() (*sharedPostgres, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "usher-test-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	folder, err := devstack.Lock(dir)
	if err != nil {
		return nil, err
	}
	life, err := removeAfterDeath(dir)
	if err != nil {
		return nil, err
	}
	server, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{Folder: folder, MaxConnections: 400})
	if err != nil {
		return nil, err
	}
	if err := postgres.Migrate(ctx, server.URL); err != nil {
		return nil, fmt.Errorf("migrate the template database: %w", err)
	}
	address, err := url.Parse(server.URL)
	if err != nil {
		return nil, err
	}
	return &sharedPostgres{server: server, life: life, url: *address}, nil
})

func (s *sharedPostgres) database(name string) string {
	u := s.url
	u.Path = "/" + name
	return u.String()
}

func (s *sharedPostgres) admin(ctx context.Context, statement string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.database("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// removeAfterDeath leaves a shell behind that waits for this process' end (the
// pipe that it returns closes) and for the servers' (the kernel tells them to end),
// then removes dir. A test process has no last moment of its own to do it in.
func removeAfterDeath(dir string) (life *os.File, err error) {
	wait, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer wait.Close()
	cmd := exec.Command("/bin/sh", "-c", `cat
for pidfile in "$1"/postgres/postmaster.pid; do
	read -r pid < "$pidfile" && while kill -0 "$pid"; do sleep 0.1; done
done
rm -rf "$1"`, "sh", dir)
	cmd.Stdin = wait
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C meant for the test must not end it
	if err := cmd.Start(); err != nil {
		life.Close()
		return nil, fmt.Errorf("start the shell that removes %s: %w", dir, err)
	}
	return life, nil
}

// Port is a loopback port that nobody has, for a server that cannot choose one itself.
func Port(t testing.TB) string {
	t.Helper()
	ports, err := devstack.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(ports[0])
}

// scratch is a folder for the test, short enough in name for a socket in it.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
