package origin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"usher/internal/telemetry"
)

// What an origin refuses with.
var (
	ErrBusy     = errors.New("the origin has as many requests as it can take")
	ErrDown     = errors.New("no server of the origin can be reached")
	ErrTooLarge = errors.New("the origin's answer is too large")
)

// Origin passes requests on to its servers. It is safe for concurrent use.
type Origin struct {
	name    string
	cfg     Config
	log     *slog.Logger
	servers []*server
	gate    gate
	budget  *budget
	latency prometheus.Observer

	mu     sync.Mutex // guards all below
	sample sample
	judged judgement
	mean   float64 // latency of answers in milliseconds, moving
	faulty float64 // share of answers that were faults, moving
	asked  time.Time
}

// New makes an origin; its Run must run beside it. Config must be valid. The name is the
// label of metrics and logs.
func New(name string, cfg Config, log *slog.Logger) *Origin {
	cfg.setDefaults()
	o := &Origin{name: name, cfg: cfg, log: log, budget: newBudget(cfg.RetryBudget), latency: telemetry.OriginLatency.WithLabelValues(name)}
	o.judged = judgement{limit: float64(cfg.MaxInFlight), share: 1}
	o.gate.limit = cfg.MaxInFlight
	for _, u := range cfg.URLs {
		o.servers = append(o.servers, newServer(u, cfg))
	}
	return o
}

// Run probes the servers and judges the origin until ctx ends.
func (o *Origin) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	for _, s := range o.servers {
		probes.Go(func() { s.probe(ctx, o.name, o.cfg.Health, o.log) })
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			o.judge()
			for _, s := range o.servers {
				if s.lean != nil {
					s.lean.prune(idleTime)
				}
			}
		}
	}
}

// judge looks at what was seen since it last could.
func (o *Origin) judge() {
	peak, refused := o.gate.look()
	o.mu.Lock()
	s := &o.sample
	s.looks++
	s.peak = max(s.peak, peak)
	s.refused += refused
	s.down = o.allDown()
	was := o.judged
	if s.enough() {
		o.judged, o.sample = o.judged.next(*s, o.cfg.MaxInFlight, o.cfg.Slow), sample{}
	}
	now := o.judged
	o.mu.Unlock()
	o.gate.set(int(now.limit))
	if was.reason != now.reason {
		o.log.Warn("an origin takes another share of its pace", "origin", o.name, "share", now.share, "reason", now.reason)
	}
}

// allDown tells that no server is up, by probes; one that is only out may be asked.
func (o *Origin) allDown() bool {
	for _, s := range o.servers {
		if !s.down.Load() {
			return false
		}
	}
	return true
}

// CloseIdle closes the connections that nobody uses.
func (o *Origin) CloseIdle() {
	for _, s := range o.servers {
		s.closeIdle()
	}
}

// RoundTrip sends a request to one of the servers, whatever its URL's host, and may
// repeat it. It leaves closing the body to the caller.
func (o *Origin) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := sentOf(r)
	if sent != nil {
		with := *r
		with.Body = sent
		r = &with
	}
	if err := o.gate.enter(r.Context(), o.cfg.First(r)); err != nil {
		return nil, err
	}
	defer o.gate.leave()
	o.budget.earn()
	s := o.pick(nil)
	if s == nil {
		return nil, ErrDown
	}
	for repeated := 0; ; repeated++ {
		res, err := o.try(s, r, sent)
		if repeated >= o.cfg.Retries || !o.again(r, sent, res, err) {
			return res, err
		}
		other := o.pick(s)
		if other == nil && res != nil || other == nil && isDial(err) {
			return res, err
		}
		if !o.budget.spend() {
			if other != nil {
				other.record(false, false) // it was chosen for nothing
			}
			return res, err
		}
		if res != nil {
			_ = res.Body.Close()
		}
		if other != nil {
			s = other
		}
	}
}

// again tells whether a request may be repeated after this end of it.
func (o *Origin) again(r *http.Request, sent *sentBody, res *http.Response, err error) bool {
	if err == nil && !overloaded(res.StatusCode) || sent.begun() || r.Context().Err() != nil {
		return false
	}
	if err != nil && isDial(err) {
		return true // nothing of it was sent
	}
	if sent != nil || !idempotent(r.Method) || isTimeout(err) {
		return false
	}
	return err != nil || res.StatusCode != http.StatusTooManyRequests
}

// try sends a request to a server, and measures.
func (o *Origin) try(s *server, r *http.Request, sent *sentBody) (*http.Response, error) {
	start := time.Now()
	s.inFlight.Add(1)
	res, err := s.RoundTrip(r)
	took := time.Since(sent.lastRead(start))
	// Whose fault it is: a client that went away or cut its body says nothing of the origin.
	known := err == nil || r.Context().Err() == nil && !sent.failed() && !errors.Is(err, errUnsendable)
	status := 0
	if err == nil {
		status = res.StatusCode
	}
	s.record(err == nil && (!overloaded(status) || status == http.StatusTooManyRequests), known)
	if known {
		o.latency.Observe(took.Seconds())
	}
	if known && o.cfg.Counts(r) {
		o.saw(took, err != nil || status >= http.StatusInternalServerError || status == http.StatusTooManyRequests, err != nil || overloaded(status))
	}
	if err != nil {
		s.inFlight.Add(-1)
		return nil, err
	}
	if o.cfg.MaxAnswer > 0 && res.ContentLength > o.cfg.MaxAnswer {
		_ = res.Body.Close()
		s.inFlight.Add(-1)
		return nil, ErrTooLarge
	}
	res.Body = &answerBody{ReadCloser: res.Body, server: s, most: o.cfg.MaxAnswer}
	return res, nil
}

// overloaded tells which answers say that there is too much to do, or nobody to do it.
func overloaded(status int) bool {
	return status == http.StatusTooManyRequests || status >= http.StatusBadGateway && status <= http.StatusGatewayTimeout
}

func (o *Origin) saw(took time.Duration, fault, overload bool) {
	ms, faulty := took.Seconds()*1000, 0.0
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sample.answers++
	o.sample.latency += took
	if fault {
		o.sample.faults++
		faulty = 1
	}
	if overload {
		o.sample.overload++
	}
	if o.asked.IsZero() {
		o.mean, o.faulty = ms, faulty
	}
	o.asked = time.Now()
	o.mean += (ms - o.mean) / 20
	o.faulty += (faulty - o.faulty) / 20
}

// pick chooses a server other than not: the less busy of two at random, of those that are
// up and whose breaker permits it. Where all breakers refuse, it is one of those that are
// up all the same: half an answer is better than none. What it returns must be used.
func (o *Origin) pick(not *server) *server {
	var up [maxServers]*server
	n := 0
	for _, s := range o.servers {
		if s != not && !s.down.Load() {
			up[n] = s
			n++
		}
	}
	if n == 0 {
		return nil
	}
	for left := n; left > 0; left-- {
		i := lessBusy(up[:left])
		if up[i].breaker.TryAcquirePermit() {
			return up[i]
		}
		up[i], up[left-1] = up[left-1], up[i]
	}
	return up[lessBusy(up[:n])]
}

// lessBusy compares two at random.
func lessBusy(servers []*server) int {
	if len(servers) == 1 {
		return 0
	}
	a, b := rand.IntN(len(servers)), rand.IntN(len(servers)-1)
	if b >= a {
		b++
	}
	if now := time.Now(); servers[b].load(now) < servers[a].load(now) {
		return b
	}
	return a
}

// Open chooses a server for a connection of its own, such as a WebSocket. done tells how
// opening it ended: whether the server answered, where the end says something of it. Open
// counts against what the origin takes at once until then; nothing is repeated.
func (o *Origin) Open(r *http.Request) (at *url.URL, done func(ok, known bool), err error) {
	if err := o.gate.enter(r.Context(), o.cfg.First(r)); err != nil {
		return nil, nil, err
	}
	s := o.pick(nil)
	if s == nil {
		o.gate.leave()
		return nil, nil, ErrDown
	}
	target := *s.url
	target.Path, target.RawPath = s.base+r.URL.Path, ""
	target.RawQuery = r.URL.RawQuery
	return &target, func(ok, known bool) {
		s.record(ok, known)
		o.gate.leave()
	}, nil
}

// Status is how an origin does, as this gateway sees it.
type Status struct {
	// Health is unknown, ok, slow, failing or down.
	Health string
	// Latency is of about the last twenty answers.
	Latency         time.Duration
	InFlight, Limit int
	Servers, Up     int
	// Share is how much of a room's pace the origin takes, and Reason why that is less than 1.
	Share  float64
	Reason string
	// Known tells that this gateway has seen enough of it lately to say so.
	Known bool
}

// Status tells how the origin does.
func (o *Origin) Status() Status {
	s := Status{Health: "unknown", Servers: len(o.servers)}
	for _, server := range o.servers {
		if !server.down.Load() && !server.breaker.IsOpen() {
			s.Up++
		}
	}
	s.InFlight, s.Limit = o.gate.figures()
	o.mu.Lock()
	defer o.mu.Unlock()
	s.Latency = time.Duration(math.Round(o.mean*10) / 10 * float64(time.Millisecond))
	s.Share, s.Reason = o.judged.share, o.judged.reason
	s.Known = s.Share < 1 || time.Since(o.asked) < 5*time.Second
	switch {
	case o.allDown():
		s.Health = Down
	case o.asked.IsZero():
	case o.faulty > 0.5:
		s.Health = Failing
	case o.mean > float64(o.cfg.Slow.Milliseconds()):
		s.Health = Slow
	default:
		s.Health = "ok"
	}
	return s
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// BeforeWait tells an answer's body to call f whenever a Read is about to wait for the server;
// false when the body cannot tell.
func BeforeWait(body io.Reader, f func()) bool {
	b, ok := body.(interface{ BeforeWait(f func()) bool })
	return ok && b.BeforeWait(f)
}

// answerBody is an answer's body: within its bound, and known to the server until it ends.
type answerBody struct {
	io.ReadCloser
	server *server
	most   int64 // 0 is no bound
	read   int64
	once   sync.Once
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read += int64(n); b.most > 0 && b.read > b.most {
		return 0, ErrTooLarge
	}
	return n, err
}

func (b *answerBody) BeforeWait(f func()) bool { return BeforeWait(b.ReadCloser, f) }

func (b *answerBody) Close() error {
	b.once.Do(func() { b.server.inFlight.Add(-1) })
	return b.ReadCloser.Close()
}
