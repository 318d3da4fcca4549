package drand

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	askTime   = 5 * time.Second
	maxAnswer = 16 << 10
)

// Client asks the hosts of chains.
type Client struct {
	hosts []string
	http  *http.Client
}

// NewClient makes a Client that asks these hosts and no others.
func NewClient(hosts []string) *Client {
	return &Client{hosts: hosts, http: &http.Client{
		Timeout: askTime,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: askTime}).DialContext,
			TLSHandshakeTimeout: askTime, ResponseHeaderTimeout: askTime, MaxResponseHeaderBytes: maxAnswer,
			IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Chain reads the chain of an address and checks it against the address.
func (c *Client) Chain(ctx context.Context, chain string) (Chain, error) {
	var info struct {
		PublicKey string `json:"public_key"`
		Period    int64  `json:"period"`
		Genesis   int64  `json:"genesis_time"`
		GroupHash string `json:"groupHash"`
		Scheme    string `json:"schemeID"`
		Metadata  struct {
			BeaconID string `json:"beaconID"`
		} `json:"metadata"`
	}
	if err := c.get(ctx, chain, "/info", &info); err != nil {
		return Chain{}, err
	}
	if info.Scheme != scheme {
		return Chain{}, fmt.Errorf("the chain's scheme is %.40q; only %s is read", info.Scheme, scheme)
	}
	read := Chain{PublicKey: info.PublicKey, Period: info.Period, Genesis: info.Genesis, GroupHash: info.GroupHash, BeaconID: info.Metadata.BeaconID}
	return read, read.Check(chain)
}

// Round reads a round of a chain and checks its signature.
func (c *Client) Round(ctx context.Context, chain string, of Chain, round uint64) (Round, error) {
	var answer struct {
		Round     uint64 `json:"round"`
		Signature string `json:"signature"`
	}
	if err := c.get(ctx, chain, "/public/"+strconv.FormatUint(round, 10), &answer); err != nil {
		return Round{}, err
	}
	if answer.Round != round {
		return Round{}, fmt.Errorf("asked for round %d, the host answers round %d", round, answer.Round)
	}
	r := Round{Round: round, Signature: answer.Signature}
	return r, of.Verify(r)
}

func (c *Client) get(ctx context.Context, chain, path string, to any) error {
	if !Allowed(chain, c.hosts) {
		return errors.New("the host is none of those that --beacon-hosts names")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, chain+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(raw) > maxAnswer {
		return fmt.Errorf("%s answers more than %d bytes", path, maxAnswer)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("%s answers no drand document", path)
	}
	return nil
}
