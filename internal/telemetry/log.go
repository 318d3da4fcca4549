package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"usher/internal/problem"
)

// NewLogger writes to w in format "json" or "text" from level "debug", "info",
// "warn" or "error" up. Every line of a request carries its request_id.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "json":
		return slog.New(withRequestID{slog.NewJSONHandler(w, opts)}), nil
	case "text":
		return slog.New(withRequestID{slog.NewTextHandler(w, opts)}), nil
	}
	return nil, fmt.Errorf("log format %q is neither json nor text", format)
}

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
