package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"usher/internal/child"
)

// options are stampede's flags.
type options struct {
	Base        []string      `required:"" placeholder:"URL" help:"Gateway to rehearse with; several, by repeating it or with commas: fans spread over them and change at each reconnect."`
	OperatorKey string        `required:"" placeholder:"KEY" env:"USHER_OPERATOR_KEY" help:"API key that may read the room's live figures, and change the room where a flag asks for it."`
	Room        string        `required:"" help:"The waiting room."`
	Event       string        `placeholder:"SLUG" help:"The event to buy from (default: the event of the room's name; without one fans only take passes and give them back)."`
	Fans        int           `default:"2000" help:"How many fans come. Each needs a socket while it waits and two while it shops; a process may open 20,000."`
	Arrive      time.Duration `help:"The time over which they arrive (default: 5s; with --bots 40 ms for each beside bots: fewer than a pace of 1,800 calls, so that the line is as short before the bots as beside them)."`
	Seats       int           `default:"2" help:"Seats that each fan wants."`
	Duration    time.Duration `default:"10m" help:"When the rehearsal ends, whoever still waits. Who is inside then may finish."`
	Seed        uint64        `help:"Casts parts, tastes and pauses; the same seed gives the same crowd (default: random, printed)."`
	Pace        int           `placeholder:"N" help:"Set the room's pace to N calls a minute first (default: as it is)."`
	Capacity    int           `placeholder:"N" help:"Set the room's capacity to N first (default: as it is)."`
	Bots        bool          `help:"Besiege the sale: for each 2,000 fans 50 addresses that send 200 requests a second, 20 headless scripts that want 500 places each, and replays of proofs and places. Half as many fans more come before them, to compare with. The room asks everyone for a proof meanwhile (challenge: always). Needs gateways on loopback."`
	DrawIn      time.Duration `placeholder:"TIME" help:"Reset the room first and open it after TIME with a draw: who arrives before is in the lobby. Ends every place that the room holds."`
	Report      string        `placeholder:"FILE" help:"Write a report: FILE.json or FILE.html."`
}

var (
	// errBroken ends a rehearsal that found a broken invariant: exit status 1.
	errBroken = errors.New("broken invariants")
	// errUsage ends one that could not be asked for or begun: exit status 2.
	errUsage = errors.New("usage")
)

const (
	maxDescriptors = 20_000
	besiegedGap    = 40 * time.Millisecond // between two fans beside bots; one process computes the proofs of all
)

var slug = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// faults reports all that is wrong with the flags at once.
func (o *options) faults() error {
	var errs []error
	say := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, b := range o.Base {
		u, err := url.Parse(b)
		say(err != nil || u != nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == ""), "--base %q is not an http or https URL", b)
	}
	say(!slug.MatchString(o.Room), "--room %q is not a slug", o.Room)
	say(o.Event != "" && !slug.MatchString(o.Event), "--event %q is not a slug", o.Event)
	most := maxDescriptors - 2000
	if o.Bots {
		most -= most / (earlyPer + 1) // who come before them
	}
	say(o.Fans < 1 || o.Fans > most, "--fans %d: one process rehearses with 1 to %d; start several", o.Fans, most)
	say(o.Seats < 1 || o.Seats > 100, "--seats %d: want 1 to 100", o.Seats)
	say(o.Duration < time.Second || o.Duration > 6*time.Hour, "--duration %s: want a second to six hours", o.Duration)
	say(o.Arrive < 0 || o.Arrive > o.Duration, "--arrive %s: want 0 to the duration", o.Arrive)
	say(o.Pace < 0, "--pace %d is negative", o.Pace)
	say(o.Capacity < 0, "--capacity %d is negative", o.Capacity)
	say(o.DrawIn < 0 || o.DrawIn > o.Duration, "--draw-in %s: want 0 to the duration", o.DrawIn)
	say(o.Report != "" && !strings.HasSuffix(o.Report, ".json") && !strings.HasSuffix(o.Report, ".html"), "--report %q: want a name ending in .json or .html", o.Report)
	return errors.Join(errs...)
}

func main() {
	if kind := child.Kind(); kind != "" {
		if err := children.Serve(kind); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", kind, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errBroken):
		fmt.Fprintf(os.Stderr, "stampede: %v\n", err)
		os.Exit(1)
	default:
		fmt.Fprintf(os.Stderr, "stampede: %v\n", err)
		os.Exit(2)
	}
}

// run parses, asks the room, sends the crowd, judges and reports.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	helped := false
	parser, err := kong.New(&o, kong.Name("stampede"), kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }),
		kong.Description("Rehearses an on-sale with a crowd of fans and checks every invariant. Exit status: 0 all held, 1 broken, 2 bad usage or nobody to rehearse with."))
	if err != nil {
		return err
	}
	_, err = parser.Parse(args)
	if helped {
		return nil
	}
	if err == nil {
		err = o.faults()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if o.Bots && o.Arrive == 0 {
		o.Arrive = time.Duration(o.Fans) * besiegedGap
	}
	if o.Arrive == 0 {
		o.Arrive = 5 * time.Second
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	r, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%d fans for room %s, seed %d\n", o.Fans, o.Room, o.Seed)
	h, crowdErr := r.crowd(ctx, o, stderr)
	findings := Judge(h)
	report := newReport(h, findings, o)
	if err := report.text(stdout); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if o.Report != "" {
		if err := report.write(o.Report); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if !report.Held {
		return errors.Join(errBroken, crowdErr)
	}
	return crowdErr
}

// prepare reads the room and the event, and changes the room as far as the flags ask for it.
func prepare(ctx context.Context, o options) (*rehearsal, error) {
	r := &rehearsal{
		room: o.Room, operatorKey: o.OperatorKey, seats: o.Seats, retries: &tally{n: map[string]int{}}, refused: &tally{n: map[string]int{}}, shelves: map[string]*Shelf{},
		firstAddress: rand.New(rand.NewPCG(o.Seed, 1)).Uint32() % (200 << 16),
	}
	for _, b := range o.Base {
		u, err := url.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		r.gateways = append(r.gateways, u)
	}
	r.local = onLoopback(ctx, r.gateways)
	if o.Bots && (!r.local || slices.ContainsFunc(r.gateways, func(g *url.URL) bool { return g.Scheme != "http" })) {
		return nil, fmt.Errorf("%w: --bots needs gateways on loopback by http, where each bot has an address of its own", errUsage)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c := newClient(r.gateways, nil, true, r.retries)
	defer c.http.CloseIdleConnections()
	operate := "/api/v1/operate/rooms/" + o.Room
	auth := "Bearer " + o.OperatorKey
	if o.DrawIn > 0 {
		if _, _, err := c.call(ctx, http.MethodPost, operate+"/reset", nil, nil, "Authorization", auth); err != nil {
			return nil, fmt.Errorf("reset the room: %w", err)
		}
	}
	if change := o.change(time.Now()); len(change) > 0 {
		if _, _, err := c.call(ctx, http.MethodPut, operate, change, nil, "Authorization", auth); err != nil {
			return nil, fmt.Errorf("change the room: %w", err)
		}
		pause(ctx, settling) // a change is in force everywhere within a second
	}
	var live liveDoc
	if _, _, err := c.call(ctx, http.MethodGet, operate, nil, &live, "Authorization", auth); err != nil {
		return nil, fmt.Errorf("read the room's live figures: %w", err)
	}
	if err := r.everywhere(ctx); err != nil {
		return nil, err
	}
	r.presenceTTL = seconds(live.PresenceTTL)
	r.challenge = live.Challenge
	r.callTTLs.Store(int64(seconds(live.CallTTL)))
	var err error
	if r.keys, err = fetchKeys(ctx, c); err != nil {
		return nil, err
	}
	return r, r.findEvent(ctx, c, o)
}

// everywhere waits until every gateway knows the room, which one made just now takes a second to be.
func (r *rehearsal) everywhere(ctx context.Context) error {
	for _, g := range r.gateways {
		c := newClient([]*url.URL{g}, nil, true, r.retries)
		defer c.http.CloseIdleConnections()
		for {
			_, _, err := c.call(ctx, http.MethodGet, "/api/v1/rooms/"+r.room, nil, nil)
			if err == nil {
				break
			}
			if ref, ok := asRefusal(err); !ok || ref.Code != "room-not-found" || !pause(ctx, 100*time.Millisecond) {
				return fmt.Errorf("find the room at %s: %w", g, err)
			}
		}
	}
	return nil
}

// change is what the flags change in the room.
func (o options) change(now time.Time) map[string]any {
	change := map[string]any{}
	if o.Pace > 0 {
		change["pace_per_min"] = o.Pace
	}
	if o.Capacity > 0 {
		change["capacity"] = o.Capacity
	}
	if o.DrawIn > 0 {
		change["method"] = "draw"
		change["lobby_at"] = now.UTC()
		change["opens_at"] = now.Add(o.DrawIn).UTC()
	}
	return change
}

// findEvent reads the event to buy from. Only an event that was asked for by name must be there.
func (r *rehearsal) findEvent(ctx context.Context, c *client, o options) error {
	name := o.Event
	if name == "" {
		name = o.Room
	}
	var e eventDoc
	_, _, err := c.call(ctx, http.MethodGet, eventsPath+name, nil, &e)
	if ref, ok := asRefusal(err); ok && ref.Status == http.StatusNotFound && o.Event == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the event: %w", err)
	}
	if e.Room == nil || *e.Room != o.Room {
		return fmt.Errorf("%w: event %s is not behind room %s", errUsage, name, o.Room)
	}
	for _, p := range e.Performances {
		r.performances = append(r.performances, p.ID)
	}
	if len(r.performances) == 0 {
		return fmt.Errorf("%w: event %s has no performance", errUsage, name)
	}
	r.event = &e
	return nil
}
