package http1

import (
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"time"
)

// eventually waits for cond, and tells whether it came.
func eventually(t testing.TB, what string, cond func() bool) bool {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(long); !cond(); {
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("it never came that %s", what)
			return false
		}
	}
	return true
}

// within waits for what comes over c.
func within[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(long):
		t.Errorf("%s: it never came", what)
	}
	return v
}

// A deadline is told only when the one told before would come too early, or more than lateness too late.
func TestDeadlinesAreToldWhenNeeded(t *testing.T) {
	t.Parallel()
	const hour = time.Hour // from now, so that no stall makes it past
	now, later := time.Now(), time.Now().Add(hour)
	for _, test := range []struct {
		name         string
		told, wanted time.Time
		tells        bool
	}{
		{"none", time.Time{}, time.Time{}, false},
		{"the first", time.Time{}, later, true},
		{"none any more", later, time.Time{}, true},
		{"the same", later, later, false},
		{"somewhat later than wanted", later.Add(lateness), later, false},
		{"too late", later.Add(lateness + 1), later, true},
		{"too early", later.Add(-1), later, true},
		{"at once", later, past, true},
		{"one that is over", later, now, true},
		{"over already", past, past, false},
		{"after one that is over", past, later, true},
		{"none after one that is over", past, time.Time{}, true},
	} {
		w := way{told: test.told}
		w.want(test.wanted)
		var got []time.Time
		tell := func(t time.Time) error { got = append(got, t); return nil }
		if err := w.begin(tell); err != nil {
			t.Fatal(err)
		}
		if told := len(got) == 1; told != test.tells {
			t.Errorf("%s: told %v", test.name, got)
		}
		switch {
		case test.wanted.IsZero() != w.told.IsZero():
			t.Errorf("%s: told %v", test.name, w.told)
		case w.told.Before(test.wanted) || w.told.After(test.wanted.Add(lateness)):
			t.Errorf("%s: told %v, which is %v late", test.name, w.told, w.told.Sub(test.wanted))
		case test.tells && test.wanted.Before(later) && !w.told.Equal(test.wanted): // nothing is given to who is late
			t.Errorf("%s: told %v", test.name, w.told)
		}
		if err := w.set(now, tell); err != nil || !w.told.Equal(now) { // something waits
			t.Errorf("%s: told %v while it waits", test.name, w.told)
		}
		w.end()
		if err := w.set(past, tell); err != nil || !w.told.Equal(now) { // nothing does
			t.Errorf("%s: told %v while nothing waits", test.name, w.told)
		}
	}
}

// Requests that come one soon after the other need one deadline for all, until the last is later than it.
func TestOneDeadlineIsToldForMany(t *testing.T) {
	t.Parallel()
	var w way
	told := 0
	tell := func(time.Time) error { told++; return nil }
	first := time.Now().Add(time.Hour)
	for after := time.Duration(0); after <= 3*lateness; after += lateness / 10 {
		w.want(first.Add(after))
		if err := w.begin(tell); err != nil {
			t.Fatal(err)
		}
		w.end()
	}
	if told != 3 {
		t.Errorf("told %d times", told)
	}
}

// A connection that is closed begins nothing.
func TestDeadlineThatCannotBeTold(t *testing.T) {
	t.Parallel()
	var w way
	w.want(time.Now())
	fault := errors.New("closed")
	fails := func(time.Time) error { return fault }
	if err := w.begin(fails); err != fault || w.under != 0 {
		t.Errorf("%v, and %d are under way", err, w.under)
	}
}

// A deadline that another goroutine sets ends what waits, and the connection is as good as before after that.
func TestDeadlineEndsWhatWaits(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 1)
	p := open(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		go func() {
			_, err := r.Body.Read(make([]byte, 1))
			failed <- err
		}()
		reads(t, w)
		if err := control.SetReadDeadline(past); err != nil {
			t.Error(err)
		}
		if err := within(t, "the end of the read", failed); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the read ended with %v", err)
		}
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read after it ended with %v", err)
		}
		_, _ = io.WriteString(w, "late")
	})})
	c := dial(t, p.address)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
	if _, body := c.answer(http.MethodPost); body != "late" {
		t.Errorf("answered %q", body)
	}
	c.ended() // nobody knows where the next request begins
}

// reads waits until the request's body is being read.
func reads(t testing.TB, w http.ResponseWriter) {
	c := w.(*response).c
	eventually(t, "the body is read", func() bool {
		c.reading.mu.Lock()
		defer c.reading.mu.Unlock()
		return c.reading.under == 1
	})
}
