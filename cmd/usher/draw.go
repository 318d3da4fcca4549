package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"usher/queue"
)

// verifyDrawCommand recomputes a rank from public values. It needs no store, no keys
// file and, with --draw and --keys, no network.
type verifyDrawCommand struct {
	RoomURL *url.URL `placeholder:"URL" help:"The room: https://host/rooms/NAME or https://host/api/v1/rooms/NAME. What --draw and --keys do not give is read there."`
	Receipt string   `required:"" type:"existingfile" placeholder:"FILE" help:"The receipt of a place, as GET …/place/receipt gave it, or the JWT alone."`
	Draw    string   `type:"existingfile" placeholder:"FILE" help:"The record of the draw, as GET …/draw gave it."`
	Keys    string   `type:"existingfile" placeholder:"FILE" help:"The site's public keys, as GET /.well-known/jwks.json gave them."`
	Beacon  string   `type:"existingfile" placeholder:"FILE" help:"What drand itself says of the round (GET CHAIN/public/ROUND), to compare the record with."`
	Rank    *uint64  `placeholder:"N" help:"The rank that the room showed."`
}

var errDrawWrong = errors.New("the draw does not match what was promised")

const (
	fetchTime = 20 * time.Second
	maxFetch  = 1 << 20
)

func (c verifyDrawCommand) Run(ctx context.Context, p process) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	if c.RoomURL == nil && (c.Draw == "" || c.Keys == "") {
		return usageError{errors.New("give --room-url, or both --draw and --keys")}
	}
	raw, err := os.ReadFile(c.Receipt)
	if err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	signed := strings.TrimSpace(string(raw))
	if strings.HasPrefix(signed, "{") {
		var document struct {
			Receipt string `json:"receipt"`
		}
		if err := json.Unmarshal(raw, &document); err != nil {
			return fmt.Errorf("receipt: %w", err)
		}
		signed = document.Receipt
	}
	site, room := c.site()
	raw, err = c.read(ctx, c.Keys, site, "/.well-known/jwks.json")
	if err != nil {
		return fmt.Errorf("public keys: %w", err)
	}
	keys, err := queue.ReadJWKS(raw)
	if err != nil {
		return fmt.Errorf("public keys: %w", err)
	}
	raw, err = c.read(ctx, c.Draw, site, "/api/v1/rooms/"+room+"/draw")
	if err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	var draw queue.Draw
	if err := json.Unmarshal(raw, &draw); err != nil {
		return fmt.Errorf("draw: %w", err)
	}

	say := func(ok bool, check, detail string) {
		mark := "ok   "
		if !ok {
			mark = "WRONG"
		}
		fmt.Fprintf(p.stdout, "%s  %s: %s\n", mark, check, detail)
	}
	receipt, err := queue.OpenReceipt(signed, keys)
	if err != nil {
		say(false, "receipt", err.Error())
		return errDrawWrong
	}
	say(true, "receipt", fmt.Sprintf("number %d of room %s, joined at %s, signed by the site", receipt.Number, receipt.Room, receipt.JoinedAt.Format(time.RFC3339)))
	wrong := false
	if room != "" && room != receipt.Room {
		say(false, "room", fmt.Sprintf("the receipt is of %s, not of %s", receipt.Room, room))
		wrong = true
	}
	findings, rank, verdict := queue.Verify(draw, receipt)
	for _, f := range findings {
		say(f.OK, f.Check, f.Detail)
	}
	wrong = wrong || verdict == queue.Wrong
	if c.Rank != nil && verdict != queue.Wrong {
		say(*c.Rank == rank, "rank that was shown", fmt.Sprint(*c.Rank))
		wrong = wrong || *c.Rank != rank
	}
	if c.Beacon != "" {
		detail, err := compareRound(c.Beacon, draw)
		if err != nil {
			detail = err.Error()
		}
		say(err == nil, "beacon's own record", detail)
		wrong = wrong || err != nil
	}
	if wrong {
		return errDrawWrong
	}
	switch source := draw.BeaconSource; {
	case verdict == queue.Fair:
		fmt.Fprintf(p.stdout, "fair: the order follows from values promised before the draw and from round %d of the drand chain %s, which nobody could know before the lobby's size was fixed.\n"+
			"That is so provided that you trust this chain (drand lists its own at https://docs.drand.love), and the site's word that the size was on record at %s;\n"+
			"the room's document told size and round from then on.\n", source.Round, path.Base(source.URL), source.LobbyFixedAt.Format(time.RFC3339Nano))
	default:
		fmt.Fprintln(p.stdout, "consistent: the order follows from values promised before the draw; whoever held the secret could have known it before")
	}
	return nil
}

// compareRound tells whether drand's own record of the round is that of the draw.
func compareRound(file string, draw queue.Draw) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var round struct {
		Round      uint64 `json:"round"`
		Randomness string `json:"randomness"`
		Signature  string `json:"signature"`
	}
	if err := json.Unmarshal(raw, &round); err != nil {
		return "", err
	}
	switch source := draw.BeaconSource; {
	case source == nil:
		return "", errors.New("the draw names no drand round")
	case source.Round != round.Round || source.Signature != round.Signature || round.Randomness != "" && draw.Beacon != round.Randomness:
		return "", fmt.Errorf("drand's round %d is another than the draw's round %d", round.Round, source.Round)
	}
	return fmt.Sprintf("round %d is the same", round.Round), nil
}

// site splits the room's address into the site's and the room's name.
func (c verifyDrawCommand) site() (*url.URL, string) {
	if c.RoomURL == nil {
		return nil, ""
	}
	dir, room := path.Split(strings.TrimSuffix(c.RoomURL.Path, "/"))
	site := *c.RoomURL
	site.RawQuery, site.Fragment = "", ""
	site.Path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(dir, "/"), "/rooms"), "/api/v1")
	return &site, room
}

// read gives what file holds, or else what the site answers at path.
func (c verifyDrawCommand) read(ctx context.Context, file string, site *url.URL, path string) ([]byte, error) {
	if file != "" {
		return os.ReadFile(file)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site.JoinPath(path).String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxFetch))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	return raw, err
}
