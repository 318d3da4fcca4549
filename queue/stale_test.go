package queue

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"usher/internal/problem"
)

// afterReset is a site of two gateways whose second one has a View of the new epoch, but
// of the settings before the draw was asked for.
func afterReset(t *testing.T) *stage {
	t.Helper()
	ctx := context.Background()
	s := newStage(t, 2)
	s.room(Patch{})
	s.join(0, 3)
	s.pass(time.Second)
	s.renew()
	s.tick()
	s.clock.Add(10)
	draw := Patch{Method: opt(Random), LobbyAt: opt(start), OpensAt: opt(start.Add(time.Minute))}
	if _, _, err := s.halls[0].Configure(ctx, "r", draw, Actor{Name: "Ada"}); err != nil {
		t.Fatal(err)
	}
	s.clock.Add(10)
	return s
}

func wantNoRank(t *testing.T, p Place) {
	t.Helper()
	if p.State != InLobby || p.Rank != nil || p.Position != nil || p.Progress != 0 {
		t.Errorf("before the draw a place is %s with rank %v, position %v", p.State, p.Rank, p.Position)
	}
}

func TestJoinThroughAnOldViewShowsNoRank(t *testing.T) {
	t.Parallel()
	s := afterReset(t)
	wantNoRank(t, s.place(1, s.join(1, 1)[0]))
}

func TestPlaceOfAnotherGatewayThroughAnOldViewShowsNoRank(t *testing.T) {
	t.Parallel()
	s := afterReset(t)
	wantNoRank(t, s.place(1, s.join(0, 1)[0]))
}

// What a fifo room has published stays, whatever way an operator takes to a draw.
func TestNoDrawAfterRanksWereShown(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStage(t, 2)
	s.room(Patch{PacePerMin: opt(0)})
	token := s.join(1, 2)[1]
	s.tick()
	before := s.place(0, token)
	if before.Rank == nil {
		t.Fatal("an open fifo room shows no rank")
	}
	for _, p := range []Patch{
		{Method: opt(Random), LobbyAt: opt(start), OpensAt: opt(start.Add(time.Minute))},
		{LobbyAt: opt(start), OpensAt: opt(start.Add(time.Minute))}, // back to the lobby, and then
		{Method: opt(Random)},
	} {
		_, _, err := s.halls[0].Configure(ctx, "r", p, Actor{Name: "Ada"})
		if refused, ok := problem.From(err); p.Method.Sent && (!ok || refused.Status != http.StatusConflict || refused.Code != "room-drawn") {
			t.Errorf("method draw after ranks were shown: %v, want 409 room-drawn", err)
		} else if !p.Method.Sent && err != nil {
			t.Fatal(err)
		}
		s.pass(time.Second)
		if p := s.place(1, token); p.Rank == nil || *p.Rank != *before.Rank {
			t.Errorf("the published rank %d has become %v", *before.Rank, p.Rank)
		}
	}
	s.renew()
	if _, _, err := s.halls[0].Configure(ctx, "r", Patch{Method: opt(Random)}, Actor{Name: "Ada"}); err != nil {
		t.Errorf("after a reset: %v", err)
	}
}

// TestEpochsGrowWhateverTheClocksSay: a gateway whose clock is ahead began the epoch before.
// Were the next one not greater, the record would refuse it, and old places would seem new.
func TestEpochsGrowWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	ahead := uuid.Must(uuid.NewV7())
	ahead[1]++ // by some years
	for range 3 {
		next, err := uuid.Parse(epochAfter(ahead.String()))
		if err != nil || next.Version() != 7 || next.String() <= ahead.String() {
			t.Fatalf("epoch %s follows %s, %v", next, ahead, err)
		}
		ahead = next
	}
}
