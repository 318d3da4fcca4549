package queue

import (
	"context"
	"embed"

	"github.com/redis/go-redis/v9"

	"usher/internal/redisx"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// Each script is lib.lua and its own file.
var (
	joinScript      = script("join")
	advanceScript   = script("advance")
	markScript      = script("mark")
	inviteScript    = script("invite")
	moveScript      = script("move")
	placesScript    = script("places")
	returnScript    = script("return")
	claimScript     = script("claim")
	extendScript    = script("extend")
	leaveScript     = script("leave")
	releaseScript   = script("release")
	configureScript = script("configure")
	resetScript     = script("reset")
	drawScript      = script("draw")
	durableScript   = script("durable")
	restoreScript   = script("restore")
	rememberScript  = script("remember")
	resumeScript    = script("resume")
	uncountScript   = script("uncount")
	claimsScript    = script("claims")
	entriesScript   = script("entries")
	beaconScript    = script("beacon")
	stockScript     = script("stock")
)

func script(name string) *redisx.Script {
	read := func(file string) string {
		src, err := luaFiles.ReadFile("lua/" + file + ".lua")
		if err != nil {
			panic(err) // embedded at build time
		}
		return string(src)
	}
	return redisx.NewScript(read("lib") + read(name))
}

// piped are the scripts that are run by digest in a pipeline, where there is no
// fallback when the server does not know them.
var piped = []*redisx.Script{advanceScript, markScript, drawScript, placesScript}

// lineageSource tells the lineage (lua/lib.lua) of the server that has the key. It is sent
// as text: short, and so in no need of being loaded.
const lineageSource = `return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''`

func loadPiped(ctx context.Context, rdb redis.UniversalClient, key string) error {
	node, err := redisx.Owner(ctx, rdb, key)
	if err != nil {
		return err
	}
	for _, s := range piped {
		if err := s.Load(ctx, node); err != nil {
			return err
		}
	}
	return nil
}
