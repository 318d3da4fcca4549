// Package queue is the waiting rooms: who waits, in which order, who is called,
// and who was admitted. It knows no HTTP beyond its operators' endpoints.
//
// # What it guarantees
//
// A place is a signed token (token.go), not a record: Redis keeps a counter and
// bits. Numbers come in order of arrival and are never given twice: they are
// issued only below a ceiling that is already durable in Postgres. Ranks follow
// from numbers (fifo), or from one verifiable draw at opening (draw.go) that is
// durable before any rank is shown. Calls follow rank; the frontier only grows;
// sessions and open calls never exceed the capacity by a call made; calls never
// exceed pace × time + max(1, one second's worth). A place gives one session.
//
// # Who is authoritative
//
// Redis holds the version in force: all keys of a room share one slot (keys.go),
// every change is one script (lua/), and the scripts alone decide. Postgres
// records settings, epochs, ceilings, draws and checkpoints; the Recorder writes
// them. A gateway's View is a copy, one tick old at most, from which visitors who
// wait are answered without asking Redis.
//
// There is no leader: each gateway's Line runs the same advance script each tick,
// and the script is idempotent in time.
//
// # What happens on each failure
//
//   - Redis away: Views stay as they were, shown as paused; nobody joins or is
//     called; passes verify offline elsewhere. Clocks of calls, presence and pace
//     stand still while nobody ticks.
//   - Redis empty: the Recorder restores each room from Postgres. Counting resumes
//     at the ceiling, the room calls nobody for one presence time while gateways
//     mark their visitors again and bring back the sessions and the frontier that
//     they remember, and the positions last shown stay.
//   - Redis behind (an old replica took over): the first gateway that remembers a
//     later frontier or number makes it so, with the same quiet time.
//   - Postgres away: rooms go on in all but two things: numbers end at the ceiling
//     (more than sixty thousand ahead), and a room past its opening waits for its draw
//     to be recorded.
//   - A gateway killed: its visitors reconnect elsewhere; nothing was only there,
//     but for the presence bits of a tick.
package queue
