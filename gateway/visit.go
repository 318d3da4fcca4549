package gateway

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"usher/gateway/policy"
	"usher/internal/pass"
	"usher/internal/problem"
	"usher/queue"
)

// visit is what the edge knows of a request before it does anything with it.
type visit struct {
	addr   netip.Addr // the client's, through trusted proxies only
	prefix netip.Prefix
	host   string // lower case, without port and trailing dot
	path   string // decoded; the only reading it has
	secure bool   // the browser speaks TLS, to us or to a trusted proxy

	claims *pass.Claims // of the verified pass, when one was asked for and is there
	holder holder       // whom limits charge instead of the prefix, when known
	place  *queue.Token // in the room of the path, when one was shown
	// byToken: the place came in a header, not in the cookie that browsers send by themselves.
	byToken bool
	charged bool
	given   bool // the answer sets a cookie of this visitor alone
	public  bool // the route lets answers be kept for all
	// ends is called when the request is over: its session has one less under way.
	ends func()
	// client gets interim answers, while an origin is asked.
	client *steady

	request *http.Request      // that this is of
	fields  [fieldsKept]string // of the answer that fieldOf keeps
	kept    int
	class   policy.Class     // told first where the path alone does not tell
	room    string           // of the path, or in front of it
	after   policy.Unsettled // what is charged by the answer
	// cleared names what the visitor got for a challenge that was solved: policies charge it
	// in place of the prefix. solved tells that this very request shows a solved one.
	cleared  string
	solved   bool
	allowed  bool   // by a list: no policy applies
	identity string // whom the invitation is for, when one was shown
}

// keep makes v what visitOf finds of r.
func (v *visit) keep(r *http.Request) {
	v.request = r
	problem.Keep(r.Context(), v)
}

func visitOf(r *http.Request) *visit { return problem.Kept(r.Context()).(*visit) }

// shows notes the visitor's place, which takes memory only here: most who come have none.
func (v *visit) shows(t queue.Token, byToken bool) {
	v.place, v.byToken, v.holder = &t, byToken, placeHolder(t.Room, t.Number)
}

// holds notes the visitor's pass for audience.
func (v *visit) holds(c pass.Claims, audience string) {
	v.claims, v.holder = &c, holder{audience, c.Session}
}

// fieldsKept is for how many header fields an answer usually has room beside the request.
const fieldsKept = 4

// fieldOf is value as a header holds it.
func (v *visit) fieldOf(value string) []string {
	if v.kept == fieldsKept {
		return []string{value}
	}
	at := v.kept
	v.kept++
	v.fields[at] = value
	return v.fields[at : at+1 : at+1]
}

// fieldIn is the first value of a header field, "" without one. name is canonical.
func fieldIn(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// newVisit refuses whatever two programs could read in two ways.
func newVisit(r *http.Request, trusted trustedProxies) (*visit, *problem.Problem) {
	host, ok := canonicalHost(r.Host)
	if !ok {
		return nil, problem.New(http.StatusBadRequest, "host-invalid", "The Host header is not a host name.")
	}
	path, ok := canonicalPath(r.URL)
	if !ok {
		return nil, problem.New(http.StatusBadRequest, "path-ambiguous", "The path can be read in more than one way. Send it without dot segments, doubled or encoded slashes, backslashes and control characters.")
	}
	addr, secure := trusted.client(r)
	return &visit{addr: addr, prefix: prefixOf(addr), host: host, path: path, secure: secure || r.TLS != nil}, nil
}

const maxPathLen = 2048

// canonicalPath returns the decoded path when every program that decodes and
// cleans it, once or twice, would come to the same.
func canonicalPath(u *url.URL) (string, bool) {
	path := u.Path
	if u.RawPath == "" && len(path) < maxPathLen/3 && plain(path) {
		return path, true
	}
	raw := strings.ToLower(u.EscapedPath())
	if u.Opaque != "" || path == "" || path[0] != '/' || len(raw) > maxPathLen || !utf8.ValidString(path) {
		return "", false
	}
	if strings.Contains(raw, "%2f") || strings.Contains(raw, "%5c") || strings.Contains(path, "//") {
		return "", false
	}
	for _, c := range []byte(path) {
		if c < 0x20 || c == 0x7f || c == '\\' {
			return "", false
		}
	}
	for rest := path; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			break
		}
		if c, err := strconv.ParseUint(after[:min(2, len(after))], 16, 8); err == nil && len(after) >= 2 && telling(byte(c)) {
			return "", false
		}
		rest = after
	}
	for segment := range strings.SplitSeq(path, "/") {
		// Some servers cut a segment at its first semicolon: "..;x" is "..".
		segment, _, _ = strings.Cut(segment, ";")
		if segment == "." || segment == ".." {
			return "", false
		}
	}
	return path, true
}

// telling is what nobody has reason to encode twice but to hide it from one of two
// readers: the unreserved of RFC 3986 and what divides paths.
func telling(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c < 0x20 || c == 0x7f || strings.IndexByte("-._~/\\;", c) >= 0
}

// plain tells that a path has nothing that anyone could read in another way: slashes
// between segments of letters, digits, - and _, with dots only after one of those.
func plain(path string) bool {
	last := byte(0)
	for _, c := range []byte(path) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '/' && last != '/':
		case c == '.' && last != '/' && last != '.':
		default:
			return false
		}
		last = c
	}
	return path != "" && path[0] == '/'
}

// canonicalHost returns host in lower case without port and trailing dot. No host
// at all (HTTP/1.0) is the empty one, which no rule names.
func canonicalHost(host string) (string, bool) {
	if len(host) > 255 {
		return "", false
	}
	if strings.HasPrefix(host, "[") {
		address, port, ok := strings.Cut(host[1:], "]")
		_, err := netip.ParseAddr(address)
		return strings.ToLower(address), ok && err == nil && (port == "" || validPort(port))
	}
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort && !validPort(":"+port) {
		return "", false
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	for _, c := range []byte(name) {
		if c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return "", false
		}
	}
	return name, !strings.Contains(name, "..") && !strings.HasPrefix(name, ".")
}

func validPort(colonPort string) bool {
	port, ok := strings.CutPrefix(colonPort, ":")
	return ok && len(port) <= 5 && !strings.ContainsFunc(port, func(c rune) bool { return c < '0' || c > '9' })
}

// prefixOf is the unit by which strangers are told apart: an IPv4 address, an IPv6 /64.
func prefixOf(addr netip.Addr) netip.Prefix {
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits) // the zero Addr has the zero Prefix
	return p
}

// trustedProxies are the peers whose word on the client is believed.
type trustedProxies []netip.Prefix

func (t trustedProxies) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// peer is the address at the other end of the connection.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// client finds the client's address and whether it speaks TLS. A proxy that knows
// one of X-Forwarded-For and Forwarded passes on the other as the client wrote it;
// where both are there and differ, neither is believed. Of several protocols the one
// counts that belongs to the client's hop: those further left a client may have written.
func (t trustedProxies) client(r *http.Request) (netip.Addr, bool) {
	from := peer(r)
	if !t.trusts(from) {
		return from, false
	}
	xff, forwarded := r.Header["X-Forwarded-For"], r.Header["Forwarded"]
	byXFF, byForwarded, hop := from, from, 0
	if len(xff) > 0 {
		if all := strings.Join(xff, ","); strings.Contains(all, ",") {
			xff = strings.Split(all, ",")
		}
		byXFF, hop = t.walk(from, xff)
	}
	secure := false
	proto := strings.Join(r.Header["X-Forwarded-Proto"], ",")
	if proto != "" {
		protos := strings.Split(proto, ",")
		secure = strings.EqualFold(strings.TrimSpace(protos[nth(len(protos), hop)]), "https")
	}
	if len(forwarded) > 0 {
		hops, ok := parseForwarded(strings.Join(forwarded, ","))
		if !ok {
			return from, secure
		}
		nodes := make([]string, len(hops))
		for i, hop := range hops {
			nodes[i] = hop.node
		}
		byForwarded, hop = t.walk(from, nodes)
		if proto == "" {
			secure = strings.EqualFold(hops[nth(len(hops), hop)].proto, "https")
		}
	}
	switch {
	case len(forwarded) == 0:
		return byXFF, secure
	case len(xff) == 0 || byXFF == byForwarded:
		return byForwarded, secure
	}
	return from, secure
}

// maxHops bounds how many proxies are walked through.
const maxHops = 32

// walk goes from the nearest hop outwards while each is trusted, and stops at the
// first that is not, or that is no address. It tells how many hops it went.
func (t trustedProxies) walk(from netip.Addr, nodes []string) (addr netip.Addr, hops int) {
	for hops < min(len(nodes), maxHops) && t.trusts(from) {
		next, ok := parseNode(nodes[len(nodes)-1-hops])
		if !ok {
			break
		}
		from = next
		hops++
	}
	return from, hops
}

// nth is the index, among n values of which each proxy added one at the end, of that which
// belongs to the hop walked to; the nearest proxy's before the first hop, and the first
// where some proxies added none.
func nth(n, hop int) int { return max(0, n-max(1, hop)) }

// parseNode reads an address with or without a port, IPv6 with or without brackets.
func parseNode(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = ap.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

type forwardedHop struct{ node, proto string }

// parseForwarded reads a Forwarded header (RFC 7239, section 4) into its hops, at
// least one. A header that breaks the grammar is not read in part.
func parseForwarded(header string) ([]forwardedHop, bool) {
	var hops []forwardedHop
	for {
		var hop forwardedHop
		for {
			header = strings.TrimLeft(header, " \t")
			name, rest, ok := strings.Cut(header, "=")
			if !ok || !isToken(name) {
				return nil, false
			}
			value, rest, ok := tokenOrQuoted(rest)
			if !ok {
				return nil, false
			}
			switch strings.ToLower(name) {
			case "for":
				hop.node = value
			case "proto":
				hop.proto = value
			}
			header = strings.TrimLeft(rest, " \t")
			if !strings.HasPrefix(header, ";") {
				break
			}
			header = header[1:]
		}
		hops = append(hops, hop)
		if header == "" {
			return hops, true
		}
		if header[0] != ',' || len(hops) > 4*maxHops {
			return nil, false
		}
		header = header[1:]
	}
}

func tokenOrQuoted(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexFunc(s, func(c rune) bool { return !isTokenChar(c) })
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], end > 0
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return !isTokenChar(c) })
}

// isTokenChar is tchar of RFC 9110, section 5.6.2.
func isTokenChar(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}
