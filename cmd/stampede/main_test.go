package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

func TestBadUsageSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	ok := []string{"--base", "http://127.0.0.1:1", "--operator-key", "k", "--room", "arena"}
	tests := []struct {
		name    string
		args    []string
		mention []string
	}{
		{"nothing given", nil, []string{"--base"}},
		{"unknown flag", append(slices.Clone(ok), "--robots", "5"), []string{"--robots"}},
		{"an argument too much", append(slices.Clone(ok), "arena"), []string{"arena"}},
		{"all faults at once", []string{
			"--base", "ftp://x", "--operator-key", "k", "--room", "A room", "--fans", "0", "--seats=-1", "--report", "x.pdf", "--pace=-1",
		}, []string{"--base", "--room", "--fans", "--seats", "--report", "--pace"}},
		{"more fans than sockets", append(slices.Clone(ok), "--fans", "19000"), []string{"18000"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(t.Context(), test.args, &out, &out)
			if !errors.Is(err, errUsage) {
				t.Fatalf("error %v, want bad usage", err)
			}
			for _, word := range test.mention {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not mention %s", err, word)
				}
			}
		})
	}
}

func TestNobodyThereIsNotABrokenInvariant(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := run(t.Context(), []string{"--base", "http://127.0.0.1:1", "--operator-key", "k", "--room", "arena"}, &out, &out)
	if err == nil || errors.Is(err, errBroken) {
		t.Errorf("error %v, want one that is no broken invariant", err)
	}
}

func TestTheSameSeedCastsTheSameCrowd(t *testing.T) {
	t.Parallel()
	parts := func(seed uint64) map[Part]int {
		n := map[Part]int{}
		for i := range 2000 {
			n[cast(rand.New(rand.NewPCG(seed, uint64(i))), time.Second, time.Second, time.Hour)]++
		}
		return n
	}
	a, b := parts(1), parts(1)
	for part, n := range a {
		if b[part] != n {
			t.Errorf("%d and %d fans play %s", n, b[part], part)
		}
	}
	for _, part := range []Part{Plain, Leaver, Closer, Sleeper, Slow, Blinker, Windower} {
		if a[part] == 0 {
			t.Errorf("nobody of 2,000 plays %s", part)
		}
	}
}

func TestEveryFanHasAnAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	r := rehearsal{local: true, firstAddress: 233 << 16}
	seen := map[string]bool{}
	for i := range 200_000 {
		a := r.address(i).String()
		if seen[a] || !strings.HasPrefix(a, "127.") || strings.HasPrefix(a, "127.0.") {
			t.Fatalf("fan %d has %s", i, a)
		}
		seen[a] = true
	}
}

func TestPercentiles(t *testing.T) {
	t.Parallel()
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	tests := []struct {
		list []time.Duration
		p    float64
		want time.Duration
	}{
		{hundred, 0.5, 50}, {hundred, 0.9, 90}, {hundred, 0.99, 99}, {hundred, 1, 100},
		{[]time.Duration{7}, 0.5, 7}, {[]time.Duration{7}, 0.99, 7}, {[]time.Duration{1, 2}, 0.5, 1}, {[]time.Duration{1, 2, 3}, 0.5, 2},
	}
	for _, test := range tests {
		if got := percentile(test.list, test.p); got != test.want {
			t.Errorf("percentile %g of %d = %d, want %d", test.p, len(test.list), got, test.want)
		}
	}
}

func TestAClosedSocketReturnsWhenItWasAskedTo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want time.Duration
		ok   bool
	}{
		{&websocket.CloseError{Code: 1012, Text: "reconnect=1.5s"}, 1500 * time.Millisecond, true},
		{&websocket.CloseError{Code: 1012, Text: "reconnect=-5s"}, 0, true},
		{&websocket.CloseError{Code: 1012, Text: "reconnect=9999h"}, time.Minute, true},
		{&websocket.CloseError{Code: 1013, Text: "too slow"}, 0, false},
		{&websocket.CloseError{Code: 1012, Text: `{}`}, 0, false},
		{errors.New("reset"), 0, false},
	}
	for _, test := range tests {
		if got, ok := returnAfter(test.err); got != test.want || ok != test.ok {
			t.Errorf("%v: %s, %v; want %s, %v", test.err, got, ok, test.want, test.ok)
		}
	}
}

func TestAlternativesInEitherForm(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string][]int{`null`: nil, `[3,4]`: {3, 4}, `{"seats":[5]}`: {5}, `"x"`: nil, ``: nil} {
		if got := alternative(json.RawMessage(raw)); !slices.Equal(got, want) {
			t.Errorf("alternative %s = %v, want %v", raw, got, want)
		}
	}
}

func TestReportsAreWritten(t *testing.T) {
	t.Parallel()
	h := goodHistory()
	h.Fans[1].Outcome, h.Fans[1].Why = Lost, "<script>alert(1)</script>"
	r := newReport(h, Judge(h), options{Seed: 9})
	for _, name := range []string{"report.json", "report.html"} {
		file := filepath.Join(t.TempDir(), name)
		if err := r.write(file); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte("nobody who waited was lost")) || bytes.Contains(b, []byte("<script>")) {
			t.Errorf("%s lacks a finding or is not escaped:\n%.2000s", name, b)
		}
		if name == "report.json" {
			var back report
			if err := json.Unmarshal(b, &back); err != nil || back.Held || back.Fans != 6 {
				t.Errorf("read back: %v, held %v, %d fans", err, back.Held, back.Fans)
			}
		}
	}
}
