package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"usher/gateway"
	"usher/internal/telemetry"
)

// secrecy are the settings of https. A gateway without any of them speaks plain http,
// for a load balancer in front of it that does TLS.
type secrecy struct {
	TLSCert            []string `name:"tls-cert" placeholder:"FILE,…" help:"Certificate chains (PEM): serve https, with the first that fits the name that a client asks for. Files that change are read again."`
	TLSKey             []string `name:"tls-key" placeholder:"FILE,…" help:"The private keys of --tls-cert, in the same order."`
	ACMEDomains        []string `name:"acme-domains" placeholder:"NAME,…" help:"Serve https with certificates of these names, obtained and renewed by ACME. Naming any agrees to the terms of the authority."`
	ACMEEmail          string   `name:"acme-email" placeholder:"ADDRESS" help:"Where the authority writes about the certificates."`
	ACMEDirectory      string   `name:"acme-directory" default:"https://acme-v02.api.letsencrypt.org/directory" placeholder:"URL" help:"The authority's directory."`
	ACMERoots          string   `name:"acme-roots" placeholder:"FILE" help:"Roots (PEM) by which a private authority is known; default the system's."`
	ACMEStorage        string   `name:"acme-storage" default:".usher-acme" placeholder:"DIR" help:"Where certificates and the account are kept, and what gateways share so that any can answer a challenge."`
	HTTPRedirectListen string   `name:"http-redirect-listen" placeholder:"ADDRESS" help:"Listen for plain http too, and lead it to https; answers ACME challenges."`
}

func (s secrecy) on() bool { return len(s.TLSCert) > 0 || len(s.ACMEDomains) > 0 }

func (s secrecy) validate() error {
	var faults []error
	if len(s.TLSCert) != len(s.TLSKey) {
		faults = append(faults, fmt.Errorf("--tls-cert names %d files and --tls-key %d: each certificate needs its key", len(s.TLSCert), len(s.TLSKey)))
	}
	if len(s.TLSCert) > 0 && len(s.ACMEDomains) > 0 {
		faults = append(faults, errors.New("--tls-cert and --acme-domains: only one can say where certificates come from"))
	}
	if s.HTTPRedirectListen != "" && !s.on() {
		faults = append(faults, errors.New("--http-redirect-listen leads to https, which needs --tls-cert or --acme-domains"))
	}
	for _, name := range s.ACMEDomains {
		if !domain(name) {
			faults = append(faults, fmt.Errorf("--acme-domains: %q is no name that an authority can check", name))
		}
	}
	return errors.Join(faults...)
}

// domain tells whether name can be checked over HTTP or TLS: no wildcard, no port.
func domain(name string) bool {
	return len(name) <= 253 && name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.'
	})
}

// front are the parts by which the public comes in, and what works behind them. plain
// is where it is led to https from; it may be nil.
func (s secrecy) front(g *gateway.Server, public, plain net.Listener, log *slog.Logger) (front, behind []part, err error) {
	door := g.Guard(public)
	if s.on() {
		https, err := s.secure(public, plain, log)
		if err != nil {
			return nil, nil, err
		}
		door, behind = tls.NewListener(door, https.config), []part{https.keep}
		if plain != nil {
			to := https.challenges(g.ToTLS(strconv.Itoa(portOf(public))))
			front = append(front, serving(g.Guard(plain), to, log, nil, deploy))
		}
	}
	return append(front, serving(door, g.Handler(), log, g.Drain, deploy)), behind, nil
}

// secured is how the public is served over TLS.
type secured struct {
	config *tls.Config
	keep   part // keeps the certificates fresh
	// challenges answers an authority's challenges over plain http, and leaves the
	// rest to next.
	challenges func(next http.Handler) http.Handler
}

// secure reads or asks for the certificates. public and plain are where the gateway
// listens for https and http; plain may be nil.
func (s secrecy) secure(public, plain net.Listener, log *slog.Logger) (*secured, error) {
	if len(s.ACMEDomains) > 0 {
		return s.acme(public, plain, log)
	}
	c := &certificates{certs: s.TLSCert, keys: s.TLSKey, log: log}
	if _, err := c.read(); err != nil {
		return nil, err
	}
	return &secured{
		config: tlsConfig(&tls.Config{GetCertificate: c.get}), keep: c.run,
		challenges: func(next http.Handler) http.Handler { return next },
	}, nil
}

// tlsConfig says what holds whoever gave the certificates. The suites and curves are
// Go's, which leave out what is weak.
func tlsConfig(c *tls.Config) *tls.Config {
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = append([]string{"h2", "http/1.1"}, c.NextProtos...)
	return c
}

// certificates are those of files.
type certificates struct {
	certs, keys []string
	log         *slog.Logger
	state       [sha256.Size]byte // of all files when last read; belongs to read
	inForce     atomic.Pointer[[]tls.Certificate]
}

// read takes the files in force if they have changed and all is well with them.
func (c *certificates) read() (changed bool, err error) {
	sum := sha256.New()
	var loaded []tls.Certificate
	var faults []error
	for i := range c.certs {
		cert, err := os.ReadFile(c.certs[i])
		if err != nil {
			faults = append(faults, fmt.Errorf("TLS certificate: %w", err))
			continue
		}
		key, err := os.ReadFile(c.keys[i])
		if err != nil {
			faults = append(faults, fmt.Errorf("TLS key: %w", err))
			continue
		}
		for _, raw := range [][]byte{cert, key} {
			fmt.Fprintf(sum, "%d:", len(raw))
			sum.Write(raw)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			faults = append(faults, fmt.Errorf("TLS certificate %s with key %s: %w", c.certs[i], c.keys[i], err))
		}
		loaded = append(loaded, pair)
	}
	state := [sha256.Size]byte(sum.Sum(nil))
	if len(faults) > 0 || bytes.Equal(state[:], c.state[:]) {
		return false, errors.Join(faults...)
	}
	c.state = state
	c.inForce.Store(&loaded)
	ends := loaded[0].Leaf.NotAfter
	for _, pair := range loaded {
		if pair.Leaf.NotAfter.Before(ends) {
			ends = pair.Leaf.NotAfter
		}
	}
	telemetry.CertificateEnds.Set(float64(ends.Unix()))
	return true, nil
}

// get finds the first certificate that fits, else the first there is.
func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	all := *c.inForce.Load()
	for i := range all {
		if hello.SupportsCertificate(&all[i]) == nil {
			return &all[i], nil
		}
	}
	return &all[0], nil
}

// readAgain is how soon a changed file is noticed.
const readAgain = 2 * time.Second

// run reads the files again and again. What is wrong with them is said once, and the
// last good ones stay in force.
func (c *certificates) run(ctx context.Context) error {
	tick := time.NewTicker(readAgain)
	defer tick.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		changed, err := c.read()
		switch {
		case err != nil && err.Error() != said:
			c.log.Error("TLS certificates stay as they were", "error", err)
			said = err.Error()
		case changed:
			c.log.Info("TLS certificates were read again")
			said = ""
		}
	}
}
