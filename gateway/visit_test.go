package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"/":                             "/",
		"/rooms/arena":                  "/rooms/arena",
		"/rooms/arena/":                 "/rooms/arena/",
		"/%72ooms/arena":                "/rooms/arena",
		"/caf%C3%A9?q=/../x//y%2f":      "/café",
		"/a..b/...":                     "/a..b/...",
		"/100%25":                       "/100%",
		"":                              "",
		"/a/../b":                       "",
		"/a/..":                         "",
		"/./a":                          "",
		"/%2e%2e/secret":                "",
		"/%2E./secret":                  "",
		"/..;x/secret":                  "",
		"/a/..;/secret":                 "",
		"//secret":                      "",
		"/a//b":                         "",
		"/a%2fb":                        "",
		"/a%2Fb":                        "",
		"/a%5cb":                        "",
		`/a\b`:                          "",
		"/a%00b":                        "",
		"/a%0d%0aSet-Cookie:x":          "",
		"/a%7f":                         "",
		"/%252e%252e/secret":            "",
		"/a%252fb":                      "",
		"/%2561dmin":                    "",
		"/a%253Bb":                      "",
		"/a%2520b":                      "/a%20b",
		"/100%25-off":                   "/100%-off",
		"/bad%ff":                       "",
		"*":                             "",
		"/" + strings.Repeat("a", 3000): "",
	} {
		u, err := url.ParseRequestURI(target)
		if target == "" {
			u, err = &url.URL{}, nil
		}
		if err != nil {
			t.Errorf("%q: %v", target, err)
			continue
		}
		got, ok := canonicalPath(u)
		if got != want || ok != (want != "") {
			t.Errorf("%q: got %q %v, want %q", target, got, ok, want)
		}
	}
}

// Whatever is accepted survives cleaning and another decoding.
func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/%2e%2e/x", "/a%2fb", "/a//b", "/..;/x", "/%252e", "/a/./b", "/é", "/a;b/../c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		got, ok := canonicalPath(u)
		if !ok {
			return
		}
		for _, reading := range []string{got, decoded(got), strings.ReplaceAll(got, `\`, "/")} {
			if clean := path.Clean(reading); clean != reading && clean+"/" != reading {
				t.Fatalf("%q is read as %q and as %q", target, reading, clean)
			}
		}
	})
}

func decoded(s string) string {
	if d, err := url.PathUnescape(s); err == nil {
		return d
	}
	return s
}

func TestCanonicalHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"Tickets.Example.org":      "tickets.example.org",
		"tickets.example.org.":     "tickets.example.org",
		"tickets.example.org:8080": "tickets.example.org",
		"[::1]:8080":               "::1",
		"127.0.0.1":                "127.0.0.1",
		"":                         "",
		"a..b":                     "!",
		".a":                       "!",
		"a b":                      "!",
		"a/b":                      "!",
		"a@b":                      "!",
		"a:80:80":                  "!",
		"a:x":                      "!",
		"[nonsense]":               "!",
		strings.Repeat("a", 300):   "!",
	} {
		got, ok := canonicalHost(host)
		if ok != (want != "!") || ok && got != want {
			t.Errorf("%q: got %q %v, want %q", host, got, ok, want)
		}
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted := trustedProxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		peer                  string
		xff, forwarded, proto string
		want                  string
		secure                bool
	}{
		"nobody in front":                    {"203.0.113.9:1", "", "", "", "203.0.113.9", false},
		"a stranger's word is not believed":  {"203.0.113.9:1", "1.2.3.4", "for=1.2.3.4;proto=https", "https", "203.0.113.9", false},
		"one proxy":                          {"10.0.0.1:1", "1.2.3.4", "", "https", "1.2.3.4", true},
		"the client forges more to the left": {"10.0.0.1:1", "9.9.9.9, 1.2.3.4", "", "", "1.2.3.4", false},
		"two proxies":                        {"10.0.0.1:1", "9.9.9.9, 1.2.3.4, 10.0.0.2", "", "", "1.2.3.4", false},
		"garbage stops the walk":             {"10.0.0.1:1", "1.2.3.4, garbage", "", "", "10.0.0.1", false},
		"all trusted":                        {"10.0.0.1:1", "10.0.0.3, 10.0.0.2", "", "", "10.0.0.3", false},
		"with a port":                        {"10.0.0.1:1", "1.2.3.4:5678", "", "", "1.2.3.4", false},
		"mapped":                             {"[::ffff:10.0.0.1]:1", "::ffff:1.2.3.4", "", "", "1.2.3.4", false},
		"IPv6":                               {"[fd00::1]:1", "2001:db8::7", "", "", "2001:db8::7", false},
		"Forwarded":                          {"10.0.0.1:1", "", `for=9.9.9.9, for="[2001:db8::7]:4711";proto=https;by=10.0.0.1`, "", "2001:db8::7", true},
		"a forged protocol to the left":      {"10.0.0.1:1", "1.2.3.4", "", "https, http", "1.2.3.4", false},
		"a forged hop to the left":           {"10.0.0.1:1", "9.9.9.9, 1.2.3.4", "", "http, https", "1.2.3.4", true},
		"TLS ends at the outer proxy":        {"10.0.0.1:1", "1.2.3.4, 10.0.0.2", "", "https, http", "1.2.3.4", true},
		"only the outer proxy says how":      {"10.0.0.1:1", "1.2.3.4, 10.0.0.2", "", "https", "1.2.3.4", true},
		"forged in front of two proxies":     {"10.0.0.1:1", "9.9.9.9, 1.2.3.4, 10.0.0.2", "", "https, http, http", "1.2.3.4", false},
		"Forwarded, forged to the left":      {"10.0.0.1:1", "", `for=9.9.9.9;proto=https, for=1.2.3.4;proto=http`, "", "1.2.3.4", false},
		"Forwarded, secure":                  {"10.0.0.1:1", "", `For="[2001:db8::7]";Proto=HTTPS`, "", "2001:db8::7", true},
		"Forwarded, hidden":                  {"10.0.0.1:1", "", "for=_hidden", "", "10.0.0.1", false},
		"Forwarded, broken":                  {"10.0.0.1:1", "", `for="1.2.3.4`, "", "10.0.0.1", false},
		"both agree":                         {"10.0.0.1:1", "1.2.3.4", "for=1.2.3.4", "", "1.2.3.4", false},
		"both differ: neither":               {"10.0.0.1:1", "1.2.3.4", "for=5.6.7.8", "", "10.0.0.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.peer
			for h, v := range map[string]string{"X-Forwarded-For": c.xff, "Forwarded": c.forwarded, "X-Forwarded-Proto": c.proto} {
				if v != "" {
					r.Header.Set(h, v)
				}
			}
			addr, secure := trusted.client(r)
			if addr != netip.MustParseAddr(c.want) || secure != c.secure {
				t.Errorf("got %v %v, want %v %v", addr, secure, c.want, c.secure)
			}
		})
	}
}

func TestPrefixOf(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{"1.2.3.4": "1.2.3.4/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64"} {
		if got := prefixOf(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}

func FuzzParseForwarded(f *testing.F) {
	for _, s := range []string{"for=1.2.3.4", `for="[::1]:80";proto=https, for=unknown`, `for="a\"b"`, "for=", "=x", ";;", ",", `for="`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		hops, ok := parseForwarded(header)
		if ok != (len(hops) > 0) {
			t.Fatalf("%q: %d hops, %v", header, len(hops), ok)
		}
		for _, hop := range hops {
			parseNode(hop.node)
		}
	})
}
