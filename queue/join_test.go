package queue

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
)

// Visitors who go away while their joins are under way leave nobody with another's place:
// every place that is handed out is handed out once.
func TestJoinersWhoGoAwayLeaveOthersTheirOwnPlaces(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	s.room(Patch{})
	var mu sync.Mutex
	given := map[uint64]string{}
	var storm sync.WaitGroup
	for i := range 40 {
		storm.Go(func() {
			for n := range 50 {
				ctx, away := context.WithCancel(context.Background())
				if (i+n)%3 == 0 {
					go func() {
						for range n % 7 { // now before the script call, now while it is under way
							runtime.Gosched()
						}
						away()
					}()
				}
				place, err := s.line(0).Join(ctx)
				away()
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("join: %v", err)
					}
					continue
				}
				mu.Lock()
				if other, twice := given[place.Number]; twice || place.Room != "r" || place.Visitor == other {
					t.Errorf("number %d was handed out twice, or as a place of nobody: %+v", place.Number, place)
				}
				given[place.Number] = place.Visitor
				mu.Unlock()
			}
		})
	}
	storm.Wait()
	if len(given) < 40*50/2 {
		t.Errorf("only %d joined", len(given))
	}
}
