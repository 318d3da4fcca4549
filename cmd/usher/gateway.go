package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kong"

	"usher/booking"
	"usher/gateway"
	"usher/gateway/origin"
	"usher/queue"
	"usher/web"
)

// edge are the settings of a gateway, in a process of its own or in dev.
type edge struct {
	TrustedProxies    []netip.Prefix `placeholder:"CIDR,…" help:"Peers whose X-Forwarded-For and Forwarded are believed; default none."`
	AllowedOrigins    []string       `placeholder:"ORIGIN,…" help:"Web origins besides a host's own that may open WebSockets."`
	RedisWaitReplicas int            `default:"0" placeholder:"N" help:"How many Redis replicas must know of a place before it is given; with fewer, joining answers 503."`
	DrainRate         int            `default:"2000" placeholder:"N" help:"How many waiting visitors a second are asked to come back elsewhere when this process ends."`
	SessionInFlight   int            `default:"20" placeholder:"N" help:"How many requests and WebSockets of one session may be under way to protected paths at once; a hundred more wait for seconds."`
	CacheMB           int            `name:"cache-mb" default:"64" placeholder:"MB" help:"Memory for public answers that are kept: the catalogue, and routes with cache: true."`
	ProxyProtocol     bool           `help:"Trusted proxies begin each connection with a PROXY header, version 1 or 2."`
	MaxConnections    int            `default:"18000" placeholder:"N" help:"Connections of the public at once; further ones are hung up on. Below the descriptors that the process may have."`
	MaxPerPrefix      int            `name:"max-connections-per-prefix" default:"6000" placeholder:"N" help:"Of these, those of one IPv4 address or IPv6 /64; trusted proxies are not counted."`
	beaconFlag
	challengeFlags
	configFlag
}

// beaconFlag says where rooms may have a public beacon from, for all processes alike.
type beaconFlag struct {
	BeaconHosts []string `default:"api.drand.sh,api2.drand.sh,api3.drand.sh,drand.cloudflare.com" placeholder:"HOST,…" help:"Hosts whose drand chains a room's beacon_url may name; no others are asked."`
}

type gatewayCommand struct {
	Listen      string     `default:":8080" help:"Where the public comes in."`
	AdminListen string     `default:"127.0.0.1:9090" help:"Metrics, health, readiness and profiles."`
	BookingURL  []*url.URL `default:"http://127.0.0.1:8081" secret:"url" help:"Where usher booking listens; repeated or with commas for several."`
	RecordsDir  string     `placeholder:"DIR" help:"In a site without Postgres, where this gateway keeps what must outlast Redis: one gateway of the site, and always the same folder."`
	edge
	secrecy
	common
}

// Validate reports all that is wrong with how the command was called.
func (c gatewayCommand) Validate() error { return errors.Join(c.edge.Validate(), c.secrecy.validate()) }

// heapGrowth is how much of what lives the heap may grow by before it is collected, in
// percent. A gateway keeps little that lives and makes much for each request: at Go's 100
// the collector took 15 % of the CPU of joins and polls, at 300 it takes 2 %, and a waiting
// socket stays within its 8 KiB resident.
const heapGrowth = 300

// letHeapGrow sets it, unless GOGC says something else. GOMEMLIMIT holds as ever.
func letHeapGrow() {
	const untold = 100
	if told := debug.SetGCPercent(heapGrowth); told != untold {
		debug.SetGCPercent(told)
	}
}

func (c gatewayCommand) Run(ctx context.Context, p process, command *kong.Context) error {
	letHeapGrow()
	public, err := listen(ctx, c.Listen)
	if err != nil {
		return err
	}
	defer public.Close()
	var plain net.Listener
	if c.HTTPRedirectListen != "" {
		if plain, err = listen(ctx, c.HTTPRedirectListen); err != nil {
			return err
		}
		defer plain.Close()
	}
	under, err := c.open(ctx, p, c.AdminListen, "")
	if err != nil {
		return err
	}
	defer under.close()
	log := under.log
	g, err := c.build(under.stores, log, c.BookingURL)
	if err != nil {
		return err
	}
	front, behind, err := c.front(g.server, public, plain, log)
	if err != nil {
		return err
	}
	if c.RecordsDir != "" {
		folder, err := queue.OpenFolder(c.RecordsDir)
		if err != nil {
			return err
		}
		defer folder.Close()
		behind = append(behind, queue.NewRecorder(queue.RecorderConfig{
			Redis: under.redis, Folder: folder, Ring: under.ring, BeaconHosts: c.BeaconHosts, Log: log,
		}).Run)
	}
	log.Info("gateway starts", "version", version, effective(command))
	behind = append(behind, g.hall.Run, g.server.Run, g.makeRooms)
	return runStages(ctx, deploy, front, append(behind, under.tend(g.server.Ready)...))
}

// Validate reports all that is wrong with the settings of the edge.
func (e edge) Validate() error {
	var faults []error
	for _, setting := range []struct {
		name string
		n    int
	}{
		{"drain-rate", e.DrainRate}, {"session-in-flight", e.SessionInFlight}, {"cache-mb", e.CacheMB},
		{"max-connections", e.MaxConnections}, {"max-connections-per-prefix", e.MaxPerPrefix},
	} {
		if setting.n < 1 || setting.n > maxSetting {
			faults = append(faults, fmt.Errorf("--%s must be from 1 to %d", setting.name, maxSetting))
		}
	}
	if e.RedisWaitReplicas < 0 || e.RedisWaitReplicas > maxReplicas {
		faults = append(faults, fmt.Errorf("--redis-wait-replicas must be from 0 to %d", maxReplicas))
	}
	if e.ProxyProtocol && len(e.TrustedProxies) == 0 {
		faults = append(faults, errors.New("--proxy-protocol believes --trusted-proxies alone, and there are none"))
	}
	return errors.Join(faults...)
}

// No setting of the edge has a use beyond these.
const (
	maxSetting  = 10_000_000
	maxReplicas = 100
)

// builtGateway is a gateway and the hall that it serves.
type builtGateway struct {
	server *gateway.Server
	hall   *queue.Hall
	rooms  map[string]queue.Patch // of the configuration, made where they are missing
	log    *slog.Logger
}

func (e edge) build(st *stores, log *slog.Logger, bookingURLs []*url.URL) (*builtGateway, error) {
	file, err := e.file()
	if err != nil {
		return nil, err
	}
	origins, err := file.origins()
	if err != nil {
		return nil, err
	}
	limits, err := file.limits()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Config, err)
	}
	rooms, err := file.patches()
	if err != nil {
		return nil, err
	}
	var routes []gateway.Route
	for _, r := range file.Routes {
		routes = append(routes, gateway.Route(r))
	}
	// The hall is made before the gateway that measures the origins.
	var built atomic.Pointer[gateway.Server]
	hall, err := queue.NewHall(queue.Config{
		Redis: st.redis, Ring: st.ring, Log: log, WaitReplicas: e.RedisWaitReplicas, BeaconHosts: e.BeaconHosts,
		OriginStatus: func(name string) queue.OriginStatus {
			if server := built.Load(); server != nil {
				return server.OriginStatus(name)
			}
			return queue.OriginStatus{Health: "unknown"}
		},
	})
	if err != nil {
		return nil, err
	}
	outside, err := e.outside()
	if err != nil {
		return nil, err
	}
	server, err := gateway.New(gateway.Config{
		Redis: st.redis, Ring: st.ring, Hall: hall, Auth: st.auth, Log: log,
		Booking: origin.Config{URLs: bookingURLs}, TrustedProxies: e.TrustedProxies, AllowedOrigins: e.AllowedOrigins,
		Origins: origins, Routes: routes, DrainRate: e.DrainRate, SessionInFlight: e.SessionInFlight, CacheBytes: e.CacheMB << 20,
		ProxyProtocol: e.ProxyProtocol, MaxConnections: e.MaxConnections, MaxConnectionsPerPrefix: e.MaxPerPrefix,
		Policies: limits, Outside: outside,
		Assets: web.Handler(),
		Waiting: func(w http.ResponseWriter, r *http.Request, status int, page gateway.WaitingPage) {
			web.RenderWaiting(w, r, status, web.WaitingRoom(page))
		},
		BoxOffice: booking.OpenAPI(),
	})
	if err != nil {
		return nil, err
	}
	built.Store(server)
	return &builtGateway{server: server, hall: hall, rooms: rooms, log: log}, nil
}

func (e edge) file() (*configFile, error) {
	if e.Config == "" {
		return &configFile{}, nil
	}
	return readConfig(e.Config)
}

// patches reads the rooms of the configuration as PUT rooms/{room} would.
func (f *configFile) patches() (map[string]queue.Patch, error) {
	rooms := map[string]queue.Patch{}
	var faults []error
	for room, settings := range f.Rooms {
		raw, err := json.Marshal(settings)
		if err == nil {
			decoder := json.NewDecoder(bytes.NewReader(raw))
			decoder.DisallowUnknownFields()
			var patch queue.Patch
			if err = decoder.Decode(&patch); err == nil {
				rooms[room] = patch
				for _, fault := range patch.Apply(queue.Defaults()).Validate() {
					faults = append(faults, fmt.Errorf("room %s: %s %s", room, fault.Location, fault.Message))
				}
			}
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("room %s: %w", room, err))
		}
	}
	return rooms, errors.Join(faults...)
}

// makeRooms makes the configured rooms that do not exist, trying again while the
// stores cannot, and then waits for the end as every part does.
func (g *builtGateway) makeRooms(ctx context.Context) error {
	for _, room := range slices.Sorted(maps.Keys(g.rooms)) {
		if err := g.makeRoom(ctx, room, g.rooms[room]); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// makeRoom makes a room that does not exist. It tries until it can or ctx ends.
func (g *builtGateway) makeRoom(ctx context.Context, room string, settings queue.Patch) error {
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	for said := ""; ; {
		err := g.hall.Ready()
		if err == nil {
			if _, there := g.hall.Line(room); there {
				return nil
			}
			if _, _, err = g.hall.Configure(ctx, room, settings, queue.Actor{Name: "configuration"}); err == nil {
				return nil
			}
		}
		if why := err.Error(); why != said {
			g.log.Info("room is not made yet", "room", room, "error", err)
			said = why
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
