// Package pass makes and checks passes: the signed proof that a visitor was
// admitted to a room.
//
// A pass is a JWT (RFC 7519) signed with Ed25519 (RFC 8037): iss "usher", aud the
// room, sub the session, exp the end of the session. It verifies offline: with
// Redis and Postgres away those already admitted stay in. Whoever holds no key
// that verifies is not admitted; there is no other way in.
//
// Verifying costs twice a whole request, so a Verifier remembers tokens that
// verified, within a bound, until they expire. Expiry, not-before, audience, that the key
// is still one of the site's, and that the session has not ended early (Ended) are checked
// on every call.
package pass
