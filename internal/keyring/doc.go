// Package keyring holds every private key of a site in one file.
//
// The file (JSON, readable by its owner alone) is shared by all processes. It
// is the only secret that must outlive Redis and Postgres: from it alone follow
// who holds a place (HMAC), the order of a draw (DrawSecret), which session a
// place gives (SessionID) and who was admitted (Ed25519 passes).
//
// Keys for signing rotate in two steps: a new one is published first, so that every
// process reads it (Watch) and verifies by it, and signs from a moment that the file
// names. Of those whose moment has come the newest signs, and all in the file verify, so
// places and passes outlive a rotation. A key that is taken out (Retire) is believed no
// more from the next reading on. The draw and session keys never rotate: changing them
// would change a published order, or give a place a second session.
//
// A missing, short or world-readable file is an error at start, never a default. While
// running, a file that cannot be read, or is another site's, changes nothing and is said.
package keyring
