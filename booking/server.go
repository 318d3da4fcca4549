package booking

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"usher/internal/keyring"
	"usher/internal/operator"
	"usher/internal/pass"
	"usher/internal/problem"
	"usher/internal/telemetry"
)

// Config of a booking server. DB, Redis, Ring, Auth and Log are required.
type Config struct {
	DB    *pgxpool.Pool
	Redis redis.UniversalClient
	Ring  *keyring.Ring
	Auth  *operator.Authenticator
	Log   *slog.Logger
	// Sandbox turns the sandbox payment provider on; its orders are marked test.
	Sandbox bool
	// PublicURL is the shop's address as buyers see it, without a slash at the end; links
	// in mail and returns from payment start with it. Default http://localhost:8080.
	PublicURL string
	// Now is the clock; default time.Now.
	Now func() time.Time
}

func (c Config) validate() error {
	var faults []error
	for name, missing := range map[string]bool{
		"DB": c.DB == nil, "Redis": c.Redis == nil, "Ring": c.Ring == nil, "Auth": c.Auth == nil, "Log": c.Log == nil,
	} {
		if missing {
			faults = append(faults, fmt.Errorf("booking: Config.%s is required", name))
		}
	}
	return errors.Join(faults...)
}

// Bodies over maxBody are refused, but for plans, which may have maxPlanBody.
const (
	maxBody     = 64 << 10
	maxPlanBody = 16 << 20
)

// Server answers the box office's and the operators' calls.
type Server struct {
	cfg    Config
	db     *pgxpool.Pool
	rdb    redis.UniversalClient
	ring   *keyring.Ring
	auth   *operator.Authenticator
	log    *slog.Logger
	now    func() time.Time
	passes *pass.Verifier

	engine *gin.Engine
	api    huma.API

	catalogue catalogue
	sales     salesState
}

// New makes a server; Run must run while it serves.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.PublicURL == "" {
		cfg.PublicURL = "http://localhost:8080"
	}
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
	return build(cfg), nil
}

// build registers every route; it connects to nothing.
func build(cfg Config) *Server {
	gin.SetMode(gin.ReleaseMode)
	s := &Server{
		cfg: cfg, db: cfg.DB, rdb: cfg.Redis, ring: cfg.Ring, auth: cfg.Auth, log: cfg.Log, now: cfg.Now,
		engine: gin.New(), catalogue: newCatalogue(),
	}
	if cfg.Ring != nil {
		s.passes = pass.NewVerifier(cfg.Ring.PassPublic)
	}
	s.engine.HandleMethodNotAllowed = true
	s.engine.NoRoute(func(c *gin.Context) {
		problem.Write(c.Writer, c.Request, problem.New(http.StatusNotFound, "not-found", "There is nothing at this address."))
	})
	s.engine.NoMethod(func(c *gin.Context) {
		problem.Write(c.Writer, c.Request, problem.New(http.StatusMethodNotAllowed, "method-not-allowed", "This address does not know the method."))
	})
	api := problem.HumaConfig("Usher box office")
	operator.Describe(&api)
	s.api = humagin.New(s.engine, api)
	s.api.UseMiddleware(s.auth.Huma(s.api))
	s.registerCatalogue()
	s.registerOperate()
	s.registerSales()
	return s
}

// OpenAPI describes the calls; it needs no connection.
func OpenAPI() *huma.OpenAPI { return build(Config{}).api.OpenAPI() }

// OpenAPI describes the server's calls.
func (s *Server) OpenAPI() *huma.OpenAPI { return s.api.OpenAPI() }

// Handler serves everything. Request ids are taken from the gateway in front.
func (s *Server) Handler() http.Handler {
	h := problem.LimitBody(maxPlanBody+1, headAsGet(s.engine))
	h = problem.Recover(s.log, h)
	return telemetry.Requests(s.log, func(*http.Request) bool { return true }, h)
}

// headAsGet serves HEAD by what GET would say; net/http drops the body.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			r = r.Clone(r.Context())
			r.Method = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

// Run keeps Redis told of what it must know, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.publish(ctx) })
	g.Go(func() error { return s.runSales(ctx) })
	return g.Wait()
}

// fail turns err into what a huma operation returns: problems as they are, anything
// else as one log line and an "internal" problem.
func (s *Server) fail(ctx context.Context, act string, err error) error {
	if p, ok := problem.From(err); ok {
		return p
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil { // the client went away
		return problem.New(http.StatusServiceUnavailable, "unavailable", "The request was given up.")
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "22021" || pg.Code == "22P05") { // NUL, or no UTF-8
		return problem.Invalid(problem.Field{Location: "request", Message: "holds characters that no text may have"})
	}
	s.log.ErrorContext(ctx, act, "error", err)
	if unreachable(err) {
		return problem.New(http.StatusServiceUnavailable, "unavailable", "The box office cannot answer right now. Please try again.").In(2 * time.Second)
	}
	return problem.New(http.StatusInternalServerError, "internal", "Something went wrong on our side. Please try again.")
}
