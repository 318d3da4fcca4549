package main

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"usher/internal/devstack"
)

// children are dev's private servers.
type children struct {
	redis    *devstack.Redis
	database *devstack.Server
}

func startChildren(ctx context.Context, folder *devstack.Folder) (*children, error) {
	var c children
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		c.redis, err = devstack.StartRedis(ctx, devstack.RedisConfig{Folder: folder, Durable: true, TCP: true})
		return err
	})
	g.Go(func() (err error) {
		c.database, err = devstack.StartPostgres(ctx, databaseConfig(folder))
		return err
	})
	if err := g.Wait(); err != nil {
		c.stop()
		return nil, err
	}
	return &c, nil
}

func databaseConfig(folder *devstack.Folder) devstack.PostgresConfig {
	return devstack.PostgresConfig{Folder: folder, Durable: true}
}

func (c *children) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), atOnce.children)
	defer cancel()
	var g errgroup.Group
	if c.redis != nil {
		g.Go(func() error { c.redis.Stop(ctx); return nil })
	}
	if c.database != nil {
		g.Go(func() error { c.database.Stop(ctx); return nil })
	}
	_ = g.Wait() // stopping gives no errors
}

// keep is the part that starts a child again when it has died, at the same
// addresses: who kills one sees what a sale makes of that. One that cannot be
// started again ends dev.
func (c *children) keep(folder *devstack.Folder, log *slog.Logger) part {
	return func(ctx context.Context) error {
		for {
			var died string
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.redis.Done():
				died = "redis"
			case <-c.database.Done():
				died = "postgres"
			}
			log.Warn("a private server has ended and is started again", "server", died, "log", died+".log in the data folder")
			if err := c.restart(ctx, died, folder); err != nil {
				return fmt.Errorf("start %s again: %w", died, err)
			}
		}
	}
}

func (c *children) restart(ctx context.Context, name string, folder *devstack.Folder) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if name == "redis" {
		again, err := devstack.StartRedis(ctx, c.redis.Config)
		if err != nil {
			return err
		}
		c.redis = again
		return nil
	}
	again, err := devstack.StartPostgres(ctx, databaseConfig(folder))
	if err != nil {
		return err
	}
	c.database = again
	return nil
}
