package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"usher/internal/operator"
	"usher/internal/problem"
	"usher/queue"
)

// routes registers every call of the gateway's own and describes it.
func (s *Server) routes() error {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	e.NoMethod(func(c *gin.Context) {
		problem.Write(c.Writer, c.Request, problem.New(http.StatusMethodNotAllowed, "method-not-allowed", "This address does not know the method."))
	})
	e.NoRoute(func(c *gin.Context) {
		if path := visitOf(c.Request).path; under(path, "/api") || own(path) {
			problem.Write(c.Writer, c.Request, problem.New(http.StatusNotFound, "not-found", "There is nothing at this address."))
			return
		}
		c.Status(http.StatusOK) // gin presets 404
		s.cfg.Assets.ServeHTTP(c.Writer, c.Request)
	})
	s.engine = e

	cfg := problem.HumaConfig("Usher")
	operator.Describe(&cfg)
	s.api = humagin.New(e, cfg)
	queue.RegisterOperate(s.api, s.cfg.Hall, s.cfg.Auth)
	s.registerPublic()
	s.registerPolicies()

	for _, c := range s.rawCalls() {
		e.Handle(c.method, ginPath(c.path), c.handler)
		s.describe(c)
	}
	s.describeAuthz()
	e.GET("/rooms/:room", s.getPage)
	e.POST("/rooms/:room/join", s.room(s.pageJoin))
	e.POST("/rooms/:room/check", s.room(s.pageCheck))
	e.POST("/rooms/:room/return", s.room(s.pageReturn))
	e.POST("/rooms/:room/extend", s.room(s.pageExtend))
	e.POST("/rooms/:room/enter", s.room(s.pageEnter))
	// The waiting page may stand on a foreign host, where only /rooms is ours.
	e.GET("/rooms/_/*file", func(c *gin.Context) {
		http.StripPrefix("/rooms/_", s.cfg.Assets).ServeHTTP(c.Writer, c.Request)
	})
	return s.serveDescription()
}

type roomInput struct {
	Room string `path:"room" maxLength:"40" doc:"the room's slug"`
}

type drawOutput struct {
	Body queue.Draw
}

// registerPublic registers the calls that are not hot.
func (s *Server) registerPublic() {
	huma.Register(s.api, huma.Operation{
		OperationID: "get-draw", Method: http.MethodGet, Path: "/api/v1/rooms/{room}/draw", Summary: "The record of the room's draw", Tags: []string{"rooms"},
	}, func(_ context.Context, in *roomInput) (*drawOutput, error) {
		line, ok := s.cfg.Hall.Line(in.Room)
		if !ok {
			return nil, roomNotFound()
		}
		draw, ok := line.DrawRecord()
		if !ok {
			return nil, problem.New(http.StatusNotFound, "no-draw", "There was no draw in this room yet.")
		}
		return &drawOutput{draw}, nil
	})
}

// rawCall is a call on gin's own handlers, for those that are hot, stream, or live
// by cookies; huma only describes them.
type rawCall struct {
	method, path, id, summary string
	answers                   map[int]reflect.Type // nil: no body
	refusals                  []int
	handler                   gin.HandlerFunc
}

func (s *Server) rawCalls() []rawCall {
	place, none := reflect.TypeFor[queue.Place](), reflect.Type(nil)
	room := func(suffix string) string { return "/api/v1/rooms/{room}" + suffix }
	return []rawCall{
		{"GET", room(""), "get-room", "A waiting room", map[int]reflect.Type{200: reflect.TypeFor[queue.Room]()}, []int{404, 429}, s.room(s.getRoom)},
		{"POST", room("/places"), "join", "Join the line, or find the place one has", map[int]reflect.Type{201: reflect.TypeFor[joined](), 200: reflect.TypeFor[joined]()}, []int{403, 404, 409, 410, 413, 422, 429, 503}, s.room(s.postPlaces)},
		{"POST", room("/check"), "wait-instead", "A turn for who cannot solve a challenge: wait until ready_at, then join with the answer", map[int]reflect.Type{200: reflect.TypeFor[turnTaken]()}, []int{404, 429, 503}, s.room(s.postCheck)},
		{"POST", clearancePath, "clear", "Show {challenge}, the answer to a challenge that a policy asked for: a cookie that clears this browser for half an hour", map[int]reflect.Type{204: none}, []int{403, 422, 429, 503}, s.postClearance},
		{"GET", room("/place"), "get-place", "Where one stands; Retry-After says when to ask again", map[int]reflect.Type{200: place}, []int{404, 410, 429, 503}, s.withPlace(s.getPlace)},
		{"DELETE", room("/place"), "leave", "Leave the line", map[int]reflect.Type{204: none}, []int{404, 410, 503}, s.withPlace(s.deletePlace)},
		{"POST", room("/place/return"), "return", "Come back after a missed call", map[int]reflect.Type{200: place}, []int{404, 410, 503}, s.withPlace(s.postReturn)},
		{"POST", room("/place/extend"), "extend-call", "As much time again to claim, once a call", map[int]reflect.Type{200: place}, []int{404, 409, 410, 503}, s.withPlace(s.postExtend)},
		{"POST", room("/place/resume-code"), "resume-code", "A code with which another device takes the place over: POST …/places {resume}", map[int]reflect.Type{200: reflect.TypeFor[resumeCode]()}, []int{404, 410, 503}, s.withPlace(s.postResumeCode)},
		{"GET", room("/place/ws"), "place-websocket", "WebSocket (usher.v1): a Place at once and on every change", map[int]reflect.Type{101: none}, []int{403, 404, 410, 426, 429, 503}, s.room(s.getSocket)},
		{"GET", room("/place/events"), "place-events", "The same documents as Server-Sent Events", map[int]reflect.Type{200: none}, []int{404, 410, 503}, s.withPlace(s.getEvents)},
		{"GET", room("/place/receipt"), "get-receipt", "A signed receipt of one's number", map[int]reflect.Type{200: reflect.TypeFor[receipt]()}, []int{404, 410}, s.withPlace(s.getReceipt)},
		{"POST", room("/pass"), "claim", "Claim a pass when called; again: the same session", map[int]reflect.Type{200: reflect.TypeFor[admitted]()}, []int{404, 409, 410, 503}, s.withPlace(s.postPass)},
		{"DELETE", room("/pass"), "end-session", "End one's session: its room is free", map[int]reflect.Type{204: none}, []int{403, 404, 503}, s.room(s.deletePass)},
		{"GET", jwksPath, "get-keys", "The public keys of passes and receipts", map[int]reflect.Type{200: none}, nil, s.getJWKS},
		{"GET", "/api/v1/operate/rooms/{room}/ws", "watch-room", "WebSocket: the room's settings and live figures", map[int]reflect.Type{101: none}, []int{401, 403, 404, 503}, s.room(s.watchRoom)},
	}
}

// ginPath turns /rooms/{room} into /rooms/:room.
func ginPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

func (s *Server) describe(c rawCall) {
	doc := s.api.OpenAPI()
	op := &huma.Operation{OperationID: c.id, Method: c.method, Path: c.path, Summary: c.summary, Tags: []string{"rooms"}, Responses: map[string]*huma.Response{}}
	if strings.Contains(c.path, "{room}") {
		op.Parameters = []*huma.Param{{Name: "room", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}}
	}
	if strings.HasPrefix(c.path, "/api/v1/operate") {
		op.Tags, op.Security = []string{"operate"}, operator.Needs(operator.View)
	}
	if c.id == "join" {
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
			Type: huma.TypeObject, AdditionalProperties: false, Properties: map[string]*huma.Schema{
				"challenge": {Type: huma.TypeString, Description: "the solved challenge, where one was asked"},
				"invite":    {Type: huma.TypeString, Description: "an invitation, where the room wants one"},
				"resume":    {Type: huma.TypeString, Description: "the code of a place that another device has"},
			}}}}}
	}
	for status, body := range c.answers {
		response := &huma.Response{Description: http.StatusText(status)}
		if body != nil {
			response.Content = map[string]*huma.MediaType{"application/json": {Schema: doc.Components.Schemas.Schema(body, true, "")}}
		}
		op.Responses[fmt.Sprint(status)] = response
	}
	refusal := doc.Components.Schemas.Schema(reflect.TypeFor[*problem.Problem](), true, "Problem")
	for _, status := range c.refusals {
		op.Responses[fmt.Sprint(status)] = &huma.Response{Description: http.StatusText(status), Content: map[string]*huma.MediaType{problem.ContentType: {Schema: refusal}}}
	}
	doc.AddOperation(op)
}

// describeAuthz describes what other proxies ask, which is answered before any routing.
func (s *Server) describeAuthz() {
	text := func(name, in, doc string) *huma.Param {
		return &huma.Param{Name: name, In: in, Required: in == "path", Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	header := func(doc string) *huma.Param {
		return &huma.Param{Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	room := text("room", "query", "the room to ask for, where none protects what is asked for")
	only := map[int]reflect.Type{http.StatusOK: nil}
	paged := map[int]reflect.Type{http.StatusOK: nil, http.StatusSeeOther: nil} // to the waiting page
	for _, c := range []struct {
		path, id, summary string
		parameters        []*huma.Param
		answers           map[int]reflect.Type
		refusals          []int
	}{
		{authzPath + "/nginx", "authz-nginx", "May this request go on? For auth_request: 401 is a page, whose way stands in X-Usher-Location, 403 anything else",
			[]*huma.Param{room, text("answer", "query", "visitor: the answer that is meant for the visitor, which never allows")}, only, []int{401, 403}},
		{authzPath + "/traefik", "authz-traefik", "May this request go on? For ForwardAuth", []*huma.Param{room}, paged, []int{403, 429, 503}},
		{authzPath + "/caddy", "authz-caddy", "May this request go on? For forward_auth", []*huma.Param{room}, paged, []int{403, 429, 503}},
		{envoyPath + "/{path}", "authz-envoy", "May this request go on? For ext_authz over HTTP: any method, the visitor's own path behind the prefix",
			[]*huma.Param{text("path", "path", "of the visitor's request, slashes and all"), text("X-Usher-Room", "header", "the room to ask for, where none protects the path")}, paged, []int{403, 429, 503}},
	} {
		s.describe(rawCall{method: http.MethodGet, path: c.path, id: c.id, summary: c.summary, answers: c.answers, refusals: c.refusals})
		op := s.api.OpenAPI().Paths[c.path].Get
		op.Tags, op.Parameters = []string{"proxies"}, c.parameters
		op.Responses["200"].Headers = map[string]*huma.Param{
			"X-Usher-Room": header("the room of the pass"), "X-Usher-Session": header("the session of the pass"),
			"Cookie": header("the visitor's cookies without Usher's own, to be sent on in place of theirs"),
		}
	}
}

// watchRoom streams the live figures to an operator.
func (s *Server) watchRoom(w http.ResponseWriter, r *http.Request, _ *visit, line *queue.Line) {
	who, refused := s.cfg.Auth.Authenticate(r)
	room := line.View().Room().Room
	switch {
	case refused != nil:
		problem.Write(w, r, refused)
	case !who.May(operator.View, room):
		problem.Write(w, r, problem.New(http.StatusForbidden, "forbidden", "This account may not see this room."))
	case !s.originAllowed(r, who.Via == "key"):
		problem.Write(w, r, foreignOrigin())
	default:
		s.monitor(w, r, func() (any, <-chan struct{}) {
			changed := line.Changed()
			return line.View().Live(), changed
		})
	}
}

// merge puts the box office's description beside ours.
func merge(into, from *huma.OpenAPI) error {
	if from == nil {
		return nil
	}
	theirs := from.Components.Schemas.Map()
	for name, schema := range theirs {
		ours, taken := into.Components.Schemas.Map()[name]
		if !taken {
			into.Components.Schemas.Map()[name] = schema
			continue
		}
		if a, b := mustJSON(ours), mustJSON(schema); !bytes.Equal(a, b) {
			return fmt.Errorf("gateway: two schemas are named %q", name)
		}
	}
	for path, item := range from.Paths {
		if _, taken := into.Paths[path]; taken {
			return fmt.Errorf("gateway: both sides describe %s", path)
		}
		into.Paths[path] = item
	}
	for name, scheme := range from.Components.SecuritySchemes {
		if into.Components.SecuritySchemes == nil {
			into.Components.SecuritySchemes = map[string]*huma.SecurityScheme{}
		}
		into.Components.SecuritySchemes[name] = scheme
	}
	return nil
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a schema that huma made
	}
	return b
}

// serveDescription renders the merged description and its page once.
func (s *Server) serveDescription() error {
	if err := merge(s.api.OpenAPI(), s.cfg.BoxOffice); err != nil {
		return err
	}
	document, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return fmt.Errorf("gateway: render description: %w", err)
	}
	page, policy, err := docsPage(s.api.OpenAPI())
	if err != nil {
		return fmt.Errorf("gateway: render docs: %w", err)
	}
	s.engine.GET("/api/v1/openapi.json", func(c *gin.Context) {
		c.Header("Cache-Control", "public, max-age=60")
		c.Data(http.StatusOK, "application/openapi+json", document)
	})
	s.engine.GET("/api/v1/docs", func(c *gin.Context) {
		c.Header("Content-Security-Policy", policy)
		c.Header("Cache-Control", "public, max-age=60")
		c.Data(http.StatusOK, "text/html; charset=utf-8", page)
	})
	return nil
}

const docsStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
code{font-family:ui-monospace,monospace}li{margin:.35rem 0}b{display:inline-block;min-width:4.5rem}`

var docsTemplate = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} API</title><style>` + docsStyle + `</style>
<h1>{{.Title}} API</h1><p>The whole description, for programs: <a href="/api/v1/openapi.json">openapi.json</a> (OpenAPI {{.Version}}).</p>
{{range .Groups}}<h2>{{.Name}}</h2><ul>{{range .Calls}}<li><code><b>{{.Method}}</b> {{.Path}}</code><br>{{.Summary}}{{end}}</ul>
{{end}}</html>
`))

// docsPage lists the calls by tag, and the policy under which a browser draws it.
func docsPage(doc *huma.OpenAPI) (page []byte, policy string, err error) {
	type call struct{ Method, Path, Summary string }
	type group struct {
		Name  string
		Calls []call
	}
	groups := map[string]*group{}
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, m := range []struct {
			name string
			op   *huma.Operation
		}{{"GET", item.Get}, {"POST", item.Post}, {"PUT", item.Put}, {"PATCH", item.Patch}, {"DELETE", item.Delete}} {
			if m.op == nil {
				continue
			}
			tag := "other"
			if len(m.op.Tags) > 0 {
				tag = m.op.Tags[0]
			}
			if groups[tag] == nil {
				groups[tag] = &group{Name: tag}
			}
			groups[tag].Calls = append(groups[tag].Calls, call{m.name, path, m.op.Summary})
		}
	}
	var sorted []*group
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		sorted = append(sorted, groups[name])
	}
	var out bytes.Buffer
	err = docsTemplate.Execute(&out, struct {
		Title, Version string
		Groups         []*group
	}{doc.Info.Title, doc.OpenAPI, sorted})
	sum := sha256.Sum256([]byte(docsStyle))
	return out.Bytes(), "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'", err
}
