package site

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/internal/devstack"
	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/postgres"
	"usher/internal/redisx"
)

// Config says what site to run.
type Config struct {
	// Folder for all state and logs; it must exist, its path is short (unix sockets end at 107 bytes).
	Folder string
	// Program is a built usher. See Build.
	Program string
	// Gateways is how many; at least 1.
	Gateways int
	// Durable has Redis and Postgres sync to the disk, as in production.
	Durable bool
	// RedisOverTCP has the processes reach Redis over TCP, as on a machine of its own, and not by its unix socket.
	RedisOverTCP bool
	// TrustedProxies is the CIDR list whose X-Forwarded-For the gateways believe; empty: none.
	TrustedProxies string
	// Settings are the text of the gateways' --config file; empty: none.
	Settings string
}

// OperatorKey is an API key that the site takes, role admin.
const OperatorKey = "usher_site_rehearsal"

// A Site is running.
type Site struct {
	Gateways    []*Process
	Booking     *Process
	Redis       redis.UniversalClient
	RedisURL    string
	DatabaseURL string
	Ring        *keyring.Ring

	folder   *devstack.Folder
	redis    *devstack.Redis
	database *devstack.Server
}

// Start runs a site; everything that it started is stopped when it fails.
func Start(ctx context.Context, cfg Config) (s *Site, err error) {
	s = &Site{}
	defer func() {
		if err != nil {
			s.Stop()
			s = nil
		}
	}()
	if s.folder, err = devstack.Lock(cfg.Folder); err != nil {
		return s, err
	}
	if s.redis, err = devstack.StartRedis(ctx, devstack.RedisConfig{Folder: s.folder, Durable: cfg.Durable, TCP: cfg.RedisOverTCP, Open: true}); err != nil {
		return s, err
	}
	if s.database, err = devstack.StartPostgres(ctx, devstack.PostgresConfig{Folder: s.folder, Durable: cfg.Durable}); err != nil {
		return s, err
	}
	s.RedisURL, s.DatabaseURL = cmp.Or(s.redis.TCPURL, s.redis.URL), s.database.URL
	if err := postgres.Migrate(ctx, s.DatabaseURL); err != nil {
		return s, fmt.Errorf("migrate: %w", err)
	}
	if s.Redis, err = redisx.Open(ctx, s.RedisURL); err != nil {
		return s, err
	}
	if err := operator.AddKey(ctx, s.Redis, OperatorKey, operator.Principal{ID: "site", Name: "site", Role: operator.Admin}); err != nil {
		return s, err
	}
	keys := filepath.Join(cfg.Folder, "keys.json")
	s.Ring = keyring.Generate(time.Now())
	if err := s.Ring.Save(keys); err != nil {
		return s, err
	}
	stores := []string{"--redis-url", s.RedisURL, "--keys-file", keys, "--log-level", "warn"}
	mail := filepath.Join(cfg.Folder, "mail")
	if err := os.Mkdir(mail, 0o700); err != nil {
		return s, err
	}
	core := append([]string{"booking", "--database-url", s.DatabaseURL, "--sandbox", "--mail-dir", mail}, stores...)
	s.Booking, err = start(ctx, cfg.Program, cfg.Folder, "booking", core...)
	if err != nil {
		return s, err
	}
	edge := append([]string{"gateway", "--booking-url", s.Booking.URL}, stores...)
	if cfg.TrustedProxies != "" {
		edge = append(edge, "--trusted-proxies", cfg.TrustedProxies)
	}
	if cfg.Settings != "" {
		file := filepath.Join(cfg.Folder, "settings.yaml")
		if err := os.WriteFile(file, []byte(cfg.Settings), 0o600); err != nil {
			return s, err
		}
		edge = append(edge, "--config", file)
	}
	for i := range max(1, cfg.Gateways) {
		g, err := start(ctx, cfg.Program, cfg.Folder, fmt.Sprintf("gateway-%d", i+1), edge...)
		if err != nil {
			return s, err
		}
		s.Gateways = append(s.Gateways, g)
	}
	return s, nil
}

// Stop ends everything that the site started, edge first.
func (s *Site) Stop() {
	for _, g := range s.Gateways {
		g.Stop()
	}
	if s.Booking != nil {
		s.Booking.Stop()
	}
	if s.Redis != nil {
		s.Redis.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s.database != nil {
		s.database.Stop(ctx)
	}
	if s.redis != nil {
		s.redis.Stop(ctx)
	}
	if s.folder != nil {
		s.folder.Unlock()
	}
}

// Operate makes one operator's call at the first gateway and decodes a 2xx answer into out (nil: not read).
func (s *Site) Operate(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, s.Gateways[0].URL+"/api/v1/operate/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+OperatorKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, said)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(said, out)
}

// Build builds usher and returns the program's path; root is the project's folder.
func Build(ctx context.Context, root, folder string) (string, error) {
	if root == "" {
		return "", errors.New("build usher: no project folder")
	}
	program := filepath.Join(folder, "usher")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "nomsgpack", "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/usher")
	cmd.Dir = root
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build usher: %w", err)
	}
	return program, nil
}
