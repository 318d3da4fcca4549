package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/postgres"
	"usher/internal/redisx"
	"usher/internal/telemetry"
)

// logging is how every long-running command speaks, on standard error.
type logging struct {
	LogFormat string `enum:"json,text" default:"json" help:"How log lines are written: json or text."`
	LogLevel  string `enum:"debug,info,warn,error" default:"info" help:"The least level that is written."`
}

func (l logging) logger(p process) (*slog.Logger, error) {
	log, err := telemetry.NewLogger(p.stderr, l.LogFormat, l.LogLevel)
	if err == nil {
		slog.SetDefault(log) // for libraries, which have one logger a process
	}
	return log, err
}

// The settings of commands that need a store or the keys.
type (
	redisFlag struct {
		RedisURL string `required:"" secret:"url" placeholder:"URL" help:"redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"`
	}
	databaseFlag struct {
		DatabaseURL string `required:"" secret:"url" placeholder:"URL" help:"postgres://…; several hosts for a primary and its standbys"`
	}
	keysFlag struct {
		KeysFile string `required:"" placeholder:"FILE" help:"The private keys, as made by usher keys new."`
	}
	common struct { // of every process of the site
		redisFlag
		keysFlag
		logging
	}
	configFlag struct {
		Config string `placeholder:"FILE" help:"YAML: any flag, and origins, routes and rooms."`
	}
)

// stores are the connections and keys of one process.
type stores struct {
	redis redis.UniversalClient
	db    *pgxpool.Pool // nil in a gateway
	ring  *keyring.Ring
	auth  *operator.Authenticator
}

// ground is what every process of the site stands on.
type ground struct {
	*stores
	log     *slog.Logger
	private net.Listener // for metrics, health and profiles
	keys    string       // the file that followKeys reads again
}

// open takes the private address and connects; an empty database URL leaves Postgres out.
// On an error nothing stays open.
func (c common) open(ctx context.Context, p process, adminListen, databaseURL string) (*ground, error) {
	log, err := c.logger(p)
	if err != nil {
		return nil, err
	}
	ring, err := keyring.Load(c.KeysFile)
	if err != nil {
		return nil, err
	}
	private, err := listen(ctx, adminListen)
	if err != nil {
		return nil, err
	}
	st, err := openStores(ctx, c.RedisURL, databaseURL, ring)
	if err != nil {
		return nil, errors.Join(err, private.Close())
	}
	return &ground{st, log, private, c.KeysFile}, nil
}

func (g *ground) close() {
	_ = g.private.Close()
	_ = g.stores.close()
}

// tend are the parts of every process: its private address, and the keys file, read again
// when it changes.
func (g *ground) tend(ready func(context.Context) error) []part {
	return []part{g.followKeys(g.keys, g.log), admin(g.private, ready, g.log)}
}

// openStores connects; an empty database URL leaves Postgres out. On an error
// nothing stays open.
func openStores(ctx context.Context, redisURL, databaseURL string, ring *keyring.Ring) (*stores, error) {
	s := &stores{ring: ring}
	var err error
	if s.redis, err = redisx.Open(ctx, redisURL); err != nil {
		return nil, err
	}
	if databaseURL != "" {
		if s.db, err = postgres.Open(ctx, databaseURL); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	s.auth = operator.NewAuthenticator(s.redis, ring)
	return s, nil
}

// followKeys puts a changed keys file into force.
func (s *stores) followKeys(path string, log *slog.Logger) part {
	return func(ctx context.Context) error { return s.ring.Watch(ctx, path, log) }
}

func (s *stores) close() error {
	if s.db != nil {
		s.db.Close()
	}
	return s.redis.Close()
}

// ready tells whether the stores answer.
func (s *stores) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var faults []error
	if err := s.redis.Ping(ctx).Err(); err != nil {
		faults = append(faults, fmt.Errorf("redis: %w", err))
	}
	if s.db != nil {
		if err := s.db.Ping(ctx); err != nil {
			faults = append(faults, fmt.Errorf("postgres: %w", err))
		}
	}
	return errors.Join(faults...)
}
