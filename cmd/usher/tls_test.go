package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"usher/internal/devstack"
	"usher/internal/devstack/devtest"
)

// certify writes a certificate of its own making for names, and its key.
func certify(t *testing.T, dir, file string, names ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, file+".pem"), filepath.Join(dir, file+".key")
	for path, block := range map[string]*pem.Block{key: {Type: "PRIVATE KEY", Bytes: pkcs8}, cert: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func local(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// running runs parts until the test ends.
func running(t *testing.T, parts ...part) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() { _ = p(ctx) }) // what they fail of shows in the test
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// encrypt serves h over TLS by certificates from files.
func encrypt(t *testing.T, h http.Handler, s secrecy) string {
	t.Helper()
	log, l := slog.New(slog.DiscardHandler), local(t)
	https, err := s.secure(l, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	running(t, https.keep, serving(tls.NewListener(l, https.config), h, log, nil, atOnce))
	return l.Addr().String()
}

// presented is the name on the certificate that a client gets who asks for server.
func presented(t *testing.T, address, server string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: server, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // also in a cleanup
	defer cancel()
	if until(ctx, func() error {
		if cond() {
			return nil
		}
		return fmt.Errorf("not yet")
	}) != nil {
		t.Fatalf("it never came that %s", what)
	}
}

func TestCertificatesFromFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	shopCert, shopKey := certify(t, dir, "shop", "shop.example", "*.shop.example")
	clubCert, clubKey := certify(t, dir, "club", "club.example")
	address := encrypt(t, http.NotFoundHandler(), secrecy{TLSCert: []string{shopCert, clubCert}, TLSKey: []string{shopKey, clubKey}})
	for server, want := range map[string]string{"shop.example": "shop.example", "www.shop.example": "shop.example", "club.example": "club.example", "other.example": "shop.example"} {
		if got := presented(t, address, server); got != want {
			t.Errorf("%s is shown %s", server, got)
		}
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	// A half-written change breaks nothing, a whole one is in force without a restart.
	if err := os.WriteFile(clubKey, []byte("half of a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	certify(t, dir, "shop", "new.example", "shop.example")
	if got := presented(t, address, "shop.example"); got != "shop.example" {
		t.Errorf("with half a change shop.example is shown %s", got)
	}
	certify(t, dir, "club", "club.example")
	eventually(t, "a changed certificate is in force", func() bool { return presented(t, address, "shop.example") == "new.example" })
}

func TestBadCertificatesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, aKey := certify(t, dir, "a", "a.example")
	b, bKey := certify(t, dir, "b", "b.example")
	for name, s := range map[string]secrecy{
		"the wrong key": {TLSCert: []string{a}, TLSKey: []string{bKey}},
		"no file":       {TLSCert: []string{filepath.Join(dir, "none")}, TLSKey: []string{aKey}},
		"a key twice":   {TLSCert: []string{b}, TLSKey: []string{b}},
	} {
		if _, err := s.secure(local(t), nil, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, s := range map[string]secrecy{
		"a certificate without key": {TLSCert: []string{a}},
		"both kinds":                {TLSCert: []string{a}, TLSKey: []string{aKey}, ACMEDomains: []string{"a.example"}},
		"nothing to lead to":        {HTTPRedirectListen: ":80"},
		"a wildcard":                {ACMEDomains: []string{"*.a.example"}},
	} {
		if s.validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A client that begins streams and resets them at once makes little work of it: few
// handlers run at once, and the connection is ended.
func TestRapidResetIsHungUpOn(t *testing.T) {
	t.Parallel()
	cert, key := certify(t, t.TempDir(), "shop", "shop.example")
	var now, most atomic.Int64
	address := encrypt(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-r.Context().Done(): // reset
		case <-time.After(time.Minute):
		}
	}), secrecy{TLSCert: []string{cert}, TLSKey: []string{key}})
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	sent := make(chan int, 1)
	go func() {
		for i := range 50_000 {
			block.Reset()
			for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "shop.example"}, {":path", "/"}} {
				_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}
			id := uint32(2*i + 1)
			err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
			if err == nil {
				err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
			}
			if err != nil {
				sent <- i
				return
			}
		}
		sent <- 50_000
	}()
	said := http2.ErrCodeNo
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			break
		}
		if away, ok := f.(*http2.GoAwayFrame); ok {
			said = away.ErrCode
		}
	}
	_ = conn.Close()
	t.Logf("hung up on with %s after %d streams, at most %d handlers at once", said, <-sent, most.Load())
	if most.Load() > 100 {
		t.Errorf("%d handlers ran at once", most.Load())
	}
}

func TestLimitsOfRequests(t *testing.T) {
	t.Parallel()
	l := local(t)
	running(t, serving(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "fine") }), slog.New(slog.DiscardHandler), nil, atOnce))
	ask := func(request string) string {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, request) // it may be hung up on in the middle
		answer, _ := io.ReadAll(conn)
		return string(answer)
	}
	const end = "Host: a\r\nConnection: close\r\n\r\n"
	for name, c := range map[string]struct{ request, answer string }{
		"plain":               {"GET / HTTP/1.1\r\n" + end, "HTTP/1.1 200"},
		"a header of 30 KiB":  {"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 30<<10) + "\r\n" + end, "HTTP/1.1 200"},
		"a header of 64 KiB":  {"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n" + end, "HTTP/1.1 431"},
		"10,000 headers":      {"GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 10_000) + end, "HTTP/1.1 431"},
		"a target of 64 KiB":  {"GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\n" + end, "HTTP/1.1 431"},
		"a line without end":  {strings.Repeat("x", 64<<10), "HTTP/1.1 4"},
		"half a header, idle": {"GET / HTTP/1.1\r\nHost: a\r\nX: ", ""}, // ten seconds, then silence
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := ask(c.request); !strings.HasPrefix(got, c.answer) || c.answer == "" && strings.HasPrefix(got, "HTTP/1.1 200") {
				t.Errorf("answered %.60q, want %q", got, c.answer)
			}
		})
	}
}

// TestACME lets a gateway get its certificate from Pebble, the test authority of Let's
// Encrypt, which asks back over both of its listeners.
func TestACME(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	dir := t.TempDir()
	pebble := filepath.Join(dir, "pebble")
	build := exec.CommandContext(ctx, "go", "build", "-modfile=tools.mod", "-o", pebble, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build pebble: %v\n%s", err, out)
	}
	ports := make([]string, 5) // of pebble, its management, https, http, admin
	for i := range ports {
		ports[i] = devtest.Port(t)
	}
	cert, key := certify(t, dir, "authority", "localhost")
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:" + ports[0], "managementListenAddress": "127.0.0.1:" + ports[1],
		"certificate": cert, "privateKey": key, "tlsPort": number(ports[2]), "httpPort": number(ports[3]),
	}})
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(config, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	authority := exec.CommandContext(ctx, pebble, "-config", config)
	authority.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20")
	var told bytes.Buffer
	authority.Stdout, authority.Stderr = &told, &told
	if err := authority.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = authority.Process.Kill()
		_ = authority.Wait()
		if t.Failed() {
			t.Log(told.String())
		}
	})

	folder, err := devstack.Lock(filepath.Join(dir, "redis"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(folder.Unlock)
	redis, err := devstack.StartRedis(ctx, devstack.RedisConfig{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Kill)
	keys, storage := filepath.Join(dir, "keys.json"), filepath.Join(dir, "acme")
	getenv := func(string) string { return "" }
	if err := run(ctx, []string{"keys", "new", "--keys-file", keys}, getenv, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	gateway := func(context.Context) error {
		return run(ctx, []string{"gateway", "--keys-file", keys, "--redis-url", redis.URL, "--listen", "127.0.0.1:" + ports[2],
			"--http-redirect-listen", "127.0.0.1:" + ports[3], "--admin-listen", "127.0.0.1:" + ports[4],
			"--acme-domains", "localhost", "--acme-email", "ops@shop.example", "--acme-directory", "https://127.0.0.1:" + ports[0] + "/dir",
			"--acme-roots", cert, "--acme-storage", storage}, getenv, io.Discard, io.Discard)
	}
	gone := make(chan error, 1)
	go func() { gone <- gateway(ctx) }()
	t.Cleanup(func() { cancel(); <-gone })

	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: time.Minute}
	t.Cleanup(client.CloseIdleConnections)
	var res *http.Response
	eventually(t, "the gateway has a certificate", func() bool {
		res, err = client.Get("https://localhost:" + ports[2] + "/.well-known/jwks.json")
		return err == nil
	})
	defer res.Body.Close()
	if issuer := res.TLS.PeerCertificates[0].Issuer.CommonName; res.StatusCode != http.StatusOK || res.ProtoMajor != 2 || !strings.Contains(issuer, "Pebble") || res.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%d over %s by %s: %v", res.StatusCode, res.Proto, issuer, res.Header)
	}
	plain, err := client.Get("http://localhost:" + ports[3] + "/events/gala?a=b")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Body.Close()
	if to, want := plain.Header.Get("Location"), "https://localhost:"+ports[2]+"/events/gala?a=b"; plain.StatusCode != http.StatusPermanentRedirect || to != want {
		t.Errorf("plain http: %d to %s, want %s", plain.StatusCode, to, want)
	}
}

func number(port string) (n int) {
	_, _ = fmt.Sscan(port, &n)
	return n
}
