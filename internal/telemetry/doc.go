// Package telemetry is how a process of Usher tells what it does: structured logs
// (log/slog) with the request's id, Prometheus metrics with bounded label sets, and
// the admin listener with health, readiness and profiles.
//
// The metrics of this package are the ones that other tools rely on; their names
// are fixed. Label values are rooms, policies, origins and outcomes: all bounded by
// the configuration, never taken from a request.
//
// Health says that the process lives; readiness says that it can do its work now.
// Secrets are never logged: log no URL with a query, no header, no body.
package telemetry
