package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the build.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "usher:", err)
	if errors.As(err, new(usageError)) {
		os.Exit(2)
	}
	os.Exit(1)
}

type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

type commands struct {
	Gateway    gatewayCommand    `cmd:"" help:"Serve the public edge: pages, waiting rooms, limits, passes, proxy. Needs Redis."`
	Booking    bookingCommand    `cmd:"" help:"Serve the core: catalogue, seats, orders, tickets, operators. Needs Redis and Postgres."`
	Worker     workerCommand     `cmd:"" help:"Do asynchronous work: mail, expiry, refunds, the record of rooms. Needs Redis and Postgres."`
	Migrate    migrateCommand    `cmd:"" help:"Bring the database to the newest schema; safe while older processes run."`
	Dev        devCommand        `cmd:"" help:"Run all of it with a private redis-server and postgres and a demo sale."`
	Keys       keysCommand       `cmd:"" help:"Make, rotate and list the private keys."`
	Operator   operatorCommand   `cmd:"" help:"Manage the people who run events."`
	VerifyDraw verifyDrawCommand `cmd:"" help:"Recompute a rank from public values and tell what can be said of the draw."`
	Version    versionCommand    `cmd:"" help:"Tell the version."`
}

// process is what every command gets from outside.
type process struct {
	stdout, stderr io.Writer
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var cmds commands
	exit := -1 // set when --help has said all
	parser, err := kong.New(&cmds,
		kong.Name("usher"),
		kong.Description("A fair waiting room before a box office that sells nothing twice."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.Resolvers(&sources{getenv: getenv}),
		kong.PostBuild(nameVariables),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(process{stdout: stdout, stderr: stderr}),
	)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if exit >= 0 {
		return nil
	}
	if err != nil {
		return usageError{err}
	}
	command.Bind(command)
	return command.Run()
}

type versionCommand struct{}

func (versionCommand) Run(p process) error {
	goVersion := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
	}
	_, err := fmt.Fprintln(p.stdout, "usher", version, goVersion)
	return err
}
