package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/gateway/cache"
	"usher/gateway/origin"
	"usher/internal/problem"
	"usher/queue"
)

// smallBody is up to how many bytes a body is read before an origin is troubled with its
// request: who sends it slowly takes nobody's room there.
const smallBody = 16 << 10

// progressTime is for each write to the client.
const progressTime = 30 * time.Second

// hop is the way to one origin.
type hop struct {
	*origin.Origin
	name  string // of metrics and logs
	proxy *httputil.ReverseProxy
	// ours: the box office, which knows operators' sessions and passes.
	ours bool
}

func newHop(name string, cfg origin.Config, ours bool, kept *cache.Cache, log *slog.Logger) *hop {
	cfg.First = func(r *http.Request) bool { return goesFirst(r, ours) }
	if ours {
		cfg.Counts = shops
	}
	o := &hop{Origin: origin.New(name, cfg, log), name: name, ours: ours}
	transport := &cache.Transport{Cache: kept, Name: name, Next: o.Origin, Public: public, Purges: purgesNothing}
	if ours {
		transport.Public, transport.Purges, transport.MaxFresh = publicCatalogue, operates, catalogueFresh
	}
	o.proxy = &httputil.ReverseProxy{
		Transport:  transport,
		Rewrite:    o.rewrite,
		BufferPool: copyBuffers{},
		ErrorLog:   slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ModifyResponse: func(res *http.Response) error {
			res.Header.Del(problem.RequestIDHeader) // the edge has set its own
			if visitOf(res.Request).given {
				res.Header.Set("Cache-Control", "no-store") // whatever the origin lets caches keep: it carries a pass
			}
			if ours {
				own := make(http.Header, 6)
				harden(own, visitOf(res.Request).secure)
				for name, values := range own {
					if _, set := res.Header[name]; !set {
						res.Header[name] = values
					}
				}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { o.fail(w, r, log, err) },
	}
	return o
}

// goesFirst tells which requests an origin serves first when there is too much for it:
// those of who was admitted, and at the box office all but the catalogue, which strangers
// read: payments, orders, operators.
func goesFirst(r *http.Request, ours bool) bool {
	v := visitOf(r)
	if v.claims != nil {
		return true
	}
	return ours && !catalogue(r.Method, v.path) && r.ContentLength >= 0 && r.ContentLength <= smallBody
}

// shops tells which requests say how the box office does: those of the shop. Operators' may
// take long, and a stranger can have many refused.
func shops(r *http.Request) bool { return under(visitOf(r).path, "/api/v1/events") }

// catalogueFresh is how long what the box office says of its events is kept: what an
// operator changes by way of another gateway shows here after that.
const catalogueFresh = time.Second

// public tells whether a request may be answered as anyone's: its route says that the site
// may be cached, and it brings no cookie by which the site may know somebody.
func public(r *http.Request) bool {
	v := visitOf(r)
	return v.public && v.claims == nil && len(r.Header["Cookie"]) == 0 && r.Header.Get(passHeader) == ""
}

// publicCatalogue is public of the box office, whose catalogue no visitor's cookie changes.
func publicCatalogue(r *http.Request) bool {
	v := visitOf(r)
	if v.claims != nil || !catalogue(r.Method, v.path) {
		return false
	}
	return len(r.Header["Cookie"]) == 0 || !slices.ContainsFunc(r.Cookies(), func(c *http.Cookie) bool { return isOperatorCookie(c.Name) })
}

// operates tells which requests change the catalogue.
func operates(r *http.Request) bool {
	return unsafeMethod(r.Method) && under(visitOf(r).path, "/api/v1/operate")
}

func purgesNothing(*http.Request) bool { return false }

// OriginStatus tells how a named origin does as this gateway sees it; "" is the box
// office.
func (s *Server) OriginStatus(name string) queue.OriginStatus {
	o := s.origins[name]
	if name == "" {
		o = s.booking
	}
	if o == nil {
		return queue.OriginStatus{Health: "unknown"}
	}
	status := o.Status()
	return queue.OriginStatus{
		Health: status.Health, LatencyMS: status.Latency.Seconds() * 1000, InFlight: status.InFlight,
		Limit: status.Limit, Servers: status.Servers, ServersUp: status.Up,
		Share: status.Share, Reason: status.Reason, Known: status.Known,
	}
}

// serve passes r on. Its body may have up to maxBody bytes.
func (o *hop) serve(w http.ResponseWriter, r *http.Request, maxBody int64) {
	if r.ContentLength > maxBody {
		w.Header().Set("Connection", "close") // nobody reads the rest
		problem.Write(w, r, problem.BodyTooLarge())
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	if r.ContentLength > 0 && r.ContentLength <= smallBody {
		body, err := io.ReadAll(r.Body)
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			problem.Write(w, r, problem.New(http.StatusBadRequest, "body-incomplete", "The request body is shorter than it should be."))
			return
		case err != nil:
			o.proxy.ErrorHandler(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	unharden(w.Header())    // the answer's own headers stand
	r.Header.Del("Upgrade") // WebSockets end at the gateway (bridge.go); nothing else is switched to
	o.proxy.ServeHTTP(steadily(w), r)
}

func (o *hop) rewrite(p *httputil.ProxyRequest) {
	p.Out.Host = p.In.Host
	sanitise(p.Out.Header, visitOf(p.In), p.In.Host, o.ours)
	if p.Out.Header.Get("User-Agent") == "" {
		p.Out.Header.Set("User-Agent", "") // else the transport writes Go's own
	}
}

// sanitise makes headers say to an origin only what the edge vouches for. They
// are a copy of the client's, without hop-by-hop fields.
func sanitise(h http.Header, v *visit, host string, ours bool) {
	for name := range h {
		if forgeable(name) {
			delete(h, name)
		}
	}
	if v.addr.IsValid() {
		h.Set("X-Forwarded-For", v.addr.String())
	}
	h.Set("X-Forwarded-Host", host)
	h.Set("X-Forwarded-Proto", map[bool]string{true: "https", false: "http"}[v.secure])
	for _, value := range h.Values("Authorization") {
		if scheme, _, _ := strings.Cut(value, " "); strings.EqualFold(scheme, placeScheme) {
			h.Del("Authorization") // all of them: more than one is nobody's right
		}
	}
	h.Del("Sec-Websocket-Protocol") // apps send places in it; the bridge writes its own
	keepCookies(h, func(name string) bool {
		return !isPlaceCookie(name) && !isCheckCookie(name) && (ours || !isOperatorCookie(name))
	})
	if v.claims != nil {
		h.Set("X-Usher-Room", v.claims.Room)
		h.Set("X-Usher-Session", v.claims.Session)
	}
}

// forgeable tells which fields an origin may take for the edge's own word, or for a path
// other than the one that was checked. CGI and its kin read X_Usher_Room and X-Usher-Room
// as one.
func forgeable(name string) bool {
	plain := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, family := range []string{"x-usher-", "x-forwarded-", "x-original-", "x-rewrite-"} {
		if strings.HasPrefix(plain, family) {
			return true
		}
	}
	switch plain {
	case "forwarded", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "x-cluster-client-ip", "cf-connecting-ip", "fastly-client-ip", // who asks
		"x-host", // whom
		"proxy":  // HTTP_PROXY of a CGI program
		return true
	}
	return false
}

// keepCookies leaves only the cookies that keep wants, each as it was written.
func keepCookies(h http.Header, keep func(name string) bool) {
	lines := h["Cookie"]
	if len(lines) == 0 {
		return
	}
	var kept []string
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			pair = strings.TrimSpace(pair)
			name, _, _ := strings.Cut(pair, "=")
			if pair != "" && keep(strings.TrimSpace(name)) {
				kept = append(kept, pair)
			}
		}
	}
	if len(kept) == 0 {
		h.Del("Cookie")
		return
	}
	h.Set("Cookie", strings.Join(kept, "; "))
}

// reducedTime is after how long at least to ask again where there is too much to do.
const reducedTime = 2 * time.Second

// fail answers for an origin that did not.
func (o *hop) fail(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &tooLarge):
		problem.Write(w, r, problem.BodyTooLarge())
	case errors.Is(err, errSlowBody):
		w.Header().Set("Connection", "close") // nobody waits for the rest
		problem.Write(w, r, slowBody())
	case r.Context().Err() != nil && errors.Is(r.Context().Err(), context.Canceled):
		// The client is gone; the status is for the access log alone.
		w.WriteHeader(http.StatusBadGateway)
	case errors.Is(err, errBrokenBody):
		w.Header().Set("Connection", "close") // where the next request begins nobody knows
		problem.Write(w, r, problem.New(http.StatusBadRequest, "bad-request", "The request body could not be read."))
	case errors.Is(err, origin.ErrBusy):
		problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "temporary-reduced-capacity", "There is too much to do right now. Please try again in a moment.").In(reducedTime+rand.N(reducedTime)))
	case errors.As(err, &timeout) && timeout.Timeout():
		log.WarnContext(r.Context(), "origin timed out", "origin", o.name, "path", r.URL.Path, "error", err)
		problem.Write(w, r, problem.New(http.StatusGatewayTimeout, "origin-timeout", "The site did not answer in time. Please try again.").In(5*time.Second))
	default:
		log.WarnContext(r.Context(), "origin failed", "origin", o.name, "path", r.URL.Path, "error", err)
		problem.Write(w, r, problem.New(http.StatusBadGateway, "origin-unavailable", "The site cannot be reached right now. Please try again.").In(5*time.Second))
	}
}

// steady gives each write to the client its own deadline, so that a stream may
// last and a reader that stops cannot hold a connection.
type steady struct {
	http.ResponseWriter
	control *http.ResponseController
}

func steadily(w http.ResponseWriter) *steady {
	return &steady{ResponseWriter: w, control: http.NewResponseController(w)}
}

func (s *steady) Write(b []byte) (int, error) {
	// A writer without deadlines (a test's recorder) has nothing to hold.
	_ = s.control.SetWriteDeadline(time.Now().Add(progressTime))
	return s.ResponseWriter.Write(b)
}

func (s *steady) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// copyBuffers lends ReverseProxy its 32 KiB buffers.
type copyBuffers struct{}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (copyBuffers) Get() []byte  { return buffers.Get().(*[32 << 10]byte)[:] }
func (copyBuffers) Put(b []byte) { buffers.Put((*[32 << 10]byte)(b)) }
