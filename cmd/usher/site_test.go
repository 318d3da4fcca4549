package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

const testKey = "usher_test_key"

// site is a running `usher dev` in a process of its own.
type site struct {
	endpoints
	process  *os.Process
	ended    chan struct{}
	children []int // pidfds of its private servers
}

// startSite starts `usher dev` on dir and waits until it is ready.
func startSite(t *testing.T, dir string) *site {
	t.Helper()
	announced := filepath.Join(dir, "endpoints.json")
	if err := os.Remove(announced); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "dev", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir="+dir, "--log-level=warn")
	cmd.Env = append(os.Environ(), actAs+"=1", "USHER_OPERATOR_KEY="+testKey)
	log, err := os.OpenFile(logOf(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &site{process: cmd.Process, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // killed, as the test wants it
		close(s.ended)
	}()
	t.Cleanup(s.kill)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	err = until(ctx, func() error {
		select {
		case <-s.ended:
			cancel()
		default:
		}
		raw, err := os.ReadFile(announced)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &s.endpoints)
	})
	if err != nil {
		t.Fatalf("usher dev does not get ready: %v\n%s", err, said(t, dir))
	}
	return s
}

// said is what the sites on dir have printed so far.
func said(t *testing.T, dir string) []byte {
	t.Helper()
	text, err := os.ReadFile(logOf(dir))
	if err != nil {
		t.Error(err)
	}
	return text
}

func logOf(dir string) string { return filepath.Join(filepath.Dir(dir), "usher.log") }

func (s *site) kill() {
	_ = s.process.Kill() // it may have ended already
	<-s.ended
}

// follow takes handles on the private servers, to see later that they have ended.
func (s *site) follow(t *testing.T, dir string) {
	t.Helper()
	for _, pid := range []int{postmaster(t, dir), redisProcess(t, s.RedisURL)} {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		s.children = append(s.children, fd)
	}
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone waits for the private servers' end.
func (s *site) gone(t *testing.T) {
	t.Helper()
	for _, fd := range s.children {
		eventually(t, "a private server follows its parent", func() bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n == 1
		})
	}
}

// visitor is one HTTP client with an address of its own.
type visitor struct {
	client *http.Client
	base   string
	head   http.Header
}

func newVisitor(base, address string) *visitor {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: time.Minute}
	return &visitor{
		client: &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}, Timeout: 2 * time.Minute},
		base:   base, head: http.Header{},
	}
}

func (v *visitor) close() { v.client.CloseIdleConnections() }

// refused is an answer that is not a success.
type refused struct {
	status int
	Code   string `json:"code"`
	after  time.Duration
	body   string
}

func (e *refused) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.Code, e.body) }

// call sends body as JSON and reads the answer into out, which may be nil.
func (v *visitor) call(ctx context.Context, method, path string, body, out any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, v.base+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header = v.head.Clone()
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		e := &refused{status: resp.StatusCode, body: string(answer)}
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // absent is zero
		e.after = time.Duration(seconds) * time.Second
		_ = json.Unmarshal(answer, e) // a body that is no problem document shows in the error
		return e
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

func query[T any](t *testing.T, db *pgx.Conn, sql string, args ...any) []T {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}
