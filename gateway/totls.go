package gateway

import (
	"net"
	"net/http"

	"usher/internal/problem"
	"usher/internal/telemetry"
)

// ToTLS sends who asks over plain http to https. port is the one that https listens
// on; who named a port is sent to that, everyone else to the usual one, whatever
// stands in front of us. What changes something is refused instead: its body has gone
// over the wire in clear already, and a program that is led on would never learn it.
func (s *Server) ToTLS(port string) http.Handler {
	return telemetry.Requests(s.log, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header(), false)
		host, ok := canonicalHost(r.Host)
		_, pathFine := canonicalPath(r.URL)
		switch {
		case !ok || host == "" || !pathFine:
			problem.Write(w, r, problem.New(http.StatusBadRequest, "bad-request", "The request cannot be led to https."))
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			problem.Write(w, r, problem.New(http.StatusForbidden, "https-required", "Please use https."))
			return
		}
		if net.ParseIP(host) != nil && net.ParseIP(host).To4() == nil {
			host = "[" + host + "]"
		}
		if _, named, err := net.SplitHostPort(r.Host); err == nil && named != "" && named != "80" && port != "443" {
			host += ":" + port
		}
		w.Header().Set("Location", "https://"+host+r.URL.RequestURI())
		w.WriteHeader(http.StatusPermanentRedirect)
	}))
}
