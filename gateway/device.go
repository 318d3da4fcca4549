package gateway

import (
	"net/http"
	"strings"
)

// fromPhone tells that a request comes from a phone or tablet, whose browser the system
// puts to sleep with its screen: by the client hint where it is sent, else by the word
// that browsers' makers agreed upon. Whoever pretends gains a longer absence, no more.
func fromPhone(r *http.Request) bool {
	if hint := fieldIn(r.Header, "Sec-Ch-Ua-Mobile"); hint != "" {
		return hint == "?1"
	}
	agent := fieldIn(r.Header, "User-Agent")
	return strings.Contains(agent, "Mobi") || strings.Contains(agent, "Android")
}
