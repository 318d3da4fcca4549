package booking

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// provider takes money. Every call is idempotent by the order, so that whoever resumes
// after a crash simply calls again, and no transaction is open across a call.
type provider interface {
	// Create makes the order's payment, or returns the one made before.
	Create(ctx context.Context, c charge) (payment, error)
	// Cancel makes sure that nothing can be paid any more: true, or false when it was paid
	// already. Only the provider's word frees the seats of an order.
	Cancel(ctx context.Context, paymentID string) (bool, error)
	// Refund gives the whole amount of a paid payment back.
	Refund(ctx context.Context, paymentID string, amount int64) error
	// Webhook checks the signature and the age of what the provider sent, and reads it.
	Webhook(header http.Header, body []byte, now time.Time) (paymentEvent, error)
}

func (s *Server) provider(name string) (provider, error) {
	p, ok := s.sales.providers[name]
	if !ok {
		return nil, fmt.Errorf("provider %q is not configured here", name)
	}
	return p, nil
}

// charge is what a payment is made for.
type charge struct {
	Event, Order uuid.UUID
	Amount       Money
	// ReturnURL is where the payer goes afterwards.
	ReturnURL string
}

// payment is the provider's side of an order.
type payment struct {
	ID   string
	Link string // where the payer pays
}

// Kinds of paymentEvent.
const (
	paymentPaid   = "paid"
	paymentFailed = "failed" // for good: nothing can be paid any more
)

// paymentEvent is what a provider tells about a payment.
type paymentEvent struct {
	ID           string // the provider's, for recognising duplicates
	Kind         string // others than the above change nothing
	Event, Order uuid.UUID
	Payment      string
	Amount       Money
}

// errSignature refuses a webhook that the provider did not sign just now.
var errSignature = errors.New("not signed by the provider")
