package http1

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestHandlersOfTheStandardLibraryLookAsBehindNetHTTP has those answer that do most with what a server gives them.
func TestHandlersOfTheStandardLibraryLookAsBehindNetHTTP(t *testing.T) {
	origin := beside(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hints":
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
		case "/stream":
			for range 5 {
				_, _ = io.WriteString(w, "hello")
				_ = http.NewResponseController(w).Flush()
			}
		case "/trailers":
			w.Header().Set("Trailer", "A")
			_, _ = io.WriteString(w, "hello")
			w.Header().Set("A", "b")
			w.Header().Set(http.TrailerPrefix+"C", "d")
		case "/cut":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "hello")
		case "/none":
			w.WriteHeader(http.StatusNotModified)
		default:
			body, err := io.ReadAll(r.Body)
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.Header().Set("Error", fmt.Sprint(err))
			_, _ = w.Write(body)
		}
	})})
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: origin})
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
	proxied := func(w http.ResponseWriter, r *http.Request, _ func(string, ...any)) { proxy.ServeHTTP(w, r) }
	slow := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), time.Millisecond, "late")
	quick := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }), long, "late")
	mux := http.NewServeMux()
	mux.Handle("/a/", http.RedirectHandler("/b", http.StatusMovedPermanently))
	of := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	post := func(n int) string { return request{method: "POST", body: n}.text(0) }

	for _, x := range []exchange{
		{name: "proxy, hints", sent: of("/hints"), serve: proxied},
		{name: "proxy, stream", sent: of("/stream"), serve: proxied},
		{name: "proxy, trailers", sent: of("/trailers"), serve: proxied},
		{name: "proxy, cut", sent: of("/cut"), serve: proxied},
		{name: "proxy, none", sent: of("/none"), serve: proxied},
		{name: "proxy, body", sent: post(100_000) + post(0) + post(2_000_000) + post(10), asks: strings.Fields("POST POST POST POST"), serve: proxied},
		{name: "proxy, head", sent: "HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n", asks: []string{"HEAD"}, serve: proxied},
		{name: "proxy, close", sent: "GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", serve: proxied},
		{name: "timeout, late", serve: func(w http.ResponseWriter, r *http.Request, _ func(string, ...any)) { slow.ServeHTTP(w, r) }},
		{name: "timeout, in time", sent: post(1000), serve: func(w http.ResponseWriter, r *http.Request, _ func(string, ...any)) { quick.ServeHTTP(w, r) }},
		{name: "mux, elsewhere", sent: of("/a"), serve: func(w http.ResponseWriter, r *http.Request, _ func(string, ...any)) { mux.ServeHTTP(w, r) }},
		{name: "mux, cleaned", sent: of("//a/../a/"), serve: func(w http.ResponseWriter, r *http.Request, _ func(string, ...any)) { mux.ServeHTTP(w, r) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			x.compare(t)
		})
	}
}
