package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"usher/internal/deadline"
)

// PostgresConfig says how a private postgres runs.
type PostgresConfig struct {
	Folder *Folder
	// Durable survives a crash of the machine. Otherwise nothing is synced to
	// the disk, which only tests may wish.
	Durable bool
	// MaxConnections: default 100.
	MaxConnections int
}

const (
	postgresSocket = ".s.PGSQL.5432"
	// Database is made on the first start and named by the server's URL.
	Database = "usher"
)

// StartPostgres starts a postgres in the folder's "postgres", making the cluster
// and the database where they are missing, and waits until it answers, at most
// until ctx ends.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Server, error) {
	bin, err := program("postgresql", "postgres")
	if err != nil {
		return nil, err
	}
	lock, err := cfg.Folder.lineage(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	dir := filepath.Join(cfg.Folder.Path, "postgres")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := initCluster(ctx, cfg, lock, dir); err != nil {
			return nil, fmt.Errorf("make the database cluster: %w", err)
		}
	}
	if err := writeAccess(dir); err != nil {
		return nil, fmt.Errorf("write the cluster's access rules: %w", err)
	}
	// The lineage's lock is ours, so no server lives on this folder: whatever
	// process has that number now is a stranger.
	if err := os.Remove(filepath.Join(dir, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale postmaster.pid: %w", err)
	}
	short, undo, err := shortPath(dir, postgresSocket)
	if err != nil {
		return nil, err
	}
	sockets := short
	if dropsRoot() {
		sockets = within(dir)
	}
	settings := map[string]string{
		"listen_addresses":        "",
		"port":                    "5432",
		"unix_socket_directories": sockets,
		"max_connections":         fmt.Sprint(max(cfg.MaxConnections, 0)),
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"log_min_messages":        "warning",
		"shared_buffers":          "128MB",
	}
	if cfg.MaxConnections == 0 {
		settings["max_connections"] = "100"
	}
	death := syscall.SIGINT // a fast shutdown, with a checkpoint
	if !cfg.Durable {
		death = syscall.SIGQUIT // an immediate one
		for _, off := range []string{"fsync", "synchronous_commit", "full_page_writes", "autovacuum"} {
			settings[off] = "off"
		}
	}
	args := []string{"-D", within(dir)}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	c := child{name: "postgres", folder: cfg.Folder, dir: dir, lock: lock, args: args, polite: death, death: death}
	s, err := c.start(ctx, bin)
	if err != nil {
		undo()
		return nil, err
	}
	s.undo = undo
	s.URL = postgresURL(short, Database)
	err = s.ready(ctx, func(ctx context.Context) error { return ensureDatabase(ctx, postgresURL(short, "postgres")) })
	if err != nil {
		return nil, err
	}
	return s, nil
}

func postgresURL(socketDir, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database}
	u.RawQuery = url.Values{"host": {socketDir}}.Encode()
	return u.String()
}

func ensureDatabase(ctx context.Context, admin string) error {
	ctx, cancel := deadline.In(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var there bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, Database).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = conn.Exec(ctx, `CREATE DATABASE `+Database)
	return err
}

// initCluster runs initdb beside dir and renames the result, so that a cluster
// that is there is whole.
func initCluster(ctx context.Context, cfg PostgresConfig, lock *os.File, dir string) error {
	bin, err := program("postgresql", "initdb")
	if err != nil {
		return err
	}
	draft := dir + ".new"
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	if err := own(draft); err != nil {
		return err
	}
	args := []string{
		"-D", within(draft), "-U", "postgres", "-E", "UTF8", "--auth=peer", "--no-instructions",
		// C.UTF-8 with ICU sorts and lowers letters beyond ASCII the same everywhere.
		"--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=und",
	}
	if !cfg.Durable {
		args = append(args, "--no-sync")
	}
	c := child{name: "initdb", folder: cfg.Folder, dir: draft, lock: lock, args: args, polite: syscall.SIGTERM, death: syscall.SIGKILL}
	s, err := c.start(ctx, bin)
	if err != nil {
		return err
	}
	select {
	case <-s.Done():
	case <-ctx.Done():
		s.Kill()
		return ctx.Err()
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("initdb of PostgreSQL 15 or later: %s\n%s", s.cmd.ProcessState, tail(s.logged))
	}
	return os.Rename(draft, dir)
}

// writeAccess lets in, over the socket alone, the user that we are, the one that
// the server runs as, and root.
func writeAccess(dir string) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	names := []string{me.Username, "root"}
	if dropsRoot() {
		who, err := servant()
		if err != nil {
			return err
		}
		names = append(names, who.name)
	}
	var ident strings.Builder
	for _, name := range names {
		fmt.Fprintf(&ident, "usher %q postgres\n", name)
	}
	if err := writeOwned(filepath.Join(dir, "pg_ident.conf"), ident.String()); err != nil {
		return err
	}
	return writeOwned(filepath.Join(dir, "pg_hba.conf"), "local all all peer map=usher\n")
}
