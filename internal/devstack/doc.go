// Package devstack runs a real redis-server and a real postgres as private
// children of this process: for `usher dev`, for tests and for benchmarks.
//
// What it guarantees:
//
//   - One owner a folder ([Lock]), and one family of processes a server: each
//     inherits a file lock that is free only when the last of them has ended.
//     A start waits for it, so it may remove a stale postmaster.pid, whatever
//     process has got its number since.
//   - No child outlives its parent. On Linux a child is told to stop by the
//     kernel when this process dies, SIGKILL included.
//   - A server is handed out when it has answered, not when its socket appears.
//     One that dies while starting gives an error with the end of its log.
//   - As root the servers run as the user postgres (else nobody) and reach their
//     folder through a descriptor, so a root-only folder above it does no harm.
//
// [StartSentinel] and [StartCluster] run several servers that stand in for each other,
// for tests of losses: they sync nothing, have no password, and end together.
//
// The folder is the authority on what was stored; nothing else is remembered.
// A child that dies later closes [Server.Done]; nobody starts it again, the owner
// decides. A folder in use is [ErrInUse]; a missing program is [ErrMissing].
package devstack
