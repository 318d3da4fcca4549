package origin

import (
	"context"
	"sync"
	"time"
)

// patience is how long who goes first waits for room.
const patience = 5 * time.Second

// gate bounds how many requests are under way.
type gate struct {
	mu      sync.Mutex // guards all below
	limit   int
	inside  int
	peak    int // most inside since the last look
	refused int // since the last look
	waiting []chan struct{}
}

// enter takes room for one request, or refuses with ErrBusy. Who goes first waits for
// a moment, in order; of the rest nobody gets the last tenth, or past who waits.
func (g *gate) enter(ctx context.Context, first bool) error {
	g.mu.Lock()
	room := g.limit
	if !first {
		room -= g.limit / 10
	}
	if g.inside < room && len(g.waiting) == 0 {
		g.take()
		g.mu.Unlock()
		return nil
	}
	if !first || len(g.waiting) >= g.limit {
		g.refused++
		g.mu.Unlock()
		return ErrBusy
	}
	turn := make(chan struct{})
	g.waiting = append(g.waiting, turn)
	g.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	var err error
	select {
	case <-turn:
		return nil
	case <-late.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, c := range g.waiting {
		if c == turn {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			if err == ErrBusy {
				g.refused++
			}
			return err
		}
	}
	return nil // the turn came in the same moment
}

func (g *gate) take() {
	g.inside++
	g.peak = max(g.peak, g.inside)
}

// leave gives the room of one request back, to whoever waits longest.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.admit()
}

func (g *gate) admit() {
	for len(g.waiting) > 0 && g.inside < g.limit {
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
		g.take()
	}
}

// look returns what was seen since the last look.
func (g *gate) look() (peak, refused int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	peak, refused = g.peak, g.refused
	g.peak, g.refused = g.inside, 0
	return peak, refused
}

func (g *gate) set(limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = limit
	g.admit()
}

func (g *gate) figures() (inside, limit int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside, g.limit
}
