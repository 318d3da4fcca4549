package queue

import (
	"slices"
)

// model is the room told plainly: a slice of places, walked from end to end. Two real
// gateways on a real Redis must always say the same.
type model struct {
	now, time, clock, ptime, slotEnds int64
	slot                              int
	phoneSlot                         int
	phoneEnds, phonePresence          int64
	bucket, credit                    int64
	pace, capacity                    int64
	ttl, callTTL, window, presence    int64
	paused, bypass, soldOut           bool
	frontier                          int
	places, past                      []*modelPlace // of this epoch, and of those before
	called, admitted, lapsed, left    int
	// pending are the places seen at each gateway since its last tick, phones those that a phone
	// ever had there.
	pending, phones [2]map[int]bool
}

type modelPlace struct {
	state    string // waiting, called, admitted, missed, absent, returning, lapsed, left
	till     int64  // room time for admitted, else clock
	once     bool
	recalled bool
	extended bool
	live     bool
	counted  bool
	marked   int // slot
	phone    bool
	heldBy   int // phone slot
	taken    bool
}

func (m *model) open() bool { return !m.paused && !m.bypass && !m.soldOut }

// stopped is paused, but where there is nothing to wait for.
func (m *model) stopped() bool { return m.paused && !m.soldOut }

func (m *model) turn() {
	dt := min(m.now-m.time, 5000)
	m.ptime += dt
	if !m.stopped() {
		m.clock += dt
	}
	if m.open() {
		m.bucket = min(m.bucket+dt*m.pace, max(60_000, m.pace*1000))
	}
	m.time = m.now
}

func (m *model) expire() {
	for _, p := range m.places {
		if p.state == "called" && p.till <= m.clock {
			if p.recalled {
				p.state = "lapsed"
				m.lapsed++
			} else {
				p.state, p.till = "missed", p.till+m.window
			}
		}
	}
	for _, p := range m.places {
		if (p.state == "missed" || p.state == "absent") && p.till <= m.clock {
			p.state = "lapsed"
			m.lapsed++
		}
	}
	for _, p := range slices.Concat(m.past, m.places) {
		if p.state == "admitted" && p.till <= m.now {
			p.state = "lapsed" // its session is over; no figure counts it
		}
	}
}

// reset begins the next epoch: of the one before only sessions go on, and the clock.
func (m *model) reset() {
	m.turn()
	for _, p := range m.places {
		if p.state != "admitted" {
			p.state = "lapsed"
		}
	}
	m.past, m.places = append(m.past, m.places...), nil
	m.ptime, m.slot, m.slotEnds, m.phoneSlot, m.phoneEnds = 0, 0, 0, 0, 0
	m.bucket, m.credit, m.frontier, m.soldOut = 60_000, 0, 0, false
	m.called, m.admitted, m.lapsed, m.left = 0, 0, 0, 0
	for g := range m.pending {
		clear(m.pending[g])
		clear(m.phones[g])
	}
}

// sessions counts those in the shop, whatever epoch let them in.
func (m *model) sessions() int {
	n := m.count("admitted")
	for _, p := range m.past {
		if p.state == "admitted" {
			n++
		}
	}
	return n
}

func (m *model) count(states ...string) (n int) {
	for _, p := range m.places {
		if slices.Contains(states, p.state) {
			n++
		}
	}
	return n
}

func (m *model) mark(p *modelPlace) { p.live, p.marked = true, m.slot }

func (m *model) seen(gateway, i int) {
	m.pending[gateway][i] = true
	if m.places[i].phone {
		m.phones[gateway][i] = true
	}
}

// tick is advance.lua after the marks of one gateway.
func (m *model) tick(gateway int, admit int) (made int) {
	for i := range m.pending[gateway] {
		if m.places[i].state != "left" && !m.places[i].taken {
			m.mark(m.places[i])
			if m.phones[gateway][i] && m.phonePresence > m.presence {
				m.places[i].heldBy = m.phoneSlot
			}
		}
	}
	clear(m.pending[gateway])
	m.turn()
	m.expire()
	if m.ptime >= m.slotEnds {
		length := max(1, m.presence/2)
		m.slot += int(min(3, 1+(m.ptime-m.slotEnds)/length))
		m.slotEnds = m.ptime + length
		if m.ptime >= m.phoneEnds {
			m.phoneSlot += int(min(2, 1+(m.ptime-m.phoneEnds)/m.phonePresence))
			m.phoneEnds = m.ptime + m.phonePresence
		}
		for _, p := range m.places {
			p.live = p.live && (p.marked >= m.slot-2 || p.heldBy >= m.phoneSlot-1)
			p.counted = p.counted && p.live
		}
	}
	if !m.open() && !(m.stopped() && admit > 0) {
		return 0
	}
	room := int(m.capacity) - m.sessions() - m.count("called")
	paced := 0
	if m.open() && m.pace > 0 {
		paced = max(0, min(int(m.bucket/60_000), room))
	}
	want := paced + max(0, min(admit, room-paced))
	if want == 0 {
		return 0
	}
	back := m.recall(min(want, (int(m.credit)+want)/4))
	others := m.callNext(want - back)
	m.credit = min(3, m.credit+int64(others-3*back))
	if back+others < want {
		back += m.recall(want - back - others)
		m.credit = 0
	}
	m.credit = max(0, m.credit)
	made = back + others
	m.called += made
	m.bucket -= 60_000 * int64(min(made, paced))
	return made
}

func (m *model) recall(n int) (made int) {
	for _, p := range m.places {
		if made >= n {
			break
		}
		if p.state != "returning" {
			continue
		}
		if p.live {
			p.state, p.till, p.recalled, p.extended = "called", m.clock+m.callTTL, true, false
			made++
		} else {
			p.state = "lapsed"
			m.lapsed++
		}
	}
	return made
}

func (m *model) callNext(n int) (made int) {
	last := -1
	for i := m.frontier; i < len(m.places) && made < n; i++ {
		if p := m.places[i]; p.live && p.state == "waiting" {
			made, last = made+1, i
		}
	}
	for i := m.frontier; i <= last; i++ {
		p := m.places[i]
		switch {
		case p.state != "waiting":
		case p.live:
			p.state, p.till = "called", m.clock+m.callTTL
		default:
			p.state, p.till = "absent", m.clock+m.window
		}
	}
	m.frontier = max(m.frontier, last+1)
	return made
}

// backFrom brings a missed place back if it may.
func (m *model) backFrom(i int, states ...string) {
	if p := m.places[i]; slices.Contains(states, p.state) && !p.once {
		p.state, p.once = "returning", true
		m.mark(p)
	}
}

// look is what places.lua does to a place that the View cannot answer.
func (m *model) look(i int) {
	if i < m.frontier || m.bypass {
		m.turn()
		m.expire()
		m.backFrom(i, "absent")
	}
}

func (m *model) claim(i int) error {
	m.turn()
	m.expire()
	p := m.places[i]
	switch {
	case p.state == "admitted":
		return nil
	case p.state == "lapsed" || p.state == "left":
		return ErrLapsed
	case p.state != "called" && !m.bypass:
		return ErrNotCalled
	}
	if p.state == "waiting" {
		p.counted, p.live, p.taken = false, false, true
	}
	p.state, p.till = "admitted", m.now+m.ttl
	m.admitted++
	return nil
}

func (m *model) extend(i int) error {
	m.turn()
	m.expire()
	p := m.places[i]
	switch {
	case p.state == "lapsed" || p.state == "left":
		return ErrLapsed
	case p.state != "called":
		return ErrNotCalled
	case p.extended:
		return ErrExtended
	}
	p.extended = true
	p.till += m.callTTL
	return nil
}

// move gives the place to another device, which is no phone.
func (m *model) move(i int) error {
	m.turn()
	p := m.places[i]
	if p.state == "admitted" && p.till > m.now {
		return ErrInShop
	}
	p.phone = false
	return nil
}

func (m *model) leave(i int) {
	m.turn()
	m.expire()
	p := m.places[i]
	if p.state == "admitted" || p.state == "lapsed" || p.state == "left" {
		return
	}
	p.state, p.live, p.counted, p.marked, p.heldBy = "left", false, false, -9, -9
	m.left++
}

// says is what a visitor is told.
func (m *model) says(i int) (State, int) {
	p := m.places[i]
	switch p.state {
	case "admitted":
		return Admitted, 0
	case "lapsed":
		return Lapsed, 0
	case "left":
		return Left, 0
	}
	if m.bypass {
		return Called, 0
	}
	switch p.state {
	case "called":
		return Called, 0
	case "missed", "absent":
		return Missed, 0
	case "returning":
		return Waiting, 1
	}
	ahead := 0
	for _, q := range m.places[m.frontier:i] {
		if q.counted {
			ahead++
		}
	}
	return Waiting, ahead + 1
}
