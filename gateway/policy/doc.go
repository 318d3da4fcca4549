// Package policy is the edge's rate limits as data: what operators write, how it is read
// and made ready, and the decision about a request. The arithmetic and the memory are
// internal/ratelimit's.
//
// # What it guarantees
//
// A set is read as a whole or not at all, with every fault and its place named. It is in
// force on every gateway within a second, without a restart; a policy that still counts in
// the same way goes on with what it remembers. All policies of one request cost at most one
// round trip to Redis, shared with other requests, and mostly none (ratelimit.Table). A
// request that one policy denies is charged to no other.
//
// # Who is authoritative
//
// Redis holds the set in force and its version, which only grows; a process' fallback (its
// configuration, or Defaults) stands until an operator sets something. The Recorder keeps
// set and changes in Postgres. Whoever knows a later version than Redis does, a gateway or
// the Recorder, brings it back.
//
// # What happens on each failure
//
//   - Redis away: the set last known stays. A policy over all gateways goes on as its
//     "away" says: share (each gateway allows the quota divided by the gateways that were
//     counted last, and at least one request), allow, or refuse (503). The metric
//     usher_limits_alone says so. Run finds Redis again; what was spent meanwhile is then
//     charged, so that nobody has a second burst. Changes and stats answer 503.
//   - Redis wiped: sets come back from any gateway or from Postgres; every key has its whole
//     burst once more, but for what gateways remember of it.
//   - Postgres away: nothing here notices, except that the audit log and the record come
//     later; of more than a hundred changes in that time the oldest are not audited.
//   - A gateway killed: what its keys owe is forgiven, at most a twentieth of a burst, and
//     the counts of its last half second are missing in the stats.
//
// # The defaults
//
// The unit matters more than the numbers:
//
//   - visit: requests that show neither a place nor a pass, an address, on each gateway. 50 a
//     second and 200 at once: a dozen people opening pages in the same second never meet
//     it, a script does within four. visit-56 and visit-48 are four and sixteen times that
//     for the networks that one IPv6 customer may walk through.
//   - visitor: who shows a place or a pass is charged alone, 20 a second and 100 at once, and
//     charges the neighbours nothing. So thousands may wait and shop behind one address;
//     only coming in is shared.
//   - joins: new places, an address, over all gateways: 200 at once, then two a second. A
//     hall of residence that joins within a minute gets in, 7,000 an hour do during a
//     lobby; a script that collects places is slowed to what a small crowd may have, and
//     each place still waits its turn. joins-56 and joins-48 as above.
//   - claims: turning a call into a pass, a place: often enough for any page that retries.
//   - origin: requests to protected paths, a session, over all gateways: 300 at once (a page
//     with all its parts), then ten a second. One pass cannot feed a hundred bots.
//   - holds and orders: what locks seats or asks for money, a session.
//   - sign-in: failed sign-ins, an address: 30 at once, then ten a minute. One that succeeds
//     costs nothing.
package policy
