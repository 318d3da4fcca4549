package queue

import (
	"time"

	"usher/queue/drand"
)

// Phase is what a room is doing, as everybody sees it.
type Phase string

// The phases.
const (
	Scheduled Phase = "scheduled"
	Lobby     Phase = "lobby"
	Open      Phase = "open"
	Paused    Phase = "paused"
	Closed    Phase = "closed"
	SoldOut   Phase = "sold_out"
	// bypass is Open to the public: everyone is admitted.
	bypass Phase = "bypass"
)

// State is where a place stands.
type State string

// The states of a place.
const (
	InLobby  State = "lobby"
	Waiting  State = "waiting"
	Called   State = "called"
	Admitted State = "admitted"
	Missed   State = "missed"
	Lapsed   State = "lapsed"
	Left     State = "left"
	Moved    State = "moved" // another device has it
)

// Final tells that a place in this state will never change again.
func (s State) Final() bool { return s == Lapsed || s == Left || s == Moved }

// Band is a range of seconds.
type Band struct {
	Low  int `json:"low"`
	High int `json:"high"`
}

// Place is the document about one visitor's place.
type Place struct {
	Room   string `json:"room"`
	Epoch  string `json:"epoch"`
	Number uint64 `json:"number" doc:"order of arrival, from 0"`
	Phase  Phase  `json:"phase" enum:"scheduled,lobby,open,paused,closed,sold_out"`
	State  State  `json:"state" enum:"lobby,waiting,called,admitted,missed,lapsed,left,moved"`
	// Rank is the order of admission, nil in the lobby.
	Rank *uint64 `json:"rank"`
	// Position is Ahead + 1; both are nil unless the place waits. They never rise.
	Position *uint64 `json:"position"`
	Ahead    *uint64 `json:"ahead"`
	Waiting  uint64  `json:"waiting" doc:"how many wait in the room"`
	// Progress goes from 0 to 1 and never falls.
	Progress float64 `json:"progress" minimum:"0" maximum:"1"`
	ETA      *Band   `json:"eta_s"`
	// ETAReason is why ETA is unknown or later than the pace says.
	ETAReason     *string    `json:"eta_reason" enum:"paused,slowed"`
	CallExpiresAt *time.Time `json:"call_expires_at"`
	// CallExtendable tells that the call can still be extended, once.
	CallExtendable bool       `json:"call_extendable"`
	PassExpiresAt  *time.Time `json:"pass_expires_at"`
	Message        *string    `json:"message"`
	JoinedAt       time.Time  `json:"joined_at"`
	LobbyAt        *time.Time `json:"lobby_at"`
	OpensAt        *time.Time `json:"opens_at"`
	Now            time.Time  `json:"now"`
}

// Session is what a claimed call gives: Issued is the time of this claim, Expires
// that of the first claim + session_ttl, however often it is claimed.
type Session struct {
	ID              string
	Issued, Expires time.Time
}

// Room is the public document about a room.
type Room struct {
	Room       string     `json:"room"`
	Title      string     `json:"title"`
	Phase      Phase      `json:"phase" enum:"scheduled,lobby,open,paused,closed,sold_out"`
	LobbyAt    *time.Time `json:"lobby_at"`
	OpensAt    *time.Time `json:"opens_at"`
	Waiting    uint64     `json:"waiting"`
	Present    uint64     `json:"present"`
	PacePerMin int        `json:"pace_per_min"`
	Message    *string    `json:"message"`
	InviteOnly bool       `json:"invite_only"`
	Draw       RoomDraw   `json:"draw"`
}

// RoomDraw is what is public about a room's draw; the optional members appear with it, the
// lobby's size as soon as it is on record.
type RoomDraw struct {
	Commitment string `json:"commitment"`
	Beacon     string `json:"beacon"`
	// BeaconURL is the drand chain that the beacon comes from, Round the round that will be
	// or was taken and RoundAt when the chain gives it.
	BeaconURL string     `json:"beacon_url,omitempty"`
	Round     uint64     `json:"round,omitempty"`
	RoundAt   *time.Time `json:"round_at,omitempty"`
	LobbySize *uint64    `json:"lobby_size,omitempty"`
	Secret    string     `json:"secret,omitempty"`
	Seed      string     `json:"seed,omitempty"`
}

// OriginStatus is how a room's origin does, as the gateway that answers sees it.
type OriginStatus struct {
	Health    string  `json:"health" enum:"unknown,ok,slow,failing,down"`
	LatencyMS float64 `json:"latency_ms"`
	InFlight  int     `json:"in_flight"`
	Limit     int     `json:"limit" doc:"requests that this gateway sends it at once at most, just now"`
	Servers   int     `json:"servers"`
	ServersUp int     `json:"servers_up"`

	// Share is how much of the pace the origin can take, from 0 to 1, and Reason why that is
	// less than all; Known tells that the gateway has seen enough of it lately to say so.
	Share  float64 `json:"-"`
	Reason string  `json:"-"`
	Known  bool    `json:"-"`
}

// PaceLimit says that fewer are called than the pace allows, to protect the origin.
type PaceLimit struct {
	Origin     string  `json:"origin" doc:"its name; empty for the box office"`
	Reason     string  `json:"reason" enum:"slow,failing,busy,down" doc:"the worst that a gateway reports"`
	Share      float64 `json:"share" doc:"of the pace, from 0 to 1, over all gateways"`
	PacePerMin float64 `json:"pace_per_min" doc:"what is left of it"`
}

// Live is the operators' document about a room: its settings and its figures.
type Live struct {
	Room  string `json:"room"`
	Epoch string `json:"epoch"`
	Phase Phase  `json:"phase" enum:"scheduled,lobby,open,paused,closed,sold_out"`
	Settings
	Waiting  uint64 `json:"waiting"`
	Present  uint64 `json:"present"`
	Called   uint64 `json:"called" doc:"open calls"`
	Sessions uint64 `json:"sessions"`
	Frontier uint64 `json:"frontier"`
	// The totals count since the epoch began.
	CalledTotal   uint64 `json:"called_total"`
	AdmittedTotal uint64 `json:"admitted_total" doc:"sessions given"`
	Missed        uint64 `json:"missed" doc:"places that may return now"`
	Lapsed        uint64 `json:"lapsed" doc:"total"`
	Left          uint64 `json:"left" doc:"total"`
	// PaceActualPerMin counts the calls of the last minute.
	PaceActualPerMin float64      `json:"pace_actual_per_min"`
	OriginStatus     OriginStatus `json:"origin_status"`
	// PaceLimitedBy is null while the pace is in force.
	PaceLimitedBy *PaceLimit `json:"pace_limited_by"`
	// BeaconFault is why the beacon of the coming draw cannot be had. Past the opening the
	// room is paused until it can, or beacon_url is dropped.
	BeaconFault string `json:"beacon_fault,omitempty"`
	// QuietUntil is set while a restored room calls nobody.
	QuietUntil *time.Time `json:"quiet_until,omitempty"`
	Now        time.Time  `json:"now"`
}

// Draw is the published record of a draw; anyone can recompute every rank from it.
type Draw struct {
	Commitment string `json:"commitment"`
	Secret     string `json:"secret"`
	Beacon     string `json:"beacon"`
	LobbySize  uint64 `json:"lobby_size"`
	Seed       string `json:"seed"`
	Algorithm  string `json:"algorithm"`
	// BeaconSource is where Beacon came from, when a public randomness service gave it.
	BeaconSource *BeaconSource `json:"beacon_source,omitempty"`
}

// BeaconSource is one round of a drand chain.
type BeaconSource struct {
	URL string `json:"url" doc:"of the chain; it ends with the chain's hash"`
	// Chain is what that hash was made of.
	Chain     drand.Chain `json:"chain"`
	Round     uint64      `json:"round"`
	Signature string      `json:"signature" doc:"hex; its SHA-256 is the beacon"`
	// RoundAt is when the chain's schedule gives the round; nobody could know it before.
	RoundAt time.Time `json:"round_at"`
	// LobbyFixedAt is when the lobby's size was final.
	LobbyFixedAt time.Time `json:"lobby_fixed_at"`
}
