package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/internal/keyring"
	"usher/queue"
	"usher/queue/drand"
	"usher/queue/drand/drandtest"
)

// TestVerifyDraw runs the command as a stranger would, from files and from a site.
func TestVerifyDraw(t *testing.T) {
	t.Parallel()
	ring := keyring.Generate(time.Now())
	const epoch = "01890000-0000-7000-8000-000000000001"
	secret := ring.DrawSecret("gala", epoch)
	seed := queue.Seed(secret, 500, "")
	draw := queue.Draw{
		Commitment: queue.Commitment(secret), Secret: hex.EncodeToString(secret[:]), LobbySize: 500,
		Seed: hex.EncodeToString(seed[:]), Algorithm: queue.DrawAlgorithm,
	}
	receipt, err := queue.SignReceipt(ring, queue.Token{Room: "gala", Epoch: epoch, Number: 41, IssuedAt: time.Now(), Commitment: draw.Commitment})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := func(name string, v any) string {
		raw, isText := v.(string)
		if !isText {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			raw = string(b)
		}
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	receiptFile := file("receipt.json", map[string]string{"receipt": receipt})
	altered := draw
	altered.LobbySize++
	site := http.NewServeMux()
	site.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(ring.JWKS()) })
	site.HandleFunc("GET /api/v1/rooms/gala/draw", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(draw) })
	front := httptest.NewServer(site)
	t.Cleanup(front.Close)
	rank := strconv.FormatUint(queue.Rank(seed, 500, 41), 10)
	keys, drawn := file("keys.json", string(ring.JWKS())), file("draw.json", draw)
	chain := drandtest.New(t, time.Now)
	round := chain.After(time.Now())
	beacon, err := drand.Round{Round: round, Signature: chain.Sign(round)}.Randomness()
	if err != nil {
		t.Fatal(err)
	}
	withBeacon := draw
	seed = queue.Seed(secret, 500, beacon)
	withBeacon.Beacon, withBeacon.Seed = beacon, hex.EncodeToString(seed[:])
	withBeacon.BeaconSource = &queue.BeaconSource{
		URL: chain.URL, Chain: chain.Chain, Round: round, Signature: chain.Sign(round), RoundAt: chain.At(round), LobbyFixedAt: chain.At(round).Add(-time.Second),
	}
	fair := file("fair.json", withBeacon)
	tooEarly, early := withBeacon, *withBeacon.BeaconSource
	early.LobbyFixedAt = chain.At(round)
	tooEarly.BeaconSource = &early

	for name, c := range map[string]struct {
		args []string
		want string // in what is printed
		err  string // in the error; "" for none
	}{
		"a room's API":         {[]string{"--room-url", front.URL + "/api/v1/rooms/gala", "--receipt", receiptFile}, "\nconsistent: ", ""},
		"a room's page":        {[]string{"--room-url", front.URL + "/rooms/gala?return_to=/", "--receipt", receiptFile, "--rank", rank}, "rank that was shown", ""},
		"files alone":          {[]string{"--receipt", file("jwt", receipt+"\n"), "--draw", drawn, "--keys", keys}, "rank " + rank, ""},
		"a beacon":             {[]string{"--receipt", receiptFile, "--draw", fair, "--keys", keys}, "\nfair: ", ""},
		"drand's own record":   {[]string{"--receipt", receiptFile, "--draw", fair, "--keys", keys, "--beacon", file("round.json", map[string]any{"round": round, "signature": chain.Sign(round)})}, "round " + strconv.FormatUint(round, 10) + " is the same", ""},
		"drand says otherwise": {[]string{"--receipt", receiptFile, "--draw", fair, "--keys", keys, "--beacon", file("other-round.json", map[string]any{"round": round, "signature": chain.Sign(round + 1)})}, "WRONG  beacon's own record", "does not match"},
		"a round known before": {[]string{"--receipt", receiptFile, "--draw", file("early.json", tooEarly), "--keys", keys}, "WRONG  beacon after the lobby", "does not match"},
		"another rank":         {[]string{"--receipt", receiptFile, "--draw", drawn, "--keys", keys, "--rank", "501"}, "WRONG  rank that was shown", "does not match"},
		"an altered record":    {[]string{"--receipt", receiptFile, "--draw", file("altered.json", altered), "--keys", keys}, "WRONG  seed", "does not match"},
		"a stranger's keys":    {[]string{"--receipt", receiptFile, "--draw", drawn, "--keys", file("other.json", string(keyring.Generate(time.Now()).JWKS()))}, "WRONG  receipt", "does not match"},
		"a room not there":     {[]string{"--room-url", front.URL + "/rooms/none", "--receipt", receiptFile}, "", "404"},
		"nothing to read from": {[]string{"--receipt", receiptFile}, "", "--room-url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(context.Background(), append([]string{"verify-draw"}, c.args...), func(string) string { return "" }, &out, &out)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q\n%s", err, c.err, &out)
			}
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("no %q in\n%s", c.want, &out)
			}
			if strings.Contains(out.String(), "fair") != (name == "a beacon" || name == "drand's own record") {
				t.Errorf("fair is only what has a beacon:\n%s", &out)
			}
		})
	}
}
