package telemetry

import (
	"bufio"
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"usher/internal/problem"
)

// Requests gives each request a fresh id and a line in the log. The id is in the response
// header, in the context (problem.RequestIDFrom), and in the request header, so that a
// proxied request carries it on. With trust, an id that a proxy in front already set is kept
// if it is sane; without, a client cannot choose it. The line is of level debug, and info
// where the request failed on our side. It has no query, header or body: they may hold
// secrets.
func Requests(log *slog.Logger, trust func(*http.Request) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := ""
		if sent := r.Header[problem.RequestIDHeader]; len(sent) > 0 {
			id = sent[0]
		}
		if !sane(id) || trust == nil || !trust(r) {
			id = freshID(start)
		}
		x := &exchange{recorder: recorder{ResponseWriter: w, status: http.StatusOK}, id: [1]string{id}}
		field := x.id[:] // of both headers: who changes one sets a field of its own
		r.Header[problem.RequestIDHeader], w.Header()[problem.RequestIDHeader] = field, field
		ctx := x.context.With(r.Context(), id)
		next.ServeHTTP(&x.recorder, r.WithContext(ctx))
		level := slog.LevelDebug
		if x.status >= http.StatusInternalServerError {
			level = slog.LevelInfo
		}
		if log.Enabled(ctx, level) {
			log.Log(ctx, level, "request", "method", r.Method, "path", r.URL.Path,
				"status", x.status, "bytes", x.bytes, "ms", time.Since(start).Milliseconds())
		}
	})
}

// exchange is what a request needs on its way, in one piece of memory.
type exchange struct {
	recorder
	context problem.Identified
	id      [1]string
}

// freshID is a UUIDv7. It has to be unlike all others, not secret, and so is made without
// asking the system for each request's random bits.
func freshID(now time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16|7<<12|rand.Uint64N(1<<12))
	binary.BigEndian.PutUint64(id[8:], 2<<62|rand.Uint64N(1<<62))
	return id.String()
}

// sane bounds an id and keeps control characters out of logs.
func sane(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// recorder remembers the status; Unwrap and Hijack keep streaming and WebSockets working.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

func (r *recorder) Flush() {
	_ = http.NewResponseController(r.ResponseWriter).Flush() // unsupported: then there is nothing to flush
}

func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r.status = http.StatusSwitchingProtocols
	return http.NewResponseController(r.ResponseWriter).Hijack()
}

// Status is what was answered.
func (r *recorder) Status() int { return r.status }

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// AdminHandler serves /metrics, /healthz, /readyz and /debug/pprof/. It belongs on
// a listener that strangers cannot reach. ready has two seconds to answer.
func AdminHandler(ready func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			writeText(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
			return
		}
		writeText(w, http.StatusOK, "ready\n")
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the prober may be gone
}
