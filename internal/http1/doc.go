// Package http1 serves plain HTTP/1.1 with less processor time than net/http's server takes, and leaves everything else to
// that server. docs/decisions/0012 says why, and what it gains.
//
// A request is plain when its head is whole within 16 KiB, is written as RFC 9112 asks for to the letter, and
// wants nothing beyond an answer: no chunked body, no upgrade, no 100-continue, no trailers, no HTTP/1.0. parse says
// exactly which. What parse takes, net/http reads in the same way (FuzzParse compares them); at anything else
// the connection, with all that has been read and not answered, goes to net/http's server for good. So nothing
// is refused here, and what a strange request means is decided in one place.
//
// Handlers, requests and answers are net/http's, as far as handlers and clients can tell: the tests play exchanges with both
// servers, compare what is seen, and give the reason for each difference that is kept. The main ones: a plain request's
// connection cannot be hijacked, an answer's fields come in any order, and one of up to 4 KiB has its length told. Whatever
// is longer or flushed before its end and does not tell its length is chunked. A client that leaves ends the request's
// context, at most a tenth of a second later.
//
// Deadlines are those of the http.Server. They are told to the runtime only when the one told before would come
// too early, or more than two seconds too late: most requests need none.
package http1
