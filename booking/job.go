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

// sandboxWebhookArgs is the job that sends a sandbox payment's webhook until it is taken.
type sandboxWebhookArgs struct {
	Payment string `json:"payment"`
}

func (sandboxWebhookArgs) Kind() string { return "sandbox_webhook" }

// InsertOpts: money must end up somewhere, so the sandbox and refunds are tried for weeks.
func (refundArgs) InsertOpts() river.InsertOpts {
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
	p, ok := w.s.sales.providers[o.Provider]
	if !ok {
		return fmt.Errorf("provider %q is not configured here", o.Provider)
	}
	if err := p.Refund(ctx, o.Payment, o.Paid); err != nil {
		return fmt.Errorf("refund order %s: %w", o.ID, err)
	}
	return w.s.refunded(ctx, o)
}

type sandboxWebhookWorker struct {
	river.WorkerDefaults[sandboxWebhookArgs]
	s *Server
}

func (w *sandboxWebhookWorker) Timeout(*river.Job[sandboxWebhookArgs]) time.Duration {
	return 30 * time.Second
}

func (w *sandboxWebhookWorker) Work(ctx context.Context, job *river.Job[sandboxWebhookArgs]) error {
	p, err := w.s.sales.sandbox.find(ctx, job.Args.Payment)
	if err != nil {
		return err
	}
	return w.s.deliverSandbox(ctx, p)
}
