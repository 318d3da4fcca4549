// Package gateway is the public edge: waiting rooms and their pages, pushed
// positions, rate limits, the check of passes, and the way to the box office and to
// protected sites.
//
// # What it guarantees
//
// No request reaches a protected path without a valid pass of that room, whatever
// its path looks like: a path or host that two programs could read in two ways is
// refused before any rule is asked (visit.go). What the edge tells an origin
// (X-Usher-*, X-Forwarded-*) comes from the edge alone, places never reach an origin,
// and booking verifies passes again by itself (proxy.go, forward.go). A client's address is what
// trusted proxies say, else the connection's; a network behind one IPv6 /64 is one
// client.
//
// Another proxy may ask instead of passing requests through (authz.go): it is believed
// because it is trusted, and answered in its own words.
//
// A pass whose session ended early is refused by every gateway within a second
// (queue.Hall.Ended). A session has Config.SessionInFlight requests and WebSockets under
// way to what is protected, a gateway: more wait for a moment and are then refused.
//
// Everything is bounded: bodies, headers, sockets a prefix and a place, streams, tables
// of limits; every wait has a deadline.
//
// # Who is authoritative
//
// The queue decides about places, calls and sessions; passes are what their signature
// says. A gateway keeps nothing that it cannot lose: any gateway serves any visitor.
//
// # Limits
//
// Policies (gateway/policy) decide who may ask for how much; docs/policies.md is their
// manual. Each request is asked about once, when it is known who makes it, and a new place
// once more. limit.go words what they say.
//
// # Push
//
// A WebSocket belongs to a shard of its room, and all that happens to it happens in the
// shard's goroutine: at each tick it takes what clients have sent (hub_epoll_linux.go),
// decides who hears again from one array (hub_shard.go), and writes without ever waiting:
// what the kernel does not take is kept and overtaken by newer documents (outbox.go).
// gorilla/websocket does the handshake; after it a socket is a descriptor and a place
// (hub_socket.go). Under TLS, and where there is no epoll, a goroutine reads it.
// Visitors near the front hear every tick, those far back every ten seconds, those called
// every second, everyone a change of the room's phase or message (hub_pace.go). Connected visitors are marked present several
// times per presence time. Streams (Server-Sent Events) carry the same documents at the
// same times, polling answers say when to ask again; every interval, its jitter included,
// is at most half the presence time.
//
// Close codes: 1000 "place-lapsed" or "place-left" is the end; 1012 "reconnect=2.5s" is a
// drain that spreads its visitors over Config.DrainRate a second; 1013 means too slow, or
// that there is no room; 1002, 1008 and 1009 are for clients that send what none should. A
// visitor may come back after all but the first, and also where no close frame came
// through.
//
// # What happens on each failure
//
//   - Redis away: passes verify, protected paths and pages go on, limits are local;
//     joins and claims answer 503 with Retry-After and say that places are safe; Ready
//     reports it.
//   - Booking or an origin away: 502 origin-unavailable or 504 origin-timeout on its
//     paths alone; what is public of it is answered from memory for a while (cache), and
//     nobody is called to it. Slow or failing: fewer are called, and what is too much is
//     refused with 503 temporary-reduced-capacity (origin).
//   - This process killed: visitors reconnect to another with the place they carry.
package gateway
