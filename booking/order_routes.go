package booking

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/maypok86/otter/v2"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"usher/internal/operator"
	"usher/internal/pass"
	"usher/internal/problem"
)

// salesState is what the sale side of a Server holds.
type salesState struct {
	jobs      *river.Client[pgx.Tx] // inserts only
	providers map[string]provider
	sandbox   *sandbox // nil unless it is on
	feeds     *feeds
	runs      *otter.Cache[runsKey, []run]
	slugs     *otter.Cache[uuid.UUID, string] // by event id

	holdTime, payTime time.Duration
}

// requestKey is where the operations of sales find the request: passes are in headers and
// cookies whose names depend on the event.
type requestKey struct{}

func withRequest(ctx huma.Context, next func(huma.Context)) {
	next(huma.WithValue(ctx, requestKey{}, humagin.Unwrap(ctx).Request))
}

func requestFrom(ctx context.Context) *http.Request {
	r, _ := ctx.Value(requestKey{}).(*http.Request)
	return r
}

// shopper checks the pass that calls on a performance need, and finds its layout.
func (s *Server) shopper(ctx context.Context, r *http.Request, slug, performance string) (*Layout, pass.Claims, error) {
	l, err := s.findLayout(ctx, slug, performance)
	if err != nil {
		return nil, pass.Claims{}, err
	}
	claims, err := s.passes.FromRequest(r, pass.RoomOfEvent(l.Slug, l.Room), s.now())
	if err != nil {
		return nil, pass.Claims{}, s.passRequired(l.Room)
	}
	return l, claims, nil
}

// PerformancePath is the address of a performance; huma reads embedded fields of exported types alone.
type PerformancePath struct {
	Event       string `path:"event" maxLength:"40"`
	Performance string `path:"performance" maxLength:"36"`
}

// OrderPath is the address of an order.
type OrderPath struct {
	Event  string `path:"event" maxLength:"40"`
	Order  string `path:"order" maxLength:"36"`
	Access string `header:"X-Order-Access" maxLength:"200" doc:"the order's access; without it, the pass that made the order"`
}

type holdOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         Hold
}

type orderOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         Order
}

const noStore = "no-store"

// registerSales adds all calls of sales. The clients are made here; nothing is connected.
func (s *Server) registerSales() {
	s.sales = salesState{
		providers: map[string]provider{}, feeds: newFeeds(), runs: newRunsCache(),
		slugs:    otter.Must(&otter.Options[uuid.UUID, string]{MaximumSize: 4096}),
		holdTime: holdTime, payTime: payTime,
	}
	if s.db != nil { // not when only the description is wanted
		jobs, err := river.NewClient(riverpgxv5.New(s.db), &river.Config{})
		if err != nil {
			panic(err) // only a wrong Config can fail
		}
		s.sales.jobs = jobs
	}
	if s.cfg.Sandbox {
		s.sales.sandbox = &sandbox{db: s.db, ring: s.ring, now: s.now, jobs: s.sales.jobs, public: s.cfg.PublicURL}
		s.sales.providers[sandboxName] = s.sales.sandbox
		s.registerSandbox()
	}
	s.registerHolds()
	s.registerOrders()
	s.registerOrderOperate()
	huma.Register(s.api, huma.Operation{
		OperationID: "checkin", Method: http.MethodPost, Path: "/api/v1/checkin", Tags: []string{"door"},
		Summary: "Let a ticket in", Security: operator.Needs(operator.CheckIn), MaxBodyBytes: maxBody,
	}, func(ctx context.Context, in *struct{ Body CheckinRequest }) (*struct{ Body UsedTicket }, error) {
		who, _ := operator.PrincipalFrom(ctx) // the middleware put it there
		admitted, err := s.checkin(ctx, who, in.Body)
		if err != nil {
			return nil, s.saleError(ctx, "check in", err)
		}
		return &struct{ Body UsedTicket }{admitted}, nil
	})
	s.engine.POST("/api/v1/payments/:provider/webhook", s.serveWebhook)
	s.describeRaw()
}

// describeRaw adds to the description what huma does not serve: sockets, and bodies whose
// format is another's.
func (s *Server) describeRaw() {
	text := func(name, in string) *huma.Param {
		return &huma.Param{Name: name, In: in, Required: true, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	for _, op := range []*huma.Operation{
		{
			OperationID: "watch-availability", Method: http.MethodGet, Path: "/api/v1/events/{event}/performances/{performance}/availability/ws",
			Summary: "What is free, live: a WebSocket", Tags: []string{"box office"},
			Description: "A snapshot as of GET availability, then {version, changes: [[index, state], …], areas} for each version; a snapshot at any time replaces everything.",
			Parameters:  []*huma.Param{text("event", "path"), text("performance", "path")},
			Responses:   map[string]*huma.Response{"101": {Description: "WebSocket"}},
		},
		{
			OperationID: "payment-webhook", Method: http.MethodPost, Path: "/api/v1/payments/{provider}/webhook",
			Summary: "What a payment provider tells, signed by it", Tags: []string{"payments"},
			Parameters: []*huma.Param{text("provider", "path")},
			Responses:  map[string]*huma.Response{"200": {Description: "taken, now or before"}, "400": {Description: "not signed by the provider just now"}},
		},
		{
			OperationID: "sandbox-approve", Method: http.MethodPost, Path: "/sandbox/payments/{id}/approve",
			Summary: "Play the payer: pay (only with the sandbox)", Tags: []string{"payments"},
			Parameters: []*huma.Param{text("id", "path")},
			Responses:  map[string]*huma.Response{"200": {Description: "paid"}, "404": {Description: "no such payment"}, "409": {Description: "the payment is over"}},
		},
		{
			OperationID: "sandbox-decline", Method: http.MethodPost, Path: "/sandbox/payments/{id}/decline",
			Summary: "Play the payer: decline (only with the sandbox)", Tags: []string{"payments"},
			Parameters: []*huma.Param{text("id", "path")},
			Responses:  map[string]*huma.Response{"200": {Description: "declined"}, "404": {Description: "no such payment"}, "409": {Description: "the payment is over"}},
		},
	} {
		s.api.OpenAPI().AddOperation(op)
	}
}

// runSales keeps viewers' availability current until ctx ends.
func (s *Server) runSales(ctx context.Context) error { return s.runFeeds(ctx) }

func saleOperation(id, method, path, summary string) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: "/api/v1/events/{event}" + path, Summary: summary, Tags: []string{"box office"},
		Middlewares: huma.Middlewares{withRequest}, MaxBodyBytes: maxBody,
	}
}

func (s *Server) registerHolds() {
	const at = "/performances/{performance}"
	huma.Register(s.api, saleOperation("availability", http.MethodGet, at+"/availability", "What is free"),
		func(ctx context.Context, in *PerformancePath) (*struct {
			CacheControl string `header:"Cache-Control"`
			Body         Snapshot
		}, error) {
			l, _, err := s.shopper(ctx, requestFrom(ctx), in.Event, in.Performance)
			if err != nil {
				return nil, s.fail(ctx, "availability", err)
			}
			whole, _, err := s.changesSince(ctx, l, 0)
			if err != nil {
				return nil, s.saleError(ctx, "availability", err)
			}
			return &struct {
				CacheControl string `header:"Cache-Control"`
				Body         Snapshot
			}{noStore, whole.snapshot(l)}, nil
		})
	s.engine.GET("/api/v1/events/:event/performances/:performance/availability/ws", func(c *gin.Context) {
		ctx := c.Request.Context()
		l, claims, err := s.shopper(ctx, c.Request, c.Param("event"), c.Param("performance"))
		if err == nil {
			err = s.watch(c.Writer, c.Request, l, claims.ExpiresAt)
		}
		if err != nil {
			p, _ := problem.From(s.saleError(ctx, "watch availability", err))
			problem.Write(c.Writer, c.Request, p)
		}
	})

	hold := saleOperation("hold", http.MethodPost, at+"/holds", "Lock seats while choosing")
	hold.DefaultStatus = http.StatusCreated
	huma.Register(s.api, hold, func(ctx context.Context, in *struct {
		PerformancePath
		Body HoldRequest
	}) (*holdOutput, error) {
		l, claims, err := s.shopper(ctx, requestFrom(ctx), in.Event, in.Performance)
		if err != nil {
			return nil, s.fail(ctx, "hold", err)
		}
		h, err := s.take(ctx, l, claims, in.Body)
		if err != nil {
			return nil, s.saleError(ctx, "hold", err)
		}
		return &holdOutput{noStore, h}, nil
	})

	type heldInput struct {
		PerformancePath
		ID string `path:"id" maxLength:"4096"`
	}
	huma.Register(s.api, saleOperation("held", http.MethodGet, at+"/holds/{id}", "A hold"),
		func(ctx context.Context, in *heldInput) (*holdOutput, error) {
			l, claims, err := s.shopper(ctx, requestFrom(ctx), in.Event, in.Performance)
			if err != nil {
				return nil, s.fail(ctx, "hold", err)
			}
			h, err := s.held(ctx, l, claims.Session, in.ID)
			if err != nil {
				return nil, s.saleError(ctx, "hold", err)
			}
			return &holdOutput{noStore, h}, nil
		})
	huma.Register(s.api, saleOperation("release-hold", http.MethodDelete, at+"/holds/{id}", "Give seats back"),
		func(ctx context.Context, in *heldInput) (*struct{}, error) {
			l, claims, err := s.shopper(ctx, requestFrom(ctx), in.Event, in.Performance)
			if err != nil {
				return nil, s.fail(ctx, "release hold", err)
			}
			if err := s.giveBack(ctx, l, claims.Session, in.ID); err != nil {
				return nil, s.saleError(ctx, "release hold", err)
			}
			return nil, nil
		})
}

func (s *Server) registerOrders() {
	create := saleOperation("order", http.MethodPost, "/orders", "Order held seats")
	create.DefaultStatus = http.StatusCreated
	huma.Register(s.api, create, func(ctx context.Context, in *struct {
		Event string `path:"event" maxLength:"40"`
		Key   string `header:"Idempotency-Key" doc:"required; at most 200 characters; a request that is sent again carries the same"`
		Body  OrderRequest
	}) (*orderOutput, error) {
		e, err := s.publicEvent(ctx, in.Event)
		if err != nil {
			return nil, s.fail(ctx, "order", err)
		}
		claims, err := s.passes.FromRequest(requestFrom(ctx), pass.RoomOfEvent(e.Slug, e.Room), s.now())
		if err != nil {
			return nil, s.passRequired(e.Room)
		}
		if err := checkKey(in.Key); err != nil {
			return nil, err
		}
		doc, err := s.order(ctx, in.Event, claims, in.Key, in.Body)
		if err != nil {
			return nil, s.saleError(ctx, "order", err)
		}
		return &orderOutput{noStore, doc}, nil
	})
	huma.Register(s.api, saleOperation("order-state", http.MethodGet, "/orders/{order}", "An order and its tickets"),
		func(ctx context.Context, in *OrderPath) (*orderOutput, error) {
			o, l, err := s.mayUse(ctx, requestFrom(ctx), in.Event, in.Order, in.Access)
			if err != nil {
				return nil, s.fail(ctx, "read order", err)
			}
			return s.orderAnswer(ctx, l, o)
		})
	huma.Register(s.api, saleOperation("cancel-order", http.MethodPost, "/orders/{order}/cancel", "Cancel an unpaid order"),
		func(ctx context.Context, in *OrderPath) (*orderOutput, error) {
			o, l, err := s.mayUse(ctx, requestFrom(ctx), in.Event, in.Order, in.Access)
			if err != nil {
				return nil, s.fail(ctx, "cancel order", err)
			}
			if err := s.end(ctx, o, orderCancelled); err != nil {
				return nil, s.fail(ctx, "cancel order", err)
			}
			o, err = s.readOrder(ctx, o.Event, o.ID)
			if err != nil {
				return nil, s.fail(ctx, "cancel order", err)
			}
			if o.State != orderCancelled {
				return nil, problem.New(http.StatusConflict, "order-"+o.State, "This order is "+o.State+": it cannot be cancelled.").With("state", o.State)
			}
			return s.orderAnswer(ctx, l, o)
		})
	huma.Register(s.api, saleOperation("ticket-qr", http.MethodGet, "/orders/{order}/tickets/{ticket}/{file}", "A ticket's QR code, qr.svg or qr.png"),
		func(ctx context.Context, in *struct {
			OrderPath
			Ticket string `path:"ticket" maxLength:"36"`
			File   string `path:"file" enum:"qr.svg,qr.png"`
		}) (*struct {
			ContentType  string `header:"Content-Type"`
			CacheControl string `header:"Cache-Control"`
			Security     string `header:"Content-Security-Policy"`
			Body         []byte
		}, error) {
			o, _, err := s.mayUse(ctx, requestFrom(ctx), in.Event, in.Order, in.Access)
			if err != nil {
				return nil, s.fail(ctx, "draw ticket", err)
			}
			picture, mediaType, err := s.ticketPicture(ctx, o, in.Ticket, in.File)
			if err != nil {
				return nil, s.fail(ctx, "draw ticket", err)
			}
			return &struct {
				ContentType  string `header:"Content-Type"`
				CacheControl string `header:"Cache-Control"`
				Security     string `header:"Content-Security-Policy"`
				Body         []byte
			}{mediaType, "private, no-store", "default-src 'none'", picture}, nil
		})
}

func (s *Server) orderAnswer(ctx context.Context, l *Layout, o orderRecord) (*orderOutput, error) {
	doc, err := s.document(ctx, l, o)
	if err != nil {
		return nil, s.fail(ctx, "read order", err)
	}
	return &orderOutput{noStore, doc}, nil
}

// checkKey refuses an Idempotency-Key that is missing or no plain text.
func checkKey(key string) error {
	if key == "" {
		return problem.New(http.StatusBadRequest, "idempotency-key-required", "An Idempotency-Key header is needed.")
	}
	if len(key) > 200 {
		return problem.New(http.StatusBadRequest, "idempotency-key-invalid", "The Idempotency-Key is longer than 200 characters.")
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' {
			return problem.New(http.StatusBadRequest, "idempotency-key-invalid", "The Idempotency-Key must be printable ASCII.")
		}
	}
	return nil
}

// serveWebhook is where payment providers call. The body is read whole: it is signed.
func (s *Server) serveWebhook(c *gin.Context) {
	ctx, name := c.Request.Context(), c.Param("provider")
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBody))
	if err != nil {
		problem.Write(c.Writer, c.Request, problem.BodyTooLarge())
		return
	}
	if err := s.webhook(ctx, name, c.Request.Header, body); err != nil {
		p, _ := problem.From(s.fail(ctx, "payment webhook", err))
		problem.Write(c.Writer, c.Request, p)
		return
	}
	c.Header("Cache-Control", noStore)
	c.JSON(http.StatusOK, gin.H{"received": true})
}

// webhook checks and acts upon what a provider sent; a duplicate is no fault.
func (s *Server) webhook(ctx context.Context, name string, header http.Header, body []byte) error {
	p, ok := s.sales.providers[name]
	if !ok {
		return problem.New(http.StatusNotFound, "provider-not-found", "This shop has no such payment provider.")
	}
	ev, err := p.Webhook(header, body, s.now())
	if errors.Is(err, errSignature) {
		return problem.New(http.StatusBadRequest, "bad-signature", "The signature is missing, wrong or too old.")
	}
	if err != nil {
		return problem.New(http.StatusBadRequest, "bad-request", "The body is not understood.")
	}
	return s.happened(ctx, name, ev)
}
