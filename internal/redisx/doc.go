// Package redisx connects to Redis by one URL, whatever its form, and runs scripts.
//
// Schemes: redis, rediss, unix, redis+sentinel
// (redis+sentinel://host:port,host:port/master?db=0) and redis+cluster
// (redis+cluster://host:port,host:port). Deadlines of contexts stop reads.
//
// A Redis that may evict keys is refused at Open: eviction would silently forget
// who waits. A Redis that goes away later makes calls fail at their deadlines;
// what that means is each caller's to decide. Every command is counted in
// usher_redis_commands_total. What the client library prints by itself becomes debug
// lines of slog's default logger, a few a second.
package redisx
