package ratelimit

import (
	"net/http"
	"strconv"
	"time"

	"usher/internal/problem"
)

// SetHeaders writes the RateLimit-Policy and RateLimit fields of
// draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4: the quota q a window
// of w seconds; r requests left now and t seconds until all are there again.
// Where several policies looked at a request the last one written stands.
func SetHeaders(h http.Header, p Policy, d Decision) {
	b := make([]byte, 0, 48)
	b = append(append(append(b, '"'), p.Name...), `";q=`...)
	b = strconv.AppendInt(b, p.Requests, 10)
	b = append(b, ";w="...)
	b = strconv.AppendInt(b, int64(p.Window/time.Second), 10)
	h["Ratelimit-Policy"] = []string{string(b)}
	b = append(append(append(b[:0], '"'), p.Name...), `";r=`...)
	b = strconv.AppendInt(b, d.Remaining, 10)
	b = append(b, ";t="...)
	b = strconv.AppendInt(b, int64((d.ResetAfter+time.Second-1)/time.Second), 10)
	h["Ratelimit"] = []string{string(b)}
}

// Exceeded is the refusal of a request that d denied, with the problem type and
// the member that the draft gives it.
func Exceeded(p Policy, d Decision) *problem.Problem {
	return problem.New(http.StatusTooManyRequests, "quota-exceeded", "Too many requests in a short time. Please slow down.").
		With("violated-policies", []string{p.Name}).In(d.RetryAfter)
}
