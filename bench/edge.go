package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/bench/site"
	"usher/internal/pass"
)

// The protected site of the proxy part.
const (
	edgeHost = "tickets.example"
	edgeRoom = "edge"
	edgePage = "/page"
)

// requestsPerPass is how often the proxy part shows one pass.
const requestsPerPass = 20

// edgeBench measures the edge beside other proxies and other limiters.
type edgeBench struct {
	settings
	root, folder, program string
}

// proxy compares a protected request, with pass check, policies and all, with plain proxies that pass everything on.
func (b edgeBench) proxy(ctx context.Context) ([]row, error) {
	origin, err := startChild(ctx, "origin", "")
	if err != nil {
		return nil, err
	}
	defer origin.Stop()
	target, err := origin.Hear()
	if err != nil {
		return nil, err
	}
	usher, err := b.start(ctx, site.Config{Settings: "origins: {hello: http://" + target + "}\n"})
	if err != nil {
		return nil, err
	}
	defer usher.Stop()
	err = usher.Operate(ctx, http.MethodPut, "rooms/"+edgeRoom, map[string]any{
		"title": "Edge", "state": "open", "origin": "hello", "protect": []map[string]string{{"host": edgeHost, "path_prefix": "/"}},
	}, nil)
	if err != nil {
		return nil, err
	}
	if err := settled(ctx, usher.Gateways[0].URL); err != nil {
		return nil, err
	}
	plain, err := startChild(ctx, "plain-proxy", target)
	if err != nil {
		return nil, err
	}
	defer plain.Stop()
	reverse, err := plain.Hear()
	if err != nil {
		return nil, err
	}
	sides := []side{
		sideOf(usher),
		{"httputil.ReverseProxy, tuned", served{reverse, plain.PID()}},
	}
	var missing []row
	for _, p := range peerProxies {
		at, stop, err := p.start(ctx, b.folder, target)
		if err != nil {
			missing = append(missing, row{what: "  ÷ " + p.name, note: err.Error()})
			continue
		}
		defer stop()
		sides = append(sides, side{p.name, at})
	}
	l, err := b.showing(usher)
	if err != nil {
		return nil, err
	}
	profiled := make(chan error, 1)
	if b.profile != "" {
		go func() {
			profiled <- writeProfile(ctx, usher.Gateways[0].Admin, b.profile, time.Duration(b.rounds*len(sides))*b.round)
		}()
	} else {
		profiled <- nil
	}
	took, err := b.inTurns(ctx, sides, slices.Repeat([]load{l}, len(sides)))
	if err := errors.Join(err, <-profiled); err != nil {
		return nil, err
	}
	rows := []row{}
	for i, s := range sides[1:] {
		what := "  ÷ " + s.name + ", nothing but passing on"
		if i == 0 {
			what = "a protected request passed on, a pass for every 20, policies leased, 64 connections ÷ " + s.name
		}
		rows = append(rows, ratioRow(what, took[0].perSecond, took[i+1].perSecond), cpuRow(took[0], took[i+1]))
	}
	return append(rows, missing...), nil
}

// A side of a comparison.
type side struct {
	name string
	served
}

// sideOf is a site's first gateway.
func sideOf(usher *site.Site) side {
	g := usher.Gateways[0]
	return side{"Usher", served{strings.TrimPrefix(g.URL, "http://"), g.PID()}}
}

// inTurns lets all sides meet their loads in turns, each round begun by another, and returns what each did.
func (b edgeBench) inTurns(ctx context.Context, sides []side, loads []load) ([]turns, error) {
	for i, s := range sides { // pools and caches fill before it counts
		if _, err := loads[i].run(ctx, s.address, time.Second, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	took := make([]turns, len(sides))
	for round := range b.rounds {
		for i := range sides {
			n := (round + i) % len(sides)
			if err := took[n].add(ctx, loads[n], sides[n].served, b.round); err != nil {
				return nil, fmt.Errorf("%s: %w", sides[n].name, err)
			}
		}
	}
	return took, nil
}

// ratioRow is a row of two sides' answers a second; its ratio is the median of those of each round.
func ratioRow(what string, usher, other []float64) row {
	ratios := make([]float64, len(usher))
	for i := range ratios {
		ratios[i] = usher[i] / other[i]
	}
	return row{what: what, usher: fmt.Sprintf("%.0f", median(usher)), baseline: fmt.Sprintf("%.0f", median(other)),
		ratio: fmt.Sprintf("%.2f", median(ratios)), note: spread(ratios)}
}

// start runs a site with one gateway.
func (b edgeBench) start(ctx context.Context, cfg site.Config) (*site.Site, error) {
	folder, err := os.MkdirTemp(b.folder, "edge-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		return nil, err
	}
	cfg.Folder, cfg.Program, cfg.Gateways, cfg.TrustedProxies = folder, b.program, 1, "127.0.0.1/32"
	return site.Start(ctx, cfg)
}

// showing is a load of requests to the protected site, each pass from an address of its own and shown so many times.
func (b edgeBench) showing(usher *site.Site) (load, error) {
	now := time.Now()
	passes := make([]string, 20_000)
	for i := range passes {
		token, err := pass.Issue(usher.Ring, edgeRoom, fmt.Sprintf("%032x", i), now, now.Add(time.Hour))
		if err != nil {
			return load{}, err
		}
		passes[i] = pass.CookieName(edgeRoom, false) + "=" + token
	}
	return load{connections: connections, sent: new(atomic.Uint32), status: http.StatusOK, write: func(out []byte, n uint32, _ string) []byte {
		i := n / requestsPerPass % uint32(len(passes))
		return fmt.Appendf(out, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 10.%d.%d.%d\r\nCookie: %s\r\n\r\n",
			edgePage, edgeHost, byte(i>>16), byte(i>>8), byte(i), passes[i])
	}}, nil
}

// settled waits until the gateway protects the host.
func settled(ctx context.Context, gateway string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateway+edgePage, nil)
		if err != nil {
			return err
		}
		req.Host = edgeHost
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusForbidden {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not protect the host: %w", ctx.Err())
		}
	}
}

// serveOrigin is the site behind all proxies: a page of 300 bytes, as fast as net/http can.
func serveOrigin(in io.Reader, out io.Writer) error {
	page := []byte(strings.Repeat("A page of the protected site. ", 10))
	return serveOn(in, out, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(page) // a client that left is its own affair
	}))
}

// servePlainProxy passes everything on to the address that it reads, by the standard library's proxy with its
// transport and buffers set as well as they can be.
func servePlainProxy(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	target, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	origin := &url.URL{Scheme: "http", Host: strings.TrimSpace(target)}
	return serveOn(lines, out, &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(origin); r.Out.Host = r.In.Host },
		BufferPool: proxyBuffers{},
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext, MaxIdleConns: 512, MaxIdleConnsPerHost: 512,
			IdleConnTimeout: 90 * time.Second, DisableCompression: true,
		},
	})
}

// serveOn serves on a free port, and says which, until in ends.
func serveOn(in io.Reader, out io.Writer, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	server := http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, in) // its end is all that counts
		server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type proxyBuffers struct{}

var proxyPool = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func (proxyBuffers) Get() []byte  { return proxyPool.Get().(*[32 << 10]byte)[:] }
func (proxyBuffers) Put(b []byte) { proxyPool.Put((*[32 << 10]byte)(b)) }

// peerFolder makes a folder that servers which give up root may read and write.
func peerFolder(folder, name string) (string, error) {
	dir := filepath.Join(folder, name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o777)
}
