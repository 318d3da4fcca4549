package ratelimit

import (
	"hash/maphash"
	"math/bits"
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
	// maxRows bounds a shard.
	maxRows int
}

const (
	tableShards = 64
	// owedPart of a burst is what all processes together may owe the store of one key, and
	// leftPart of what a key has left is what one of them may owe.
	owedPart, leftPart = 20, 8
)

// digest stands for a key, under a secret seed, so that nobody finds two keys of one digest,
// or many of one row; by chance a new key shares a bucket once in 10^14 times that a full
// table meets one. It is never 0. It has no pointers, and neither has a bucket: the collector
// passes them by.
type digest uint64

// A shard keeps each key in the row that its digest names: what is looked at is close
// together, for most requests of a crowd are of keys that no cache of the processor has.
type shard struct {
	mu      sync.Mutex // guards the rest
	rows    []row      // their number is a power of two
	buckets []bucket   // rowKeys for each row
	used    int
}

// rowKeys make a row of digests as long as a line of the processor's cache.
const rowKeys = 8

// A row is the digests of its keys; 0 is a free bucket's.
type row [rowKeys]digest

// bucket is what a table knows of one key, in microseconds of this process' clock.
type bucket struct {
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

// NewTable returns a table for so many keys, with room for two to four times as many: rows fill
// unevenly, and at half of its room one key in a hundred finds its row full and has another
// dropped. Leased, a store counts for all processes together.
func NewTable(p Policy, keys int, leased bool) *Table {
	rows := max(1, 2*keys/(tableShards*rowKeys))
	return &Table{policy: p, leased: leased, seed: maphash.MakeSeed(), maxRows: 1 << bits.Len(uint(rows-1))}
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
	id := max(1, digest(maphash.Comparable(t.seed, key)))
	s := &t.shards[id%tableShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.find(id)
	if b == nil {
		b = s.add(id, t.maxRows)
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

// rowOf is the index of a key's row.
func (s *shard) rowOf(id digest) int { return int(id/tableShards) & (len(s.rows) - 1) }

// find is nil for a key that is not there. A bucket is good until the lock is let go.
func (s *shard) find(id digest) *bucket {
	if len(s.rows) == 0 {
		return nil
	}
	r := s.rowOf(id)
	for i, other := range &s.rows[r] {
		if other == id {
			return &s.buckets[r*rowKeys+i]
		}
	}
	return nil
}

// add makes a bucket. Where there is no room in its row, and none can be made, that goes which
// can deny least, so that a flood of new keys never frees one that has spent its quota.
func (s *shard) add(id digest, maxRows int) *bucket {
	for len(s.rows) == 0 || len(s.rows) < maxRows && !slices.Contains(s.rows[s.rowOf(id)][:], 0) {
		s.resize(max(1, 2*len(s.rows)))
	}
	return s.put(id)
}

// put gives a key a bucket of its row, the free one or that which can deny least.
func (s *shard) put(id digest) *bucket {
	r := s.rowOf(id)
	row, buckets := &s.rows[r], s.buckets[r*rowKeys:][:rowKeys]
	at := slices.Index(row[:], 0)
	if at >= 0 {
		s.used++
	} else {
		at = 0
		for i := range buckets {
			if buckets[i].until() < buckets[at].until() {
				at = i
			}
		}
	}
	row[at], buckets[at] = id, bucket{}
	return &buckets[at]
}

// resize moves all keys to so many rows.
func (s *shard) resize(rows int) {
	from, buckets := s.rows, s.buckets
	s.rows, s.buckets, s.used = make([]row, rows), make([]bucket, rows*rowKeys), 0
	for r := range from {
		for i, id := range &from[r] {
			if id != 0 {
				*s.put(id) = buckets[r*rowKeys+i]
			}
		}
	}
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
	for r := range s.rows {
		for i, id := range &s.rows[r] {
			if b := &s.buckets[r*rowKeys+i]; id != 0 && b.asked == 0 && b.until()+t.policy.tolerance() < now {
				s.rows[r][i] = 0
				s.used--
			}
		}
	}
	if rows := len(s.rows) / 2; s.used < rows { // rows stay as good as empty
		s.resize(rows)
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
