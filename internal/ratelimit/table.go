package ratelimit

import (
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
)

// Table is one process' memory of a policy's keys. Of each it knows what the store said
// last and what was spent since, so that most requests are decided without asking, and
// one that is denied is denied until its time has come.
//
// A table of its own counts for this process alone and is exact.
//
// One that leases shares its keys with a store. A key may owe the store a few requests that it was not asked about;
// then the store is asked, and charged with all of it. So a crowd of which everyone comes
// once costs the store nothing, and who comes often is charged in full, some requests
// later. The lease shrinks as the key runs out: a key that has eight requests left may
// owe one, and with fewer each request is asked about.
//
// What the processes owe together is the overshoot: with n processes that know of each
// other a key never has more than its quota and 1/20 of its burst, and one process alone
// never more than its quota. A policy with a burst under 20 n is exact.
type Table struct {
	policy Policy
	leased bool
	seed   maphash.Seed
	shards [tableShards]shard
	bound  int // of a shard's keys
}

const (
	tableShards = 64
	// owedPart of a burst is what all processes together may owe the store of one key, and
	// leftPart of what a key has left is what one of them may owe.
	owedPart, leftPart = 20, 8
	// candidates of a full shard are looked at to find the key to drop.
	candidates = 8
)

// digest stands for a key, under a secret seed, so that nobody finds two keys of one digest;
// by chance a new key shares a bucket once in 10^14 times that a full table meets one. It has
// no pointers, and neither has a bucket: the collector passes them by.
type digest uint64

type shard struct {
	mu      sync.Mutex // guards the rest
	index   map[digest]int32
	buckets []bucket
}

// bucket is what a table knows of one key, in microseconds of this process' clock.
type bucket struct {
	key digest
	// tat is the theoretical arrival time: what the store said last, and all that was spent
	// since or is being asked for.
	tat   int64
	owed  int64 // spent and not yet told to the store; negative: given back
	asked int64 // told to the store, and not answered yet
	// share is the arrival time of what was spent while the store was away, by the clock of
	// this process' share of the quota; 0 when there is nothing of it.
	share int64
	told  int64 // the arrival time in the store's newest answer
	heard int64 // the store's own time of it
}

// NewTable returns a table of at most keys buckets, and at least 64. Leased, a store counts
// for all processes together.
func NewTable(p Policy, keys int, leased bool) *Table {
	t := &Table{policy: p, leased: leased, seed: maphash.MakeSeed(), bound: max(1, keys/tableShards)}
	for i := range t.shards {
		t.shards[i].index = map[digest]int32{}
	}
	return t
}

// Policy is what the table keeps.
func (t *Table) Policy() Policy { return t.policy }

// Turn is one request's dealing with one key. Its Decision stands unless it is Open.
type Turn struct {
	Decision Decision

	shard  *shard
	digest digest
	quota  Quota
	leased bool
	at     int64
	cost   int64
	alone  int64 // over how many processes the quota was shared when this was decided

	// What the store is to be asked while the turn is open: to charge what is owed and what
	// was spent by itself (share is where that is remembered), and to decide on the cost.
	open             bool
	key              string
	debt, own, share int64
}

// Open tells that the store has to be asked.
func (t *Turn) Open() bool { return t.open }

// Take begins a turn: cost of the key's quota is spent at now, which is microseconds of
// this process' clock, among processes that share the store. A turn that is open must be
// given to Store.Ask, and to Alone when that failed.
func (t *Table) Take(turn *Turn, key Key, now, cost, processes int64) {
	id := digest(maphash.Comparable(t.seed, key))
	s := &t.shards[id%tableShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.find(id)
	if b == nil {
		b = s.add(id, t.bound)
	}
	*turn = Turn{shard: s, digest: id, quota: t.policy.Quota, leased: t.leased, at: now, cost: cost}
	next, d := Decide(t.policy.Quota, b.tat, now, cost)
	turn.Decision = d
	if !d.Allowed || !t.leased { // a store knows at least of as much
		b.tat = next
		return
	}
	may := min(t.policy.burst()/(owedPart*max(1, processes)), d.Remaining/leftPart)
	if b.share == 0 && b.owed+b.asked+cost <= may && (b.asked > 0 || b.owed+cost <= (may+1)/2) {
		b.owed, b.tat = b.owed+cost, next
		return
	}
	turn.open, turn.key, turn.debt = true, t.policy.Name+":"+key.String(), b.owed
	if b.share > 0 {
		turn.share, turn.own = b.share, max(0, b.share-max(b.tat, now))/(t.policy.interval()*max(1, processes))
	}
	b.owed, b.share, b.asked, b.tat = 0, 0, b.asked+turn.unsaid(), next
}

// unsaid is all that an open turn tells the store.
func (t *Turn) unsaid() int64 { return t.debt + t.own + t.cost }

// find is nil for a key that is not there. A bucket is good until the lock is let go.
func (s *shard) find(id digest) *bucket {
	if i, ok := s.index[id]; ok {
		return &s.buckets[i]
	}
	return nil
}

// add makes a bucket. Where there is no room one of a few goes: that which can deny least,
// so that a flood of new keys never frees one that has spent its quota.
func (s *shard) add(id digest, bound int) *bucket {
	at := len(s.buckets)
	if at < bound {
		s.buckets = append(s.buckets, bucket{})
	} else {
		from := rand.IntN(bound)
		at = from
		for i := range candidates { // neighbours are as good as any, and soon read
			if other := (from + i) % bound; s.buckets[other].until() < s.buckets[at].until() {
				at = other
			}
		}
		delete(s.index, s.buckets[at].key)
	}
	s.buckets[at], s.index[id] = bucket{key: id}, int32(at)
	return &s.buckets[at]
}

// until is when the bucket is full again.
func (b *bucket) until() int64 { return max(b.tat, b.share) }

// Sweep forgets keys that have been idle for as long as a whole burst takes to fill, in
// one of the table's parts: 64 rounds look at all of them. What such a key owes is
// forgiven, which lets pass at most its lease in that time.
func (t *Table) Sweep(round int, now int64) {
	s := &t.shards[uint(round)%tableShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.buckets[:0]
	for _, b := range s.buckets {
		if b.asked == 0 && b.until()+t.policy.tolerance() < now {
			delete(s.index, b.key)
			continue
		}
		s.index[b.key] = int32(len(kept))
		kept = append(kept, b)
	}
	if s.buckets = kept; len(kept) < cap(kept)/4 {
		s.buckets = slices.Clone(kept)
	}
}

// lock locks the turn's bucket. Where it was dropped meanwhile the turn works on one that
// nobody will see.
func (t *Turn) lock() *bucket {
	t.shard.mu.Lock()
	if b := t.shard.find(t.digest); b != nil {
		return b
	}
	return &bucket{}
}

// settle takes the store's answer to an open turn: the arrival time that it had before
// the cost, and its clock.
func (t *Turn) settle(before, now int64) {
	next, d := Decide(t.quota, before, now, t.cost)
	b := t.lock()
	defer t.shard.mu.Unlock()
	b.asked -= t.unsaid()
	told := t.at + next - now
	switch late := b.heard - now; {
	case late == 0: // of one round trip, in any order
		b.told = max(b.told, told)
	case late < 0 || late > 2*flightTime.Microseconds(): // newer, or the store's clock went back
		b.told, b.heard = told, now
	}
	// Until they are settled, the store may have counted some of those that are asked for
	// already: they weigh twice for that moment.
	b.tat = b.told + (b.owed+b.asked)*t.quota.interval()
	t.Decision, t.open = d, false
}

// Alone decides a turn that the store was not there for, by this process' share of the
// quota, and of at least one request at once. When the store is back it is charged with
// what has not refilled by then, so that nobody has a second burst.
func (t *Turn) Alone(processes int64) {
	b := t.lock()
	defer t.shard.mu.Unlock()
	t.close(b)
	processes = max(1, processes)
	interval := t.quota.interval() * processes
	next, d := decide(interval, max(t.quota.tolerance(), interval*t.cost), max(b.share, b.tat), t.at, t.cost)
	if d.Allowed {
		b.share = next
	}
	t.Decision, t.alone = d, processes
}

// close takes back what an open turn was about to tell the store.
func (t *Turn) close(b *bucket) {
	if t.open {
		b.asked -= t.unsaid()
		b.tat -= t.cost * t.quota.interval()
		b.owed += t.debt
		b.share = max(b.share, t.share)
		t.open = false
	}
}

// Cancel ends a turn that nobody needs to be decided.
func (t *Turn) Cancel() {
	t.close(t.lock())
	t.shard.mu.Unlock()
}

// ByShare tells that the store was not there for this decision.
func (t *Turn) ByShare() bool { return t.alone > 0 }

// Charge spends more than was asked for, by what the request was answered, or gives back
// what it is negative by, because another policy denied the request. The store hears of it
// with the key's next question.
func (t *Turn) Charge(more int64) {
	b, interval := t.lock(), t.quota.interval()
	defer t.shard.mu.Unlock()
	if t.alone > 0 {
		b.share += more * interval * t.alone
		return
	}
	b.tat = min(max(b.tat, t.at)+more*interval, t.at+debtLimit*t.quota.tolerance())
	if t.leased {
		b.owed += more
	}
}
