// Command peers answers limit decisions over HTTP with redis_rate, in as small a handler as can be: GET /?key=…
// is 200 or 429. Its module stands alone, so that nothing of it gets into Usher's.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "peers: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "where to listen")
	url := flag.String("redis-url", "", "the Redis to count in")
	rate := flag.Int("rate", 1, "requests a second for each key, and at once")
	flag.Parse()
	options, err := redis.ParseURL(*url)
	if err != nil {
		return err
	}
	rdb := redis.NewClient(options)
	defer rdb.Close()
	limiter := redis_rate.NewLimiter(rdb)
	limit := redis_rate.Limit{Rate: *rate, Period: time.Second, Burst: *rate}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		result, err := limiter.Allow(r.Context(), r.URL.RawQuery, limit)
		switch {
		case err != nil:
			http.Error(w, "the store does not answer", http.StatusServiceUnavailable)
		case result.Allowed == 0:
			w.Header().Set("Retry-After", fmt.Sprint(int(result.RetryAfter/time.Second)+1))
			http.Error(w, "too many", http.StatusTooManyRequests)
		default:
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(http.StatusOK)
		}
	})}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}
