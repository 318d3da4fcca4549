package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"usher/gateway/cache"
	"usher/gateway/challenge"
	"usher/gateway/origin"
	"usher/gateway/policy"
	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/pass"
	"usher/internal/problem"
	"usher/internal/telemetry"
	"usher/queue"
)

// Config of a gateway. What is required says so.
type Config struct {
	Redis redis.UniversalClient   // required
	Ring  *keyring.Ring           // required
	Hall  *queue.Hall             // required; its Run must run beside ours
	Auth  *operator.Authenticator // required
	Log   *slog.Logger            // required
	// Booking is where the box office listens. Without URLs the gateway only keeps rooms.
	Booking origin.Config
	// TrustedProxies are the peers whose X-Forwarded-* and Forwarded are believed; none by default.
	TrustedProxies []netip.Prefix
	// Origins are the named sites that rooms and Routes refer to.
	Origins map[string]origin.Config
	// Routes send hosts' unprotected paths to origins; the longest prefix wins.
	Routes []Route
	// AllowedOrigins are the web origins ("https://shop.example") besides a host's own
	// that may open WebSockets and change things with cookies.
	AllowedOrigins []string
	// Assets are the pages and files of the shop; required.
	Assets http.Handler
	// Waiting draws a waiting page and sets its headers; required.
	Waiting func(w http.ResponseWriter, r *http.Request, status int, page WaitingPage)
	// BoxOffice describes booking's calls; merged into /api/v1/openapi.json.
	BoxOffice *huma.OpenAPI
	// Policies are in force until an operator sets others; policy.Defaults when nil.
	Policies *policy.Document
	// Outside is asked about answers to challenges; nil for proofs of work alone.
	Outside *challenge.Outside
	// ChallengeWait is how long one waits who cannot solve a challenge (default 5 minutes).
	ChallengeWait time.Duration
	// MaxSockets bounds the WebSockets of waiting visitors on this process (default
	// 16,000 of the 20,000 descriptors that a process may have), MaxSocketsPerPrefix
	// those of one client prefix (default a quarter of it).
	MaxSockets, MaxSocketsPerPrefix int
	// MaxStreams bounds Server-Sent Event streams (default 1,000): each holds a
	// goroutine and a request. MaxBridges bounds WebSockets passed on (default 1,000):
	// each holds two descriptors. One client prefix may have a quarter of either.
	MaxStreams, MaxBridges int
	// CacheBytes bounds the answers that are kept in memory for the public (default 64 MiB).
	CacheBytes int
	// DrainRate is how many visitors a second a draining gateway asks to come back
	// (default 2,000), fewer only where half the presence time is too short for it.
	DrainRate int
	// SessionInFlight is how many requests and WebSockets of one session may be under way
	// to protected paths, a process (default 20); a hundred more wait for seconds.
	SessionInFlight int
	// MaxConnections bounds the connections of the public (default 18,000: all WebSockets
	// and two thousand more), MaxConnectionsPerPrefix those of one client prefix (default
	// a third of it); see Guard.
	MaxConnections, MaxConnectionsPerPrefix int
	// ProxyProtocol: TrustedProxies begin each connection with a PROXY header.
	ProxyProtocol bool
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

// Route sends the paths of a host that begin with PathPrefix to a named origin.
type Route struct {
	Host       string
	PathPrefix string // whole segments; "" and "/" are all
	Origin     string
	Cache      bool // answers that allow it are kept for those who bring no cookie
}

// WaitingPage is what a waiting page shows.
type WaitingPage struct {
	Room, Title, Message, Phase, State string
	Joined                             bool
	Position, Ahead                    *uint64
	Waiting                            uint64
	Progress                           float64
	EtaLow, EtaHigh                    *int
	OpensAt, CallExpiresAt             *time.Time
	Extendable                         bool // the call can be lengthened, once
	ReturnTo                           string
	Refresh                            int
	Problem                            string
	// Check is what comes before a place: "" nothing, "asked" a challenge, "turn" a wait until CheckAt.
	Check   string
	CheckAt *time.Time
	// Outside is the service whose challenge the page may have to show: turnstile, hcaptcha or "".
	Outside string
}

func (c *Config) validate() error {
	var faults []error
	for name, missing := range map[string]bool{
		"Redis": c.Redis == nil, "Ring": c.Ring == nil, "Hall": c.Hall == nil, "Auth": c.Auth == nil,
		"Log": c.Log == nil, "Assets": c.Assets == nil, "Waiting": c.Waiting == nil,
	} {
		if missing {
			faults = append(faults, fmt.Errorf("gateway: Config.%s is required", name))
		}
	}
	for name, o := range c.Origins {
		for _, f := range o.Validate() {
			faults = append(faults, fmt.Errorf("gateway: origin %q: %s %s", name, f.Field, f.Message))
		}
	}
	if len(c.Booking.URLs) > 0 {
		for _, f := range c.Booking.Validate() {
			faults = append(faults, fmt.Errorf("gateway: Booking: %s %s", f.Field, f.Message))
		}
	}
	for _, r := range c.Routes {
		if _, ok := c.Origins[r.Origin]; !ok {
			faults = append(faults, fmt.Errorf("gateway: route of %q names the unknown origin %q", r.Host, r.Origin))
		}
		if host, ok := canonicalHost(r.Host); !ok || host != r.Host || host == "" {
			faults = append(faults, fmt.Errorf("gateway: route host %q is not a host name in lower case", r.Host))
		}
	}
	return errors.Join(faults...)
}

func (c *Config) setDefaults() {
	if c.Policies == nil {
		defaults := policy.Defaults()
		c.Policies = &defaults
	}
	for n, fallback := range map[*int]int{
		&c.MaxSockets: 16_000, &c.MaxStreams: 1_000, &c.MaxBridges: 1_000, &c.DrainRate: 2_000, &c.SessionInFlight: 20,
		&c.MaxConnections: 18_000, &c.CacheBytes: 64 << 20,
	} {
		if *n <= 0 {
			*n = fallback
		}
	}
	if c.MaxSocketsPerPrefix <= 0 {
		c.MaxSocketsPerPrefix = max(1, c.MaxSockets/4)
	}
	if c.MaxConnectionsPerPrefix <= 0 {
		c.MaxConnectionsPerPrefix = max(1, c.MaxConnections/3)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Server is one gateway. Its Handler is safe for concurrent use.
type Server struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	trusted trustedProxies
	passes  *pass.Verifier
	limits  *limiter
	hub     *hub
	door    *door
	engine  *gin.Engine
	api     huma.API
	booking *hop // nil without Config.Booking
	origins map[string]*hop
	cross   *http.CrossOriginProtection
	checks  *challenge.Checker

	inFlight                   *inFlight
	streams, bridges, monitors *openings
	draining                   chan struct{} // closed by Drain
	mu                         sync.Mutex    // guards drained and the start of held
	drained                    bool
	held                       sync.WaitGroup // the goroutines that keep connections
}

// New makes a gateway.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Log, now: cfg.Now, trusted: cfg.TrustedProxies,
		passes:   pass.NewVerifier(cfg.Ring.PassPublic),
		hub:      newHub(hubLimits{sockets: cfg.MaxSockets, perPrefix: cfg.MaxSocketsPerPrefix, drainRate: cfg.DrainRate}, max(2, runtime.GOMAXPROCS(0)), cfg.Now),
		door:     &door{trusted: cfg.TrustedProxies, max: cfg.MaxConnections, perPrefix: cfg.MaxConnectionsPerPrefix, of: map[netip.Prefix]int{}},
		origins:  make(map[string]*hop, len(cfg.Origins)),
		cross:    http.NewCrossOriginProtection(),
		checks:   newChecker(cfg),
		draining: make(chan struct{}),
		streams:  newOpenings(cfg.MaxStreams),
		bridges:  newOpenings(cfg.MaxBridges),
		inFlight: newInFlight(cfg.SessionInFlight),
		monitors: newOpenings(maxMonitors),
	}
	s.passes.Ended = func(c pass.Claims) bool { return cfg.Hall.Ended(c.Session) }
	s.limits = &limiter{
		engine: policy.NewEngine(policy.Config{Redis: cfg.Redis, Log: cfg.Log, Fallback: *cfg.Policies}),
		passes: s.passes, auth: cfg.Auth, rescue: rate.NewLimiter(rate.Every(time.Minute/rescuesAtOnce), rescuesAtOnce),
	}
	s.limits.challenge = s.overPolicy
	for _, o := range cfg.AllowedOrigins {
		if err := s.cross.AddTrustedOrigin(o); err != nil {
			return nil, fmt.Errorf("gateway: allowed origin: %w", err)
		}
	}
	kept := cache.New(uint64(cfg.CacheBytes), cfg.Now)
	if len(cfg.Booking.URLs) > 0 {
		s.booking = newHop("booking", cfg.Booking, true, kept, cfg.Log)
	}
	for name, o := range cfg.Origins {
		s.origins[name] = newHop(name, o, false, kept, cfg.Log)
	}
	if err := s.routes(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler serves everything that the public sees.
func (s *Server) Handler() http.Handler {
	h := problem.Recover(s.log, progressing(http.HandlerFunc(s.edge)))
	return telemetry.Requests(s.log, func(r *http.Request) bool { return s.trusted.trusts(peer(r)) }, h)
}

// OpenAPI describes the gateway's own calls.
func (s *Server) OpenAPI() *huma.OpenAPI { return s.api.OpenAPI() }

// hops yields the ways to all origins.
func (s *Server) hops(yield func(*hop) bool) {
	if s.booking != nil && !yield(s.booking) {
		return
	}
	for _, o := range s.origins {
		if !yield(o) {
			return
		}
	}
}

// Run watches the origins and keeps the policies up to date until ctx ends; then it drains for at most drainTime. It
// returns nil when ctx ended.
func (s *Server) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	for o := range s.hops {
		watching.Go(func() { o.Origin.Run(ctx) })
	}
	watching.Go(func() { s.limits.engine.Run(ctx) })
	<-ctx.Done()
	watching.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	s.Drain(last)
	return nil
}

const drainTime = 5 * time.Second

// Ready tells whether this gateway can admit: Redis answers its rooms, and it is
// not draining. Passes verify and pages answer without it.
func (s *Server) Ready(context.Context) error {
	if s.isDraining() {
		return errors.New("draining")
	}
	return s.cfg.Hall.Ready()
}

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// Drain tells every waiting visitor when to come back, spread so that they do not
// come at once, ends all streams, and waits until they have gone or ctx ends;
// then it cuts what is left. Call it before http.Server.Shutdown, which does not
// know WebSockets.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	if !s.drained {
		s.drained = true
		close(s.draining)
	}
	s.mu.Unlock()
	s.hub.drain(ctx)
	gone := make(chan struct{})
	go func() { s.held.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-ctx.Done():
	}
	for o := range s.hops {
		o.CloseIdle()
	}
}
