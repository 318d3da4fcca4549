package booking

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"usher/internal/operator"
	"usher/internal/problem"
)

// AuditEntry is a change that someone made.
type AuditEntry struct {
	ID        uuid.UUID       `json:"id" format:"uuid"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	ActorID   string          `json:"actor_id"`
	Act       string          `json:"act"`
	Subject   string          `json:"subject"`
	Before    json.RawMessage `json:"before"`
	After     json.RawMessage `json:"after"`
	RequestID string          `json:"request_id"`
}

// AuditList is a page of the audit log.
type AuditList struct {
	Entries []AuditEntry `json:"entries"`
	Next    string       `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
}

func (s *Server) registerAudit() {
	huma.Register(s.api, operate(http.MethodGet, "/audit", "list-audit", "Who changed what, newest first", operator.Administer, 422), s.listAudit)
}

func (s *Server) listAudit(ctx context.Context, in *struct {
	Subject string `query:"subject" maxLength:"100" doc:"such as event/arena or room/arena"`
	Limit   int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Cursor  string `query:"cursor" maxLength:"200"`
}) (*struct{ Body AuditList }, error) {
	var at time.Time
	var id uuid.UUID
	if in.Cursor != "" {
		raw, decodeErr := base64.RawURLEncoding.DecodeString(in.Cursor)
		atText, idText, _ := strings.Cut(string(raw), " ")
		var atErr, idErr error
		at, atErr = time.Parse(time.RFC3339Nano, atText)
		id, idErr = uuid.Parse(idText)
		if decodeErr != nil || atErr != nil || idErr != nil {
			return nil, problem.Invalid(problem.Field{Location: "query.cursor", Message: "not a cursor of this list"})
		}
	}
	changes, err := operator.Changes(ctx, s.db, in.Subject, at, id, in.Limit+1)
	if err != nil {
		return nil, s.fail(ctx, "list audit", err)
	}
	list := AuditList{Entries: []AuditEntry{}}
	if len(changes) > in.Limit {
		changes = changes[:in.Limit]
		last := changes[in.Limit-1]
		list.Next = base64.RawURLEncoding.EncodeToString([]byte(last.At.UTC().Format(time.RFC3339Nano) + " " + last.ID.String()))
	}
	for _, c := range changes {
		c.At = c.At.UTC()
		list.Entries = append(list.Entries, AuditEntry(c))
	}
	return &struct{ Body AuditList }{list}, nil
}
