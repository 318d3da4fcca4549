package queue

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"usher/internal/operator"
	"usher/internal/problem"
)

// RoomPath is the path of an operation on one room; huma fills embedded structs only
// when they are exported.
type RoomPath struct {
	Room string `path:"room" maxLength:"40" doc:"the room's name"`
}

type liveBody struct {
	Status int
	Body   Live
}

// RegisterOperate adds the operators' calls on rooms. They need Redis alone. auth is
// asked by the caller's middleware for every operation whose Security names it.
func RegisterOperate(api huma.API, h *Hall, auth *operator.Authenticator) {
	group := huma.NewGroup(api, "/api/v1/operate/rooms")
	if auth != nil {
		group.UseMiddleware(auth.Huma(api))
	}
	op := func(method, path, id, summary string, act operator.Act) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"operate rooms"},
			Security: operator.Needs(act),
		}
	}

	huma.Register(group, op(http.MethodGet, "", "list-rooms", "All rooms with their live figures", operator.View),
		func(ctx context.Context, _ *struct{}) (*struct {
			Body struct {
				Rooms []Live `json:"rooms"`
			}
		}, error) {
			out := &struct {
				Body struct {
					Rooms []Live `json:"rooms"`
				}
			}{}
			p, _ := operator.PrincipalFrom(ctx)
			out.Body.Rooms = []Live{}
			for _, l := range h.all() {
				if p.May(operator.View, l.room) {
					out.Body.Rooms = append(out.Body.Rooms, l.View().Live())
				}
			}
			return out, nil
		})

	huma.Register(group, op(http.MethodGet, "/{room}", "get-room-live", "Settings and live figures", operator.View),
		func(_ context.Context, in *RoomPath) (*liveBody, error) {
			l, ok := h.Line(in.Room)
			if !ok {
				return nil, errNoSuchRoom()
			}
			return &liveBody{Status: http.StatusOK, Body: l.View().Live()}, nil
		})

	put := op(http.MethodPut, "/{room}", "put-room", "Make a room or change its settings: absent members keep their value, null restores the default", operator.Operate)
	put.MaxBodyBytes = 64 << 10
	huma.Register(group, put,
		func(ctx context.Context, in *struct {
			RoomPath
			Body Patch
		}) (*liveBody, error) {
			live, created, err := h.Configure(ctx, in.Room, in.Body, actor(ctx))
			if err != nil {
				return nil, refusal(err)
			}
			status := http.StatusOK
			if created {
				status = http.StatusCreated
			}
			return &liveBody{Status: status, Body: live}, nil
		})

	type roomAdmission struct {
		Body struct {
			Called int `json:"called" doc:"how many were called"`
		}
	}
	huma.Register(group, op(http.MethodPost, "/{room}/admit", "admit", "Call beyond the pace, never beyond the capacity", operator.Operate),
		func(ctx context.Context, in *struct {
			RoomPath
			Body struct {
				Count int `json:"count" minimum:"1" maximum:"100000"`
			}
		}) (*roomAdmission, error) {
			n, err := h.Admit(ctx, in.Room, in.Body.Count, actor(ctx))
			if err != nil {
				return nil, refusal(err)
			}
			out := &roomAdmission{}
			out.Body.Called = n
			return out, nil
		})

	huma.Register(group, op(http.MethodPost, "/{room}/reset", "reset-room", "Begin the next epoch: all places end, passes stay good", operator.Operate),
		func(ctx context.Context, in *RoomPath) (*liveBody, error) {
			live, err := h.Reset(ctx, in.Room, actor(ctx))
			if err != nil {
				return nil, refusal(err)
			}
			return &liveBody{Status: http.StatusOK, Body: live}, nil
		})

	type roomHistory struct {
		Body struct {
			Step    Step      `json:"step"`
			Figures []Figures `json:"figures"`
		}
	}
	huma.Register(group, op(http.MethodGet, "/{room}/history", "room-history", "Figures by second or minute, oldest first", operator.View),
		func(ctx context.Context, in *struct {
			RoomPath
			Step  Step      `query:"step" enum:"seconds,minutes" default:"seconds"`
			Since time.Time `query:"since"`
			Limit int       `query:"limit" minimum:"1" maximum:"10080" default:"600"`
		}) (*roomHistory, error) {
			figures, err := h.History(ctx, in.Room, in.Step, in.Since, in.Limit)
			if err != nil {
				return nil, refusal(err)
			}
			out := &roomHistory{}
			out.Body.Step, out.Body.Figures = in.Step, figures
			return out, nil
		})
}

func actor(ctx context.Context) Actor {
	p, _ := operator.PrincipalFrom(ctx)
	return Actor{ID: p.ID, Name: p.Name, RequestID: problem.RequestIDFrom(ctx)}
}

// refusal turns what the Hall answers into a problem.
func refusal(err error) error {
	var away *Unavailable
	if errors.As(err, &away) {
		return problem.New(http.StatusServiceUnavailable, "store-unavailable", "The rooms cannot be changed right now. Please try again.").In(away.RetryAfter)
	}
	return err
}
