package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"usher/queue"
)

// The demo's other fans: so many wait before a newcomer in the room of the arena,
// and look at their places that often.
const (
	crowdRoom   = "arena"
	crowdSize   = 4
	crowdGlance = 500 * time.Millisecond
)

// crowd is the part that keeps the demo's other fans in line, so that a visitor who
// tries the demo alone sees a line move. They leave when they are called: none takes
// a session or keeps a call open. What they do never fails a process.
func crowd(hall *queue.Hall, log *slog.Logger) part {
	return func(ctx context.Context) error {
		glance := time.NewTicker(crowdGlance)
		defer glance.Stop()
		var fans []queue.Token
		for {
			select {
			case <-glance.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			line, ok := hall.Line(crowdRoom)
			if !ok {
				continue
			}
			var err error
			if fans, err = move(ctx, line, fans); err != nil {
				log.Debug("the demo's crowd stands still", "error", err)
			}
		}
	}
}

// move lets the fans who were called leave, and one new fan join where some are missing.
func move(ctx context.Context, line *queue.Line, fans []queue.Token) ([]queue.Token, error) {
	places, err := line.Places(ctx, fans, nil)
	if err != nil {
		return fans, err
	}
	var waiting []queue.Token
	for i, place := range places {
		switch {
		case place.State == queue.Waiting || place.State == queue.InLobby:
			waiting = append(waiting, fans[i])
		case place.State == queue.Called:
			if err := line.Leave(ctx, fans[i]); err != nil {
				return slices.Concat(waiting, fans[i:]), err
			}
		}
	}
	if len(waiting) >= crowdSize {
		return waiting, nil
	}
	fan, err := line.Join(ctx)
	if err != nil {
		return waiting, err
	}
	return append(waiting, fan), nil
}
