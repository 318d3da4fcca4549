// Package cache is a small shared cache of public answers in front of an origin
// (RFC 9111), made for a crowd that reads the same few pages in the same second.
//
// # What it guarantees
//
// An answer is kept only where its own header allows a shared cache to and says for how
// long; one with Set-Cookie, of a part, or that varies by cookie or by everything never
// is. What is fetched to be kept is asked for without the client's cookies and
// credentials, so it cannot hold anything of one visitor. Who shows a pass, and whatever
// else Transport.Public refuses, goes past it.
//
// For one address one request is under way at a time, and finishes though its client goes
// away: all others wait for it, for a while, and share its end, also a bad one. Where it
// turns out that the answer cannot be shared, that is remembered for a moment, so that
// nobody waits in vain.
//
// While the origin is away, an answer that is too old is given all the same: as long as
// its stale-if-error allows, else for five minutes, and never where it must be revalidated.
//
// All of it lies in memory that is bounded in bytes; what is used least goes first.
//
// # Where it differs from RFC 9111
//
// A client's Cache-Control cannot send a request past the cache: a crowd of strangers
// could. Nothing is kept that has no explicit lifetime. Age is counted from the answer's
// Age and its receipt here, not from Date, so that an origin's clock may be wrong.
package cache
