package booking

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"usher/internal/operator"
	"usher/internal/problem"
)

var slugPattern = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

func (s *Server) registerOperate() {
	s.registerVenues()
	s.registerEvents()
	s.registerPeople()
	s.registerAudit()
}

// operate is an operation for those who may act.
func operate(method, path, id, summary string, act operator.Act, errors ...int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: "/api/v1/operate" + path, Summary: summary, Tags: []string{"Operators"},
		Security: operator.Needs(act), MaxBodyBytes: maxBody + 1, Errors: append([]int{401, 403, 503}, errors...),
	}
}

// optional is a member of a body that merges: absent keeps, null restores the default.
type optional[T any] struct {
	given, null bool
	value       T
}

// UnmarshalJSON is called only where the member is present.
func (o *optional[T]) UnmarshalJSON(raw []byte) error {
	o.given = true
	if bytes.Equal(raw, []byte("null")) {
		o.null = true
		return nil
	}
	return json.Unmarshal(raw, &o.value)
}

// Schema is T's, or null.
func (o optional[T]) Schema(r huma.Registry) *huma.Schema {
	own := *r.Schema(reflect.TypeFor[T](), false, "")
	own.Nullable = true
	return &own
}

// over returns what the member makes of a value whose default is fallback.
func (o optional[T]) over(current, fallback T) T {
	switch {
	case !o.given:
		return current
	case o.null:
		return fallback
	}
	return o.value
}

// record adds a change by the caller of the request to the audit log.
func (s *Server) record(ctx context.Context, db operator.DB, act, subject string, before, after any) error {
	p, _ := operator.PrincipalFrom(ctx)
	c := operator.Change{
		ID: uuid.Must(uuid.NewV7()), At: s.now().UTC(), Actor: p.Name, ActorID: p.ID,
		Act: act, Subject: subject, RequestID: problem.RequestIDFrom(ctx),
	}
	for _, side := range []struct {
		from any
		into *json.RawMessage
	}{{before, &c.Before}, {after, &c.After}} {
		if side.from == nil {
			continue
		}
		raw, err := json.Marshal(side.from)
		if err != nil {
			return fmt.Errorf("record audit: %w", err)
		}
		*side.into = raw
	}
	return operator.Record(ctx, db, c)
}

// putResponses describes an answer that is 201 for what is new.
func putResponses[T any](api huma.API) map[string]*huma.Response {
	responses := jsonResponse[T](api)
	responses["201"] = &huma.Response{Description: "Created", Content: responses["200"].Content}
	return responses
}

// made is 201 for what is new and 200 for what was changed.
func made(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}
