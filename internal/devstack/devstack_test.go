package devstack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"
)

// ownerEnv makes the test binary an owner of the folder that it names.
const ownerEnv = "DEVSTACK_TEST_OWNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerEnv); dir != "" {
		if err := runOwner(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runOwner starts both servers, says so with their process ids, and lives until its
// standard input ends.
func runOwner(dir string) error {
	redis, db, err := startBoth(dir)
	if err != nil {
		return err
	}
	fmt.Println("up", redis.PID(), db.PID())
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	return err
}

func startBoth(dir string) (*Redis, *Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	folder, err := Lock(dir)
	if err != nil {
		return nil, nil, err
	}
	r, err := StartRedis(ctx, RedisConfig{Folder: folder, Durable: true, TCP: true})
	if err != nil {
		return nil, nil, err
	}
	db, err := StartPostgres(ctx, PostgresConfig{Folder: folder, Durable: true})
	return r, db, err
}

func TestServersDieWithAKilledOwnerAndStartAgainAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep-", 20)) // past the length of a socket address

	owner := exec.CommandContext(ctx, os.Args[0])
	owner.Env = append(os.Environ(), ownerEnv+"="+dir)
	owner.Stderr = os.Stderr
	in, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var redisPID, postgresPID int
	if _, err := fmt.Fscanf(out, "up %d %d\n", &redisPID, &postgresPID); err != nil {
		t.Fatal(err)
	}
	children := []int{pidfd(t, redisPID), pidfd(t, postgresPID)}

	if _, err := Lock(dir); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint(owner.Process.Pid)) {
		t.Errorf("a second owner got %v; want ErrInUse with the first one's process", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	owner.Wait()

	// A stranger has the number of the dead postmaster.
	pidfile := filepath.Join(dir, "postgres", "postmaster.pid")
	r, db, err := startBoth(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range children {
		if !ended(t, child, 0) {
			t.Error("a server of the killed owner still runs beside the new one")
		}
	}
	if err := reach(ctx, r.URL, db.URL); err != nil {
		t.Error(err)
	}
	if err := reach(ctx, r.TCPURL, db.URL); err != nil {
		t.Error(err)
	}

	db.Kill() // its backends end a moment later
	line := fmt.Sprintf("%d\n%s\n", os.Getpid(), filepath.Dir(pidfile))
	if err := os.WriteFile(pidfile, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err = StartPostgres(ctx, PostgresConfig{Folder: r.folder, Durable: true})
	if err != nil {
		t.Fatalf("after a crash that left the number of a living stranger: %v", err)
	}

	r.Stop(ctx)
	db.Stop(ctx)
	r.folder.Unlock()
	again, err := Lock(dir)
	if err != nil {
		t.Fatalf("after an orderly stop: %v", err)
	}
	again.Unlock()
	if links, _ := filepath.Glob(filepath.Join(os.TempDir(), "usher-*")); len(links) > 0 {
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.HasPrefix(to, dir) {
				t.Errorf("%s was left behind", link)
			}
		}
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	folder, err := Lock(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Unlock()
	_, err = StartRedis(ctx, RedisConfig{Folder: folder, Directives: []string{"no-such-directive 1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-directive") {
		t.Errorf("StartRedis = %v; want redis' own words", err)
	}
	if _, err := program("no-such-package", "no-such-program"); !errors.Is(err, ErrMissing) {
		t.Errorf("program = %v; want ErrMissing", err)
	}
}

// pidfd is a handle on a process that is not our child; it becomes readable when
// the process ends.
func pidfd(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func ended(t *testing.T, pidfd int, wait time.Duration) bool {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(wait.Milliseconds()))
	if err != nil && !errors.Is(err, syscall.EINTR) {
		t.Fatal(err)
	}
	return n == 1
}

func reach(ctx context.Context, redisURL, databaseURL string) error {
	opts, err := redis.ParseURL(redisURL)
	if err != nil {
		return err
	}
	client := redis.NewClient(opts)
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis at %s: %w", redisURL, err)
	}
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("postgres at %s: %w", databaseURL, err)
	}
	return conn.Close(ctx)
}
