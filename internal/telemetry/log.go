package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode/utf8"

	"usher/internal/problem"
)

// NewLogger writes to w in format "json" or "text" from level "debug", "info",
// "warn" or "error" up. Every line of a request carries its request_id.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: l, ReplaceAttr: harmless}
	switch format {
	case "json":
		return slog.New(withRequestID{slog.NewJSONHandler(w, opts)}), nil
	case "text":
		return slog.New(withRequestID{slog.NewTextHandler(w, opts)}), nil
	}
	return nil, fmt.Errorf("log format %q is neither json nor text", format)
}

// harmless takes out what slog's JSON leaves in and some terminals obey: DEL and the C1
// controls, of which one byte begins a command.
func harmless(_ []string, a slog.Attr) slog.Attr {
	text := ""
	switch a.Value.Kind() {
	case slog.KindString:
		text = a.Value.String()
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			text = err.Error()
		}
	}
	if strings.ContainsFunc(text, obeyed) {
		a.Value = slog.StringValue(strings.Map(func(r rune) rune {
			if obeyed(r) {
				return utf8.RuneError
			}
			return r
		}, text))
	}
	return a
}

func obeyed(r rune) bool { return r >= 0x7f && r <= 0x9f }

// withRequestID adds the request's id from the context to each record.
type withRequestID struct{ slog.Handler }

func (h withRequestID) Handle(ctx context.Context, r slog.Record) error {
	if id := problem.RequestIDFrom(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withRequestID) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withRequestID{h.Handler.WithAttrs(attrs)}
}

func (h withRequestID) WithGroup(name string) slog.Handler {
	return withRequestID{h.Handler.WithGroup(name)}
}
