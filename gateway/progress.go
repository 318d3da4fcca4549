package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"usher/internal/problem"
)

// A request's body must come on: bodyRate bytes a second after bodyGrace, and be
// whole within bodyTime. A phone with one bar does it; a client that drips a byte now
// and then to hold a connection does not.
const (
	bodyGrace = 15 * time.Second
	bodyRate  = 4 << 10
	bodyTime  = 10 * time.Minute
)

var (
	errSlowBody   = errors.New("the request's body comes too slowly")
	errBrokenBody = errors.New("the request's body cannot be read")
)

func slowBody() *problem.Problem {
	return problem.New(http.StatusRequestTimeout, "request-timeout", "The request took too long to arrive. Please try again.")
}

// progressing gives bodies their deadlines, in place of the server's own.
func progressing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &progress{ReadCloser: r.Body, control: http.NewResponseController(w), began: time.Now()}
		}
		next.ServeHTTP(w, r)
	})
}

// progress is a body that is read to a deadline which each byte moves on.
type progress struct {
	io.ReadCloser
	control *http.ResponseController
	began   time.Time
	got     int64
	over    bool
}

func (p *progress) Read(b []byte) (int, error) {
	if p.over { // the server watches the connection now, and a deadline would end the request
		return 0, io.EOF
	}
	// A connection without deadlines (a test's recorder) has nothing to hold.
	_ = p.control.SetReadDeadline(p.began.Add(bodyPatience(p.got)))
	n, err := p.ReadCloser.Read(b)
	p.got += int64(n)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF: // as it is; one that is wrapped is no end
		p.over = true
		return n, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, errSlowBody
	}
	return n, fmt.Errorf("%w: %w", errBrokenBody, err)
}

// bodyPatience is how long after its beginning a body of which got bytes are here may
// take until there is more.
func bodyPatience(got int64) time.Duration {
	return min(bodyGrace+time.Duration(got/bodyRate)*time.Second, bodyTime)
}
