package problem

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// Identified is a context that knows its request's id, and keeps one thing more that its
// handler knows of the request. It finds itself by its key, since values of their own would
// be more pieces of memory for each request.
type Identified struct {
	context.Context
	id   string
	kept any
}

type identifiedKey struct{}

// Value is that of the context around it.
func (c *Identified) Value(key any) any {
	if _, itself := key.(identifiedKey); itself {
		return c
	}
	return c.Context.Value(key)
}

// With makes c the context of a request with an id, where Huma's documents find it.
func (c *Identified) With(ctx context.Context, id string) context.Context {
	c.Context, c.id = ctx, id
	return c
}

// Keep has the request's context keep what its handler knows of it; see Kept. Nobody else
// may use the context yet.
func Keep(ctx context.Context, what any) {
	ctx.Value(identifiedKey{}).(*Identified).kept = what
}

// Kept is what Keep was given; nil before.
func Kept(ctx context.Context) any {
	if c, ok := ctx.Value(identifiedKey{}).(*Identified); ok {
		return c.kept
	}
	return nil
}

// RequestIDFrom returns the request's id, or "" outside a request.
func RequestIDFrom(ctx context.Context) string {
	if c, ok := ctx.Value(identifiedKey{}).(*Identified); ok {
		return c.id
	}
	return ""
}

// codes are the codes of the problems that huma itself raises.
var codes = map[int]string{
	http.StatusBadRequest:            "bad-request",
	http.StatusUnauthorized:          "unauthenticated",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "not-found",
	http.StatusNotAcceptable:         "not-acceptable",
	http.StatusRequestTimeout:        "request-timeout",
	http.StatusRequestEntityTooLarge: "body-too-large",
	http.StatusUnsupportedMediaType:  "unsupported-media-type",
	http.StatusUnprocessableEntity:   "invalid",
}

var installHuma = sync.OnceFunc(func() {
	// Without strict casing {"qty":2,"QTY":9999} validates 2 and hands 9999 to the handler.
	huma.ValidateStrictCasing = true
	huma.NewErrorWithContext = func(ctx huma.Context, status int, detail string, errs ...error) huma.StatusError {
		p := fromHuma(status, detail, errs)
		if status >= http.StatusInternalServerError {
			id, path := "", ""
			if ctx != nil {
				id, path = RequestIDFrom(ctx.Context()), ctx.URL().Path
			}
			slog.Error("request failed", "error", errors.Join(errs...), "request_id", id, "path", path)
		}
		return p
	}
	huma.NewError = func(status int, detail string, errs ...error) huma.StatusError {
		return fromHuma(status, detail, errs)
	}
})

func fromHuma(status int, detail string, errs []error) *Problem {
	// MaxBytesReader in front of huma surfaces as a read failure; it is the client's fault.
	for _, err := range errs {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return BodyTooLarge()
		}
	}
	if status >= http.StatusInternalServerError {
		return New(status, "internal", "Something went wrong on our side. Please try again.")
	}
	code, ok := codes[status]
	if !ok {
		code = strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "-")
	}
	p := New(status, code, detail)
	for _, err := range errs {
		var d huma.ErrorDetailer
		if errors.As(err, &d) {
			e := d.ErrorDetail() // e.Value echoes the input and stays here
			p.Errors = append(p.Errors, Field{Location: e.Location, Message: e.Message})
		} else if err != nil {
			p.Errors = append(p.Errors, Field{Location: "body", Message: "not valid JSON of the expected shape"})
		}
	}
	return p
}

// Huma makes every huma API of this process refuse with our problems. It is
// idempotent and must run before the first Register.
func Huma() { installHuma() }

// HumaConfig is the configuration of every huma API: our problems, no schema
// links in bodies, no built-in docs page (it loads from a CDN).
func HumaConfig(title string) huma.Config {
	Huma()
	cfg := huma.DefaultConfig(title, "1")
	cfg.CreateHooks = nil
	cfg.DocsPath, cfg.OpenAPIPath, cfg.SchemasPath = "", "", ""
	cfg.Transformers = append(cfg.Transformers, func(ctx huma.Context, _ string, v any) (any, error) {
		if p, ok := v.(*Problem); ok && p.RequestID == "" {
			doc := *p
			doc.RequestID = RequestIDFrom(ctx.Context())
			return &doc, nil
		}
		return v, nil
	})
	return cfg
}

// Schema describes the document in OpenAPI.
func (p *Problem) Schema(r huma.Registry) *huma.Schema {
	text := func(doc string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: doc} }
	return &huma.Schema{
		Type:        huma.TypeObject,
		Description: "RFC 9457 problem document; further members depend on the code",
		Required:    []string{"type", "title", "status", "detail", "code"},
		Properties: map[string]*huma.Schema{
			"type":       text("URI of the kind of problem"),
			"title":      text("the status in words"),
			"status":     {Type: huma.TypeInteger},
			"detail":     text("what happened, for people"),
			"code":       text("stable, for programs"),
			"request_id": text("ties the refusal to our logs"),
			"errors": {Type: huma.TypeArray, Items: &huma.Schema{
				Type:       huma.TypeObject,
				Properties: map[string]*huma.Schema{"location": text("path to the field"), "message": text("what is wrong with it")},
			}},
		},
		AdditionalProperties: true,
	}
}
