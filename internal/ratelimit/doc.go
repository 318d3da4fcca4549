// Package ratelimit decides whether a caller may go on now, and says when it may
// otherwise.
//
// The arithmetic is one pure function, Decide: GCRA in integer microseconds. Two
// stores remember its state. Redis is exact across all gateways: it decides with
// Redis' own clock in one script call, and callers that arrive while a round
// trip is under way share the next one. Local is one process' own estimate, a
// golang.org/x/time/rate bucket a key in a table of fixed size; it costs no round
// trip and is what stands when Redis is away. Leased stands between: Redis is asked
// for a key only once it has come a few times, with a bounded overshoot.
//
// Who is authoritative: Redis for what it holds. Local knows only its own
// process, so n gateways together let pass at most n times its quota.
//
// On failure: Redis.Take returns the error and decides nothing; the caller falls
// back to a Local, so an outage loosens limits and never answers with an error
// page. A key that Local had to drop starts again with a full bucket: under an
// attack from more addresses than the table holds it forgets, it does not grow.
// A key in Redis lives exactly as long as it can still deny anything.
package ratelimit
