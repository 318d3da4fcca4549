package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestStagesEndOneAfterTheOther(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		fault error // what the second stage's part ends with, by itself
		want  error
	}{
		"after a signal":        {nil, nil},
		"when a part fails":     {broken, broken},
		"when a part just ends": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var order []string
				front := func(ctx context.Context) error {
					<-ctx.Done()
					<-time.After(time.Second) // requests under way
					order = append(order, "front")
					return ctx.Err()
				}
				back := func(ctx context.Context) error {
					<-ctx.Done()
					order = append(order, "back")
					return nil
				}
				ends := func(ctx context.Context) error {
					if name == "after a signal" {
						cancel()
						<-ctx.Done()
					}
					return c.fault
				}
				if err := runStages(ctx, deploy, []part{front}, []part{back, ends}); !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("runStages = %v, want %v", err, c.want)
				}
				if len(order) != 2 || order[0] != "front" {
					t.Errorf("stages ended in the order %v", order)
				}
			})
		})
	}
}

func TestAStageThatHangsIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		release := make(chan struct{})
		start := time.Now()
		err := runStages(ctx, atOnce, []part{func(context.Context) error { <-release; return nil }})
		if err == nil || time.Since(start) != atOnce.stage {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		close(release)
	})
}
