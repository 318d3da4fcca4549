package gateway

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"usher/internal/devstack/devtest"
)

// The files of deploy/ are what these tests run, with the addresses of the test in the
// place of theirs.

// walled is a site that knows nothing of Usher behind a real proxy that asks a gateway.
type walled struct {
	*site
	proxy *url.URL

	mu   sync.Mutex
	hits []http.Header // of the requests that reached the site
}

func (g *walled) reached() []http.Header {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]http.Header(nil), g.hits...)
}

// wallOff starts the site, a gateway and the proxy; start gets the file with the addresses
// in it and a free port.
func wallOff(t *testing.T, file string, start func(t *testing.T, config, port string) *exec.Cmd) *walled {
	t.Helper()
	g := &walled{}
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.hits = append(g.hits, r.Header.Clone())
		g.mu.Unlock()
		echo(w, r)
	}))
	t.Cleanup(plain.Close)
	g.site = open(t)
	config, err := os.ReadFile(filepath.Join("..", "deploy", file))
	if err != nil {
		t.Fatal(err)
	}
	for try := 0; ; try++ { // somebody else may have taken the port in between
		port := devtest.Port(t)
		text := strings.NewReplacer("usher:8080", g.url.Host, "site:3000", strings.TrimPrefix(plain.URL, "http://"),
			"listen 80;", "listen 127.0.0.1:"+port+";", "www.example.org {", "http://:"+port+" {\n\tbind 127.0.0.1").Replace(string(config))
		if g.proxy = serving(t, start(t, text, port), port); g.proxy != nil {
			return g
		}
		if try == 5 {
			t.Fatal("the proxy does not start")
		}
	}
}

// serving starts the proxy and waits until it answers; nil when it ended instead.
func serving(t *testing.T, cmd *exec.Cmd, port string) *url.URL {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, as the test wants it
		close(ended)
	}()
	stop := func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-ended
	}
	t.Cleanup(stop)
	deadline, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
		}
		select {
		case <-ended:
			t.Logf("%s ended: %s", cmd.Path, said.String())
			return nil
		case <-deadline:
			stop()
			t.Fatalf("%s does not answer: %s", cmd.Path, said.String())
		case <-tick.C:
		}
	}
}

// program finds what scripts/setup.sh installs.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name} { // not on everybody's PATH
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Fatalf("%s is missing: scripts/setup.sh test installs it", name)
	return ""
}

func nginx(t *testing.T, config, _ string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	main := "daemon off; master_process off; pid nginx.pid; error_log stderr warn; events {}\nhttp { access_log off;\n"
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		main += fmt.Sprintf("%s_temp_path %s;\n", name, filepath.Join(dir, name))
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(main+config+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.Command(program(t, "nginx"), "-p", dir, "-c", path, "-e", "stderr")
}

func caddy(t *testing.T, config, _ string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte("{\n\tadmin off\n\tauto_https off\n}\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t, "caddy"), "run", "--adapter", "caddyfile", "--config", path)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd
}

func TestNginxAsksUsher(t *testing.T) {
	t.Parallel()
	journey(t, wallOff(t, "nginx/usher.conf", nginx))
}

func TestCaddyAsksUsher(t *testing.T) {
	t.Parallel()
	journey(t, wallOff(t, "caddy/Caddyfile", caddy))
}

// journey goes through everything that a visitor without JavaScript meets.
func journey(t *testing.T, g *walled) {
	line := g.set("gala", `{"pace_per_min":6000}`)
	direct := *g.site
	g.url = g.proxy // from here on all goes through the proxy

	// Without a pass nothing reaches the site, whatever is shown in its place.
	fan := g.visitor()
	page := func(v *visitor, path string, header ...string) answer {
		return v.do("GET", path, "", append(header, "Accept", "text/html")...)
	}
	a := page(fan, "/seats?row=1&x=/y")
	const waiting = "/rooms/gala?return_to=%2Fseats%3Frow%3D1%26x%3D%2Fy"
	if a.status != 303 || a.header.Get("Location") != g.proxy.String()+waiting {
		t.Fatalf("a page: %d %v %s", a.status, a.header, a.body)
	}
	now := time.Now()
	for what, token := range map[string]string{
		"another room's": g.pass("club", "s", now, now.Add(time.Hour)), "expired": g.pass("gala", "s", now.Add(-time.Hour), now.Add(-time.Second)),
		"altered": g.pass("gala", "s", now, now.Add(time.Hour)) + "A", "garbage": "x",
	} {
		for _, header := range [][]string{{"Usher-Pass", token}, {"Cookie", "usher-pass-gala=" + token}, {"Authorization", "Bearer " + token}} {
			a := g.visitor().do("GET", "/api/seats", "", append(header, "X-Usher-Session", "s", "X-Usher-Room", "gala")...)
			if a.status != 403 || a.code() != "pass-required" {
				t.Errorf("%s by %s: %d %s", what, header[0], a.status, a.body)
			}
		}
	}
	for _, path := range []string{"/rooms/../seats", "/rooms/%2e%2e/seats", "//seats", "/.well-known/../seats", "/usher-authz", "/usher-answer"} {
		res, err := fan.client.Do(fan.request("GET", path, ""))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == 200 {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	post := g.visitor().do("POST", "/order", "seat=1", "Content-Type", "application/x-www-form-urlencoded")
	if post.status != 403 || post.code() != "pass-required" {
		t.Errorf("a form: %d %s", post.status, post.body)
	}
	if hits := g.reached(); len(hits) != 0 {
		t.Fatalf("without a pass the site was asked: %v", hits)
	}

	// The waiting page by its forms alone: join, be called, go in, and be back.
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	at := strings.Replace(waiting, "?", "/join?", 1)
	if a := fan.do("POST", at, "", form...); a.status != 303 {
		t.Fatalf("join: %d %s", a.status, a.body)
	}
	until(t, line, "the page says that the visitor is called", func() bool {
		return strings.Contains(page(fan, waiting).body, `"called"`)
	})
	a = fan.do("POST", strings.Replace(waiting, "?", "/enter?", 1), "", form...)
	if a.status != 303 || a.header.Get("Location") != "/seats?row=1&x=/y" {
		t.Fatalf("enter: %d %v", a.status, a.header)
	}
	forged := []string{"X-Usher-Room", "vip", "X-Usher-Session", "forged", "X_Usher_Session", "forged", "X-Forwarded-For", "6.6.6.6", "Forwarded", "for=6.6.6.6"}
	was := decode[seen](t, page(fan, "/seats?row=1&x=/y", forged...))
	if was.Path != "/seats" || was.Query != "row=1&x=/y" || was.Method != "GET" {
		t.Errorf("the site was asked for %+v", was)
	}
	session := was.Header.Get("X-Usher-Session")
	if was.Header.Get("X-Usher-Room") != "gala" || session == "" || session == "forged" || len(was.Header["X-Usher-Session"]) != 1 || was.Header["X_usher_session"] != nil {
		t.Errorf("what the site is told: %v", was.Header)
	}
	if strings.Contains(fmt.Sprint(was.Header), "place") {
		t.Errorf("the place reached the site: %v", was.Header)
	}
	was = decode[seen](t, fan.do("POST", "/order", "seat=1&n=2", append(form, "Cookie", "theirs=1")...))
	if was.Method != "POST" || was.Body != "seat=1&n=2" || !strings.Contains(was.Header.Get("Cookie"), "theirs=1") {
		t.Errorf("a form with a pass: %+v", was)
	}

	// A WebSocket goes through with a pass, and not without.
	if _, res, err := g.visitor().dial("/live/ws", "Origin", g.proxy.String()); err == nil || res == nil || res.StatusCode != 403 {
		t.Errorf("a socket without a pass: %v %v", res, err)
	}
	conn, _, err := fan.dial("/live/ws", "Origin", g.proxy.String())
	if err != nil {
		t.Fatal(err)
	}
	var hello seen
	if err := conn.ReadJSON(&hello); err != nil || hello.Header.Get("X-Usher-Session") != session {
		t.Errorf("the socket's session: %v %v", hello.Header, err)
	}

	// The room's own calls are routed to Usher, and giving the pass back closes the site.
	if a := g.visitor().do("GET", "/.well-known/jwks.json", ""); a.status != 200 || !strings.Contains(a.body, "Ed25519") {
		t.Errorf("keys: %d %s", a.status, a.body)
	}
	stale := ""
	for _, c := range fan.client.Jar.Cookies(g.proxy) {
		if c.Name == "usher-pass-gala" {
			stale = c.Value
		}
	}
	fan.want(204, "", "DELETE", "/api/v1/rooms/gala/pass", "")
	if a := page(g.visitor(), "/seats", "Usher-Pass", stale); a.status != 303 {
		t.Errorf("with a pass that was given back: %d", a.status)
	}

	// In bypass the first request is let through, and its answer brings the pass.
	direct.set("gala", `{"state":"bypass"}`)
	until(t, line, "the room is in bypass", func() bool { return line.View().Bypass() })
	late := g.visitor()
	first := late.do("GET", "/seats", "")
	given := decode[seen](t, first).Header.Get("X-Usher-Session")
	again := decode[seen](t, late.do("GET", "/seats", "")).Header.Get("X-Usher-Session")
	if given == "" || given != again || strings.Join(first.header.Values("Set-Cookie"), "") == "" {
		t.Errorf("in bypass: sessions %q and %q, %v", given, again, first.header)
	}
}

// What is for proxies that cannot be run here is at least what their formats allow.
func TestDeployedFilesAreYAML(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"traefik/usher.yaml", "envoy/envoy.yaml"} {
		raw, err := os.ReadFile(filepath.Join("..", "deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		var read map[string]any
		if err := yaml.Unmarshal(raw, &read); err != nil || len(read) == 0 {
			t.Errorf("%s: %v", file, err)
		}
		if !strings.Contains(string(raw), "/authz/"+filepath.Dir(file)) {
			t.Errorf("%s does not ask its own endpoint", file)
		}
	}
}
