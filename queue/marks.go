package queue

import "time"

const (
	// fewMarks is up to where single bits are cheaper than a bitmap.
	fewMarks = 1000
	// largeMarks is a bitmap that is sent at most six times a presence time.
	largeMarks = 64 << 10
	// markAhead is how far beyond the last known number a mark is believed.
	markAhead = 1 << 20
)

// marks are the places seen since the last tick, and those already sent, so that an
// emptied store can be told again.
type marks struct {
	epoch   string
	numbers bool // the sets hold numbers, not ranks
	pending bitset
	// recent and older hold what was sent in this half of a presence time and the one before.
	recent, older bitset
	// phones are all that were ever seen here, and are not before the base.
	phones bitset
	turned time.Time
	sentAt time.Time
}

// again makes everything that was sent pending.
func (m *marks) again() {
	for _, b := range []*bitset{&m.recent, &m.older} {
		b.each(m.pending.add)
	}
	m.sentAt = time.Time{}
}

// follow makes the sets fit v: another epoch empties them, a draw turns numbers into
// ranks, a new base drops what is before it.
func (m *marks) follow(v *View) {
	sets := []*bitset{&m.pending, &m.recent, &m.older, &m.phones}
	if m.epoch != v.epoch {
		*m = marks{epoch: v.epoch, numbers: v.numbers(), turned: v.now}
		sets = []*bitset{&m.pending, &m.recent, &m.older, &m.phones}
	}
	if m.numbers && !v.numbers() {
		m.numbers = false
		for _, b := range sets {
			moved := bitset{base: b.base}
			b.each(func(number uint64) { moved.add(v.rank(number)) })
			*b = moved
		}
	}
	for _, b := range sets {
		b.rebase(v.base)
	}
	if v.now.Sub(m.turned) >= v.halfPresence() {
		m.older, m.recent, m.turned = m.recent, bitset{base: v.base}, v.now
	}
}

func (v *View) halfPresence() time.Duration {
	return time.Duration(v.presenceMillis) * time.Millisecond / 2
}

// Seen marks a visitor as present with the next tick. It never blocks.
func (l *Line) Seen(t Token) {
	if v := l.View(); v != nil {
		l.mu.Lock()
		l.seen(v, t)
		l.mu.Unlock()
	}
}

// seen is Seen with the lock held.
func (l *Line) seen(v *View, t Token) {
	if t.Epoch != v.epoch || t.Number >= v.next+markAhead || v.hasMoved(t) {
		return
	}
	if l.marks.epoch != v.epoch || l.marks.numbers != v.numbers() {
		l.marks.follow(v)
	}
	rank := t.Number
	if !v.numbers() {
		rank = v.rank(t.Number)
	}
	l.marks.pending.add(rank)
	if t.Phone && v.phoneMillis > v.presenceMillis {
		l.marks.phones.add(rank)
	}
}

// batch is what one tick marks.
type batch struct {
	set     bitset
	epoch   string
	numbers bool
	args    []any // of mark.lua after the time
	// present and phones are all of set and the phones in it, where args do not name them.
	present, phones []byte
}

// pendingMarks takes the marks that go with this tick.
func (l *Line) pendingMarks(v *View) *batch {
	if v == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.marks
	m.follow(v)
	if m.pending.size == 0 {
		return nil
	}
	bulk := m.pending.size > fewMarks || v.quiet()
	if bulk && len(m.pending.words)*8 > largeMarks && time.Since(m.sentAt) < v.halfPresence()/3 {
		return nil
	}
	b := &batch{set: m.pending, epoch: m.epoch, numbers: m.numbers}
	m.pending = bitset{base: v.base}
	space := "rank"
	if b.numbers {
		space = "number"
	}
	b.args = []any{b.epoch, space, v.base}
	if !bulk {
		phones, others := []any{}, []any{}
		b.set.each(func(rank uint64) {
			if m.phones.has(rank) {
				phones = append(phones, rank)
			} else {
				others = append(others, rank)
			}
		})
		b.args = append(append(append(b.args, "few", len(phones)), phones...), others...)
		return b
	}
	m.sentAt = time.Now()
	var counts []byte
	if v.quiet() {
		// Only who counted before the loss counts after it: positions never rise.
		set := bitset{base: b.set.base}
		b.set.each(func(rank uint64) {
			if !v.counted.lacks(rank) {
				set.add(rank)
			}
		})
		counts = set.bytes()
	}
	b.args, b.present, b.phones = append(b.args, "bulk", counts), b.set.bytes(), b.set.common(&m.phones)
	return b
}

// marksSent remembers marks that the store has.
func (l *Line) marksSent(b *batch, v *View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marks.epoch == b.epoch && l.marks.numbers == b.numbers {
		l.marks.recent.rebase(b.set.base)
		b.set.each(l.marks.recent.add)
	}
}

// marksKept makes marks pending again that the store did not take.
func (l *Line) marksKept(b *batch) {
	if b == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.marks.epoch == b.epoch && l.marks.numbers == b.numbers {
		b.set.each(l.marks.pending.add)
	}
}
