package booking

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/bojanz/currency"
	"github.com/gin-gonic/gin"

	"usher/internal/problem"
)

// sandboxPage is where a provider would ask for a card.
var sandboxPage = template.Must(template.New("sandbox").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Test payment</title>
<style nonce="{{.Nonce}}">
:root { color-scheme: light dark; font: 1.0625rem/1.5 system-ui, sans-serif }
body { max-width: 26rem; margin: 12vh auto 0; padding: 0 1.25rem }
h1 { font-size: 1.25rem; margin: 0 0 .25rem }
.amount { font-size: 2.25rem; font-weight: 650; margin: 1rem 0 1.5rem }
form { display: grid; gap: .75rem; margin-bottom: .75rem }
button { font: inherit; font-weight: 600; min-height: 3rem; border-radius: .5rem; border: 1px solid GrayText; background: Canvas; color: CanvasText; cursor: pointer }
button.pay { background: #17633c; border-color: #17633c; color: #fff }
button:focus-visible, a:focus-visible { outline: 3px solid Highlight; outline-offset: 2px }
p { margin: 0 0 1rem }
</style>
<h1>Test payment</h1>
<p>This is the sandbox: no money moves.</p>
<p class="amount">{{.Amount}}</p>
{{if eq .State "open"}}
<form method="post" action="/sandbox/payments/{{.ID}}/approve"><button class="pay">Pay</button></form>
<form method="post" action="/sandbox/payments/{{.ID}}/decline"><button>Decline</button></form>
{{else}}
<p>This payment is {{.State}}.</p>
{{end}}
<p><a href="{{.Back}}">Back to the order</a></p>
</html>
`))

// registerSandbox adds the hosted page and the payer's two buttons.
func (s *Server) registerSandbox() {
	box := s.sales.sandbox
	s.engine.GET("/sandbox/payments/:id", func(c *gin.Context) {
		p, err := box.find(c.Request.Context(), c.Param("id"))
		if err != nil {
			problem.Write(c.Writer, c.Request, s.sandboxRefusal(c.Request.Context(), err))
			return
		}
		s.renderSandbox(c.Writer, c.Request, p)
	})
	play := func(state string) gin.HandlerFunc {
		return func(c *gin.Context) {
			p, err := s.playPayer(c.Request.Context(), c.Param("id"), state)
			switch {
			case err != nil:
				problem.Write(c.Writer, c.Request, s.sandboxRefusal(c.Request.Context(), err))
			case strings.Contains(c.GetHeader("Accept"), "text/html"):
				c.Redirect(http.StatusSeeOther, p.Back())
			default:
				c.Header("Cache-Control", "no-store")
				c.JSON(http.StatusOK, gin.H{"id": p.ID, "state": p.State, "return_url": p.ReturnURL})
			}
		}
	}
	s.engine.POST("/sandbox/payments/:id/approve", play(sandboxPaid))
	s.engine.POST("/sandbox/payments/:id/decline", play(sandboxDeclined))
}

// Back is the way to the order on the host that shows this page: the sandbox is part of
// the site, whatever name the payer's browser knows it by.
func (p sandboxPayment) Back() string {
	u, err := url.Parse(p.ReturnURL)
	if err != nil || !strings.HasPrefix(u.Path, "/") {
		return "/"
	}
	return u.EscapedPath()
}

// playPayer pays or declines and delivers the webhook at once; if that fails the job will.
func (s *Server) playPayer(ctx context.Context, id, state string) (sandboxPayment, error) {
	p, err := s.sales.sandbox.play(ctx, id, state)
	if err != nil {
		return p, err
	}
	if p.State != state {
		return p, problem.New(http.StatusConflict, "payment-closed", "This payment is "+p.State+" already.")
	}
	if err := s.deliverSandbox(ctx, p); err != nil {
		s.log.WarnContext(ctx, "deliver sandbox webhook", "error", err, "payment", id)
	}
	return p, nil
}

// deliverSandbox signs the payment's webhook and hands it to the same door that webhooks
// from outside come in by.
func (s *Server) deliverSandbox(ctx context.Context, p sandboxPayment) error {
	header, body, err := s.sales.sandbox.message(p)
	if err != nil {
		return err
	}
	return s.webhook(ctx, sandboxName, header, body)
}

func (s *Server) sandboxRefusal(ctx context.Context, err error) *problem.Problem {
	if errors.Is(err, errNoPayment) {
		return problem.New(http.StatusNotFound, "payment-not-found", "There is no such payment.")
	}
	p, _ := problem.From(s.fail(ctx, "sandbox payment", err))
	return p
}

func (s *Server) renderSandbox(w http.ResponseWriter, r *http.Request, p sandboxPayment) {
	nonce := rand.Text()
	var page bytes.Buffer
	err := sandboxPage.Execute(&page, struct {
		sandboxPayment
		Amount, Nonce string
	}{p, moneyText(p.Amount), nonce})
	if err != nil {
		problem.Write(w, r, problem.Internal(r, s.log, "render sandbox page", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+nonce+"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(page.Bytes()) // the payer may be gone
}

// moneyText shows an amount to people, "€45.00".
func moneyText(m Money) string {
	amount, err := currency.NewAmountFromInt64(m.Amount, m.Currency)
	if err != nil { // a currency that the library does not know
		return m.Currency
	}
	return currency.NewFormatter(currency.NewLocale("en")).Format(amount)
}
