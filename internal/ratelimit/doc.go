// Package ratelimit decides whether a caller may go on now, and says when it may
// otherwise.
//
// The arithmetic is one pure function, Decide: GCRA in integer microseconds. A Table
// remembers its state in the process, bounded; a Store in Redis, for all processes by Redis'
// clock. All questions of one request, and those of requests that arrive while a round trip
// is under way, share one script call. Leased tables stand in front of a store: it is asked
// for a key only once it has come a few times, and never for one that is denied.
//
// Who is authoritative: the store for what it was told. A table that leases knows at most
// as much as the store and what it owes; the overshoot is bounded (Table).
//
// On failure: Store.Ask returns the error and decides nothing. Turn.Alone then decides by
// the process' share of the quota, and what was spent by it is charged when the store is
// back. A key that a table had to drop starts again with what the store knows of it, one
// without a store with a full bucket: under an attack from more addresses than the table
// holds it forgets those that can deny least, it does not grow. A key in Redis lives exactly
// as long as it can still deny anything.
package ratelimit
