package queue

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"usher/internal/problem"
	"usher/queue/drand"
)

// Method is how places are ordered.
type Method string

// The methods.
const (
	FIFO   Method = "fifo" // by arrival
	Random Method = "draw" // the lobby by one draw, later arrivals behind it
)

// Mode is an operator's word over the schedule.
type Mode string

// The modes. Auto follows the schedule; without times it is open.
const (
	ModeAuto   Mode = "auto"
	ModeOpen   Mode = "open"
	ModePaused Mode = "paused"
	ModeClosed Mode = "closed"
	ModeBypass Mode = "bypass"
)

// Challenge tells who has to show that a place is worth some work to it, or a person.
type Challenge string

// The ways to challenge. Auto offers it to those who are refused for asking too often;
// Always wants it for every new place but an invited guest's.
const (
	ChallengeAuto   Challenge = "auto"
	ChallengeAlways Challenge = "always"
	ChallengeOff    Challenge = "off"
)

// Protect names paths behind the room: all that begin with the characters of PathPrefix,
// on Host or on every host. "/tickets" covers /tickets.json, too: what is not meant to be
// open never is by a spelling; "/tickets/" covers the folder alone.
type Protect struct {
	Host       string `json:"host,omitempty" maxLength:"253"`
	PathPrefix string `json:"path_prefix" maxLength:"200"`
}

// Settings are what an operator sets. Durations are seconds.
type Settings struct {
	Title string `json:"title"`
	// LobbyAt opens the lobby; OpensAt ends it and begins the calls; ClosesAt ends the room.
	LobbyAt  *time.Time `json:"lobby_at"`
	OpensAt  *time.Time `json:"opens_at"`
	ClosesAt *time.Time `json:"closes_at"`
	// PacePerMin bounds calls; 0 calls nobody but by admit.
	PacePerMin int `json:"pace_per_min"`
	// Capacity bounds sessions and open calls together; 0 lets nobody in.
	Capacity int `json:"capacity"`
	// SessionTTL is how long a pass is good; CallTTL how long a call waits for its
	// claim; ReturnWindow how long a missed place may come back; PresenceTTL after
	// what silence a place counts as absent, and PhonePresenceTTL the same of one that was
	// given to a phone, which sleeps with its screen: where it is longer, such a place
	// counts as present for that time, and no more than twice that. Changes apply to what
	// begins later.
	SessionTTL       int     `json:"session_ttl_s"`
	CallTTL          int     `json:"call_ttl_s"`
	ReturnWindow     int     `json:"return_window_s"`
	PresenceTTL      int     `json:"presence_ttl_s"`
	PhonePresenceTTL int     `json:"phone_presence_ttl_s"`
	Method           Method  `json:"method" enum:"fifo,draw"`
	State            Mode    `json:"state" enum:"auto,open,paused,closed,bypass"`
	Message          *string `json:"message"`
	Beacon           string  `json:"beacon"`
	// BeaconURL is a drand chain, https://HOST/CHAIN-HASH, that gives the beacon of a draw:
	// its first round after the opening. It stands in place of Beacon.
	BeaconURL string    `json:"beacon_url"`
	Protect   []Protect `json:"protect"`
	// InviteKeys are who may invite: invitations are EdDSA JWTs with the claims room,
	// identity, exp and, if wanted, nbf. With an invitation an identity has one place,
	// whatever the number of its devices. InviteOnly gives nobody else a place.
	InviteKeys []JWK `json:"invite_keys"`
	InviteOnly bool  `json:"invite_only"`
	// Challenge is an operator's answer to bots that collect places.
	Challenge Challenge `json:"challenge" enum:"auto,always,off"`
	// Origin is the name of an origin in the configuration.
	Origin *string `json:"origin"`
}

// Bounds of the settings.
const (
	maxPace        = 1_000_000
	maxCapacity    = 1_000_000
	maxTTL         = 24 * 3600
	maxWindow      = 3600
	maxTitle       = 200
	maxMessage     = 500
	maxBeacon      = 200
	maxProtect     = 50
	minPresenceTTL = 1
)

// Defaults are the settings of a room of which nothing was said.
func Defaults() Settings {
	return Settings{
		PacePerMin: 600, Capacity: 1000, SessionTTL: 600, CallTTL: 120, ReturnWindow: 600, PresenceTTL: 60, PhonePresenceTTL: 180,
		Method: FIFO, State: ModeAuto, Protect: []Protect{}, InviteKeys: []JWK{}, Challenge: ChallengeAuto,
	}
}

// Validate reports all faults at once.
func (s Settings) Validate() []problem.Field {
	var faults []problem.Field
	fault := func(field, format string, args ...any) {
		faults = append(faults, problem.Field{Location: "body." + field, Message: fmt.Sprintf(format, args...)})
	}
	between := func(field string, v, low, high int) {
		if v < low || v > high {
			fault(field, "must be from %d to %d", low, high)
		}
	}
	text := func(field, v string, longest int) {
		if utf8.RuneCountInString(v) > longest {
			fault(field, "must not be longer than %d characters", longest)
		} else if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			fault(field, "must be text")
		}
	}
	between("pace_per_min", s.PacePerMin, 0, maxPace)
	between("capacity", s.Capacity, 0, maxCapacity)
	between("session_ttl_s", s.SessionTTL, 1, maxTTL)
	between("call_ttl_s", s.CallTTL, 1, maxWindow)
	between("return_window_s", s.ReturnWindow, 0, maxWindow)
	between("presence_ttl_s", s.PresenceTTL, minPresenceTTL, maxWindow)
	between("phone_presence_ttl_s", s.PhonePresenceTTL, minPresenceTTL, maxWindow)
	text("title", s.Title, maxTitle)
	text("beacon", s.Beacon, maxBeacon)
	if s.BeaconURL != "" {
		if s.Beacon != "" {
			fault("beacon_url", "cannot stand beside a beacon")
		}
		if _, err := drand.ParseURL(s.BeaconURL); err != nil {
			fault("beacon_url", "%s", err.Error())
		}
	}
	if s.Message != nil {
		text("message", *s.Message, maxMessage)
	}
	if s.Method != FIFO && s.Method != Random {
		fault("method", "must be fifo or draw")
	}
	switch s.State {
	case ModeAuto, ModeOpen, ModePaused, ModeClosed, ModeBypass:
	default:
		fault("state", "must be auto, open, paused, closed or bypass")
	}
	if s.Challenge != ChallengeAuto && s.Challenge != ChallengeAlways && s.Challenge != ChallengeOff {
		fault("challenge", "must be auto, always or off")
	}
	before := func(a, b *time.Time) bool { return a != nil && b != nil && a.Before(*b) }
	if before(s.OpensAt, s.LobbyAt) {
		fault("opens_at", "must not be before lobby_at")
	}
	if before(s.ClosesAt, s.OpensAt) || s.ClosesAt != nil && s.OpensAt != nil && s.ClosesAt.Equal(*s.OpensAt) {
		fault("closes_at", "must be after opens_at")
	}
	if before(s.ClosesAt, s.LobbyAt) {
		fault("closes_at", "must not be before lobby_at")
	}
	for i, t := range []*time.Time{s.LobbyAt, s.OpensAt, s.ClosesAt} {
		if t != nil && (t.Year() < 2000 || t.Year() > 2200) {
			fault([]string{"lobby_at", "opens_at", "closes_at"}[i], "must be a time between the years 2000 and 2200")
		}
	}
	if len(s.Protect) > maxProtect {
		fault("protect", "must not have more than %d entries", maxProtect)
	}
	for i, p := range s.Protect {
		if !strings.HasPrefix(p.PathPrefix, "/") || strings.ContainsAny(p.PathPrefix, "\\?#\x00") || strings.Contains(p.PathPrefix, "//") || strings.Contains(p.PathPrefix, "/.") {
			fault(fmt.Sprintf("protect[%d].path_prefix", i), "must be a plain path that begins with /")
		}
		if strings.ContainsAny(p.Host, "/ :@\\") {
			fault(fmt.Sprintf("protect[%d].host", i), "must be a host name without a port")
		}
	}
	if len(s.InviteKeys) > maxInviteKeys {
		fault("invite_keys", "must not have more than %d entries", maxInviteKeys)
	}
	for i, k := range s.InviteKeys {
		if _, err := k.Key(); err != nil {
			fault(fmt.Sprintf("invite_keys[%d]", i), "%s", err.Error())
		}
	}
	if s.InviteOnly && len(s.InviteKeys) == 0 {
		fault("invite_only", "needs a key in invite_keys")
	}
	if s.Origin != nil && !slug.MatchString(*s.Origin) {
		fault("origin", "must be the name of a configured origin: 1 to 40 of a-z, 0-9 and -")
	}
	return faults
}

// Opt is a member of a patch: absent keeps, null restores the default, a value sets.
type Opt[T any] struct {
	Sent  bool
	Value *T // nil when null was sent
}

// UnmarshalJSON is called only for members that were sent.
func (o *Opt[T]) UnmarshalJSON(b []byte) error {
	o.Sent = true
	return json.Unmarshal(b, &o.Value)
}

// MarshalJSON writes the value; an absent member is dropped by omitzero.
func (o Opt[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.Value) }

// Schema is T's, and null.
func (o Opt[T]) Schema(r huma.Registry) *huma.Schema {
	s := *huma.SchemaFromType(r, reflect.TypeFor[T]())
	s.Nullable = true
	return &s
}

func (o Opt[T]) apply(to *T, fallback T) {
	switch {
	case !o.Sent:
	case o.Value == nil:
		*to = fallback
	default:
		*to = *o.Value
	}
}

func (o Opt[T]) applyOptional(to **T) {
	if o.Sent {
		*to = o.Value
	}
}

// Patch is the body of PUT rooms/{room}.
type Patch struct {
	Title            Opt[string]    `json:"title,omitzero"`
	LobbyAt          Opt[time.Time] `json:"lobby_at,omitzero"`
	OpensAt          Opt[time.Time] `json:"opens_at,omitzero"`
	ClosesAt         Opt[time.Time] `json:"closes_at,omitzero"`
	PacePerMin       Opt[int]       `json:"pace_per_min,omitzero"`
	Capacity         Opt[int]       `json:"capacity,omitzero"`
	SessionTTL       Opt[int]       `json:"session_ttl_s,omitzero"`
	CallTTL          Opt[int]       `json:"call_ttl_s,omitzero"`
	ReturnWindow     Opt[int]       `json:"return_window_s,omitzero"`
	PresenceTTL      Opt[int]       `json:"presence_ttl_s,omitzero"`
	PhonePresenceTTL Opt[int]       `json:"phone_presence_ttl_s,omitzero"`
	Method           Opt[Method]    `json:"method,omitzero"`
	State            Opt[Mode]      `json:"state,omitzero"`
	Message          Opt[string]    `json:"message,omitzero"`
	Beacon           Opt[string]    `json:"beacon,omitzero"`
	BeaconURL        Opt[string]    `json:"beacon_url,omitzero"`
	Protect          Opt[[]Protect] `json:"protect,omitzero"`
	InviteKeys       Opt[[]JWK]     `json:"invite_keys,omitzero"`
	InviteOnly       Opt[bool]      `json:"invite_only,omitzero"`
	Challenge        Opt[Challenge] `json:"challenge,omitzero"`
	Origin           Opt[string]    `json:"origin,omitzero"`
}

// Apply merges the patch into s.
func (p Patch) Apply(s Settings) Settings {
	d := Defaults()
	p.Title.apply(&s.Title, d.Title)
	p.LobbyAt.applyOptional(&s.LobbyAt)
	p.OpensAt.applyOptional(&s.OpensAt)
	p.ClosesAt.applyOptional(&s.ClosesAt)
	p.PacePerMin.apply(&s.PacePerMin, d.PacePerMin)
	p.Capacity.apply(&s.Capacity, d.Capacity)
	p.SessionTTL.apply(&s.SessionTTL, d.SessionTTL)
	p.CallTTL.apply(&s.CallTTL, d.CallTTL)
	p.ReturnWindow.apply(&s.ReturnWindow, d.ReturnWindow)
	p.PresenceTTL.apply(&s.PresenceTTL, d.PresenceTTL)
	p.PhonePresenceTTL.apply(&s.PhonePresenceTTL, d.PhonePresenceTTL)
	p.Method.apply(&s.Method, d.Method)
	p.State.apply(&s.State, d.State)
	p.Message.applyOptional(&s.Message)
	p.Beacon.apply(&s.Beacon, d.Beacon)
	p.BeaconURL.apply(&s.BeaconURL, d.BeaconURL)
	p.Protect.apply(&s.Protect, d.Protect)
	p.InviteKeys.apply(&s.InviteKeys, d.InviteKeys)
	p.InviteOnly.apply(&s.InviteOnly, d.InviteOnly)
	p.Challenge.apply(&s.Challenge, d.Challenge)
	p.Origin.applyOptional(&s.Origin)
	if s.Message != nil && *s.Message == "" {
		s.Message = nil
	}
	for _, t := range []**time.Time{&s.LobbyAt, &s.OpensAt, &s.ClosesAt} {
		if *t != nil {
			utc := (*t).UTC().Truncate(time.Millisecond)
			*t = &utc
		}
	}
	return s
}
