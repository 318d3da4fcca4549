package gateway

import (
	"testing"
	"time"
)

// The rate at which the visitors of a draining gateway are asked to come back is the chosen
// one in every second, but for a crowd so large that half the presence time, after which a
// place would be in danger, is too short for it: that one is spread over all of this time.
func TestDrainRateIsTheChosenOne(t *testing.T) {
	t.Parallel()
	line := open(t).set("gala", `{"presence_ttl_s": 60}`)
	for _, c := range []struct {
		name          string
		leaving, rate int
		seconds       int // over which they come
	}{
		{"ten seconds' worth", 20_000, 2000, 10},
		{"a slower rate", 20_000, 1000, 20},
		{"fewer than a second's worth", 1500, 2000, 1},
		{"more than half the presence time has room for", 90_000, 1000, 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(hubLimits{sockets: c.leaving, perPrefix: c.leaving, drainRate: c.rate}, 1, time.Now)
			h.closed, h.leaving = true, c.leaving // as drain leaves it: whoever has gone meanwhile changes nothing for the others
			come := make([]int, c.seconds)
			for range c.leaving {
				after := h.comeBack(line)
				if after < 0 || after >= time.Duration(c.seconds)*time.Second {
					t.Fatalf("one comes back after %v, want within %d s", after, c.seconds)
				}
				come[after/time.Second]++
			}
			want := c.leaving / c.seconds
			for second, n := range come { // drawn at random: six standard deviations at least
				if n < want*8/10 || n > want*12/10 {
					t.Errorf("%d come back in second %d, want about %d", n, second, want)
				}
			}
		})
	}
}
