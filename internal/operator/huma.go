package operator

import (
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"usher/internal/problem"
)

// Scheme is the name of the security scheme that operations for operators carry.
const Scheme = "operator"

// Needs is the Security of an operation for those who may act.
func Needs(act Act) []map[string][]string {
	return []map[string][]string{{Scheme: {string(act)}}}
}

// Describe adds the security schemes to an API's description.
func Describe(cfg *huma.Config) {
	if cfg.Components.SecuritySchemes == nil {
		cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{}
	}
	cfg.Components.SecuritySchemes[Scheme] = &huma.SecurityScheme{
		Type: "http", Scheme: "bearer", BearerFormat: "usher_…",
		Description: "An operator's API key; or the session cookie of POST /api/v1/operate/session, with " + CSRFHeader + " on changes.",
	}
}

// Huma enforces operations whose Security names Scheme: the request is authenticated
// and each act named as a scope is checked against the path's {event} or {room}.
// Where the path has neither, administering and operating need a principal who is not
// limited to some events, and viewing and checking in are cut down by the operation
// itself (PrincipalFrom). Other operations pass untouched.
func (a *Authenticator) Huma(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		acts, protected := scopes(ctx.Operation().Security)
		if !protected {
			next(ctx)
			return
		}
		p, refused := a.authenticate(ctx.Context(), credentials{
			method:        ctx.Method(),
			authorization: ctx.Header("Authorization"),
			session: sessionCookie(func(name string) []*http.Cookie {
				c, err := huma.ReadCookie(ctx, name)
				if err != nil {
					return nil
				}
				return []*http.Cookie{c}
			}),
			csrf:      ctx.Header(CSRFHeader),
			fetchSite: ctx.Header("Sec-Fetch-Site"),
		})
		if refused != nil {
			refuse(ctx, refused)
			return
		}
		slug := ctx.Param("event")
		if slug == "" {
			slug = ctx.Param("room")
		}
		for _, act := range acts {
			own := slug == "" && (act == View || act == CheckIn)
			if !p.May(act, slug) && (!own || !p.Sees(act)) {
				refuse(ctx, Forbidden())
				return
			}
		}
		next(huma.WithContext(ctx, WithPrincipal(ctx.Context(), p)))
	}
}

// Forbidden refuses someone who is known but may not.
func Forbidden() *problem.Problem {
	return problem.New(http.StatusForbidden, "forbidden", "Your role does not allow this.")
}

func scopes(security []map[string][]string) (acts []Act, protected bool) {
	for _, alternative := range security {
		if s, ok := alternative[Scheme]; ok {
			for _, scope := range s {
				acts = append(acts, Act(scope))
			}
			protected = true
		}
	}
	return acts, protected
}

// refuse sends p from a middleware, where huma's own writer would lose its members.
func refuse(ctx huma.Context, p *problem.Problem) {
	doc := *p
	doc.RequestID = problem.RequestIDFrom(ctx.Context())
	ctx.SetHeader("Content-Type", problem.ContentType)
	ctx.SetHeader("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		ctx.SetHeader("Retry-After", problem.Seconds(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		ctx.SetHeader("WWW-Authenticate", "Bearer")
	}
	ctx.SetStatus(p.Status)
	if ctx.Method() != http.MethodHead {
		_ = json.NewEncoder(ctx.BodyWriter()).Encode(&doc) // the client may be gone
	}
}
