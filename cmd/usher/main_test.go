package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"usher/internal/devstack"
	"usher/internal/devstack/devtest"
)

// actAs makes the test binary be usher itself, race detector and all.
const actAs = "USHER_TEST_ACT_AS_USHER"

// unhurried is usher on a machine that may stand still for seconds: it leaves no stage
// and no child behind for that.
func unhurried() {
	atOnce.stage, atOnce.children = time.Minute, time.Minute
	main()
}

func TestMain(m *testing.M) {
	if os.Getenv(actAs) != "" {
		os.Unsetenv(actAs)
		unhurried()
		os.Exit(0)
	}
	testscript.Main(m, map[string]func(){"usher": unhurried})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TAKEN", taken.Addr().String())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await,
			"redis": startRedis,
			"postgres": func(ts *testscript.TestScript, _ bool, _ []string) {
				_, url := devtest.Postgres(t)
				ts.Setenv("DATABASE_URL", url)
			},
		},
	})
}

// await FILE waits until the file is there.
func await(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	err := until(ctx, func() error { _, err := os.Stat(ts.MkAbs(args[0])); return err })
	ts.Check(err)
}

// redis [DIRECTIVE…] starts a redis-server with further lines of redis.conf and
// sets REDIS_URL.
func startRedis(ts *testscript.TestScript, _ bool, directives []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	folder, err := devstack.Lock(filepath.Join(ts.Getenv("WORK"), "redis"))
	ts.Check(err)
	ts.Defer(folder.Unlock)
	server, err := devstack.StartRedis(ctx, devstack.RedisConfig{Folder: folder, Directives: directives})
	ts.Check(err)
	ts.Defer(server.Kill)
	ts.Setenv("REDIS_URL", server.URL)
}
