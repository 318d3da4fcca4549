package origin

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config of one origin. Only URLs is required.
type Config struct {
	// URLs are its servers: http or https, without credentials and query. A path is put in
	// front of every request's.
	URLs []*url.URL
	// Health says how servers are probed.
	Health Health
	// MaxInFlight bounds the requests that are under way at once (default 1,000). It is
	// lowered while the origin is slow or fails, to a fiftieth at least.
	MaxInFlight int
	// Timeout is how long a request may take from being sent to the answer's header
	// (default 30 s), and how long a server may be silent within an answer, ten times that.
	Timeout time.Duration
	// Slow is the mean latency from which on the origin counts as overloaded (default 1 s),
	// unless it always was so slow.
	Slow time.Duration
	// Retries is how often a request may be repeated (default 1, -1 for never), and
	// RetryBudget the share of requests that may be (default 0.2, up to 1).
	Retries     int
	RetryBudget float64
	// SlowStart is how long a server that is back takes to get its whole share (default 10 s).
	SlowStart time.Duration
	// MaxAnswer bounds an answer's body in bytes; 0 does not.
	MaxAnswer int64
	// First tells which requests are served first when there is too much for the origin;
	// none by default.
	First func(*http.Request) bool
	// Counts tells which requests' ends say how the origin does: all by default. Those that a
	// stranger can make slow or fail at will must not, or strangers could slow a sale.
	Counts func(*http.Request) bool
	// Interim is told of answers of 1xx before the real one, while RoundTrip is under way; by
	// default nobody is.
	Interim func(r *http.Request, status int, header http.Header)
}

// Health is how servers are probed, each at its own times.
type Health struct {
	// Path is asked by GET, and anything below 400 is health. Without one it is enough
	// that a server takes a connection.
	Path string
	// Interval lies between two probes (default 5 s), a second where the last one failed.
	Interval time.Duration
	// Timeout bounds a probe (default 4 s).
	Timeout time.Duration
	// FailAfter is how many probes in a row make a server down (default 3), and
	// RecoverAfter how many bring it back (default 1).
	FailAfter, RecoverAfter int
}

// Fault is what is wrong with a field, by its name in configuration files.
type Fault struct{ Field, Message string }

const maxServers = 64

// Validate reports all faults at once.
func (c Config) Validate() []Fault {
	var faults []Fault
	fault := func(field, format string, args ...any) {
		faults = append(faults, Fault{field, fmt.Sprintf(format, args...)})
	}
	between := func(field string, v, low, high time.Duration) {
		if v != 0 && (v < low || v > high) {
			fault(field, "must be from %v to %v", low, high)
		}
	}
	if len(c.URLs) == 0 || len(c.URLs) > maxServers {
		fault("urls", "must be from 1 to %d addresses", maxServers)
	}
	seen := map[string]bool{}
	for _, u := range c.URLs {
		switch {
		case u == nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
			fault("urls", "must be plain http:// or https:// addresses")
		case seen[u.String()]:
			fault("urls", "name one server twice")
		default:
			seen[u.String()] = true
		}
	}
	if p := c.Health.Path; p != "" && (!strings.HasPrefix(p, "/") || strings.ContainsAny(p, " #\r\n")) {
		fault("health.path", "must be a path that begins with /")
	}
	between("health.interval_s", c.Health.Interval, 100*time.Millisecond, time.Hour)
	between("health.timeout_s", c.Health.Timeout, 10*time.Millisecond, time.Minute)
	if n := c.Health.FailAfter; n < 0 || n > 100 {
		fault("health.fail_after", "must be from 1 to 100")
	}
	if n := c.Health.RecoverAfter; n < 0 || n > 100 {
		fault("health.recover_after", "must be from 1 to 100")
	}
	if n := c.MaxInFlight; n < 0 || n > 100_000 {
		fault("max_in_flight", "must be from 1 to 100000")
	}
	between("timeout_s", c.Timeout, 10*time.Millisecond, time.Hour)
	between("slow_ms", c.Slow, time.Millisecond, time.Minute)
	between("slow_start_s", c.SlowStart, time.Millisecond, time.Hour)
	if c.Retries < -1 || c.Retries > 10 {
		fault("retries", "must be from 0 to 10")
	}
	if c.RetryBudget < 0 || c.RetryBudget > 1 {
		fault("retry_budget", "must be from 0 to 1")
	}
	if c.MaxAnswer < 0 {
		fault("max_answer_bytes", "must not be negative")
	}
	return faults
}

func (c *Config) setDefaults() {
	orElse(&c.Health.Interval, 5*time.Second)
	orElse(&c.Health.Timeout, 4*time.Second)
	orElse(&c.Health.FailAfter, 3)
	orElse(&c.Health.RecoverAfter, 1)
	orElse(&c.MaxInFlight, 1000)
	orElse(&c.Timeout, 30*time.Second)
	orElse(&c.Slow, time.Second)
	orElse(&c.Retries, 1)
	orElse(&c.RetryBudget, 0.2)
	orElse(&c.SlowStart, 10*time.Second)
	if c.First == nil {
		c.First = func(*http.Request) bool { return false }
	}
	if c.Interim == nil {
		c.Interim = func(*http.Request, int, http.Header) {}
	}
	if c.Counts == nil {
		c.Counts = func(*http.Request) bool { return true }
	}
}

func orElse[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}
