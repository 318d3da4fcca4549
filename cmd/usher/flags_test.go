package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// wrongly runs usher with args, which are wrong, and returns what it says of them.
func wrongly(t *testing.T, args ...string) (said string, usage bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // whoever takes them for right ends at once
	err := run(ctx, args, func(string) string { return "" }, io.Discard, io.Discard)
	if err == nil {
		t.Errorf("usher %q is taken for right", args)
		return "", false
	}
	said = err.Error()
	if strings.Contains(said, "\n") || strings.Contains(said, "goroutine") || len(said) > 400 {
		t.Errorf("usher %q says %q", args, said)
	}
	return said, errors.As(err, new(usageError))
}

// Every number of every command has bounds, and every flag that is no text refuses text.
func TestFlagsRefuseNonsense(t *testing.T) {
	t.Parallel()
	parser, err := kong.New(&commands{}, kong.Name("usher"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, command := range parser.Model.Leaves(true) {
		for _, flag := range command.AllFlags(true) {
			for _, f := range flag {
				kind := f.Target.Type()
				for kind.Kind() == reflect.Slice {
					kind = kind.Elem()
				}
				nonsense := []string{"x", "99999999999999999999999", "\x1b[31m"}
				switch {
				case f.Name == "help", kind.Kind() == reflect.String && f.Enum == "":
					continue
				case kind.Kind() == reflect.Int:
					nonsense = append(nonsense, "-1", "-9223372036854775808", "1e9", "9223372036854775807")
				case kind.String() == "*url.URL":
					nonsense = []string{"http://[", ":", "\x7f"}
				}
				for _, value := range nonsense {
					args := append(strings.Fields(strings.TrimPrefix(command.Path(), "usher ")), "--"+f.Name+"="+value)
					seen++
					said, usage := wrongly(t, args...)
					if !usage || !strings.Contains(said, f.Name) {
						t.Errorf("usher %q says %q, usage %v", args, said, usage)
					}
				}
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d calls were tried", seen)
	}
}

func TestGatewaySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.json")
	if err := run(t.Context(), []string{"keys", "new", "--keys-file", keys}, func(string) string { return "" }, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ flags, says string }{
		{"--listen=nonsense", "listen on nonsense"},
		{"--listen=:99999", "99999"},
		{"--listen=203.0.113.1:80", "203.0.113.1:80"},
		{"--admin-listen=::", "listen on ::"},
		{"--keys-file=" + dir, "keys"},
		{"--config=" + dir, "config"},
		{"--config=" + filepath.Join(dir, "none"), "none"},
		{"--redis-url=http://a.example", "http"},
		{"--redis-url=redis://:p@ss@[", "redis"},
		{"--tls-cert=none.pem", "--tls-key"},
		{"--tls-key=none.pem", "--tls-cert"},
		{"--http-redirect-listen=:80", "--http-redirect-listen"},
		{"--acme-domains=a.example,http://b", "http://b"},
		{"--acme-domains=a.example --tls-cert=a --tls-key=b", "--acme-domains"},
		{"--proxy-protocol", "--trusted-proxies"},
		{"--trusted-proxies=10.0.0.0/99", "10.0.0.0/99"},
	} {
		args := append([]string{"gateway", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--keys-file=" + keys, "--redis-url=redis://127.0.0.1:1"}, strings.Fields(c.flags)...)
		if said, _ := wrongly(t, args...); !strings.Contains(said, c.says) || strings.Contains(said, "p@ss") {
			t.Errorf("%s: %q, want %q in it", c.flags, said, c.says)
		}
	}
}
