package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// WaitingRoom is what the waiting page shows: a room, and the visitor's place
// in it where there is one.
type WaitingRoom struct {
	Room, Title, Message, Phase, State string // Room is "" where there is none
	Joined                             bool
	Position, Ahead                    *uint64
	Waiting                            uint64
	Progress                           float64 // 0 to 1, never falls
	EtaLow, EtaHigh                    *int    // seconds
	OpensAt, CallExpiresAt             *time.Time
	Extendable                         bool   // the call can be lengthened, once
	ReturnTo                           string // a path on this host, already checked
	Refresh                            int    // seconds until a page without JavaScript asks again; 0 = never
	Problem                            string // what went wrong with the last attempt, in plain words
	// Check is what comes before a place: "" nothing, "asked" a challenge, "turn" a wait until CheckAt.
	Check   string
	CheckAt *time.Time
	// Outside is the service whose challenge the page may have to show: turnstile, hcaptcha or "".
	Outside string
}

// calledRefresh keeps a called visitor's page still long enough to press its button, in seconds.
const calledRefresh = 15

//go:embed waiting.html
var waitingHTML string

var waitingPage = template.Must(template.New("waiting").Funcs(template.FuncMap{
	"count": grouped,
	"utc":   func(t time.Time) string { return t.UTC().Format("2 January, 15:04 UTC") },
}).Parse(waitingHTML))

// word is what the page says in one situation. {opens} stands for the time of the
// opening, {ready} for that of a turn; the script puts the visitor's own time there.
type word struct{ Key, Headline, Text string }

// words are all sentences of the waiting page. The script reads them from the
// page, so that they are written once.
var words = []word{
	{"unknown", "There is no waiting room here", "The link may be old or mistyped. The box office knows the way."},
	{"scheduled", "The waiting room is not open yet", "The line starts {opens}. Keep this page open; you will get a place by itself."},
	{"new", "There is a line", "Join it and keep this page open. We will let you in when it is your turn."},
	{"check", "One quick check", "Very many are coming at once. Your browser shows us that it is not a program which takes hundreds of places."},
	{"turn", "You will get a place without the check", "You can join {ready}. Keep this page open; nothing else is needed."},
	{"lobby", "You’re in", "The line starts moving {opens}. Keep this page open; nothing else is needed."},
	{"waiting", "You’re in line", "Keep this page open. We will let you in when it is your turn."},
	{"paused", "The line is paused", "Your place is safe. It goes on as soon as the line does."},
	{"called", "It’s your turn", "Your way in is open. Please go on now."},
	{"admitted", "Welcome in", "One moment, we are taking you on."},
	{"missed", "You were away when your turn came", "You can come back once. You will be called soon after."},
	{"lapsed", "Your place is gone", "Your turn came and passed, or the line began anew. You can join again at the end of the line."},
	{"reset", "The line began anew", "The organiser has started it again, and all places of before ended with that. You can join the new line."},
	{"moved", "Your place is on another device", "It was taken along there, and is kept there. Here you can join again at the end of the line."},
	{"invited", "This line is for invited guests", "Please use the link of your invitation, or paste the invitation here."},
	{"over", "Your time inside is over", "You can join the line again."},
	{"left", "You have left the line", "You can join again at the end of the line."},
	{"closed", "This sale is closed", "Nobody is let in any more. Thank you for coming."},
	{"sold_out", "Sold out", "Everything is sold. Should seats come back, this page goes on by itself."},
}

// key picks the words for the page: the place's own state first, then what its
// room does.
func (p WaitingRoom) key() string {
	stopped := p.Phase == "paused" || p.Phase == "closed" || p.Phase == "sold_out"
	switch {
	case p.Room == "":
		return "unknown"
	case p.Joined && stopped && (p.State == "waiting" || p.State == "lobby"):
		return p.Phase
	case p.Joined:
		return p.State
	case p.Phase == "scheduled" || p.Phase == "closed" || p.Phase == "sold_out":
		return p.Phase
	case p.Check == "asked":
		return "check"
	case p.Check == "turn":
		return "turn"
	}
	return "new"
}

// RenderWaiting writes the waiting page. It works by itself: it refreshes and
// has a button for each step; its script replaces both where it can run.
func RenderWaiting(w http.ResponseWriter, r *http.Request, status int, page WaitingRoom) {
	key := page.key()
	said := wordFor(key)
	opens := "soon"
	if page.OpensAt != nil {
		opens = "at " + page.OpensAt.UTC().Format("15:04 UTC on 2 January")
	}
	ready := "soon"
	if page.CheckAt != nil {
		ready = "at " + page.CheckAt.UTC().Format("15:04:05 UTC")
	}
	times := strings.NewReplacer("{opens}", opens, "{ready}", ready)
	view := struct {
		WaitingRoom
		Key, Headline, Text, Eta, Event string
		Line, CanJoin                   bool
		Altogether                      uint64
		Words                           []word
		Script, Icon                    string
		Styles                          []string
	}{
		WaitingRoom: page,
		Altogether:  page.Waiting,
		Key:         key,
		Headline:    times.Replace(said.Headline),
		Text:        times.Replace(said.Text),
		Event:       eventPage(page.ReturnTo),
		Line:        key == "waiting" || key == "paused",
		CanJoin:     key == "new" || key == "left" || key == "lapsed",
		Words:       words,
		Script:      built().waitingScript,
		Icon:        built().icon,
		Styles:      built().waitingStyles,
	}
	if page.Position != nil {
		view.Altogether = max(view.Altogether, *page.Position) // a fresh place is counted with the next tick
	}
	if key == "called" && page.Refresh > 0 {
		view.Refresh = max(page.Refresh, calledRefresh)
	}
	if page.EtaLow != nil && page.EtaHigh != nil {
		view.Eta = band(*page.EtaLow, *page.EtaHigh)
	}
	var out bytes.Buffer
	if err := waitingPage.Execute(&out, view); err != nil {
		panic(err) // the template and its data are both in this file; a test renders every state
	}
	secure(w.Header())
	if from := outside[page.Outside]; from != "" {
		w.Header().Set("Content-Security-Policy", widened(from))
	}
	w.Header().Set("Cache-Control", "no-store")
	file{kind: "text/html; charset=utf-8", plain: out.Bytes()}.serve(w, r, status)
}

// outside is where the scripts and frames of other challenge services come from.
var outside = map[string]string{
	"turnstile": "https://challenges.cloudflare.com",
	"hcaptcha":  "https://hcaptcha.com https://*.hcaptcha.com",
}

// widened is the policy with another challenge service let in.
func widened(from string) string {
	return strings.NewReplacer(
		"script-src 'self'", "script-src 'self' "+from+"; frame-src "+from,
		"style-src 'self'", "style-src 'self' "+from, "connect-src 'self'", "connect-src 'self' "+from,
	).Replace(policy)
}

func wordFor(key string) word {
	for _, w := range words {
		if w.Key == key {
			return w
		}
	}
	return wordFor("waiting")
}

// eventPage is the shop's page with the prices, known when the visitor is on
// the way to an event.
func eventPage(returnTo string) string {
	parts := strings.Split(returnTo, "/")
	if len(parts) < 3 || parts[0] != "" || parts[1] != "events" || parts[2] == "" {
		return ""
	}
	return "/events/" + url.PathEscape(strings.SplitN(parts[2], "?", 2)[0])
}

// band says an estimate as the script's band does: rough, and never one number.
func band(low, high int) string {
	if high < 60 {
		return "less than a minute"
	}
	from, to := low/60, (high+59)/60
	unit := " minutes"
	if high >= 5400 {
		from, to, unit = low/3600, (high+3599)/3600, " hours"
	}
	switch {
	case unit == " hours" && to > 24:
		return "more than a day"
	case from < 1 && to == 1:
		return "about a minute"
	case from < 1:
		return "up to " + strconv.Itoa(to) + unit
	case from == to:
		return "about " + strconv.Itoa(to) + unit
	}
	return strconv.Itoa(from) + " to " + strconv.Itoa(to) + unit
}

// grouped writes 1234567 as 1,234,567.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}
