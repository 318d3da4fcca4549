// Package postgres connects to Postgres, migrates its schema and runs transactions
// that can be retried.
//
// Postgres is the truth for what is sold and the record of rooms. Whoever uses it
// hands Retry a closure that may run more than once: nothing outside the transaction
// may happen in it, no call over a network above all.
//
// Migrations go forward only and are safe while the older version runs. They are
// numbered SQL files in migrations/; River's own schema is one of them. Several
// processes may migrate at once: a session lock lets one do it.
package postgres
