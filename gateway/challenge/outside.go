package challenge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Action is what an answer of Turnstile must have been made for.
const Action = "usher-join"

const (
	// outsideTime bounds a question to another service.
	outsideTime = 5 * time.Second
	// outsideRest is how long one failure makes challenges altcha's.
	outsideRest = 30 * time.Second
	// outsideLife is how old an answer may be; theirs end after five minutes or two.
	outsideLife   = 5 * time.Minute
	maxOutside    = 4096  // bytes of an answer
	maxSiteverify = 64000 // bytes of what the service says
)

// Outside is another service that tells people from programs: Turnstile or hCaptcha, by
// their siteverify protocol. Its zero fields take the service's own values.
type Outside struct {
	// Provider is turnstile or hcaptcha.
	Provider string
	// SiteKey is public, Secret is not.
	SiteKey, Secret string
	// URL is where answers are verified; only the configuration sets it.
	URL string
	// Hosts are the names under which visitors know the site; default the one they asked for.
	Hosts []string

	client http.Client
	down   atomic.Int64 // until when it is not asked, in Unix milliseconds
}

var verifyURLs = map[string]string{
	"turnstile": "https://challenges.cloudflare.com/turnstile/v0/siteverify",
	"hcaptcha":  "https://api.hcaptcha.com/siteverify",
}

// NewOutside makes one; nil without a provider.
func NewOutside(provider, siteKey, secret, verify string, hosts []string) (*Outside, error) {
	if provider == "" || provider == Altcha {
		return nil, nil
	}
	known, ok := verifyURLs[provider]
	if !ok {
		return nil, fmt.Errorf("challenge provider %q is none of altcha, turnstile, hcaptcha", provider)
	}
	if siteKey == "" || secret == "" {
		return nil, fmt.Errorf("challenge provider %s needs a site key and a secret", provider)
	}
	if verify == "" {
		verify = known
	}
	if u, err := url.Parse(verify); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the challenge verify URL is no http or https address")
	}
	return &Outside{
		Provider: provider, SiteKey: siteKey, Secret: secret, URL: verify, Hosts: hosts,
		client: http.Client{Timeout: outsideTime, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func (o *Outside) ready(now time.Time) bool { return o != nil && now.UnixMilli() >= o.down.Load() }

// verdict is what siteverify says; action is Turnstile's alone.
type verdict struct {
	Success  bool      `json:"success"`
	At       time.Time `json:"challenge_ts"`
	Hostname string    `json:"hostname"`
	Action   string    `json:"action"`
	Errors   []string  `json:"error-codes"`
}

// ask asks the service about an answer. It does not tell it the visitor's address.
func (o *Outside) ask(ctx context.Context, answer string) (verdict, error) {
	form := url.Values{"secret": {o.Secret}, "response": {answer}, "sitekey": {o.SiteKey}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return verdict{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := o.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which an operator may have put a token into
		}
		return verdict{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxSiteverify))
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	if err := json.Unmarshal(body, &v); err != nil || res.StatusCode >= http.StatusInternalServerError {
		return verdict{}, fmt.Errorf("siteverify answers %d", res.StatusCode)
	}
	for _, ours := range []string{"missing-input-secret", "invalid-input-secret", "sitekey-secret-mismatch", "internal-error"} {
		if slices.Contains(v.Errors, ours) { // no fault of the visitor's
			return verdict{}, fmt.Errorf("siteverify says %s", ours)
		}
	}
	return v, nil
}

func (c *Checker) checkOutside(ctx context.Context, a Asker, answer string) error {
	o, now := c.cfg.Outside, c.cfg.Now()
	no := func(outcome string) error { return &Refused{o.Provider, outcome} }
	switch {
	case answer == "" || len(answer) > maxOutside:
		return no("unreadable")
	case !o.ready(now):
		return no("unavailable")
	}
	v, err := o.ask(ctx, answer)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		o.down.Store(now.Add(outsideRest).UnixMilli())
		c.cfg.Log.WarnContext(ctx, "challenges are proofs of work: the verifier does not answer", "provider", o.Provider, "error", err)
		return no("unavailable")
	}
	hosts := o.Hosts
	if len(hosts) == 0 {
		hosts = []string{a.Host}
	}
	switch age := now.Sub(v.At); {
	case !v.Success:
		return no("wrong")
	case !slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, v.Hostname) }):
		return no("foreign")
	case o.Provider == "turnstile" && v.Action != Action:
		return no("foreign")
	case age > outsideLife || age < -time.Minute:
		return no("expired")
	}
	// The service forgets a token once verified; that it does so atomically is not ours to trust.
	sum := sha256.Sum256([]byte(answer))
	d := c.debtor(a)
	return c.settle(ctx, o.Provider, ticket{a.Room, v.At.Unix() / 60, binary.BigEndian.Uint64(sum[:])}, 2*outsideLife, d,
		[]bucket{{crowdKey(a.Room), crowd, crowd.most}})
}

func serial() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return binary.BigEndian.Uint64(b[:])
}
