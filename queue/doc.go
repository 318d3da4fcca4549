// Package queue is the waiting rooms: who waits, in which order, who is called,
// and who was admitted. It knows no HTTP beyond its operators' endpoints.
//
// # What it guarantees
//
// A place is a signed token (token.go), not a record: Redis keeps a counter and
// bits. Numbers come in order of arrival and are never given twice: they are
// issued only below a ceiling that is already on record. Ranks follow
// from numbers (fifo), or from one verifiable draw at opening (draw.go) that is
// durable before any rank is shown. Calls follow rank; the frontier only grows;
// sessions and open calls never exceed the capacity by a call made; calls never
// exceed pace × time + max(1, one second's worth). A place gives one session.
//
// Anyone can check a draw (verify.go): a receipt, the site's public keys and the record
// are enough to recompute a rank. With a beacon_url the draw takes the first round of a drand
// chain (drand/) after the opening: the round is published beforehand, the lobby's size is
// on record before the round is chosen for good (beacon.go), and only then anybody can know
// it. Until the round is there the room stays in its lobby; one that cannot be had pauses
// it until the operator gives the beacon up.
//
// A call can be lengthened once. A place given to a phone counts as present for longer
// (phone_presence_ttl_s), in two more bitmaps. A place moves to another device by a
// signed code (move.go), and an invited identity has one place (invite.go): an entry in
// a hash for each place that moved and each identity that came, none for anybody else.
//
// # Who is authoritative
//
// Redis holds the version in force: all keys of a room share one slot (keys.go),
// every change is one script (lua/), and the scripts alone decide. The record
// (record.go) has settings, epochs, ceilings, draws, checkpoints, claims, moves and
// invitations. The Recorder writes it, into Postgres or, in a site without, into a folder
// of one gateway. A Redis has one record: a second one is refused, as two would reserve
// numbers apart. A gateway's View is a copy, one tick old at most, from which visitors who
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
//   - Redis empty: the Recorder restores each room from the record. Counting resumes
//     at the ceiling, the room calls nobody for one presence time while gateways
//     mark their visitors again and bring back the sessions and the frontier that
//     they remember, and the positions last shown stay. Sessions of the last
//     checkpoint that nobody remembers keep their room in the shop for their time;
//     who was admitted is on record and is not called again.
//   - Redis restarted, or a replica promoted: the newest writes may be lost, whether
//     anyone remembers them or not. A room knows it by the server's replication id
//     (`lineage`): nobody joins until the Recorder has reserved numbers for the new
//     one, from the durable ceiling on; nobody is called for six seconds, or for one
//     presence time where a gateway or the record knows of later. Settings, a reset,
//     the draw, the frontier and who was admitted come from the record; later
//     sessions, the frontier and who counts no longer from the gateways. Ranks once
//     shown stay shown.
//   - Two primaries at once: the ceilings on record are reserved for one lineage at
//     a time, so that they give different numbers.
//   - With Config.WaitReplicas, a join whose numbers too few replicas have is refused.
//   - Moves and invitations are on record a tenth of a second later, and back before
//     anybody can claim, move or join by invitation. One that was lost in that moment,
//     with every gateway that saw it, leaves two devices with one place, or gives an
//     identity whose devices have all forgotten theirs a second one.
//   - Sessions that ended early (ended.go): the list is in Redis alone, and in every gateway,
//     which tells an empty Redis again. With both gone their passes are good until they expire.
//   - Postgres away, or the gateway with the folder: rooms go on in all but three things:
//     numbers end at the ceiling (more than sixty thousand ahead), a room past its
//     opening waits for its draw to be recorded, and a reset ends all places but frees no
//     number of the new epoch; it is answered as not on record.
//   - Booking silent: what was last said of a room's stock stays.
//   - A gateway killed: its visitors reconnect elsewhere; nothing was only there,
//     but for the presence bits of a tick.
package queue
