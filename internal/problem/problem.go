package problem

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	// Extra holds the extension members of RFC 9457, section 3.2, such as "room" or "taken",
	// by name.
	Extra []Member
	// RetryAfter becomes the Retry-After header when positive.
	RetryAfter time.Duration
}

// Member is one extension member.
type Member struct {
	Name  string
	Value any
}

// New makes a problem. The title is the status' own text; detail is for people.
func New(status int, code, detail string) *Problem {
	kind, ok := ietfTypes[code]
	if !ok {
		kind = typeBase + code
	}
	return &Problem{Type: kind, Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
}

// find is where an extension member is, or would be.
func (p *Problem) find(member string) (at int, found bool) {
	return slices.BinarySearchFunc(p.Extra, member, func(m Member, name string) int { return strings.Compare(m.Name, name) })
}

// Has tells that the problem has an extension member.
func (p *Problem) Has(member string) bool {
	_, found := p.find(member)
	return found
}

// With adds an extension member and returns the problem.
func (p *Problem) With(member string, value any) *Problem {
	at, found := p.find(member)
	if !found {
		p.Extra = slices.Insert(p.Extra, at, Member{Name: member})
	}
	p.Extra[at].Value = value
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
func (p *Problem) MarshalJSON() ([]byte, error) { return p.appendJSON(nil) }

// appendJSON writes the document by hand: refusals are what an attack takes most of.
func (p *Problem) appendJSON(b []byte) ([]byte, error) {
	b = appendText(append(b, `{"type":`...), p.Type)
	b = appendText(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.Status), 10)
	b = appendText(append(b, `,"detail":`...), p.Detail)
	b = appendText(append(b, `,"code":`...), p.Code)
	if p.RequestID != "" {
		b = appendText(append(b, `,"request_id":`...), p.RequestID)
	}
	var err error
	if len(p.Errors) > 0 {
		if b, err = appendMember(b, "errors", p.Errors); err != nil {
			return nil, err
		}
	}
	for _, m := range p.Extra {
		switch m.Name {
		case "type", "title", "status", "detail", "code", "request_id", "errors": // are said above
			continue
		}
		if b, err = appendMember(b, m.Name, m.Value); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendMember(b []byte, name string, value any) ([]byte, error) {
	b = append(appendText(append(b, ','), name), ':')
	switch v := value.(type) {
	case string:
		return appendText(b, v), nil
	case []string:
		b = append(b, '[')
		for i, text := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, text)
		}
		return append(b, ']'), nil
	}
	text, err := json.Marshal(value)
	return append(b, text...), err
}

// appendText appends text as JSON.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if escaped[text[i]] {
			quoted, _ := json.Marshal(text) // a string always can
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// escaped are the bytes that stand in JSON in another way, or in texts that may.
var escaped = func() (is [256]bool) {
	for c := range is {
		is[c] = c < 0x20 || c > 0x7e || strings.IndexByte(`"\<>&`, byte(c)) >= 0
	}
	return is
}()

// Seconds renders d as Retry-After wants it: whole seconds, rounded up, at least 1.
func Seconds(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

// The values of fields that all refusals share.
var (
	contentType = []string{ContentType}
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
)

// Write sends p. The request's id is taken from the response header, where
// telemetry.Requests put it.
func Write(w http.ResponseWriter, r *http.Request, p *Problem) {
	doc, h := *p, w.Header()
	if id := h[RequestIDHeader]; len(id) > 0 {
		doc.RequestID = id[0]
	}
	space := writing.Get().(*[]byte)
	defer writing.Put(space)
	body, err := doc.appendJSON((*space)[:0])
	if err != nil { // an extension member that is no JSON: a fault of ours
		body = []byte(`{"type":"` + typeBase + `internal","title":"Internal Server Error","status":500,"code":"internal"}`)
		doc.Status = http.StatusInternalServerError
	}
	*space = body
	h["Content-Type"], h["Cache-Control"], h["X-Content-Type-Options"] = contentType, noStore, noSniff
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	if p.RetryAfter > 0 {
		h["Retry-After"] = []string{Seconds(p.RetryAfter)}
	}
	w.WriteHeader(doc.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may be gone; nothing is left to tell it
	}
}

// writing is memory to write problems in.
var writing = sync.Pool{New: func() any {
	b := make([]byte, 0, 512)
	return &b
}}

// From finds the problem in err's chain.
func From(err error) (*Problem, bool) {
	var p *Problem
	ok := errors.As(err, &p)
	return p, ok
}
