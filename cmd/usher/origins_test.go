package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func config(t *testing.T, text string) (*configFile, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usher.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readConfig(path)
}

func TestOriginsInShortAndAtLength(t *testing.T) {
	t.Parallel()
	file, err := config(t, `
origins:
  short: http://127.0.0.1:1
  long:
    urls: [http://127.0.0.1:1/base, "https://example.org"]
    health: {path: /up, interval_s: 0.5, fail_after: 2}
    max_in_flight: 50
    timeout_s: 2.5
    slow_ms: 300
    retries: 0
    max_answer_bytes: 1000
routes:
  - {host: a.example, origin: short, cache: true}
`)
	if err != nil {
		t.Fatal(err)
	}
	origins, err := file.origins()
	if err != nil {
		t.Fatal(err)
	}
	long := origins["long"]
	if len(origins["short"].URLs) != 1 || len(long.URLs) != 2 || long.Health.Path != "/up" || long.Health.Interval != time.Second/2 || long.Health.FailAfter != 2 ||
		long.MaxInFlight != 50 || long.Timeout != 2500*time.Millisecond || long.Slow != 300*time.Millisecond || long.Retries != -1 || long.MaxAnswer != 1000 || !file.Routes[0].Cache {
		t.Errorf("%+v", origins)
	}
}

func TestFaultsOfOriginsNameTheirLines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"origins:\n  a: ftp://x\n":                                              "line 2: origin a: urls",
		"origins:\n  a: http://%zz\n":                                           "line 2: origin a: urls",
		"origins:\n  a:\n    urls: [http://x]\n    timeout: 3\n":                "line 4: timeout is no setting",
		"origins:\n  a:\n    urls: [http://x]\n    health:\n      pth: /\n":     "line 5: health.pth is no setting",
		"origins:\n  a:\n    urls: [http://x]\n    timeout_s: -1\n":             "line 4: origin a: timeout_s",
		"origins:\n  a:\n    urls: [http://x]\n    timeout_s: .nan\n":           "line 4: origin a: timeout_s",
		"origins:\n  a:\n    urls: [http://x]\n    timeout_s: 1e300\n":          "line 4: origin a: timeout_s",
		"origins:\n  a:\n    urls: [http://x]\n    max_in_flight: 0\n":          "line 4: origin a: max_in_flight",
		"origins:\n  a:\n    urls: [http://x]\n    health: {fail_after: 900}\n": "line 4: origin a: health.fail_after",
		"origins:\n  a:\n    urls: [http://x]\n    retry_budget: 3\n":           "line 4: origin a: retry_budget",
		"origins:\n  a:\n    retries: 1\n":                                      "line 3: origin a: urls",
		"origins:\n  a: [http://x]\n":                                           "line 2: want an address or a mapping",
		"origins:\n  a:\n    urls: http://x\n":                                  "line 3",
		"origins:\n  a: http://x\nroutes:\n  - {host: h, origin: b}\n":          `there is no origin "b"`,
	} {
		file, err := config(t, text)
		if err == nil {
			_, err = file.origins()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
