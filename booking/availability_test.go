package booking

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// viewer follows a performance by WebSocket and checks what it is sent.
type viewer struct {
	t       testing.TB
	conn    *websocket.Conn
	version int64
	states  []byte
	free    int // of the floor
	resets  int // snapshots seen
}

func (f *fan) watch(t testing.TB) *viewer {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(f.at("/availability/ws"), "http"), f.header())
	if err != nil {
		t.Fatalf("dial: %v %+v", err, resp)
	}
	t.Cleanup(func() { conn.Close() })
	return &viewer{t: t, conn: conn}
}

// next takes one message: a snapshot, or the very next version.
func (v *viewer) next() {
	v.t.Helper()
	if err := v.conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		v.t.Fatal(err)
	}
	_, text, err := v.conn.ReadMessage()
	if err != nil {
		v.t.Fatal(err)
	}
	var m struct {
		Version int64
		Seats   *string
		Changes *[][2]int
		Areas   []AreaFree
	}
	if err := json.Unmarshal(text, &m); err != nil {
		v.t.Fatalf("%v in %s", err, text)
	}
	switch {
	case m.Seats != nil:
		v.states, v.resets = states(v.t, Snapshot{Seats: *m.Seats}), v.resets+1
	case m.Changes == nil || m.Version != v.version+1:
		v.t.Fatalf("after version %d came %s", v.version, text)
	default:
		for _, c := range *m.Changes {
			v.states[c[0]] = byte(c[1])
		}
	}
	v.version = m.Version
	for _, a := range m.Areas {
		v.free = a.Free
	}
}

func (v *viewer) until(what string, so func() bool) {
	v.t.Helper()
	for range 1000 {
		if so() {
			return
		}
		v.next()
	}
	v.t.Fatalf("never seen: %s", what)
}

func TestWatchAvailability(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	_, second := sh.serve()
	f := sh.fan()
	first := f.holds(3)
	v, other := f.watch(t), sh.fanAt(second).watch(t)
	for _, v := range []*viewer{v, other} {
		v.next()
		if v.resets != 1 || v.states[3] != unitHeld || v.free != 30 {
			t.Fatalf("the first message: %+v", v)
		}
	}
	o := into[Order](t, f.order("k", orderBody(first.ID)), http.StatusCreated)
	sh.play(o, "approve")
	into[Hold](t, f.hold(fmt.Sprintf(`{"seats":[4],"areas":[{"id":%q,"quantity":2}]}`, shopArea)), http.StatusCreated)
	for _, v := range []*viewer{v, other} {
		v.until("a sold and a held seat", func() bool { return v.states[3] == unitSold && v.states[4] == unitHeld && v.free == 28 })
		if v.resets != 1 {
			t.Errorf("%d snapshots to a viewer that kept up", v.resets)
		}
	}

	// What a poller sees is what a viewer sees, at the same version.
	storm(30, func(i int) { sh.fanAt([]string{sh.base, second}[i%2]).hold(`{"best":{"quantity":1}}`) })
	snap := f.availability()
	for _, v := range []*viewer{v, other} {
		v.until("the poller's version", func() bool { return v.version >= snap.Version })
		if v.version != snap.Version || string(v.states) != string(states(t, snap)) {
			t.Errorf("a viewer sees %d %v, a poller %d %v", v.version, v.states, snap.Version, states(t, snap))
		}
	}

	// Redis forgets everything: a snapshot of a later version replaces what was known.
	before := v.version
	sh.forget()
	v.until("a new snapshot", func() bool { return v.resets == 2 })
	if v.version <= before || v.states[3] != unitSold {
		t.Errorf("after a loss: version %d, then %d, seat %d", before, v.version, v.states[3])
	}
}

func TestSlowViewerGetsASnapshot(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	l := sh.layout()
	fd := &feed{layout: l, changed: make(chan struct{}), now: &seatMap{version: 100, states: make([]byte, l.Units())}}
	for i := range 3 {
		d := fd.now.apply(l, []change{{i, unitHeld}})
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		fd.recent = append(fd.recent, frame{d.Version, text})
	}
	for at, want := range map[int64]int{103: 0, 102: 1, 100: 3} {
		if frames, next, _, err := fd.after(at); err != nil || len(frames) != want || next != 103 {
			t.Errorf("a viewer at %d gets %d frames to %d, %v", at, len(frames), next, err)
		}
	}
	for _, at := range []int64{0, 99, 104} {
		frames, next, _, err := fd.after(at)
		if err != nil || len(frames) != 1 || next != 103 || !strings.Contains(string(frames[0]), `"seats":"AQEB`) {
			t.Errorf("a viewer at %d gets %s to %d, %v", at, frames, next, err)
		}
	}
}

func TestWatchRefusals(t *testing.T) {
	t.Parallel()
	sh := newShop(t)
	f := sh.fan()
	url := "ws" + strings.TrimPrefix(f.at("/availability/ws"), "http")
	for name, c := range map[string]struct {
		header http.Header
		status int
	}{
		"no pass":        {nil, http.StatusForbidden},
		"foreign origin": {f.header("Origin", "https://evil.example"), http.StatusForbidden},
	} {
		conn, resp, err := websocket.DefaultDialer.Dial(url, c.header)
		if err == nil {
			conn.Close()
			t.Errorf("%s: let in", name)
			continue
		}
		if resp == nil || resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %+v", name, resp)
		}
	}
	sh.call(http.MethodGet, f.at("/availability/ws"), f.header(), "").want(t, http.StatusBadRequest, "websocket-required")
}
