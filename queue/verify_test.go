package queue

import (
	"strings"
	"testing"
	"time"

	"usher/internal/keyring"
	"usher/queue/drand"
	"usher/queue/drand/drandtest"
)

// TestVerify: what was drawn honestly is told so with the right word, and nothing that
// was touched passes.
func TestVerify(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(start)
	const epoch = "01890000-0000-7000-8000-000000000001"
	secret := ring.DrawSecret("gala", epoch)
	token := Token{Room: "gala", Epoch: epoch, Number: 7, IssuedAt: start, Visitor: newVisitor(), Commitment: Commitment(secret)}
	signed, err := SignReceipt(ring, token)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ReadJWKS(ring.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := OpenReceipt(signed, keys)
	if err != nil || receipt != (Receipt{"gala", epoch, 7, token.Commitment, start}) {
		t.Fatalf("receipt %+v, %v", receipt, err)
	}
	if _, err := OpenReceipt(signed[:len(signed)-3]+"AAA", keys); err == nil {
		t.Error("a forged receipt is believed")
	}
	strangers, _ := ReadJWKS(keyring.Generate(start).JWKS())
	if _, err := OpenReceipt(signed, strangers); err == nil {
		t.Error("a receipt of another site is believed")
	}

	chain := drandtest.New(t, func() time.Time { return start })
	round := chain.After(start)
	beaconOf := func(round uint64) string {
		randomness, err := drand.Round{Round: round, Signature: chain.Sign(round)}.Randomness()
		if err != nil {
			t.Fatal(err)
		}
		return randomness
	}
	beacon := beaconOf(round)
	draw := func(beacon string, change func(*Draw)) Draw {
		d, _ := drawOf(secret, 1000, beacon)
		if change != nil {
			change(d)
		}
		return *d
	}
	source := func(change func(*BeaconSource)) func(*Draw) {
		return func(d *Draw) {
			d.BeaconSource = &BeaconSource{URL: chain.URL, Chain: chain.Chain, Round: round, Signature: chain.Sign(round), RoundAt: chain.At(round), LobbyFixedAt: start}
			change(d.BeaconSource)
		}
	}
	for name, c := range map[string]struct {
		draw Draw
		want Verdict
	}{
		"no beacon":              {draw("", nil), Consistent},
		"a text":                 {draw("headline of the day", nil), Consistent},
		"a later round":          {draw(beacon, source(func(*BeaconSource) {})), Fair},
		"a round known before":   {draw(beacon, source(func(s *BeaconSource) { s.LobbyFixedAt = chain.At(round) })), Wrong},
		"another round's beacon": {draw(beaconOf(round+1), source(func(*BeaconSource) {})), Wrong},
		"a round put later":      {draw(beacon, source(func(s *BeaconSource) { s.RoundAt = s.RoundAt.Add(time.Hour) })), Wrong},
		"an earlier round as it": {draw(beaconOf(round-1), source(func(s *BeaconSource) {
			s.Signature = chain.Sign(round - 1)
		})), Wrong},
		"a signature made up": {draw("66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925", source(func(s *BeaconSource) {
			s.Signature = strings.Repeat("00", 32)
		})), Wrong},
		"a chain of one's own":     {draw(beacon, source(func(s *BeaconSource) { s.URL = "https://api.drand.sh/" + strings.Repeat("5", 64) })), Wrong},
		"another schedule":         {draw(beacon, source(func(s *BeaconSource) { s.Chain.Genesis -= 3000 })), Wrong},
		"another lobby":            {draw("", func(d *Draw) { d.LobbySize = 1001 }), Wrong},
		"another beacon":           {draw("", func(d *Draw) { d.Beacon = "x" }), Wrong},
		"another seed":             {draw("", func(d *Draw) { d.Seed = strings.Repeat("0", 64) }), Wrong},
		"another secret":           {draw("", func(d *Draw) { d.Secret = strings.Repeat("0", 64) }), Wrong},
		"a secret cut short":       {draw("", func(d *Draw) { d.Secret = d.Secret[2:] }), Wrong},
		"another commitment":       {draw("", func(d *Draw) { d.Commitment = strings.Repeat("0", 64) }), Wrong},
		"an algorithm of tomorrow": {draw("", func(d *Draw) { d.Algorithm = "x" }), Wrong},
	} {
		found, rank, verdict := Verify(c.draw, receipt)
		if verdict != c.want {
			t.Errorf("%s: %s, want %s: %+v", name, verdict, c.want, found)
		}
		seed := Seed(secret, 1000, c.draw.Beacon)
		if verdict != Wrong && rank != Rank(seed, 1000, 7) {
			t.Errorf("%s: rank %d", name, rank)
		}
	}
	late := receipt
	late.Number = 1000
	if _, rank, verdict := Verify(draw("", nil), late); rank != 1000 || verdict != Consistent {
		t.Errorf("one who came after the lobby: rank %d, %s", rank, verdict)
	}
}
