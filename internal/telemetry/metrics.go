package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics of the waiting rooms, set by the gateways.
var (
	RoomWaiting  = gauge("usher_room_waiting", "Visitors who joined and were neither called nor left nor lapsed.", "room")
	RoomPresent  = gauge("usher_room_present", "Waiting visitors heard of within the presence time.", "room")
	RoomSessions = gauge("usher_room_sessions", "Sessions in the shop now.", "room")
	RoomAdmitted = counterVec("usher_room_admitted_total", "Sessions given by this process.", "room")
	RoomJoins    = counterVec("usher_room_joins_total", "Places given by this process.", "room")
)

// Metrics of the edge.
var (
	WSConnections = gauge("usher_ws_connections", "WebSockets of waiting visitors on this process.", "room")
	Connections   = promauto.NewGauge(prometheus.GaugeOpts{Name: "usher_connections", Help: "Connections of the public that are open on this process."})
	// ConnectionsRefused counts by reason: full, prefix, proxy-header.
	ConnectionsRefused = counterVec("usher_connections_refused_total", "Connections that were hung up on before their first request.", "reason")
	CertificateEnds    = promauto.NewGauge(prometheus.GaugeOpts{Name: "usher_tls_certificate_ends_timestamp_seconds", Help: "When the first of the TLS certificates from files ends."})
	WSMessages         = promauto.NewCounter(prometheus.CounterOpts{Name: "usher_ws_messages_total", Help: "Messages sent to waiting visitors."})
	LimitDecisions     = counterVec("usher_limit_decisions_total", "Rate-limit decisions.", "policy", "outcome")
	LimitsAlone        = promauto.NewGauge(prometheus.GaugeOpts{Name: "usher_limits_alone", Help: "1 while Redis does not answer and this gateway allows its share of the quotas."})
	OriginLatency      = promauto.NewHistogramVec(prometheus.HistogramOpts{
		Name: "usher_origin_latency_seconds", Help: "Time from sending a request to an origin to its response header.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	}, []string{"origin"})
	CacheAnswers = counterVec("usher_cache_answers_total", "Public requests, by where the answer came from: hit, stale, fetched or passed.", "origin", "outcome")
)

// Metrics of the box office.
var (
	Holds  = counterVec("usher_holds_total", "Attempts to hold seats.", "outcome")
	Orders = counterVec("usher_orders_total", "Orders that reached a state.", "state")
)

// RedisCommands counts every command that this process sent to Redis.
var RedisCommands = promauto.NewCounter(prometheus.CounterOpts{Name: "usher_redis_commands_total", Help: "Commands sent to Redis."})

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return promauto.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return promauto.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}
