package problem

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"
)

// ContentType is the media type of every refusal.
const ContentType = "application/problem+json"

// RequestIDHeader names the header that ties a refusal to its log lines.
const RequestIDHeader = "X-Request-Id"

// typeBase precedes the code in a problem's type URI. The IETF's own problem
// types (draft-ietf-httpapi-ratelimit-headers-10, section 5) keep their URIs.
const typeBase = "urn:usher:problem:"

var ietfTypes = map[string]string{
	"quota-exceeded":             "https://iana.org/assignments/http-problem-types#quota-exceeded",
	"temporary-reduced-capacity": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
	"abnormal-usage-detected":    "https://iana.org/assignments/http-problem-types#abnormal-usage-detected",
}

// Field is a fault in one field of a request.
type Field struct {
	// Location is the path to the field, such as "body.seats[2]" or "query.limit".
	Location string `json:"location"`
	// Message says what is wrong with it; it never repeats the value.
	Message string `json:"message"`
}

// Problem is an RFC 9457 problem document.
type Problem struct {
	Type   string
	Title  string
	Status int
	Detail string
	// Code is stable: programs switch on it.
	Code      string
	RequestID string
	Errors    []Field
	// Extra holds the extension members of RFC 9457, section 3.2, such as "room" or "taken".
	Extra map[string]any
	// RetryAfter becomes the Retry-After header when positive.
	RetryAfter time.Duration
}

// New makes a problem. The title is the status' own text; detail is for people.
func New(status int, code, detail string) *Problem {
	kind, ok := ietfTypes[code]
	if !ok {
		kind = typeBase + code
	}
	return &Problem{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
}

// With adds an extension member and returns the problem.
func (p *Problem) With(member string, value any) *Problem {
	if p.Extra == nil {
		p.Extra = make(map[string]any, 2)
	}
	p.Extra[member] = value
	return p
}

// In tells the client to come back after d, rounded up to whole seconds.
func (p *Problem) In(d time.Duration) *Problem {
	p.RetryAfter = d
	return p
}

// Invalid is the refusal of a well-formed request whose fields are wrong (422).
func Invalid(faults ...Field) *Problem {
	p := New(http.StatusUnprocessableEntity, "invalid", "Some fields are not valid.")
	p.Errors = faults
	return p
}

// Internal hides err from the client and logs it once with the request's id.
func Internal(r *http.Request, log *slog.Logger, act string, err error) *Problem {
	log.ErrorContext(r.Context(), act, "error", err, "method", r.Method, "path", r.URL.Path)
	return New(http.StatusInternalServerError, "internal", "Something went wrong on our side. Please try again.")
}

func (p *Problem) Error() string {
	return p.Code + ": " + p.Detail
}

// GetStatus makes a Problem a huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes huma answer with the problem media type.
func (p *Problem) ContentType(string) string { return ContentType }

// GetHeaders makes huma send Retry-After.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfter > 0 {
		h.Set("Retry-After", Seconds(p.RetryAfter))
	}
	return h
}

// MarshalJSON flattens the extension members beside the standard ones.
func (p *Problem) MarshalJSON() ([]byte, error) {
	doc := make(map[string]any, 7+len(p.Extra))
	for k, v := range p.Extra {
		doc[k] = v
	}
	doc["type"], doc["title"], doc["status"], doc["detail"], doc["code"] = p.Type, p.Title, p.Status, p.Detail, p.Code
	if p.RequestID != "" {
		doc["request_id"] = p.RequestID
	}
	if len(p.Errors) > 0 {
		doc["errors"] = p.Errors
	}
	return json.Marshal(doc)
}

// Seconds renders d as Retry-After wants it: whole seconds, rounded up, at least 1.
func Seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// Write sends p. The request's id is taken from the response header, where
// telemetry.RequestID put it.
func Write(w http.ResponseWriter, r *http.Request, p *Problem) {
	doc := *p
	doc.RequestID = w.Header().Get(RequestIDHeader)
	body, err := json.Marshal(&doc)
	if err != nil { // an extension member that is no JSON: a fault of ours
		body = []byte(`{"type":"` + typeBase + `internal","title":"Internal Server Error","status":500,"code":"internal"}`)
		doc.Status = http.StatusInternalServerError
	}
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", Seconds(p.RetryAfter))
	}
	w.WriteHeader(doc.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may be gone; nothing is left to tell it
	}
}

// From finds the problem in err's chain.
func From(err error) (*Problem, bool) {
	var p *Problem
	ok := errors.As(err, &p)
	return p, ok
}
