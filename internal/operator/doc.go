// Package operator knows who may run what: accounts, API keys, sessions, roles and the
// audit log.
//
// Postgres records accounts, keys (as SHA-256) and the audit log. Redis holds what is
// needed at every request: a copy of the key digests, and the sessions of those who
// signed in. An Authenticator asks Redis alone, so operators can act while Postgres is
// away. Answers are remembered in the process for a second at most, in bounded memory:
// a revoked key or an ended session is refused everywhere one second later.
//
// When Redis is away nobody can be authenticated (503). When Redis comes back empty the
// keys are copied again by Publish, which booking calls all the time; sessions are lost
// and people sign in again. A revoked key whose copy survived in Redis is removed by the
// next Publish.
//
// A session lives in a cookie with SameSite=Strict. Unsafe methods with a session need
// the X-CSRF-Token that signing in returned; API keys need none, since no browser sends
// them by itself.
package operator
