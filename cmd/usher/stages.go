package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// patience is how long an end may take.
type patience struct {
	drain  time.Duration // to say goodbye to those who wait on WebSockets
	finish time.Duration // for the requests under way
	stage  time.Duration // for all parts of one stage together
	// children is for dev's private servers, once everything else has ended.
	children time.Duration
}

// A deploy waits for what is under way; whoever stops dev wants it gone in ten seconds.
var (
	deploy = patience{drain: 10 * time.Second, finish: 10 * time.Second, stage: 25 * time.Second}
	atOnce = patience{drain: 1500 * time.Millisecond, finish: time.Second, stage: 3 * time.Second, children: 2 * time.Second}
)

// part is something that runs until its context ends.
type part func(context.Context) error

// runStages runs every part of every stage. When ctx ends, or any part does, the
// stages end one after the other, the first one first; a stage that takes too long
// is left behind. The error is why it ended, nil after a signal.
func runStages(ctx context.Context, wait patience, stages ...[]part) error {
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
		ended := make(chan error, 1)
		go func() { ended <- groups[i].Wait() }()
		select {
		case err := <-ended:
			faults = append(faults, err)
		case <-time.After(wait.stage):
			faults = append(faults, fmt.Errorf("stage %d of %d did not end within %s", i+1, len(groups), wait.stage))
		}
	}
	return errors.Join(faults...)
}
