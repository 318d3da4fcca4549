package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"usher/internal/http1"
	"usher/internal/telemetry"
)

// listen takes an address, or says clearly that somebody else has it.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s is in use by another process", address)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// serving is the part that answers on l. When told to end it lets drain say
// goodbye to connections that http.Server does not know, then finishes the
// requests under way.
func serving(l net.Listener, h http.Handler, log *slog.Logger, drain func(context.Context), wait patience) part {
	srv := &http1.Server{HTTP: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute, // streams and WebSockets set their own
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100, // Go answers four times as many that are begun and reset by hanging up
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
			SendPingTimeout:               30 * time.Second, // of silence, and then
			PingTimeout:                   15 * time.Second, // for the answer
			WriteByteTimeout:              30 * time.Second,
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers' connections die of
	}}
	return func(ctx context.Context) error {
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(l) }() // ends with Shutdown or Close below
		select {
		case err := <-failed:
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		case <-ctx.Done():
		}
		if drain != nil {
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait.drain)
			drain(limit)
			cancel()
		}
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait.finish)
		defer cancel()
		if err := srv.Shutdown(limit); err != nil {
			log.Warn("requests were cut off", "address", l.Addr().String())
			_ = srv.Close() // the listener is closed already
		}
		<-failed
		return nil
	}
}

// admin is the part that answers probes, metrics and profiles.
func admin(l net.Listener, ready func(context.Context) error, log *slog.Logger) part {
	return serving(l, telemetry.AdminHandler(ready), log, nil, atOnce)
}

// reachable is a URL by which this machine reaches l, which listens on address.
func reachable(l net.Listener, address string) string {
	port := l.Addr().(*net.TCPAddr).Port
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(port))
}
