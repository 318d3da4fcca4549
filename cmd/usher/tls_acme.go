package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// acme has certificates obtained and renewed. The gateway serves at once: a name whose
// certificate is not here yet fails its handshakes, all else works.
func (s secrecy) acme(public, plain net.Listener, log *slog.Logger) (*secured, error) {
	var roots *x509.CertPool
	if s.ACMERoots != "" {
		pem, err := os.ReadFile(s.ACMERoots)
		if err != nil {
			return nil, fmt.Errorf("roots of the ACME authority: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("roots of the ACME authority: no certificate is in %s", s.ACMERoots)
		}
	}
	if err := os.MkdirAll(s.ACMEStorage, 0o700); err != nil {
		return nil, fmt.Errorf("make the ACME storage: %w", err)
	}
	// certmagic speaks zap; what an operator needs to know comes as events.
	quiet := zap.NewNop()
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		Logger:           quiet,
	})
	magic = certmagic.New(cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: s.ACMEStorage},
		Logger:  quiet,
		OnEvent: func(_ context.Context, event string, about map[string]any) error {
			switch event {
			case "cert_obtained":
				log.Info("TLS certificate obtained", "name", about["identifier"], "renewal", about["renewal"])
			case "cert_failed":
				log.Error("TLS certificate not obtained; it is tried again", "name", about["identifier"], "error", fmt.Sprint(about["error"]))
			case "cert_ocsp_revoked":
				log.Error("TLS certificate was revoked", "names", about["subjects"])
			}
			return nil
		},
	})
	issuer := certmagic.ACMEIssuer{
		CA: s.ACMEDirectory, Email: s.ACMEEmail, Agreed: true, TrustedRoots: roots, Logger: quiet,
		// We listen already: certmagic sees that, and lets us answer.
		AltTLSALPNPort: portOf(public),
	}
	if plain != nil {
		issuer.AltHTTPPort = portOf(plain)
	} else {
		issuer.DisableHTTPChallenge = true
	}
	authority := certmagic.NewACMEIssuer(magic, issuer)
	magic.Issuers = []certmagic.Issuer{authority}
	return &secured{
		config: tlsConfig(&tls.Config{GetCertificate: magic.GetCertificate, NextProtos: []string{"acme-tls/1"}}),
		keep: func(ctx context.Context) error {
			defer cache.Stop()
			if err := magic.ManageAsync(ctx, s.ACMEDomains); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("TLS certificates: %w", err)
			}
			<-ctx.Done()
			return ctx.Err()
		},
		challenges: authority.HTTPChallengeHandler,
	}, nil
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
