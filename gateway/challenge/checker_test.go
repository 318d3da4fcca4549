package challenge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

// clock is moved by hand; Redis keeps its own.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }

func newChecker(t *testing.T, changes ...func(*Config)) (*Checker, *clock) {
	t.Helper()
	var at clock
	cfg := Config{Redis: devtest.Redis(t), Secret: testSecret, Log: slog.New(slog.DiscardHandler), Now: at.now}
	for _, change := range changes {
		change(&cfg)
	}
	return New(cfg), &at
}

func asker(n int) Asker {
	return Asker{Room: "gala", Prefix: netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", n)), Visitor: fmt.Sprint("visitor ", n), Host: "shop.example"}
}

func solve(t *testing.T, o Offer) string {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := Solve(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// outcome is why an answer was refused, "" when it passed.
func outcome(t *testing.T, err error) string {
	t.Helper()
	var refused *Refused
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &refused):
		t.Fatalf("undecided: %v", err)
	}
	return refused.Outcome
}

// priced are the bits of work of an offer.
func priced(o Offer) int {
	for bits := 1; ; bits++ {
		if o.Parameters.Cost<<(4*len(o.Parameters.KeyPrefix)) == 1<<bits {
			return bits
		}
	}
}

func TestAnAnswerIsGoodOnce(t *testing.T) {
	t.Parallel()
	c, _ := newChecker(t)
	a := asker(1)
	answer := solve(t, c.Offer(t.Context(), a))
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := c.Check(context.Background(), a, answer); err == nil {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 1 {
		t.Errorf("%d of twenty at once passed", passed.Load())
	}
	if why := outcome(t, c.Check(t.Context(), a, answer)); why != "spent" {
		t.Errorf("a replay is %q", why)
	}
}

func TestAnAnswerIsBound(t *testing.T) {
	t.Parallel()
	c, at := newChecker(t)
	mine := asker(1)
	answer := solve(t, c.Offer(t.Context(), mine))
	elsewhere, stranger := mine, asker(2)
	elsewhere.Room = "other"
	for name, a := range map[string]Asker{"another room": elsewhere, "a stranger": stranger} {
		if why := outcome(t, c.Check(t.Context(), a, answer)); why != "foreign" {
			t.Errorf("%s: %q", name, why)
		}
	}
	other := New(Config{Redis: c.cfg.Redis, Secret: "another", Log: c.cfg.Log})
	if why := outcome(t, other.Check(t.Context(), mine, answer)); why != "forged" {
		t.Errorf("under another key: %q", why)
	}
	if why := outcome(t, c.Check(t.Context(), mine, "junk")); why != "unreadable" {
		t.Errorf("junk: %q", why)
	}
	// A phone that goes from IPv6 to IPv4 keeps its cookie; an app without one its prefix.
	moved, app := mine, mine
	moved.Prefix = netip.MustParsePrefix("2001:db8:1:2::/64")
	app.Visitor = ""
	if why := outcome(t, c.Check(t.Context(), moved, answer)); why != "" {
		t.Errorf("after a change of the network: %q", why)
	}
	if why := outcome(t, c.Check(t.Context(), app, solve(t, c.Offer(t.Context(), mine)))); why != "" {
		t.Errorf("without a cookie: %q", why)
	}
	late := solve(t, c.Offer(t.Context(), mine))
	at.pass(life + 2*time.Second)
	if why := outcome(t, c.Check(t.Context(), mine, late)); why != "expired" {
		t.Errorf("too late: %q", why)
	}
}

// A wrong answer burns its challenge, so that guessing costs one derivation a challenge.
func TestAWrongAnswerBurnsItsChallenge(t *testing.T) {
	t.Parallel()
	c, _ := newChecker(t)
	a := asker(1)
	right := solve(t, c.Offer(t.Context(), a))
	p, err := parseAnswer(right)
	if err != nil {
		t.Fatal(err)
	}
	p.Solution.Counter++
	for _, guess := range []payload{p, p} {
		if err := c.checkProof(t.Context(), a, guess); outcome(t, err) != "wrong" {
			t.Errorf("a wrong answer: %v", err)
		}
	}
	if why := outcome(t, c.Check(t.Context(), a, right)); why != "wrong" {
		t.Errorf("the right one after a wrong one: %q", why)
	}
}

// Under attack the second place of a prefix costs sixteen times the first, whatever was
// fetched ahead; the neighbours pay nothing for it.
func TestThePriceFollowsTheDebt(t *testing.T) {
	t.Parallel()
	c, _ := newChecker(t)
	a := asker(1)
	a.Steep = true
	var ahead []string
	for range 3 {
		ahead = append(ahead, solve(t, c.Offer(t.Context(), a)))
	}
	if why := outcome(t, c.Check(t.Context(), a, ahead[0])); why != "" {
		t.Fatalf("the first: %q", why)
	}
	for _, answer := range ahead[1:] {
		if why := outcome(t, c.Check(t.Context(), a, answer)); why != "cheap" {
			t.Errorf("one fetched ahead: %q", why)
		}
	}
	second := c.Offer(t.Context(), a)
	if bits := priced(second); bits != baseBits+4 {
		t.Errorf("the second is asked for 2^%d", bits)
	}
	if why := outcome(t, c.Check(t.Context(), a, solve(t, second))); why != "" {
		t.Errorf("the second: %q", why)
	}
	if bits := priced(c.Offer(t.Context(), a)); bits != baseBits+8 {
		t.Errorf("the third is asked for 2^%d", bits)
	}
	b := asker(2)
	b.Steep = true
	if bits := priced(c.Offer(t.Context(), b)); bits != baseBits {
		t.Errorf("the neighbour is asked for 2^%d", bits)
	}
}

// Who walks through an IPv6 /48 pays for it, however fresh each /64 is.
func TestAWalkThroughANetworkIsPaid(t *testing.T) {
	t.Parallel()
	c, _ := newChecker(t)
	for n := range 20 {
		a := Asker{Room: "gala", Steep: true, Visitor: "v", Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:db8:7:%x::/64", n))}
		if why := outcome(t, c.Check(t.Context(), a, solve(t, c.Offer(t.Context(), a)))); why != "" {
			t.Fatalf("place %d: %q", n, why)
		}
	}
	a := Asker{Room: "gala", Steep: true, Visitor: "v", Prefix: netip.MustParsePrefix("2001:db8:7:ffff::/64")}
	if bits := priced(c.Offer(t.Context(), a)); bits != baseBits+2 {
		t.Errorf("a fresh /64 of it is asked for 2^%d", bits)
	}
	a.Prefix = netip.MustParsePrefix("2001:db8:8:ffff::/64")
	if bits := priced(c.Offer(t.Context(), a)); bits != baseBits {
		t.Errorf("another network is asked for 2^%d", bits)
	}
}

// Two processes share what is spent and owed; spent answers are integers in few sets.
func TestGatewaysShareTheLedger(t *testing.T) {
	t.Parallel()
	c, _ := newChecker(t)
	other := New(Config{Redis: c.cfg.Redis, Secret: testSecret, Log: c.cfg.Log})
	a := asker(1)
	answer := solve(t, c.Offer(t.Context(), a))
	if why := outcome(t, other.Check(t.Context(), a, answer)); why != "" {
		t.Fatalf("at the other gateway: %q", why)
	}
	if why := outcome(t, c.Check(t.Context(), a, answer)); why != "spent" {
		t.Errorf("and again at the first: %q", why)
	}
	for n := range 300 {
		if err := spend(t.Context(), c.cfg.Redis, ticket{"gala", 7, uint64(n)<<8 | 5}, life, nil); err != nil {
			t.Fatal(err)
		}
	}
	key := proofsKey("gala", 7, 5)
	if kind := c.cfg.Redis.ObjectEncoding(t.Context(), key).Val(); kind != "intset" {
		t.Errorf("three hundred answers of a minute are kept as %s", kind)
	}
	for _, key := range c.cfg.Redis.Keys(t.Context(), "usher:{gala}:*").Val() {
		if left := c.cfg.Redis.PTTL(t.Context(), key).Val(); left <= 0 {
			t.Errorf("%s never ends", key)
		}
	}
}

// Who cannot compute waits: one prefix has a turn every Wait and a few in advance.
func TestWaiting(t *testing.T) {
	t.Parallel()
	c, at := newChecker(t)
	a := asker(1)
	answer, ready, err := c.Turn(t.Context(), a, "")
	if err != nil {
		t.Fatal(err)
	}
	if wait := ready.Sub(at.now()); wait > 5*time.Minute || wait < 4*time.Minute {
		t.Errorf("the first waits %v", wait)
	}
	if again, _, err := c.Turn(t.Context(), a, answer); err != nil || again != answer {
		t.Errorf("asked again: another turn (%v)", err)
	}
	_, second, err := c.Turn(t.Context(), a, "")
	if err != nil || second.Sub(ready) < 4*time.Minute {
		t.Errorf("the second is ready %v after the first (%v)", second.Sub(ready), err)
	}
	if why := outcome(t, c.Check(t.Context(), a, answer)); why != "early" {
		t.Errorf("before its time: %q", why)
	}
	for range maxWaits - 2 {
		if _, _, err := c.Turn(t.Context(), a, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := c.Turn(t.Context(), a, ""); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	at.pass(5*time.Minute + time.Second)
	if why := outcome(t, c.Check(t.Context(), asker(2), answer)); why != "forged" {
		t.Errorf("a stranger's: %q", why)
	}
	if why := outcome(t, c.Check(t.Context(), a, answer[:len(answer)-2]+"AA")); why != "forged" {
		t.Errorf("a forged one: %q", why)
	}
	if why := outcome(t, c.Check(t.Context(), a, answer)); why != "" {
		t.Errorf("in its time: %q", why)
	}
	if why := outcome(t, c.Check(t.Context(), a, answer)); why != "spent" {
		t.Errorf("twice: %q", why)
	}
	late, _, err := c.Turn(t.Context(), asker(3), "")
	if err != nil {
		t.Fatal(err)
	}
	at.pass(5*time.Minute + grace + time.Second)
	if why := outcome(t, c.Check(t.Context(), asker(3), late)); why != "forged" {
		t.Errorf("long after its time: %q", why)
	}
}

func TestClearance(t *testing.T) {
	t.Parallel()
	c, at := newChecker(t)
	sealed, _ := c.Clear()
	id := c.Cleared(sealed)
	if id == "" || id == c.Cleared(func() string { s, _ := c.Clear(); return s }()) {
		t.Errorf("clearances have the ids %q", id)
	}
	turned, _, err := c.Turn(t.Context(), asker(1), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, forged := range []string{"", "clear.e30.AAAA", sealed + "A", turned} {
		if c.Cleared(forged) != "" {
			t.Errorf("%q clears", forged)
		}
	}
	at.pass(clearTime + time.Second)
	if c.Cleared(sealed) != "" {
		t.Error("it never ends")
	}
}

// Without Redis challenges are made, and no answer is believed.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	c, _ := newChecker(t)
	a := asker(1)
	answer := solve(t, c.Offer(t.Context(), a))
	if err := c.cfg.Redis.Close(); err != nil {
		t.Fatal(err)
	}
	c.looks.InvalidateAll()
	if bits := priced(c.Offer(t.Context(), a)); bits != baseBits {
		t.Errorf("an offer of 2^%d", bits)
	}
	var refused *Refused
	if err := c.Check(t.Context(), a, answer); err == nil || errors.As(err, &refused) {
		t.Errorf("an answer is decided without Redis: %v", err)
	}
}
