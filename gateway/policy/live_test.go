package policy

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"usher/internal/devstack/devtest"
)

func change(t testing.TB, text string) Change {
	t.Helper()
	c, faults := Parse([]byte(text))
	for _, f := range faults {
		t.Fatal(f)
	}
	return c
}

const tight = `{"policies":[{"name":"all","key":"global","quota":1,"window_s":3600,"burst":1}]}`

func names(e *Engine) (out string) {
	d, _ := e.Document()
	for _, p := range d.Policies {
		out += p.Name + " "
	}
	return out
}

func TestAChangeIsInForceOnAllGateways(t *testing.T) {
	t.Parallel()
	rdb, ctx := devtest.Redis(t), context.Background()
	a, b := engine(t, rdb, `{"policies":[]}`), engine(t, rdb, `{"policies":[]}`)
	run(t, a)
	run(t, b)
	until(t, "the gateways count each other", func() bool { return a.gateways.Load() == 2 && b.gateways.Load() == 2 })
	if err := a.Change(ctx, change(t, tight), Actor{Name: "ada"}); err != nil {
		t.Fatal(err)
	}
	if names(a) != "all " {
		t.Errorf("where it was set: %s", names(a))
	}
	until(t, "the other gateway has it", func() bool { return names(b) == "all " })
	if n := passed(a, from("192.0.2.1"), time.Now(), 3) + passed(b, from("192.0.2.2"), time.Now(), 3); n != 1 {
		t.Errorf("%d passed, want 1", n)
	}
	until(t, "what b denied is counted", func() bool {
		s, err := a.Stats(ctx)
		return err == nil && s.Live.Policies[0].Denied == 5 && s.Live.Policies[0].Allowed == 1 && s.By == "ada" && s.Since != nil
	})
	// Wider, and the key that was spent may come again at once.
	if err := b.Change(ctx, change(t, `{"policies":[{"name":"all","key":"global","quota":1000,"window_s":1,"burst":10}]}`), Actor{Name: "ada"}); err != nil {
		t.Fatal(err)
	}
	until(t, "a wider limit lets requests through", func() bool { return passed(b, from("192.0.2.1"), time.Now(), 1) == 1 })
}

func TestOfTwoChangesAtOnceNoneIsLost(t *testing.T) {
	t.Parallel()
	rdb, ctx := devtest.Redis(t), context.Background()
	a, b := engine(t, rdb, `{"policies":[]}`), engine(t, rdb, `{"policies":[]}`)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Change(ctx, change(t, tight), Actor{}); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := b.Change(ctx, change(t, `{"lists":{"block":["192.0.2.0/24"]}}`), Actor{}); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if err := a.tick(ctx, a.id); err != nil {
		t.Fatal(err)
	}
	d, version := a.Document()
	if len(d.Policies) != 1 || len(d.Lists.Block) != 1 {
		t.Errorf("%+v", d)
	}
	stale := change(t, `{"policies":[]}`)
	stale.Version = version - 1
	if err := b.Change(ctx, stale, Actor{}); !errors.Is(err, ErrConflict) {
		t.Errorf("a change of a version that is over: %v", err)
	}
}

// Whoever knows the policies brings them back to a Redis that was wiped: a gateway, or the
// record in Postgres where no gateway is left.
func TestWipedRedisLosesNoPolicies(t *testing.T) {
	t.Parallel()
	rdb, ctx := devtest.Redis(t), context.Background()
	db, _ := devtest.Postgres(t)
	recorder := NewRecorder(RecorderConfig{Redis: rdb, DB: db, Log: quiet})
	step := func() {
		t.Helper()
		if err := recorder.step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	wipe := func() {
		t.Helper()
		if err := rdb.Del(ctx, setKey, gatewaysKey, changesKey).Err(); err != nil {
			t.Fatal(err)
		}
	}
	step() // nothing yet
	e := engine(t, rdb, `{"policies":[]}`)
	if err := e.Change(ctx, change(t, tight), Actor{ID: "1", Name: "ada", RequestID: "r"}); err != nil {
		t.Fatal(err)
	}
	step()
	step() // a second time is harmless
	var act, actor, before, after string
	if err := db.QueryRow(ctx, `SELECT act, actor, before::text, after::text FROM audit WHERE subject = 'policies'`).Scan(&act, &actor, &before, &after); err != nil {
		t.Fatal(err)
	}
	var was, is Document
	if json.Unmarshal([]byte(before), &struct{}{}) != nil || act != "policies.change" || actor != "ada" {
		t.Errorf("%s by %s: %s", act, actor, before)
	}
	for text, into := range map[string]*Document{before: &was, after: &is} {
		*into = document(t, text)
	}
	if len(was.Policies) != 0 || len(is.Policies) != 1 {
		t.Errorf("from %s to %s", before, after)
	}

	wipe()
	if err := e.tick(ctx, e.id); err != nil {
		t.Fatal(err)
	}
	fresh := engine(t, rdb, `{"policies":[]}`)
	if err := fresh.tick(ctx, fresh.id); err != nil || names(fresh) != "all " {
		t.Errorf("a gateway did not bring them back: %q, %v", names(fresh), err)
	}

	wipe()
	for _, r := range []*Recorder{recorder, NewRecorder(RecorderConfig{Redis: rdb, DB: db, Log: quiet})} {
		if err := r.step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	last := engine(t, rdb, `{"policies":[]}`)
	if err := last.tick(ctx, last.id); err != nil || names(last) != "all " {
		t.Errorf("the record did not bring them back: %q, %v", names(last), err)
	}
	if s, err := last.Stats(ctx); err != nil || s.By != "ada" {
		t.Errorf("%+v, %v", s, err)
	}
}

// Run notices that Redis is away and back, without a request that has to wait for it.
func TestRunFindsRedisAgain(t *testing.T) {
	t.Parallel()
	rdb := devtest.Redis(t)
	e := engine(t, rdb, tight)
	e.lost(context.Background(), time.Now().UnixMilli(), errors.New("a test"))
	run(t, e)
	until(t, "Redis is found again", func() bool { return e.awayUntil.Load() == 0 })
	gone := devtest.Redis(t)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	away := engine(t, gone, tight)
	run(t, away)
	until(t, "Redis is missed", func() bool { return away.awayUntil.Load() != 0 })
	if n := passed(away, from("192.0.2.1"), time.Now(), 5); n != 1 {
		t.Errorf("%d passed alone, want 1", n)
	}
	if err := away.Change(context.Background(), change(t, tight), Actor{}); err == nil || errors.Is(err, ErrConflict) {
		t.Errorf("a change without Redis: %v", err)
	}
}
