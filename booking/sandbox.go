package booking

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"usher/internal/keyring"
	"usher/internal/postgres"
)

// sandboxName is the provider's name in requests and orders; orders of it are tests.
const sandboxName = "sandbox"

const (
	sandboxSignature = "Usher-Sandbox-Signature"
	webhookTolerance = 5 * time.Minute
	// webhookAgain is when the job sends a webhook that may not have been taken at once.
	webhookAgain = 3 * time.Second
)

// sandbox plays a payment provider that takes no money. It behaves like a remote one: it
// remembers its payments by itself (table sandbox_payments, in transactions of its own),
// makes one payment an idempotency key, and tells of what happened by signed webhooks that
// are sent again until they are taken.
type sandbox struct {
	db     *pgxpool.Pool
	ring   *keyring.Ring
	now    func() time.Time
	jobs   *river.Client[pgx.Tx]
	public string // address of the hosted page's host
}

// States that a payer brings a sandbox payment to; it begins open and may be cancelled.
const (
	sandboxPaid     = "paid"
	sandboxDeclined = "declined"
)

type sandboxPayment struct {
	ID, State, ReturnURL string
	Event, Order         uuid.UUID
	Amount               Money
}

var errNoPayment = errors.New("no such payment")

// sandboxMessage is the body of a webhook.
type sandboxMessage struct {
	ID      string    `json:"id"`
	Type    string    `json:"type"` // payment.paid, payment.failed
	Payment string    `json:"payment"`
	Event   uuid.UUID `json:"event"`
	Order   uuid.UUID `json:"order"`
	Amount  Money     `json:"amount"`
}

func (b *sandbox) Create(ctx context.Context, c charge) (payment, error) {
	secret := make([]byte, 15)
	_, _ = rand.Read(secret) // never fails since Go 1.24
	id := "pay_" + strings.ToLower(base32.StdEncoding.EncodeToString(secret))
	key := c.Event.String() + "/" + c.Order.String()
	// Updating nothing makes the statement return the payment made before, too.
	err := b.db.QueryRow(ctx, `
		INSERT INTO sandbox_payments (payment_id, idempotency_key, event_id, order_id, amount, currency, state, refunded, return_url, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, 'open', 0, $7, $8)
		ON CONFLICT (idempotency_key) DO UPDATE SET idempotency_key = excluded.idempotency_key
		RETURNING payment_id`,
		id, key, c.Event, c.Order, c.Amount.Amount, c.Amount.Currency, c.ReturnURL, b.now().UTC()).Scan(&id)
	if err != nil {
		return payment{}, fmt.Errorf("sandbox: %w", err)
	}
	return payment{ID: id, Link: b.public + "/sandbox/payments/" + id}, nil
}

func (b *sandbox) Cancel(ctx context.Context, paymentID string) (bool, error) {
	_, err := b.db.Exec(ctx, `UPDATE sandbox_payments SET state = 'cancelled' WHERE payment_id = $1 AND state = 'open'`, paymentID)
	if err != nil {
		return false, fmt.Errorf("sandbox: %w", err)
	}
	p, err := b.find(ctx, paymentID)
	return err == nil && p.State != sandboxPaid, err
}

func (b *sandbox) Refund(ctx context.Context, paymentID string, amount int64) error {
	tag, err := b.db.Exec(ctx, `
		UPDATE sandbox_payments SET refunded = $2
		WHERE payment_id = $1 AND state = 'paid' AND amount >= $2 AND refunded IN (0, $2)`, paymentID, amount)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errors.New("sandbox: this payment cannot be refunded by that amount")
	}
	return nil
}

func (b *sandbox) find(ctx context.Context, id string) (sandboxPayment, error) {
	p := sandboxPayment{ID: id}
	err := b.db.QueryRow(ctx, `
		SELECT state, return_url, event_id, order_id, amount, currency FROM sandbox_payments WHERE payment_id = $1`, id).
		Scan(&p.State, &p.ReturnURL, &p.Event, &p.Order, &p.Amount.Amount, &p.Amount.Currency)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, errNoPayment
	}
	if err != nil {
		return p, fmt.Errorf("sandbox: %w", err)
	}
	return p, nil
}

// play makes the payer pay or decline: the payment's state and the job that sends the
// webhook until it is taken change together. The message is returned for sending it at
// once. A payment that is over already keeps its state.
func (b *sandbox) play(ctx context.Context, id, state string) (sandboxPayment, error) {
	err := postgres.Retry(ctx, b.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE sandbox_payments SET state = $2 WHERE payment_id = $1 AND state = 'open'`, id, state)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = b.jobs.InsertTx(ctx, tx, sandboxWebhookArgs{Payment: id}, &river.InsertOpts{ScheduledAt: b.now().Add(webhookAgain)})
		return err
	})
	if err != nil {
		return sandboxPayment{}, fmt.Errorf("sandbox: %w", err)
	}
	return b.find(ctx, id)
}

// message is the webhook about a payment that is paid or declined, signed now. The same
// payment gives the same event id each time.
func (b *sandbox) message(p sandboxPayment) (http.Header, []byte, error) {
	kind := paymentFailed
	if p.State == sandboxPaid {
		kind = paymentPaid
	}
	body, err := json.Marshal(sandboxMessage{
		ID: "evt_" + strings.TrimPrefix(p.ID, "pay_") + "_" + kind, Type: "payment." + kind,
		Payment: p.ID, Event: p.Event, Order: p.Order, Amount: p.Amount,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("sandbox: %w", err)
	}
	at := strconv.FormatInt(b.now().Unix(), 10)
	kid, mac := b.ring.Sign(keyring.Access, sandboxSigned(at, body))
	return http.Header{sandboxSignature: {"t=" + at + ",k=" + kid + ",v1=" + hex.EncodeToString(mac)}}, body, nil
}

func sandboxSigned(at string, body []byte) []byte {
	return append([]byte("sandbox webhook\x00"+at+"\x00"), body...)
}

func (b *sandbox) Webhook(header http.Header, body []byte, now time.Time) (paymentEvent, error) {
	parts := map[string]string{}
	for part := range strings.SplitSeq(header.Get(sandboxSignature), ",") {
		name, value, _ := strings.Cut(part, "=")
		parts[name] = value
	}
	at, err := strconv.ParseInt(parts["t"], 10, 64)
	if err != nil || now.Sub(time.Unix(at, 0)).Abs() > webhookTolerance {
		return paymentEvent{}, errSignature
	}
	mac, err := hex.DecodeString(parts["v1"])
	if err != nil || !b.ring.Check(keyring.Access, parts["k"], sandboxSigned(parts["t"], body), mac) {
		return paymentEvent{}, errSignature
	}
	var m sandboxMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return paymentEvent{}, fmt.Errorf("sandbox: %w", err)
	}
	return paymentEvent{
		ID: m.ID, Kind: strings.TrimPrefix(m.Type, "payment."), Event: m.Event, Order: m.Order, Payment: m.Payment, Amount: m.Amount,
	}, nil
}
