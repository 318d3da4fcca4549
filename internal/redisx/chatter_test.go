package redisx

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/time/rate"
)

// Not parallel: slog's default logger is one a process.
func TestChatterIsDebugAndBounded(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	say := func(level slog.Level) {
		out.Reset()
		slog.SetDefault(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
		c := chatter{lines: rate.NewLimiter(0, chatterPerSecond)}
		for range 1000 {
			c.Printf(context.Background(), "dial %s: refused", "1.2.3.4")
		}
	}
	if say(slog.LevelInfo); out.Len() > 0 {
		t.Errorf("an operator reads %q", out.String())
	}
	say(slog.LevelDebug)
	if n := strings.Count(out.String(), "dial 1.2.3.4: refused"); n != chatterPerSecond {
		t.Errorf("%d lines of 1000 are written, want %d", n, chatterPerSecond)
	}
}
