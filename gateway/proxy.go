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
	"slices"
	"strings"
	"sync/atomic"
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
	name      string // of metrics and logs
	log       *slog.Logger
	transport http.RoundTripper
	// ours: the box office, which knows operators' sessions and passes.
	ours bool
}

func newHop(name string, cfg origin.Config, ours bool, kept *cache.Cache, log *slog.Logger) *hop {
	cfg.First = func(r *http.Request) bool { return goesFirst(r, ours) }
	if ours {
		cfg.Counts = shops
	}
	cfg.Interim = func(r *http.Request, status int, header http.Header) {
		// A probe of its health has no client, and one of HTTP/1.0 knows no such answer.
		if v, ok := problem.Kept(r.Context()).(*visit); ok && r.ProtoAtLeast(1, 1) {
			v.client.interim(status, header)
		}
	}
	o := &hop{Origin: origin.New(name, cfg, log), name: name, log: log, ours: ours}
	transport := &cache.Transport{Cache: kept, Name: name, Next: o.Origin, Public: public, Purges: purgesNothing}
	if ours {
		transport.Public, transport.Purges, transport.MaxFresh = publicCatalogue, operates, catalogueFresh
	}
	o.transport = transport
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
			o.fail(w, r, o.log, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	} else if r.ContentLength != 0 {
		lent := &lentBody{ReadCloser: r.Body}
		defer lent.over.Store(true)
		r.Body = lent
	}
	o.exchange(w, r)
}

// sanitise makes headers say to an origin only what the edge vouches for. They
// have no hop-by-hop fields any more.
func sanitise(h http.Header, v *visit, host string, ours bool) {
	for name := range h {
		if forgeable(name) {
			delete(h, name)
		}
	}
	said := new([4]string) // all that is told of this visitor alone, in one piece of memory
	tell := func(i int, name, value string) {
		said[i] = value
		h[name] = said[i : i+1 : i+1]
	}
	if v.addr.IsValid() {
		tell(0, "X-Forwarded-For", v.addr.String())
	}
	tell(1, "X-Forwarded-Host", host)
	h["X-Forwarded-Proto"] = plainly
	if v.secure {
		h["X-Forwarded-Proto"] = secretly
	}
	for _, value := range h["Authorization"] {
		if scheme, _, _ := strings.Cut(value, " "); strings.EqualFold(scheme, placeScheme) {
			delete(h, "Authorization") // all of them: more than one is nobody's right
		}
	}
	delete(h, "Sec-Websocket-Protocol") // apps send places in it; the bridge writes its own
	keepCookies(h, func(name string) bool {
		return !isPlaceCookie(name) && !isCheckCookie(name) && (ours || !isOperatorCookie(name))
	})
	if v.claims != nil {
		tell(2, "X-Usher-Room", v.claims.Room)
		tell(3, "X-Usher-Session", v.claims.Session)
	}
}

// What X-Forwarded-Proto tells.
var plainly, secretly = []string{"http"}, []string{"https"}

// forgeable tells which fields an origin may take for the edge's own word, or for a path
// other than the one that was checked. CGI and its kin read X_Usher_Room and X-Usher-Room
// as one.
func forgeable(name string) bool {
	var space [32]byte // the start of a longer name tells enough
	plain := space[:copy(space[:], name)]
	for i, c := range plain {
		switch {
		case c >= 'A' && c <= 'Z':
			plain[i] = c - 'A' + 'a'
		case c == '_':
			plain[i] = '-'
		}
	}
	for _, family := range [...]string{"x-usher-", "x-forwarded-", "x-original-", "x-rewrite-"} {
		if len(plain) >= len(family) && string(plain[:len(family)]) == family {
			return true
		}
	}
	switch string(plain) {
	case "forwarded", "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "x-cluster-client-ip", "cf-connecting-ip", "fastly-client-ip", // who asks
		"x-host", // whom
		"proxy":  // HTTP_PROXY of a CGI program
		return true
	}
	return false
}

// keepCookies leaves only the cookies that keep wants, each as it was written.
func keepCookies(h http.Header, keep func(name string) bool) {
	wanted := func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return pair != "" && keep(strings.TrimSpace(name))
	}
	lines := h["Cookie"]
	all := len(lines) <= 1
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			all = all && wanted(strings.TrimSpace(pair))
		}
	}
	if all {
		return
	}
	var kept []string
	for _, line := range lines {
		for pair := range strings.SplitSeq(line, ";") {
			if pair = strings.TrimSpace(pair); wanted(pair) {
				kept = append(kept, pair)
			}
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = []string{strings.Join(kept, "; ")}
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

// lentBody is a body while its request is served: what passes it on may go on reading beyond.
type lentBody struct {
	io.ReadCloser
	over atomic.Bool
}

func (b *lentBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.ReadCloser.Read(p)
}
