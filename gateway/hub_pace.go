package gateway

import (
	"bytes"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"time"

	"usher/queue"
)

// noRank is beyond every frontier.
const noRank = math.MaxUint64

// outlook tells for how long a visitor may be left without news, and by which rank it is
// called: once the frontier has passed that, there is news. Nobody near the front is left
// without, and others the longer the further back, with jitter so that those of one moment
// drift apart. Who is called or was passed already is asked for in the store each time,
// and hears of its own doings anyway. It is at most half the presence time.
func outlook(p queue.Place, frontier uint64, presence time.Duration) (pace time.Duration, rank uint64) {
	rank = noRank
	if p.State == queue.Waiting && p.Rank != nil && *p.Rank >= frontier {
		rank = *p.Rank
	}
	var d time.Duration
	switch {
	case p.State == queue.Called && p.CallExpiresAt != nil:
		d = time.Second
	case p.State == queue.Missed, p.State == queue.Waiting && (rank == noRank || p.Ahead == nil):
		d = 2 * time.Second
	case p.State != queue.Waiting: // it ends or changes with the room
		d = 5 * time.Second
	case *p.Ahead < 200:
		return 0, rank
	case *p.Ahead < 2_000:
		d = 2 * time.Second
	case *p.Ahead < 20_000:
		d = 5 * time.Second
	default:
		d = 10 * time.Second
	}
	d = min(d, presence*2/5)
	return d + time.Duration(rand.Int64N(int64(d/4))), rank
}

var digestSeed = maphash.MakeSeed()

// digestOf is equal for documents that tell a visitor the same, which are all that
// differ in nothing but the time, their last field.
func digestOf(doc []byte) uint64 {
	return maphash.Bytes(digestSeed, doc[:bytes.LastIndexByte(doc, ',')]) | 1 // never 0, which stands for nothing sent
}

func presence(line *queue.Line) time.Duration {
	return max(time.Second, time.Duration(line.View().Settings().PresenceTTL)*time.Second)
}

func pingEvery(presence time.Duration) time.Duration { return min(pingTime, presence/2) }

// wordOf is what a room says to everyone; when it changes everyone hears at once.
func wordOf(live queue.Live) string {
	word := string(live.Phase) + " " + live.Epoch
	if live.Message != nil {
		word += " " + *live.Message
	}
	return word
}
