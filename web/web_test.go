package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func build(t *testing.T, files map[string]string) bundle {
	t.Helper()
	dist := fstest.MapFS{}
	for name, body := range files {
		dist[name] = &fstest.MapFile{Data: []byte(body)}
	}
	b, err := open(dist)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func get(h http.Handler, path string, header http.Header) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestPagesAndAssets(t *testing.T) {
	t.Parallel()
	script := strings.Repeat("export const a = 1;\n", 100)
	b := build(t, map[string]string{"index.html": "shop", "console.html": "console", "assets/a-1.js": script})
	for _, c := range []struct {
		path, body, cache string
		status            int
	}{
		{"/", "shop", "no-store", 200},
		{"/events/arena", "shop", "no-store", 200},
		{"/events/arena/performances/1", "shop", "no-store", 200},
		{"/orders/arena/1", "shop", "no-store", 200},
		{"/console", "console", "no-store", 200},
		{"/console/rooms/arena", "console", "no-store", 200},
		{"/assets/a-1.js", script, "public, max-age=31536000, immutable", 200},
		{"/assets/gone.js", notFound, "no-store", 404},
		{"/assets/../index.html", notFound, "no-store", 404},
		{"/index.html", notFound, "no-store", 404},
		{"/manifest.json", notFound, "no-store", 404},
		{"/events", notFound, "no-store", 404},
		{"/events/a/b/c/d", notFound, "no-store", 404},
	} {
		got := get(b, c.path, nil)
		body, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got.StatusCode != c.status || string(body) != c.body || got.Header.Get("Cache-Control") != c.cache {
			t.Errorf("%s: %d, %q, %.40q", c.path, got.StatusCode, got.Header.Get("Cache-Control"), body)
		}
		if csp := got.Header.Get("Content-Security-Policy"); csp != policy || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", c.path, csp)
		}
	}
	zipped := get(b, "/assets/a-1.js", http.Header{"Accept-Encoding": {"gzip, br"}})
	if zipped.Header.Get("Content-Encoding") != "gzip" || zipped.ContentLength >= int64(len(script)) {
		t.Errorf("compressed asset: %v, %d bytes", zipped.Header, zipped.ContentLength)
	}
}

func TestWithoutBuildThePagesSayWhatToRun(t *testing.T) {
	t.Parallel()
	got := get(build(t, map[string]string{".gitkeep": ""}), "/", nil)
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "make build") {
		t.Errorf("%d %s", got.StatusCode, body)
	}
}

func render(page WaitingRoom) string {
	w := httptest.NewRecorder()
	RenderWaiting(w, httptest.NewRequest(http.MethodGet, "/rooms/arena", nil), http.StatusOK, page)
	return w.Body.String()
}

// visible is what a visitor without JavaScript gets to see.
func visible(html string) string {
	html = regexp.MustCompile(`(?s)<template.*?</template>`).ReplaceAllString(html, "")
	return regexp.MustCompile(`(?s)<(\w+)[^>]* hidden>.*?</(form|button|p|details|dl|div)>`).ReplaceAllString(html, "")
}

func TestWaitingPageInEveryState(t *testing.T) {
	t.Parallel()
	position, ahead, low, high := uint64(1234), uint64(1233), 130, 290
	opens := time.Date(2026, 12, 1, 18, 0, 0, 0, time.UTC)
	base := WaitingRoom{Room: "arena", Title: "Night & Day", ReturnTo: "/events/arena/performances/1", Refresh: 5}
	for _, c := range []struct {
		name     string
		page     func(WaitingRoom) WaitingRoom
		has, not []string
	}{
		{"new", func(p WaitingRoom) WaitingRoom { p.Phase = "open"; return p },
			[]string{"There is a line", `action="/rooms/arena/join?return_to=%2fevents%2farena%2fperformances%2f1"`, `content="5"`, "Night &amp; Day", `href="/events/arena"`}, []string{"/enter"}},
		{"waiting", func(p WaitingRoom) WaitingRoom {
			p.Phase, p.State, p.Joined, p.Position, p.Ahead, p.EtaLow, p.EtaHigh = "open", "waiting", true, &position, &ahead, &low, &high
			return p
		}, []string{"1,234", "1,233", "2 to 5 minutes"}, []string{"/join", "/enter"}},
		{"paused", func(p WaitingRoom) WaitingRoom {
			p.Phase, p.State, p.Joined, p.Position, p.EtaLow, p.EtaHigh = "paused", "waiting", true, &position, &low, &high
			return p
		}, []string{"The line is paused", "1,234"}, []string{"/join"}},
		{"called", func(p WaitingRoom) WaitingRoom {
			p.Phase, p.State, p.Joined, p.CallExpiresAt = "open", "called", true, &opens
			return p
		}, []string{"your turn", "/rooms/arena/enter?", "1 December, 18:00 UTC"}, []string{"/join", "1,234"}},
		{"called while paused", func(p WaitingRoom) WaitingRoom { p.Phase, p.State, p.Joined = "paused", "called", true; return p },
			[]string{"your turn", "/enter"}, nil},
		{"no such room", func(p WaitingRoom) WaitingRoom { p.Room, p.Phase = "", "closed"; return p },
			[]string{"no waiting room here", `href="/"`}, []string{"/join", "/enter", "<script"}},
		{"scheduled", func(p WaitingRoom) WaitingRoom { p.Phase, p.OpensAt = "scheduled", &opens; return p },
			[]string{"not open yet", "18:00 UTC on 1 December"}, []string{"/join", "{opens}"}},
		{"lobby", func(p WaitingRoom) WaitingRoom {
			p.Phase, p.State, p.Joined, p.OpensAt = "lobby", "lobby", true, &opens
			return p
		}, []string{"in</h2>", "18:00 UTC"}, []string{"/join"}},
		{"lapsed", func(p WaitingRoom) WaitingRoom { p.Phase, p.State, p.Joined = "open", "lapsed", true; return p },
			[]string{"Your place is gone", "/join"}, []string{"/enter"}},
		{"closed", func(p WaitingRoom) WaitingRoom { p.Phase = "closed"; return p }, []string{"closed"}, []string{"/join", "/enter"}},
		{"sold out while waiting", func(p WaitingRoom) WaitingRoom { p.Phase, p.State, p.Joined = "sold_out", "waiting", true; return p },
			[]string{"Sold out"}, []string{"/join"}},
		{"problem and message", func(p WaitingRoom) WaitingRoom {
			p.Phase, p.Problem, p.Message = "open", "Please wait a moment.", "<b>Doors at 8</b>"
			return p
		}, []string{"Please wait a moment.", "&lt;b&gt;Doors at 8&lt;/b&gt;"}, []string{"<b>Doors"}},
	} {
		html := visible(render(c.page(base)))
		for _, text := range c.has {
			if !strings.Contains(html, text) {
				t.Errorf("%s: %q is missing", c.name, text)
			}
		}
		for _, text := range c.not {
			if strings.Contains(html, text) {
				t.Errorf("%s: %q should not be there", c.name, text)
			}
		}
	}
}

func TestWaitingPageHasNothingInline(t *testing.T) {
	t.Parallel()
	html := render(WaitingRoom{Room: "arena", Title: `"><script>alert(1)</script>`, Phase: "open", ReturnTo: `/x"onload="y`, Message: "<script>x</script>"})
	if regexp.MustCompile(`<script(?: type="module" src="/rooms/_/assets/[^"]+")?>[^<]`).MatchString(html) || regexp.MustCompile(`<style|\sstyle=|\son\w+="`).MatchString(html) {
		t.Error(html)
	}
}

func TestBand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		low, high int
		want      string
	}{
		{0, 20, "less than a minute"}, {20, 60, "about a minute"}, {30, 150, "up to 3 minutes"}, {120, 240, "2 to 4 minutes"},
		{120, 120, "about 2 minutes"}, {3600, 7200, "1 to 2 hours"}, {600, 6000, "up to 2 hours"}, {80000, 200000, "more than a day"},
	} {
		if got := band(c.low, c.high); got != c.want {
			t.Errorf("band(%d, %d) = %q, want %q", c.low, c.high, got, c.want)
		}
	}
}
