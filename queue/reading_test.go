package queue

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// TestALongLineIsReadInTurns has a line of more than three pieces at two gateways: all
// gateways say the same at the same moment, no position rises, each is exact once every
// piece had its turn, and no tick reads more than a piece.
func TestALongLineIsReadInTurns(t *testing.T) {
	t.Parallel()
	const n = 3*pieceRanks + 777
	s := newStage(t, 2)
	s.room(Patch{PacePerMin: opt(0), Capacity: opt(10), PresenceTTL: opt(3600)})
	ctx, epoch := context.Background(), s.line(0).View().epoch
	if err := durableScript.Run(ctx, s.rdb, keysOf("r"), "0", epoch, n+1<<20, "").Err(); err != nil {
		t.Fatal(err)
	}
	everyone := append(bytes.Repeat([]byte{0xff}, n/8), 0x80) // as joins leave them: n is 1 modulo 8
	for _, name := range []string{"counted", "live", "slot:0", "slot:1", "slot:2"} {
		s.rdb.Set(ctx, keyOf("r", name), everyone, 0)
	}
	s.rdb.HSet(ctx, keyOf("r", "state"), "next", n)
	s.tick()
	place := func(number uint64) Token {
		return Token{Room: "r", Epoch: epoch, Number: number, IssuedAt: s.line(0).View().now}
	}
	last := []Token{place(0), place(1), place(pieceRanks), place(2*pieceRanks - 1), place(2*pieceRanks + 64), place(n - 1)}
	shown := map[uint64]uint64{}
	look := func() {
		t.Helper()
		for _, fan := range last {
			here, there := *s.place(0, fan).Ahead, *s.place(1, fan).Ahead
			if before, known := shown[fan.Number]; here != there || known && here > before {
				t.Fatalf("place %d has %d ahead at one gateway and %d at the other, before %d", fan.Number, here, there, shown[fan.Number])
			}
			shown[fan.Number] = here
		}
	}
	exact := func(gone ...uint64) {
		t.Helper()
		for _, fan := range last {
			want := fan.Number
			for _, left := range gone {
				if left < fan.Number {
					want--
				}
			}
			if shown[fan.Number] != want {
				t.Fatalf("place %d has %d ahead, want %d", fan.Number, shown[fan.Number], want)
			}
		}
	}
	look()
	exact()
	var gone []uint64
	for _, number := range []uint64{2, pieceRanks - 1, pieceRanks + 5, 2*pieceRanks + 1, 3*pieceRanks + 70} {
		if err := s.line(0).Leave(ctx, place(number)); err != nil {
			t.Fatal(err)
		}
		gone = append(gone, number)
	}
	last = append(last, s.join(1, 2)...)
	turns := func(n int) {
		t.Helper()
		for range n {
			s.clock.Add(pieceMillis)
			before := s.sent()
			s.tick()
			if got, most := s.sent()-before, len(s.halls)*(2*pieceRanks/8+8<<10); got > most {
				t.Fatalf("%d bytes were read in a turn", got)
			}
			look()
		}
	}
	turns(1)
	if *s.place(0, place(n-1)).Ahead < n-1-uint64(len(gone)) {
		t.Error("more have left than did")
	}
	turns(4)
	exact(gone...)
	for _, number := range gone {
		for gateway := range s.halls {
			if got := s.place(gateway, place(number)); got.State != Left {
				t.Errorf("%d, who left, is %s at gateway %d", number, got.State, gateway)
			}
		}
	}
	s.clock.Add((time.Hour - time.Minute).Milliseconds()) // turns that nobody saw
	s.tick()
	s.tick()
	look()
	exact(gone...)
}

// TestStoreThatFellFarBehind: an old snapshot has taken over, of before most of those who
// were called had joined; until the Recorder says where to go on, gateways tick.
func TestStoreThatFellFarBehind(t *testing.T) {
	t.Parallel()
	s := newStage(t, 1)
	ctx := context.Background()
	s.room(Patch{PacePerMin: opt(600), PresenceTTL: opt(10), Capacity: opt(1000)})
	fan := s.join(0, 100)[50]
	s.tick()
	s.rdb.HSet(ctx, keyOf("r", "state"), "frontier", 3*readAhead, "next", 4*readAhead)
	s.tick()
	s.rdb.HSet(ctx, keyOf("r", "state"), "frontier", 10, "next", 100)
	for range 3 {
		s.pass(time.Second)
	}
	s.expect("frontier", s.line(0).View().frontier, uint64(3*readAhead))
	s.resume()
	s.pass(11*time.Second, fan)
	if n := s.join(0, 1)[0].Number; n < 1<<20 {
		t.Errorf("number %d was given twice", n)
	}
	if p := s.place(0, fan); p.State == Lapsed {
		t.Errorf("who was called before the loss is %s", p.State)
	}
}

// sent is how many bytes the server has sent to anybody.
func (s *stage) sent() (bytes int) {
	s.t.Helper()
	said, err := s.rdb.Info(context.Background(), "stats").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(said, "total_net_output_bytes:")
	for _, c := range strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]) {
		bytes = 10*bytes + int(c-'0')
	}
	return bytes
}
