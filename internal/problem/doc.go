// Package problem is the one way in which Usher refuses a request: an RFC 9457
// problem document (application/problem+json) with a stable code.
//
// It guarantees that strangers see what they did wrong and never a stack, a
// driver's words or the value they sent. The cause of an internal failure goes
// to the log, once, with the request's id; the document then says only
// "internal".
//
// A *Problem is an error and a huma.StatusError, so plain handlers Write it and
// huma operations return it.
package problem
