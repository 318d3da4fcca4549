package booking

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net"
	netmail "net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	texttemplate "text/template"
	"time"

	"github.com/riverqueue/river"
	"github.com/wneessen/go-mail"
)

// MailConfig says where mail goes: Dir or SMTP. With neither, mail waits in the queue of
// jobs until a worker that has one comes.
type MailConfig struct {
	// Dir is a folder that gets one .eml file an order, for development.
	Dir string
	// SMTP is the relay: smtp://[user:password@]host[:port] uses TLS where it is offered
	// (STARTTLS, required with a password), smtps:// from the start. Port 587 or 465.
	SMTP string
	// From is the sender, "Name <address>"; default "Usher <tickets@localhost>".
	From string
}

// mailer sends messages by SMTP or into a folder, or can do neither yet.
type mailer struct {
	dir, from string
	smtp      *mail.Client
}

func (m *mailer) configured() bool { return m.dir != "" || m.smtp != nil }

func newMailer(cfg MailConfig) (*mailer, error) {
	m := &mailer{dir: cfg.Dir, from: cfg.From}
	if m.from == "" {
		m.from = "Usher <tickets@localhost>"
	}
	if cfg.Dir != "" && cfg.SMTP != "" {
		return nil, errors.New("booking: only one of MailConfig.Dir and MailConfig.SMTP may be set")
	}
	if err := mail.NewMsg().From(m.from); err != nil {
		return nil, errors.New("booking: MailConfig.From is not an address")
	}
	if cfg.SMTP == "" {
		return m, nil
	}
	u, err := url.Parse(cfg.SMTP)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" {
		return nil, errors.New("booking: MailConfig.SMTP is no smtp:// or smtps:// address") // it may hold a password
	}
	opts := []mail.Option{mail.WithTimeout(15 * time.Second)}
	switch {
	case u.Scheme == "smtps":
		opts = append(opts, mail.WithSSLPort(false))
	case u.User != nil:
		opts = append(opts, mail.WithTLSPortPolicy(mail.TLSMandatory))
	default:
		opts = append(opts, mail.WithTLSPortPolicy(mail.TLSOpportunistic))
	}
	if port := u.Port(); port != "" {
		n, err := strconv.Atoi(port)
		if err != nil {
			return nil, errors.New("booking: MailConfig.SMTP has no valid port")
		}
		opts = append(opts, mail.WithPort(n))
	}
	if u.User != nil {
		password, _ := u.User.Password()
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	m.smtp, err = mail.NewClient(u.Hostname(), opts...)
	if err != nil {
		return nil, errors.New("booking: MailConfig.SMTP is not usable")
	}
	return m, nil
}

// send delivers msg; name is the file's in Dir. The same name again replaces the file.
func (m *mailer) send(ctx context.Context, name string, msg *mail.Msg) error {
	if m.smtp != nil {
		if err := m.smtp.DialAndSendWithContext(ctx, msg); err != nil {
			return fmt.Errorf("send mail: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	tmp, err := os.CreateTemp(m.dir, ".mail-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	defer os.Remove(tmp.Name()) // after the rename there is nothing left to remove
	_, err = msg.WriteTo(tmp)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	if err := os.Rename(tmp.Name(), filepath.Join(m.dir, name+".eml")); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	return nil
}

// mailRetry is how long a mail waits where none can be sent.
const mailRetry = 30 * time.Second

// mailWorker mails the tickets of a paid order. A job that is run again sends the same
// message under the same Message-ID.
type mailWorker struct {
	river.WorkerDefaults[ticketMailArgs]
	s    *Server
	mail *mailer
}

func (w *mailWorker) Work(ctx context.Context, job *river.Job[ticketMailArgs]) error {
	if !w.mail.configured() {
		return river.JobSnooze(mailRetry) // costs no attempt
	}
	o, err := w.s.readOrder(ctx, job.Args.Event, job.Args.Order)
	if err != nil {
		return err
	}
	if o.State != orderPaid {
		return nil // refunded before the mail went out
	}
	msg, err := w.s.ticketMail(ctx, o, w.mail.from)
	if err != nil {
		return err
	}
	return w.mail.send(ctx, o.ID.String(), msg)
}

// mailed is what the templates of a mail see.
type mailed struct {
	Name, Title, Venue, Starts, Total, Link string
	Test                                    bool
	Tickets                                 []mailedTicket
}

type mailedTicket struct {
	Label, Code string
	Picture     string // content id of its QR code
}

var ticketText = texttemplate.Must(texttemplate.New("text").Parse(`Hello {{.Name}},

these are your tickets for {{.Title}}.
{{.Starts}}, {{.Venue}}
{{if .Test}}
This is a test order: no money moved.
{{end}}{{range .Tickets}}
{{.Label}}
  Code: {{.Code}}
{{end}}
Total: {{.Total}}

Your order, with the QR codes to show at the door:
{{.Link}}

Whoever has this link or a code can use your tickets. Keep them to yourself.
`))

var ticketHTML = template.Must(template.New("html").Parse(`<!doctype html>
<html lang="en"><body style="font-family:system-ui,sans-serif;line-height:1.5;max-width:36rem;margin:0 auto;padding:1rem">
<p>Hello {{.Name}},</p>
<h1 style="font-size:1.4rem;margin:0">{{.Title}}</h1>
<p style="margin-top:0">{{.Starts}}, {{.Venue}}</p>
{{if .Test}}<p><strong>This is a test order: no money moved.</strong></p>{{end}}
{{range .Tickets}}<p style="border-top:1px solid #ccc;padding-top:1rem"><strong>{{.Label}}</strong><br>
<img src="cid:{{.Picture}}" alt="QR code of the ticket" width="200" height="200"><br><code>{{.Code}}</code></p>
{{end}}<p style="border-top:1px solid #ccc;padding-top:1rem">Total: {{.Total}}</p>
<p><a href="{{.Link}}">Your order</a></p>
<p>Whoever has this link or a code can use your tickets. Keep them to yourself.</p>
</body></html>
`))

// ticketMail writes the mail of a paid order. Its link carries the order's access in the
// fragment, which browsers send to nobody.
func (s *Server) ticketMail(ctx context.Context, o orderRecord, from string) (*mail.Msg, error) {
	slug, err := s.slugOf(ctx, o.Event)
	if err != nil {
		return nil, err
	}
	l, err := s.orderLayout(ctx, slug, o.Performance)
	if err != nil {
		return nil, err
	}
	tickets, err := s.tickets(ctx, o)
	if err != nil {
		return nil, err
	}
	content := mailed{
		Name: o.Buyer.Name, Title: l.Title, Venue: l.Venue, Starts: l.StartsAt.UTC().Format("Monday 2 January 2006, 15:04 MST"),
		Total: moneyText(o.Total), Test: o.Provider == sandboxName,
		Link: s.cfg.PublicURL + "/orders/" + slug + "/" + o.ID.String() + "#access=" + orderAccess(s.ring, o.Event, o.ID),
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	for i, t := range tickets {
		picture, err := qrPNG(t.Code, 6)
		if err != nil {
			return nil, err
		}
		label, _ := l.Label(t.Unit)
		id := fmt.Sprintf("ticket-%d", i+1)
		content.Tickets = append(content.Tickets, mailedTicket{Label: label, Code: t.Code, Picture: id})
		if err := msg.EmbedReader(id+".png", bytes.NewReader(picture), mail.WithFileContentID(id)); err != nil {
			return nil, fmt.Errorf("write mail: %w", err)
		}
	}
	if err := errors.Join(msg.From(from), msg.To((&netmail.Address{Name: o.Buyer.Name, Address: o.Buyer.Email}).String())); err != nil {
		return nil, fmt.Errorf("write mail: %w", err)
	}
	msg.Subject("Your tickets: " + l.Title)
	msg.SetMessageIDWithValue(o.ID.String() + "@" + s.host())
	msg.SetDateWithValue(s.now())
	if err := msg.SetBodyTextTemplate(ticketText, content); err != nil {
		return nil, fmt.Errorf("write mail: %w", err)
	}
	if err := msg.AddAlternativeHTMLTemplate(ticketHTML, content); err != nil {
		return nil, fmt.Errorf("write mail: %w", err)
	}
	return msg, nil
}

// host is the shop's, for message ids.
func (s *Server) host() string {
	u, err := url.Parse(s.cfg.PublicURL)
	if err != nil || u.Host == "" {
		return "usher"
	}
	if host, _, err := net.SplitHostPort(u.Host); err == nil {
		return host
	}
	return u.Host
}
