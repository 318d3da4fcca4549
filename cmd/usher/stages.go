package main

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
)

// part is something that runs until its context ends.
type part func(context.Context) error

// runStages runs every part of every stage. When ctx ends, or any part does, the
// stages end one after the other, the first one first. The error is why it ended,
// nil after a signal.
func runStages(ctx context.Context, stages ...[]part) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	groups := make([]errgroup.Group, len(stages))
	cancels := make([]context.CancelFunc, len(stages))
	for i, parts := range stages {
		var stage context.Context
		stage, cancels[i] = context.WithCancel(context.WithoutCancel(ctx))
		for _, p := range parts {
			groups[i].Go(func() error {
				defer stop()
				err := p(stage)
				if stage.Err() != nil && errors.Is(err, context.Canceled) {
					return nil // it was told to end
				}
				return err
			})
		}
	}
	<-ctx.Done()
	var faults []error
	for i := range groups {
		cancels[i]()
		faults = append(faults, groups[i].Wait())
	}
	return errors.Join(faults...)
}
