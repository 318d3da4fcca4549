package origin

import "sync"

// budgetFloor is how many repetitions a quiet origin may have at once.
const budgetFloor = 10

// budget bounds repeated requests to a share of all.
type budget struct {
	share float64
	mu    sync.Mutex
	left  float64 // guarded by mu
}

func newBudget(share float64) *budget { return &budget{share: share, left: budgetFloor} }

// earn is called for each request.
func (b *budget) earn() {
	b.mu.Lock()
	b.left = min(budgetFloor, b.left+b.share)
	b.mu.Unlock()
}

// spend takes one repetition, if there is one.
func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
