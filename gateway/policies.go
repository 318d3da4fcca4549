package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"usher/gateway/policy"
	"usher/internal/operator"
	"usher/internal/problem"
)

const policiesPath = "/api/v1/operate/policies"

// policiesInForce is what GET answers, and what PUT takes as it is.
type policiesInForce struct {
	Version   int64           `json:"version" doc:"of what is in force; 0 where no operator has set anything. Sent back in a change, it is refused when others were faster"`
	Policies  []policy.Policy `json:"policies"`
	Lists     policy.Lists    `json:"lists"`
	Candidate *policy.Set     `json:"candidate" doc:"runs along and tells whom it would have denied; null for none"`
}

type policiesAnswer struct{ Body policiesInForce }

type policyStatsAnswer struct{ Body policy.Stats }

// registerPolicies registers the operators' calls on policies. They need Redis alone.
func (s *Server) registerPolicies() {
	group := huma.NewGroup(s.api, policiesPath)
	group.UseMiddleware(s.cfg.Auth.Huma(s.api))
	op := func(method, path, id, summary string, act operator.Act) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"operate policies"}, Security: operator.Needs(act)}
	}
	huma.Register(group, op(http.MethodGet, "", "get-policies", "The rate-limit policies in force", operator.View),
		func(context.Context, *struct{}) (*policiesAnswer, error) { return s.policiesAnswer(), nil })

	put := op(http.MethodPut, "", "put-policies", "Set policies, lists or the candidate: an absent member keeps its value, null restores the default", operator.Operate)
	put.MaxBodyBytes = policy.MaxBody
	put.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {
		Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[policiesInForce](), true, "PoliciesInForce"),
	}}}
	put.SkipValidateBody = true // policy.Parse names faults and their places
	huma.Register(group, put, s.putPolicies)

	huma.Register(group, op(http.MethodGet, "/stats", "policy-stats", "What each policy decided over all gateways since they were set", operator.View),
		func(ctx context.Context, _ *struct{}) (*policyStatsAnswer, error) {
			stats, err := s.limits.engine.Stats(ctx)
			if err != nil {
				return nil, s.policiesAway(ctx, "read what policies decided", err)
			}
			return &policyStatsAnswer{stats}, nil
		})
}

func (s *Server) policiesAnswer() *policiesAnswer {
	d, version := s.limits.engine.Document()
	return &policiesAnswer{policiesInForce{Version: version, Policies: d.Policies, Lists: d.Lists, Candidate: d.Candidate}}
}

func (s *Server) putPolicies(ctx context.Context, in *struct{ RawBody []byte }) (*policiesAnswer, error) {
	if !json.Valid(in.RawBody) {
		return nil, problem.New(http.StatusBadRequest, "bad-request", "The request body is not valid JSON.")
	}
	change, faults := policy.Parse(in.RawBody)
	if len(faults) > 0 {
		fields := make([]problem.Field, len(faults))
		for i, f := range faults {
			fields[i] = problem.Field{Location: f.Path, Message: f.Message}
		}
		return nil, problem.Invalid(fields...)
	}
	who, _ := operator.PrincipalFrom(ctx)
	by := policy.Actor{ID: who.ID, Name: who.Name, RequestID: problem.RequestIDFrom(ctx)}
	err := s.limits.engine.Change(ctx, change, by)
	switch {
	case errors.Is(err, policy.ErrConflict):
		return nil, problem.New(http.StatusConflict, "policies-changed", "Others have changed the policies meanwhile. Please read them again.")
	case err != nil:
		return nil, s.policiesAway(ctx, "change policies", err)
	}
	return s.policiesAnswer(), nil
}

func (s *Server) policiesAway(ctx context.Context, act string, err error) *problem.Problem {
	s.log.WarnContext(ctx, act, "error", err)
	return problem.New(http.StatusServiceUnavailable, "store-unavailable", "The policies cannot be read or changed right now. Please try again.").In(time.Second)
}
