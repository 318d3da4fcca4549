package booking

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
)

// ticketMailArgs is the job that mails the tickets of a paid order.
type ticketMailArgs struct {
	Event uuid.UUID `json:"event"`
	Order uuid.UUID `json:"order"`
}

func (ticketMailArgs) Kind() string { return "ticket_mail" }

// refundArgs is the job that has the provider give an order's money back.
type refundArgs struct {
	Event uuid.UUID `json:"event"`
	Order uuid.UUID `json:"order"`
}

func (refundArgs) Kind() string { return "refund" }

// refundStrayArgs is the job that has the provider give back a payment that is no order's.
type refundStrayArgs struct {
	Provider string `json:"provider"`
	Payment  string `json:"payment"`
	Amount   int64  `json:"amount"`
}

func (refundStrayArgs) Kind() string { return "refund_stray" }

// sandboxWebhookArgs is the job that sends a sandbox payment's webhook until it is taken.
type sandboxWebhookArgs struct {
	Payment string `json:"payment"`
}

func (sandboxWebhookArgs) Kind() string { return "sandbox_webhook" }

// InsertOpts: money must end up somewhere, so the sandbox and refunds are tried for weeks.
func (refundArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 50, Priority: 1}
}
func (refundStrayArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 50, Priority: 1}
}
func (sandboxWebhookArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 50, Priority: 1}
}
func (ticketMailArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 30, Priority: 2}
}

type refundWorker struct {
	river.WorkerDefaults[refundArgs]
	s *Server
}

func (w *refundWorker) Timeout(*river.Job[refundArgs]) time.Duration { return 30 * time.Second }

func (w *refundWorker) Work(ctx context.Context, job *river.Job[refundArgs]) error {
	o, err := w.s.readOrder(ctx, job.Args.Event, job.Args.Order)
	if err != nil {
		return err
	}
	if o.State != orderRefunding {
		return nil
	}
	p, err := w.s.provider(o.Provider)
	if err != nil {
		return err
	}
	if err := p.Refund(ctx, o.Payment, o.Paid); err != nil {
		return fmt.Errorf("refund order %s: %w", o.ID, err)
	}
	return w.s.refunded(ctx, o)
}

type refundStrayWorker struct {
	river.WorkerDefaults[refundStrayArgs]
	s *Server
}

func (w *refundStrayWorker) Work(ctx context.Context, job *river.Job[refundStrayArgs]) error {
	p, err := w.s.provider(job.Args.Provider)
	if err != nil {
		return err
	}
	if err := p.Refund(ctx, job.Args.Payment, job.Args.Amount); err != nil {
		return fmt.Errorf("refund payment %s: %w", job.Args.Payment, err)
	}
	return nil
}

type sandboxWebhookWorker struct {
	river.WorkerDefaults[sandboxWebhookArgs]
	s *Server
}

func (w *sandboxWebhookWorker) Timeout(*river.Job[sandboxWebhookArgs]) time.Duration {
	return 30 * time.Second
}

func (w *sandboxWebhookWorker) Work(ctx context.Context, job *river.Job[sandboxWebhookArgs]) error {
	if _, err := w.s.provider(sandboxName); err != nil {
		return err
	}
	p, err := w.s.sales.sandbox.find(ctx, job.Args.Payment)
	if err != nil {
		return err
	}
	return w.s.deliverSandbox(ctx, p)
}
