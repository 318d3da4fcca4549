package drand_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"usher/queue/drand"
	"usher/queue/drand/drandtest"
)

const quicknetURL = "https://api.drand.sh/52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971"

// quicknet is what drand publishes of its chain of that name.
var quicknet = drand.Chain{
	PublicKey: "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
	Period:    3, Genesis: 1692803367, GroupHash: "f477d5c89f21a17c863a7f937c6a6d15859414d2be09cd448d4279af331c5d3e", BeaconID: "quicknet",
}

// TestQuicknet: a round that the League of Entropy published.
func TestQuicknet(t *testing.T) {
	t.Parallel()
	if err := quicknet.Check(quicknetURL); err != nil {
		t.Fatal(err)
	}
	r := drand.Round{Round: 1000, Signature: "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"}
	if err := quicknet.Verify(r); err != nil {
		t.Error(err)
	}
	if got, err := r.Randomness(); err != nil || got != "fe290beca10872ef2fb164d2aa4442de4566183ec51c56ff3cd603d930e54fdd" {
		t.Errorf("randomness %s, %v", got, err)
	}
	if at := quicknet.At(1000); at.Unix() != 1692806364 {
		t.Errorf("round 1000 at %v", at)
	}
	for _, wrong := range []drand.Round{{Round: 1001, Signature: r.Signature}, {Round: 1000, Signature: r.Signature[2:]}, {Round: 1000, Signature: ""}, {Round: 1000, Signature: "xy"}} {
		if quicknet.Verify(wrong) == nil {
			t.Errorf("%+v is taken for a round", wrong)
		}
	}
	other := quicknet
	other.Genesis++
	if other.Check(quicknetURL) == nil {
		t.Error("another schedule is taken for the chain's")
	}
}

func TestAfterIsTheNextRound(t *testing.T) {
	t.Parallel()
	for _, ms := range []int64{0, 1, 999, 1000, 2999, 3000, 3001, 1_000_000} {
		at := time.Unix(quicknet.Genesis, 0).Add(time.Duration(ms) * time.Millisecond)
		n := quicknet.After(at)
		if !quicknet.At(n).After(at) || quicknet.At(n-1).After(at) {
			t.Errorf("%d ms after the genesis the next round is %d, at %v", ms, n, quicknet.At(n))
		}
	}
	if n := quicknet.After(time.Unix(0, 0)); n != 1 {
		t.Errorf("before the genesis it is %d", n)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("a0", 32)
	hosts := []string{"api.drand.sh", "127.0.0.1"}
	for address, want := range map[string]bool{
		"": true, quicknetURL: true, "https://API.drand.sh/v2/chains/" + hash: true, "http://127.0.0.1:1/" + hash: true,
		"https://evil.example/" + hash: false, "http://api.drand.sh/" + hash: false, "https://api.drand.sh@evil.example/" + hash: false,
		"https://u:p@api.drand.sh/" + hash: false, "https://api.drand.sh/" + hash + "?x=1": false, "https://api.drand.sh/" + hash + "#": false,
		"https://api.drand.sh/../" + hash: false, "https://api.drand.sh/%2e%2e/" + hash: false, "https://api.drand.sh/info": false,
		"http://localhost/" + hash: false, "file:///" + hash: false, "https://10.0.0.1/" + hash: false, "http://169.254.169.254/" + hash: false,
	} {
		if got := drand.Allowed(address, hosts); got != want {
			t.Errorf("%q allowed: %v", address, got)
		}
	}
}

func TestClientBelievesOnlyTheChain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	chain := drandtest.New(t, time.Now)
	client := drand.NewClient([]string{"127.0.0.1"})
	of, err := client.Chain(ctx, chain.URL)
	if err != nil || of != chain.Chain {
		t.Fatalf("%+v, %v", of, err)
	}
	due := of.After(time.Now()) - 1
	if _, err := client.Round(ctx, chain.URL, of, due); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Round(ctx, chain.URL, of, due+10); err == nil {
		t.Error("a round before its time")
	}
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect is followed") }))
	t.Cleanup(inner.Close)
	round := fmt.Sprintf(`{"round":%d,"signature":%q}`, due, chain.Sign(due))
	for name, act := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"redirect": func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, inner.URL, http.StatusFound)
			return true
		},
		"garbage": func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, "<html>"); return true },
		"huge": func(w http.ResponseWriter, _ *http.Request) bool {
			io.WriteString(w, round[:len(round)-1]+`,"x":"`+strings.Repeat("x", 1<<20)+`"}`)
			return true
		},
		"another round": func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprintf(w, `{"round":%d,"signature":%q}`, due-1, chain.Sign(due-1))
			return true
		},
		"a round under another's number": func(w http.ResponseWriter, _ *http.Request) bool {
			fmt.Fprintf(w, `{"round":%d,"signature":%q}`, due, chain.Sign(due-1))
			return true
		},
		"failure": func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, round, http.StatusBadGateway)
			return true
		},
	} {
		chain.Misbehave.Store(&act)
		if got, err := client.Round(ctx, chain.URL, of, due); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := client.Chain(ctx, chain.URL); err == nil {
			t.Errorf("%s is taken for a chain", name)
		}
	}
	if _, err := drand.NewClient([]string{"localhost"}).Chain(ctx, chain.URL); err == nil {
		t.Error("a host that is not allowed is asked")
	}
}
