// Command stampede rehearses an on-sale: a crowd of fans, each from an address of its own where the gateway is on
// loopback, joins a waiting room, waits on WebSockets, claims, holds seats, pays in the sandbox and reads its tickets,
// while an observer reads the operators' live figures.
//
// It guarantees that what it says was seen from outside: it knows nothing of Usher but its public surface. Fans only
// record (History); after the crowd is gone, pure functions (checks*.go) judge the record against the invariants, so a
// check can be shown to fail on a forged history. A check that lacks what it needs says "not judged", never "held".
//
// Failures: a refused or failed request is retried where a person would retry (429, 503, a lost connection), within
// the fan's deadline, and counted; anything else ends that fan with a reason, which the report lists, and which counts
// as a lost visitor unless the fan's own part was to go. The whole run ends by --duration; fans still in line then are
// reported as still waiting, which alone breaks nothing. Sockets are bounded by 20,000 descriptors a process.
//
// With --bots the sale is besieged (bots.go): floods with fresh cookies, headless scripts that want hundreds of places,
// replays. What bots get is used as fans use it, so that the report tells their share of the places and of the seats.
// A third of all fans comes before the bots, to compare with. Who has a machine of its own in life computes its proofs
// in processes behind everything else of this one (internal/child), and what the gateway took for a join is read from
// the kernel's times of arrival (stamp.go): else a rehearsal on one machine would measure itself.
//
// Exit status: 0 all held, 1 an invariant is broken, 2 bad usage or nobody to rehearse with.
package main
