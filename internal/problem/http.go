package problem

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
)

// BodyTooLarge refuses a request body over its limit.
func BodyTooLarge() *Problem {
	return New(http.StatusRequestEntityTooLarge, "body-too-large", "The request body is too large.")
}

// LimitBody refuses bodies over n bytes: at once when their length is declared,
// else when a reader meets the limit (http.MaxBytesError).
func LimitBody(n int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > n {
			w.Header().Set("Connection", "close")
			Write(w, r, BodyTooLarge())
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = http.MaxBytesReader(w, r.Body, n)
		}
		next.ServeHTTP(w, r)
	})
}

// Recover turns a panic into an "internal" problem and one log line with the
// stack. It stands at the outermost edge of a process and nowhere else.
func Recover(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler { // the server's own way to cut a connection
				panic(cause)
			}
			log.ErrorContext(r.Context(), "panic", "error", fmt.Sprint(cause), "path", r.URL.Path, "stack", string(debug.Stack()))
			Write(w, r, New(http.StatusInternalServerError, "internal", "Something went wrong on our side. Please try again."))
		}()
		next.ServeHTTP(w, r)
	})
}
