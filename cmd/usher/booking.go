package main

import (
	"context"
	"log/slog"

	"github.com/alecthomas/kong"

	"usher/booking"
	"usher/gateway/policy"
	"usher/queue"
)

// core are the settings of the box office, in a process of its own or in dev.
type core struct {
	Sandbox   bool   `help:"Offer the sandbox payment provider; its orders are marked test."`
	PublicURL string `default:"http://localhost:8080" help:"The shop's address as buyers see it; links in mail begin with it."`
}

// mailing says how mail leaves.
type mailing struct {
	MailDir  string `placeholder:"DIR" xor:"mail" help:"Write mail as .eml files into this folder."`
	SMTPURL  string `name:"smtp-url" placeholder:"URL" xor:"mail" secret:"url" help:"Send mail by smtp:// or smtps://user:password@host:port."`
	MailFrom string `default:"Usher <tickets@localhost>" help:"The sender of mail."`
}

func (m mailing) config() booking.MailConfig {
	return booking.MailConfig{Dir: m.MailDir, SMTP: m.SMTPURL, From: m.MailFrom}
}

type bookingCommand struct {
	Listen      string `default:"127.0.0.1:8081" help:"Where gateways come in; keep it from the public."`
	AdminListen string `default:"127.0.0.1:9091" help:"Metrics, health, readiness and profiles."`
	Jobs        bool   `default:"true" negatable:"" help:"Also do a worker's work."`
	core
	mailing
	beaconFlag
	configFlag
	databaseFlag
	common
}

func (c bookingCommand) Run(ctx context.Context, p process, command *kong.Context) error {
	public, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	defer public.Close()
	g, err := c.open(ctx, p, c.AdminListen, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer g.close()
	server, err := c.build(g.stores, g.log)
	if err != nil {
		return err
	}
	behind := append(g.tend(g.ready), server.Run)
	if c.Jobs {
		jobs, err := work(g.stores, g.log, c.mailing.config(), c.core, c.BeaconHosts)
		if err != nil {
			return err
		}
		behind = append(behind, jobs...)
	}
	g.log.Info("booking starts", "version", version, effective(command))
	return runStages(ctx, deploy, []part{serving(public, server.Handler(), g.log, nil, deploy)}, behind)
}

func (c core) build(st *stores, log *slog.Logger) (*booking.Server, error) {
	return booking.New(booking.Config{
		DB: st.db, Redis: st.redis, Ring: st.ring, Auth: st.auth, Log: log,
		Sandbox: c.Sandbox, PublicURL: c.PublicURL,
	})
}

type workerCommand struct {
	AdminListen string `default:"127.0.0.1:9092" help:"Metrics, health, readiness and profiles."`
	core
	mailing
	beaconFlag
	configFlag
	databaseFlag
	common
}

func (c workerCommand) Run(ctx context.Context, p process, command *kong.Context) error {
	g, err := c.open(ctx, p, c.AdminListen, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer g.close()
	jobs, err := work(g.stores, g.log, c.mailing.config(), c.core, c.BeaconHosts)
	if err != nil {
		return err
	}
	g.log.Info("worker starts", "version", version, effective(command))
	return runStages(ctx, deploy, jobs, g.tend(g.ready))
}

// work are the parts of a worker: the jobs of the box office and the record of
// the rooms and policies. Any number of processes may do it.
func work(st *stores, log *slog.Logger, mail booking.MailConfig, c core, beaconHosts []string) ([]part, error) {
	worker, err := booking.NewWorker(booking.WorkerConfig{
		DB: st.db, Redis: st.redis, Ring: st.ring, Log: log, Mail: mail, Sandbox: c.Sandbox, PublicURL: c.PublicURL,
	})
	if err != nil {
		return nil, err
	}
	recorder := queue.NewRecorder(queue.RecorderConfig{Redis: st.redis, DB: st.db, Ring: st.ring, BeaconHosts: beaconHosts, Log: log})
	policies := policy.NewRecorder(policy.RecorderConfig{Redis: st.redis, DB: st.db, Log: log})
	return []part{worker.Run, recorder.Run, policies.Run}, nil
}
