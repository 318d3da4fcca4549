// Package keyring holds every private key of a site in one file.
//
// The file (JSON, readable by its owner alone) is shared by all processes. It
// is the only secret that must outlive Redis and Postgres: from it alone follow
// who holds a place (HMAC), the order of a draw (DrawSecret), which session a
// place gives (SessionID) and who was admitted (Ed25519 passes).
//
// Keys for signing rotate: the newest of a purpose signs, all of them verify, so
// places and passes outlive a rotation. The draw and session keys never rotate:
// changing them would change a published order, or give a place a second session.
//
// A missing, short or world-readable file is an error at start, never a default.
package keyring
