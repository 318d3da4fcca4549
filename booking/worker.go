package booking

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"usher/internal/deadline"
	"usher/internal/keyring"
	"usher/internal/operator"
)

// WorkerConfig configures the asynchronous side of booking. DB, Redis, Ring and Log are
// required.
type WorkerConfig struct {
	DB    *pgxpool.Pool
	Redis redis.UniversalClient
	Ring  *keyring.Ring
	Log   *slog.Logger
	// Sandbox must be what the booking servers have: it ends the sandbox's orders.
	Sandbox bool
	// PublicURL begins the links in mail; default http://localhost:8080.
	PublicURL string
	Mail      MailConfig
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Worker mails tickets, ends unpaid orders, gives money back and keeps the seat maps
// true. Any number may run at once.
type Worker struct {
	s    *Server
	mail *mailer
	log  *slog.Logger
}

const (
	// rescueAfter is when the job of a worker that was killed is given to another.
	rescueAfter = time.Minute
	// jobTimeout ends any job's attempt; it must be well under rescueAfter.
	jobTimeout = 30 * time.Second
	jobPoll    = 500 * time.Millisecond
	jobWorkers = 16
)

// NewWorker checks cfg; Run does the work.
func NewWorker(cfg WorkerConfig) (*Worker, error) {
	m, err := newMailer(cfg.Mail)
	if err != nil {
		return nil, err
	}
	if cfg.Redis == nil || cfg.Ring == nil {
		return nil, errors.New("booking: WorkerConfig.Redis and Ring are required")
	}
	s, err := New(Config{
		DB: cfg.DB, Redis: cfg.Redis, Ring: cfg.Ring, Auth: operator.NewAuthenticator(cfg.Redis, cfg.Ring), Log: cfg.Log,
		Sandbox: cfg.Sandbox, PublicURL: cfg.PublicURL, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	if !m.configured() {
		cfg.Log.Warn("mail is not configured: tickets are sold, their mail waits in the queue")
	}
	return &Worker{s: s, mail: m, log: cfg.Log}, nil
}

// Run works until ctx ends, then lets the jobs under way finish for some seconds.
func (w *Worker) Run(ctx context.Context) error {
	workers := river.NewWorkers()
	for _, err := range []error{
		river.AddWorkerSafely(workers, &mailWorker{s: w.s, mail: w.mail}),
		river.AddWorkerSafely(workers, &refundWorker{s: w.s}),
		river.AddWorkerSafely(workers, &refundStrayWorker{s: w.s}),
		river.AddWorkerSafely(workers, &sandboxWebhookWorker{s: w.s}),
	} {
		if err != nil {
			return fmt.Errorf("register jobs: %w", err)
		}
	}
	client, err := river.NewClient(riverpgxv5.New(w.s.db), &river.Config{
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: jobWorkers}},
		Workers:              workers,
		PollOnly:             true,
		FetchPollInterval:    jobPoll,
		JobTimeout:           jobTimeout,
		RescueStuckJobsAfter: rescueAfter,
		Logger:               quiet(w.log),
	})
	if err != nil {
		return fmt.Errorf("job client: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return runJobs(ctx, client) })
	g.Go(func() error { return w.sweep(ctx, sweepEvery, w.s.expireOverdue, "end overdue orders") })
	g.Go(func() error { return w.sweep(ctx, reconcileEvery, w.s.reconcileAll, "compare seat maps") })
	g.Go(func() error { return w.sweep(ctx, stockEvery, w.s.tellStock, "tell the stock") })
	return g.Wait()
}

// runJobs starts the client and stops it when ctx ends: softly, then hard.
func runJobs(ctx context.Context, client *river.Client[pgx.Tx]) error {
	// The client's context ends jobs in the middle; stopping is done below.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start jobs: %w", err)
	}
	<-ctx.Done()
	soft, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*time.Second)
	defer cancel()
	if client.Stop(soft) == nil {
		return nil
	}
	hard, cancel := deadline.In(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := client.StopAndCancel(hard); err != nil {
		return fmt.Errorf("stop jobs: %w", err)
	}
	return nil
}

// quiet lets only what needs a look through: the client tells much at info.
func quiet(log *slog.Logger) *slog.Logger {
	return slog.New(warnings{log.Handler()})
}

type warnings struct{ slog.Handler }

func (h warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}
func (h warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{h.Handler.WithAttrs(a)} }
func (h warnings) WithGroup(n string) slog.Handler      { return warnings{h.Handler.WithGroup(n)} }
