package queue

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"usher/internal/devstack/devtest"
	"usher/queue/drand/drandtest"
)

// lottery is a stage with a lobby of n whose draw has its beacon from a chain.
type lottery struct {
	*stage
	chain *drandtest.Server
	r     *Recorder
	fans  []Token
}

func newLottery(t *testing.T, recorder func(*stage) *Recorder, n int) *lottery {
	t.Helper()
	s := newStage(t, 2)
	l := &lottery{stage: s, r: recorder(s)}
	l.chain = drandtest.New(t, func() time.Time { return time.UnixMilli(s.clock.Load()) })
	patch := drawPatch(1)
	patch.Beacon, patch.BeaconURL, patch.PresenceTTL = opt(""), opt(l.chain.URL), opt(10)
	s.configure(l.r, patch)
	l.follow()
	l.fans = s.join(0, n)
	return l
}

// follow lets the Recorder look at all rooms and at their beacons once.
func (l *lottery) follow(more ...*Recorder) {
	l.t.Helper()
	for _, r := range append(more, l.r) {
		record(l.t, r)
		r.followBeacons(context.Background())
		_ = r.beacons.asking.Wait()
	}
	l.tick()
}

// wait lets time pass, all fans being present and the Recorder at work.
func (l *lottery) wait(d time.Duration) {
	l.t.Helper()
	for ; d > 0; d -= time.Second {
		l.pass(time.Second, l.fans...)
		l.follow()
	}
}

// drawn checks that the draw is in force with a round of the chain, and fair.
func (l *lottery) drawn(size uint64, round uint64) Draw {
	l.t.Helper()
	draw, ok := l.line(1).DrawRecord()
	if !ok || draw.LobbySize != size || draw.BeaconSource == nil || draw.BeaconSource.Round != round {
		l.t.Fatalf("drawn %v: %+v %+v", ok, draw, draw.BeaconSource)
	}
	seed, ranks := [32]byte(appendFromHex(nil, draw.Seed, 32)), map[uint64]bool{}
	for i, f := range l.fans {
		p := l.place(i%2, f)
		if p.Rank == nil || *p.Rank != Rank(seed, size, f.Number) || ranks[*p.Rank] {
			l.t.Fatalf("place %d: %+v", f.Number, p)
		}
		ranks[*p.Rank] = true
		receipt := Receipt{Room: "r", Epoch: f.Epoch, Number: f.Number, Commitment: f.Commitment}
		if found, _, verdict := Verify(draw, receipt); verdict != Fair {
			l.t.Fatalf("the draw is %s: %+v", verdict, found)
		}
	}
	return draw
}

// TestBeaconOfALaterRound: the round is published before the opening, the lobby's size before
// the round, and only then anything is drawn.
func TestBeaconOfALaterRound(t *testing.T) { onEachRecord(t, beaconOfALaterRound) }

func beaconOfALaterRound(t *testing.T, recorder func(*stage) *Recorder) {
	l := newLottery(t, recorder, 200)
	opens := start.Add(time.Minute)
	public := l.line(1).View().Room().Draw
	round := l.chain.After(opens.Add(beaconLead))
	if public.Round != round || !public.RoundAt.Equal(l.chain.At(round)) || public.LobbySize != nil || public.BeaconURL != l.chain.URL {
		t.Fatalf("published before the opening: %+v", public)
	}
	l.wait(time.Minute)
	l.follow()
	public = l.line(1).View().Room().Draw
	if public.LobbySize == nil || *public.LobbySize != 200 || public.Round != round || public.Secret != "" {
		t.Fatalf("published after the opening: %+v", public)
	}
	late := l.join(1, 3)
	p := l.place(0, l.fans[5])
	l.expect("before the round", []any{p.State, p.Rank == nil, p.Phase, l.chain.Asked.Load()}, []any{InLobby, true, Lobby, int64(0)})
	if err := l.line(0).Leave(context.Background(), late[1]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.halls[0].Configure(context.Background(), "r", Patch{BeaconURL: opt(""), Method: opt(FIFO)}, Actor{}); err == nil {
		t.Error("the method could be changed after the lobby's end")
	}
	l.wait(l.chain.At(round).Sub(opens) + 2*time.Second)
	l.drawn(200, round)
	l.expect("asked", l.chain.Asked.Load(), int64(1))
	l.expect("who came late is behind", *l.place(0, late[2]).Rank, uint64(202))
	l.expect("who left is gone", l.place(0, late[1]).State, Left)
	l.wait(25 * time.Second)
	l.expect("called", l.live().CalledTotal >= 200, true)

	l.lose()
	l.follow()
	l.follow()
	l.gateway()
	if err := l.halls[2].look(context.Background()); err != nil {
		t.Fatal(err)
	}
	draw, ok := l.line(2).DrawRecord()
	if !ok || draw.BeaconSource == nil || draw.BeaconSource.Round != round {
		t.Errorf("after a loss: %+v", draw)
	}
}

// TestBeaconAwayThenBack: the room is paused with a word for the operator, and goes on with
// the round that was chosen once the host answers right.
func TestBeaconAwayThenBack(t *testing.T) {
	t.Parallel()
	db, _ := devtest.Postgres(t)
	l := newLottery(t, func(s *stage) *Recorder { return s.newRecorder(db) }, 50)
	round := l.line(0).View().Room().Draw.Round
	l.wait(time.Minute)
	for name, act := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"garbage": func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, "<html>"); return true },
		"another round": func(w http.ResponseWriter, _ *http.Request) bool {
			io.WriteString(w, `{"round":1,"signature":"`+l.chain.Sign(1)+`"}`)
			return true
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/", http.StatusFound)
			return true
		},
		"too much": func(w http.ResponseWriter, _ *http.Request) bool {
			io.WriteString(w, strings.Repeat(" ", 1<<20))
			return true
		},
	} {
		l.chain.Misbehave.Store(&act)
		l.wait(20 * time.Second)
		live := l.live()
		if live.Phase != Paused || live.BeaconFault == "" || live.CalledTotal != 0 {
			t.Fatalf("%s: %s, fault %q, %d called", name, live.Phase, live.BeaconFault, live.CalledTotal)
		}
	}
	behaves := func(http.ResponseWriter, *http.Request) bool { return false }
	l.chain.Misbehave.Store(&behaves)
	l.wait(3 * time.Second)
	l.drawn(50, round)
	l.expect("phase, fault", []any{l.live().Phase, l.live().BeaconFault}, []any{Open, ""})
}

// TestBeaconGivenUp: an operator may go on with a text, or with none; that is consistent.
func TestBeaconGivenUp(t *testing.T) {
	t.Parallel()
	db, _ := devtest.Postgres(t)
	l := newLottery(t, func(s *stage) *Recorder { return s.newRecorder(db) }, 50)
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "", http.StatusBadGateway)
		return true
	}
	l.chain.Misbehave.Store(&away)
	l.wait(90 * time.Second)
	late := l.join(0, 1)[0]
	other := strings.Replace(l.chain.URL, "127.0.0.1", "127.0.0.1", 1)[:len(l.chain.URL)-1] + "0"
	for _, refused := range []Patch{{BeaconURL: opt(other)}, {Beacon: opt("x")}, {OpensAt: opt(start.Add(time.Hour))}} {
		if _, _, err := l.halls[0].Configure(context.Background(), "r", refused, Actor{}); err == nil {
			t.Errorf("%+v after the lobby's end", refused)
		}
	}
	l.configure(l.r, Patch{BeaconURL: opt(""), Beacon: opt("the evening's headline")})
	l.wait(2 * time.Second)
	draw, ok := l.line(1).DrawRecord()
	if !ok || draw.Beacon != "the evening's headline" || draw.BeaconSource != nil || draw.LobbySize != 50 {
		t.Fatalf("%+v", draw)
	}
	_, _, verdict := Verify(draw, Receipt{Room: "r", Number: 7, Commitment: l.fans[7].Commitment})
	l.expect("verdict", verdict, Consistent)
	l.expect("late", *l.place(0, late).Rank, uint64(50))
	l.wait(2 * time.Second)
	l.expect("phase", l.live().Phase, Open)
	l.configure(l.r, Patch{PacePerMin: opt(1)}) // still possible
}

// TestBeaconOfTwoRecorders: two at once, one killed between fetching and recording, Redis
// wiped while the draw waits, an operator who gives up at the same moment: one draw, by the
// lobby and the round first recorded.
func TestBeaconOfTwoRecorders(t *testing.T) {
	t.Parallel()
	db, _ := devtest.Postgres(t)
	l := newLottery(t, func(s *stage) *Recorder { return s.newRecorder(db) }, 50)
	second := l.newRecorder(db)
	record(t, second)
	round := l.line(0).View().Room().Draw.Round
	l.wait(time.Minute)
	l.follow(second)

	l.lose()
	l.follow()
	l.wait(time.Second)
	public := l.line(0).View().Room().Draw
	if public.LobbySize == nil || *public.LobbySize != 50 || public.Round != round {
		t.Fatalf("after a loss: %+v", public)
	}
	l.clock.Store(l.chain.At(round).UnixMilli())

	// Killed after the fetch: its context ends while the host answers.
	dying, die := context.WithCancel(context.Background())
	kill := func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/public/") {
			die()
		}
		return false
	}
	l.chain.Misbehave.Store(&kill)
	third := l.newRecorder(db)
	record(t, third)
	third.followBeacons(dying)
	_ = third.beacons.asking.Wait()
	l.chain.Misbehave.Store(nil)
	recordedDraws(t, db, 0)

	// Both have the round; the operator gives up before either has told Redis.
	record(t, second)
	record(t, l.r)
	if _, _, err := l.halls[0].Configure(context.Background(), "r", Patch{BeaconURL: opt("")}, Actor{}); err != nil {
		t.Fatal(err)
	}
	var both errgroup.Group
	for _, r := range []*Recorder{l.r, second} {
		both.Go(func() error {
			r.followBeacons(context.Background())
			return r.beacons.asking.Wait()
		})
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	recordedDraws(t, db, 1)
	l.wait(3 * time.Second)
	if draw, ok := l.line(0).DrawRecord(); !ok || draw.BeaconSource == nil || draw.BeaconSource.Round != round {
		t.Fatalf("%v %+v", ok, draw)
	}
	l.wait(10 * time.Second) // the quiet time is over
	l.drawn(50, round)
	recordedDraws(t, db, 1)
	if states := l.states(l.fans); !slices.Contains(states, Called) {
		t.Errorf("nobody is called: %v", states)
	}
}

func recordedDraws(t *testing.T, db *pgxpool.Pool, want int) {
	t.Helper()
	var n int
	if err := db.QueryRow(context.Background(), `SELECT count(*) FROM room_draws WHERE room = 'r'`).Scan(&n); err != nil || n != want {
		t.Fatalf("%d draws are recorded, not %d: %v", n, want, err)
	}
}

// TestBeaconWithoutALobby: nobody waits for a beacon that decides nothing, and a host that is
// not allowed is never named by a setting.
func TestBeaconWithoutALobby(t *testing.T) {
	t.Parallel()
	db, _ := devtest.Postgres(t)
	l := newLottery(t, func(s *stage) *Recorder { return s.newRecorder(db) }, 0)
	if _, _, err := l.halls[0].Configure(context.Background(), "r", Patch{BeaconURL: opt("https://evil.example/" + strings.Repeat("a", 64))}, Actor{}); err == nil {
		t.Error("any host can be named")
	}
	l.wait(70 * time.Second)
	l.fans = l.join(0, 2)
	l.wait(3 * time.Second)
	l.expect("first come", []uint64{*l.place(0, l.fans[0]).Rank, *l.place(1, l.fans[1]).Rank}, []uint64{0, 1})
	l.expect("asked", l.chain.Asked.Load(), int64(0))
}
