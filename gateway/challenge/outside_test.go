package challenge

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// siteverify is a verifier that speaks the protocol of Turnstile and hCaptcha, with the
// answers of each token written down.
type siteverify struct {
	mu     sync.Mutex
	says   map[string]map[string]any
	asked  atomic.Int64
	broken atomic.Bool // answer with a fault of the service
	hang   chan struct{}
}

func (s *siteverify) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	response := r.FormValue("response") // reads the body, without which a client that has gone is not noticed
	if s.hang != nil {
		select {
		case <-s.hang:
		case <-r.Context().Done():
		}
		return
	}
	if s.broken.Load() {
		http.Error(w, "no", http.StatusBadGateway)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := s.says[response]
	switch {
	case r.Method != http.MethodPost || r.FormValue("secret") != "hush":
		answer = map[string]any{"success": false, "error-codes": []string{"invalid-input-secret"}}
	case answer == nil:
		answer = map[string]any{"success": false, "error-codes": []string{"invalid-input-response"}}
	}
	_ = json.NewEncoder(w).Encode(answer) // the test sees what is missing
}

func good(changes ...any) map[string]any {
	m := map[string]any{"success": true, "challenge_ts": time.Now().UTC().Format(time.RFC3339), "hostname": "shop.example", "action": Action}
	for i := 0; i+1 < len(changes); i += 2 {
		m[changes[i].(string)] = changes[i+1]
	}
	return m
}

func outside(t *testing.T, provider, secret string, service *siteverify) *Checker {
	t.Helper()
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	o, err := NewOutside(provider, "site-key", secret, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newChecker(t, func(cfg *Config) { cfg.Outside = o })
	return c
}

func TestSiteverify(t *testing.T) {
	t.Parallel()
	old := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for _, provider := range []string{"turnstile", "hcaptcha"} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			otherAction := map[string]string{"turnstile": "foreign", "hcaptcha": ""}[provider] // only Turnstile has actions
			service := &siteverify{says: map[string]map[string]any{
				"good": good(), "twice": good(), "host": good("hostname", "evil.example"), "action": good("action", "login"),
				"old": good("challenge_ts", old), "undated": good("challenge_ts", "0001-01-01T00:00:00Z"),
				"timeout": {"success": false, "error-codes": []string{"timeout-or-duplicate"}},
			}}
			c := outside(t, provider, "hush", service)
			a := asker(1)
			if o := c.Offer(t.Context(), a); o.Provider != provider || o.SiteKey != "site-key" || o.Parameters != nil || o.SlowPath == nil {
				t.Errorf("the offer is %+v", o)
			}
			for answer, want := range map[string]string{
				"good": "", "host": "foreign", "action": otherAction, "old": "expired", "undated": "expired", "timeout": "wrong", "unknown": "wrong",
			} {
				if why := outcome(t, c.Check(t.Context(), a, answer)); why != want {
					t.Errorf("%s: %q, want %q", answer, why, want)
				}
			}
			// The service would say yes twice; we do not believe it twice.
			var passed atomic.Int64
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if c.Check(context.Background(), a, "twice") == nil {
						passed.Add(1)
					}
				})
			}
			wg.Wait()
			if passed.Load() != 1 {
				t.Errorf("%d of ten with one answer passed", passed.Load())
			}
		})
	}
}

// While the service does not answer nobody passes by its word, and challenges are proofs
// of work.
func TestSiteverifyAway(t *testing.T) {
	t.Parallel()
	broken := &siteverify{}
	broken.broken.Store(true)
	hanging := &siteverify{hang: make(chan struct{})}
	for name, c := range map[string]*Checker{
		"broken": outside(t, "turnstile", "hush", broken), "wrong secret": outside(t, "turnstile", "guess", &siteverify{}),
		"hanging": func() *Checker {
			c := outside(t, "hcaptcha", "hush", hanging)
			c.cfg.Outside.client.Timeout = 200 * time.Millisecond
			return c
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := asker(1)
			for range 3 {
				if why := outcome(t, c.Check(t.Context(), a, "any")); why != "unavailable" {
					t.Errorf("an answer is %q", why)
				}
			}
			o := c.Offer(t.Context(), a)
			if o.Provider != Altcha {
				t.Fatalf("the offer is still %s", o.Provider)
			}
			if why := outcome(t, c.Check(t.Context(), a, solve(t, o))); why != "" {
				t.Errorf("a proof is %q", why)
			}
		})
	}
	t.Cleanup(func() {
		if n := broken.asked.Load(); n != 1 {
			t.Errorf("a broken service was asked %d times", n)
		}
	})
}

func TestOutsideConfig(t *testing.T) {
	t.Parallel()
	for _, bad := range [][4]string{{"recaptcha", "k", "s", ""}, {"turnstile", "", "s", ""}, {"turnstile", "k", "", ""}, {"hcaptcha", "k", "s", "ftp://x"}, {"hcaptcha", "k", "s", "/x"}} {
		if o, err := NewOutside(bad[0], bad[1], bad[2], bad[3], nil); err == nil {
			t.Errorf("%v makes %+v", bad, o)
		}
	}
	if o, err := NewOutside("", "", "", "", nil); o != nil || err != nil {
		t.Errorf("no provider makes %v, %v", o, err)
	}
}
