package policy

import (
	"net/http"
	"strings"
)

// Class is the kind of a request.
type Class string

// The classes. A request has one; an attempt to get a new place has Join besides, at the
// moment when the place would be given.
const (
	Join         Class = "join"
	PlaceCall    Class = "place" // everything about a place that exists, or asking for one
	Claim        Class = "claim" // turn a call into a pass
	Page         Class = "page"
	Asset        Class = "asset"
	Catalogue    Class = "catalogue" // events and seating plans
	Availability Class = "availability"
	Hold         Class = "hold"
	Order        Class = "order"
	Payment      Class = "payment" // webhooks, and the sandbox
	CheckIn      Class = "checkin"
	SignIn       Class = "sign-in"
	Operate      Class = "operate"
	API          Class = "api"    // other calls of ours
	Authz        Class = "authz"  // another proxy asks
	Origin       Class = "origin" // a protected path of a site behind us
	Site         Class = "site"   // an unprotected one
)

// Classes are all of them.
var Classes = []Class{Join, PlaceCall, Claim, Page, Asset, Catalogue, Availability, Hold, Order, Payment, CheckIn, SignIn, Operate, API, Authz, Origin, Site}

// ClassOf tells the class of a request to Usher's own paths. What is behind origins is
// told by who knows the rooms and routes.
func ClassOf(method, path string) Class {
	call, api := strings.CutPrefix(path, "/api/v1/")
	if !api {
		switch {
		case strings.HasPrefix(path, "/assets/"), strings.HasPrefix(path, "/rooms/_/"), strings.HasPrefix(path, "/.well-known/"):
			return Asset
		case strings.HasPrefix(path, "/rooms/") && method == http.MethodPost:
			if strings.HasSuffix(path, "/enter") {
				return Claim
			}
			return PlaceCall
		case strings.HasPrefix(path, "/authz/"):
			return Authz
		case strings.HasPrefix(path, "/sandbox/"):
			return Payment
		}
		return Page
	}
	var at [5]string
	for i := range 4 {
		at[i], call, _ = strings.Cut(call, "/")
	}
	at[4] = call
	switch at[0] {
	case "rooms":
		switch at[2] {
		case "places", "place":
			return PlaceCall
		case "pass":
			return Claim
		}
	case "events":
		switch {
		case at[2] == "orders":
			return Order
		case at[2] == "performances" && strings.HasPrefix(at[4], "availability"):
			return Availability
		case at[2] == "performances" && strings.HasPrefix(at[4], "holds"):
			return Hold
		}
		return Catalogue
	case "payments":
		return Payment
	case "checkin":
		return CheckIn
	case "operate":
		if at[1] == "session" && method == http.MethodPost {
			return SignIn
		}
		return Operate
	}
	return API
}
