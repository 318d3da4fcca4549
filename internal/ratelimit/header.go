package ratelimit

import (
	"strconv"
	"time"
)

// Field is the policy's item in the RateLimit-Policy list of
// draft-ietf-httpapi-ratelimit-headers-10, section 3: the quota q a window of w seconds.
func (p Policy) Field() string {
	return `"` + p.Name + `";q=` + strconv.FormatInt(p.Requests, 10) + ";w=" + strconv.FormatInt(int64(p.Window/time.Second), 10)
}

// AppendState appends a policy's item in the RateLimit list of the same draft, section 4:
// r requests left now, and t seconds until all are there again.
func AppendState(b []byte, name string, d Decision) []byte {
	b = append(append(append(b, '"'), name...), `";r=`...)
	b = strconv.AppendInt(b, d.Remaining, 10)
	b = append(b, ";t="...)
	return strconv.AppendInt(b, int64((d.ResetAfter+time.Second-1)/time.Second), 10)
}
