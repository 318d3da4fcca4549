// Package site runs a whole Usher as separate processes on a real Redis and Postgres of its own, the way it is deployed:
// one booking process and any number of gateways. Benchmarks and the two-gateway rehearsal stand on it.
//
// A Site that Start returned answers at every gateway. Its processes are children of this one: Stop ends them, and on
// Linux the kernel ends them when this process is killed. A child that cannot start gives an error with the end of its log;
// one that dies later shows as failing requests, nobody starts it again. The folder holds all state and logs.
package site
