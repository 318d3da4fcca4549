package queue

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// claimChunk is how many bytes of the claims make one row: 65,536 ranks.
	claimChunk = 8 << 10
	// claimsEvery is how often claims too large for every second are recorded.
	claimsEvery = 10 * time.Second
)

// claims is what this Recorder knows of the record of an epoch's claims: that a place gave
// its session, which no loss of Redis may make it give again.
type claims struct {
	epoch    string
	admitted string // the total when they were last recorded
	at       time.Time
	chunks   map[int64][]byte
}

// recordClaims writes the chunks of claims that changed.
func (r *Recorder) recordClaims(ctx context.Context, name string, state map[string]string, known *claims) error {
	if known.epoch != state["epoch"] {
		*known = claims{epoch: state["epoch"], chunks: map[int64][]byte{}}
	}
	span := number(state, "frontier") - number(state, "base")
	if known.admitted == state["admitted_total"] || span > shortLine && time.Since(known.at) < claimsEvery {
		return nil
	}
	var base *redis.SliceCmd
	var bits *redis.StringCmd
	_, err := r.cfg.Redis.TxPipelined(ctx, func(p redis.Pipeliner) error { // the base may have moved on
		base = p.HMGet(ctx, keyOf(name, "state"), "epoch", "base")
		bits = p.GetRange(ctx, keyOf(name, "claimed"), 0, -1)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read claims: %w", err)
	}
	if base.Val()[0] != known.epoch {
		return nil // the next step sees the new one
	}
	text, _ := base.Val()[1].(string)
	first, raw := number(map[string]string{"base": text}, "base")/8, []byte(bits.Val())
	changed := map[int64][]byte{}
	for at := first; at < first+int64(len(raw)); {
		chunk := at / claimChunk
		end := min((chunk+1)*claimChunk, first+int64(len(raw)))
		row := make([]byte, claimChunk)
		copy(row, known.chunks[chunk]) // the base may be inside of it
		copy(row[at%claimChunk:], raw[at-first:end-first])
		if !bytes.Equal(row, known.chunks[chunk]) && len(bytes.Trim(row, "\x00")) > 0 {
			changed[chunk] = row
		}
		at = end
	}
	if err := r.record.claims(ctx, name, state["epoch"], changed); err != nil {
		return err
	}
	for chunk, bits := range changed {
		known.chunks[chunk] = bits
	}
	for chunk := range known.chunks {
		if (chunk+1)*claimChunk <= first {
			delete(known.chunks, chunk)
		}
	}
	known.admitted, known.at = state["admitted_total"], time.Now()
	return nil
}

// bringClaimsBack tells a store that has lost claims of all that are on record.
func (r *Recorder) bringClaimsBack(ctx context.Context, name string, state map[string]string) error {
	first := number(state, "base") / 8
	err := r.record.eachClaims(ctx, name, state["epoch"], first, func(chunk int64, bits []byte) error {
		at := chunk*claimChunk - first
		if at < 0 {
			bits, at = bits[min(-at, int64(len(bits))):], 0
		}
		return claimsScript.Run(ctx, r.cfg.Redis, keysOf(name), r.now(), state["epoch"], state["base"], at, bits).Err()
	})
	if err == nil {
		err = claimsScript.Run(ctx, r.cfg.Redis, keysOf(name), r.now(), state["epoch"], state["base"], "", "").Err()
	}
	if err != nil {
		return fmt.Errorf("bring claims back: %w", err)
	}
	return nil
}
