package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"usher/internal/problem"
)

func TestRequestIDIsOursUnlessTrusted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent  string
		trust bool
		keep  bool
	}{
		"a client's":            {"client-chosen-id", false, false},
		"a trusted proxy's":     {"proxy-chosen-id", true, true},
		"log injection":         {"evil\nlevel=ERROR id", true, false},
		"too long":              {strings.Repeat("a", 65), true, false},
		"none":                  {"", true, false},
		"a trusted proxy's own": {"0193-abcd_EFGH", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var forwarded, inContext string
			h := Requests(slog.New(slog.DiscardHandler), func(*http.Request) bool { return c.trust }, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				forwarded, inContext = r.Header.Get(problem.RequestIDHeader), problem.RequestIDFrom(r.Context())
			}))
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set(problem.RequestIDHeader, c.sent)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got := w.Header().Get(problem.RequestIDHeader)
			if (got == c.sent) != c.keep || got == "" || forwarded != got || inContext != got {
				t.Errorf("answered %q, forwarded %q, in context %q", got, forwarded, inContext)
			}
		})
	}
}

func TestLogLinesCarryTheRequestID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := NewLogger(&out, "json", "info")
	if err != nil {
		t.Fatal(err)
	}
	log.With("room", "gala").InfoContext(new(problem.Identified).With(context.Background(), "req-1"), "called")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["request_id"] != "req-1" || line["room"] != "gala" {
		t.Errorf("%s, %v", out.String(), err)
	}
	for _, bad := range [][2]string{{"xml", "info"}, {"json", "loud"}} {
		if _, err := NewLogger(&out, bad[0], bad[1]); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

func TestAccessLogKeepsSecretsOut(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := NewLogger(&out, "text", "debug")
	if err != nil {
		t.Fatal(err)
	}
	h := Requests(log, nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	r := httptest.NewRequest(http.MethodGet, "/orders/1?access=s3cret", nil)
	r.Header.Set("Authorization", "Bearer s3cret")
	h.ServeHTTP(httptest.NewRecorder(), r)
	if line := out.String(); strings.Contains(line, "s3cret") || !strings.Contains(line, "status=418") {
		t.Error(line)
	}
}

func TestReadinessTellsWhy(t *testing.T) {
	t.Parallel()
	down := errors.New("redis does not answer")
	h := AdminHandler(func(context.Context) error { return down })
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/metrics": 200, "/debug/pprof/": 200} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want {
			t.Errorf("%s answers %d, want %d", path, w.Code, want)
		}
	}
	down = nil
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("ready answers %d", w.Code)
	}
}

// What strangers write ends in no second line and moves no cursor, in either format.
func TestStrangersForgeNoLogLines(t *testing.T) {
	t.Parallel()
	evil := "/a\r\n{\"level\":\"ERROR\"}\n\x1b[31mred\x1b]0;title\x07\u2028\x00\x7f\u009b31m\" msg=forged"
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		log, err := NewLogger(&out, format, "debug")
		if err != nil {
			t.Fatal(err)
		}
		h := Requests(log, nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path, r.Method = evil, "GET\nX"
		h.ServeHTTP(httptest.NewRecorder(), r)
		log.Warn("refused", "name", evil, "error", errors.New(evil))
		said := strings.TrimSuffix(out.String(), "\n")
		if lines := strings.Count(said, "\n") + 1; lines != 2 {
			t.Errorf("%s: %d lines: %q", format, lines, said)
		}
		if strings.ContainsFunc(strings.ReplaceAll(said, "\n", ""), func(c rune) bool { return unicode.IsControl(c) }) {
			t.Errorf("%s: control characters: %q", format, said)
		}
	}
}
