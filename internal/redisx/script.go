package redisx

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Script is a Lua script run by its SHA-1.
type Script struct{ s *redis.Script }

// NewScript prepares src, usually an embedded .lua file.
func NewScript(src string) *Script { return &Script{s: redis.NewScript(src)} }

// Run runs the script by its digest and sends its text only where the server does
// not know it. Not for pipelines: there is no fallback in one; use Load and Hash.
func (s *Script) Run(ctx context.Context, rdb redis.Scripter, keys []string, args ...any) *redis.Cmd {
	return s.s.Run(ctx, rdb, keys, args...)
}

// Load makes the script known to the server (in a cluster, to every master), so
// that a pipeline may call it by Hash.
func (s *Script) Load(ctx context.Context, rdb redis.UniversalClient) error {
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return s.s.Load(ctx, node).Err()
		})
	}
	return s.s.Load(ctx, rdb).Err()
}

// Owner is the server that has the key: in a cluster its master as last known, else rdb
// itself. Only what does not follow redirections needs it: WAIT, and loading a script
// while another master is down.
func Owner(ctx context.Context, rdb redis.UniversalClient, key string) (redis.UniversalClient, error) {
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return rdb, nil
}

// Hash is the script's SHA-1 for EVALSHA.
func (s *Script) Hash() string { return s.s.Hash() }
