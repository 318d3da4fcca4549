// Package origin is the way to what a room protects: one name, one or several
// servers that answer for it.
//
// # What it guarantees
//
// A request goes to the less busy of two servers picked at random, among those that
// are not known to be down. One that is back gets its share of requests gradually.
// A request is sent a second time only where that is safe: it is idempotent and has
// no body, or not a byte of it was sent; and only while such repetitions are few
// beside the requests (Config.RetryBudget), so that a sick origin is not asked twice
// as often. Answers are bounded in header, body and silence.
//
// To servers of plain http, requests with no body or a small one go over connections that
// the caller's own goroutine writes and reads (lean.go), all others through http.Transport.
// What is read there without the standard library is only what can be read in one way
// (head.go).
//
// An origin that slows down or fails is given less at once (gate.go). What is beyond
// that is refused with ErrBusy; those who go first (Config.First) wait for a moment
// before they are. It is also told to the queue, by Status, what share of its pace the
// origin can take just now, so that fewer visitors are called before the origin hurts
// (judge.go). Both recover by themselves.
//
// # Who is authoritative
//
// The origin's answers, as this gateway sees them. Each gateway judges alone; the queue
// takes the mean of what gateways say.
//
// # What happens on each failure
//
//		          half of 20 requests in 10 s fail
//		        ┌──────────────────────────────────► out for 1 s, then tried by single requests
//		  up ───┤
//		        └──────────────────────────────────► down until a probe succeeds
//		          three probes fail
//
//	  - One server away: it is out or down; requests go to the others.
//	  - All away: ErrDown at once; the queue calls nobody until a probe succeeds. A lone
//	    server that is merely out may still be asked by the few that try it.
//	  - A client that reads or sends slowly, or goes away, says nothing about the origin.
package origin
