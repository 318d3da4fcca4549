package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	_ "embed"
)

// A report is what a rehearsal has to show, ready to print.
type report struct {
	Room      string         `json:"room"`
	Event     string         `json:"event,omitempty"`
	Gateways  []string       `json:"gateways"`
	Seed      uint64         `json:"seed"`
	Fans      int            `json:"fans"`
	Started   time.Time      `json:"started"`
	Seconds   float64        `json:"seconds"`
	Held      bool           `json:"held"` // no invariant is broken
	Findings  []Finding      `json:"findings"`
	Outcomes  map[string]int `json:"outcomes"`
	Parts     map[string]int `json:"parts"`
	Latencies []latency      `json:"latencies"`
	Retries   map[string]int `json:"retries"`
	Course    []moment       `json:"course"`
}

// A latency is the distribution of one step's time, in milliseconds.
type latency struct {
	Step string  `json:"step"`
	N    int     `json:"n"`
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

// A moment of the room's figures, for the chart.
type moment struct {
	Seconds  float64 `json:"s"`
	Waiting  int64   `json:"waiting"`
	Called   int64   `json:"called"`
	Sessions int64   `json:"sessions"`
}

const maxMoments = 600

func newReport(h *History, findings []Finding, o options) *report {
	r := &report{
		Room: h.Room, Event: h.Event, Gateways: h.Gateways, Seed: o.Seed, Started: h.Started.UTC(),
		Seconds: h.Ended.Sub(h.Started).Seconds(), Held: true, Findings: findings, Retries: h.Retries,
		Outcomes: map[string]int{}, Parts: map[string]int{}, Latencies: latencies(h),
	}
	for _, f := range findings {
		r.Held = r.Held && f.Verdict != Broken
	}
	for _, f := range h.Fans {
		r.Outcomes[cmp.Or(string(f.Outcome), "none")]++
		r.Parts[string(f.Part)]++
		if f.Part != Bot {
			r.Fans++
		}
	}
	every := len(h.Samples)/maxMoments + 1
	for i := 0; i < len(h.Samples); i += every {
		s := h.Samples[i]
		r.Course = append(r.Course, moment{s.At.Sub(h.Started).Seconds(), s.Waiting, s.Called, s.Sessions})
	}
	return r
}

func latencies(h *History) []latency {
	steps := map[string][]time.Duration{}
	order := []string{"join", "before bots: asked for a proof", "before bots: join by proof", "before bots: both", "beside bots: asked for a proof",
		"beside bots: join by proof", "beside bots: both", "joined to called", "called to pass", "claim", "availability", "hold", "order", "approved to paid"}
	for _, f := range h.Fans {
		if f.Part == Bot {
			continue
		}
		if f.Joined {
			steps["join"] = append(steps["join"], f.Join.Took)
			if h.Siege != nil {
				besieged(steps, h.Siege.timeOf(f), f)
			}
		}
		if calls := f.calls(); len(calls) > 0 {
			called := calls[len(calls)-1].Add(h.ClockAhead)
			steps["joined to called"] = append(steps["joined to called"], called.Sub(f.Join.At))
			if len(f.Claims) > 0 && f.Part == Plain { // the others were away or took their time
				steps["called to pass"] = append(steps["called to pass"], f.Claims[0].At.Add(f.Claims[0].Took).Sub(called))
			}
		}
		for _, c := range f.Claims {
			steps["claim"] = append(steps["claim"], c.Took)
		}
		for _, t := range f.Looked {
			steps["availability"] = append(steps["availability"], t.Took)
		}
		for _, t := range f.Holds {
			steps["hold"] = append(steps["hold"], t.Took)
		}
		if f.Order != nil {
			steps["order"] = append(steps["order"], f.Order.Took)
			if f.Order.PaidAfter > 0 {
				steps["approved to paid"] = append(steps["approved to paid"], f.Order.PaidAfter)
			}
		}
	}
	var all []latency
	for _, step := range order {
		d := steps[step]
		if len(d) == 0 {
			continue
		}
		slices.Sort(d)
		at := func(p float64) float64 { return percentile(d, p).Seconds() * 1000 }
		all = append(all, latency{step, len(d), at(0.5), at(0.9), at(0.99), at(1)})
	}
	return all
}

// besieged adds what the gateway took for the answers of a join: the one that asked for a proof, and the place.
func besieged(steps map[string][]time.Duration, when Time, f *Fan) {
	word, judged := map[Time]string{Peace: "before bots: ", Besieged: "beside bots: "}[when]
	if !judged || len(f.Answers) != 2 {
		return
	}
	for i, step := range []string{"asked for a proof", "join by proof"} {
		steps[word+step] = append(steps[word+step], f.Answers[i].Wire)
	}
	steps[word+"both"] = append(steps[word+"both"], f.Join.Wire)
}

// percentile is the nearest rank of a sorted, non-empty list: the least value that a share p of the list does not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	rank := int(p*float64(len(sorted))+0.9999999) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

func counts(m map[string]int) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(words, ", ")
}

// text prints the report for a terminal.
func (r *report) text(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d fans, room %s, seed %d, %.0f s: %s\n", r.Fans, r.Room, r.Seed, r.Seconds, counts(r.Outcomes))
	fmt.Fprintf(&b, "parts: %s\n\n", counts(r.Parts))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Verdict, f.Check, f.Figure)
	}
	w.Flush()
	for _, f := range r.Findings {
		if f.Count == 0 {
			continue
		}
		fmt.Fprintf(&b, "\nBROKEN: %s, %d times\n", f.Check, f.Count)
		for _, s := range f.Breaches {
			fmt.Fprintf(&b, "  %s\n", s)
		}
	}
	b.WriteString("\n")
	w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "milliseconds\tn\tp50\tp90\tp99\tmax\t")
	for _, l := range r.Latencies {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t\n", l.Step, l.N, l.P50, l.P90, l.P99, l.Max)
	}
	w.Flush()
	if len(r.Retries) > 0 {
		fmt.Fprintf(&b, "\nretried: %s\n", counts(r.Retries))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

//go:embed report.html
var page string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{"counts": counts}).Parse(page))

// write stores the report as JSON or as a page, by its name.
func (r *report) write(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if strings.HasSuffix(name, ".html") {
		err = pageTemplate.Execute(f, r)
	} else {
		e := json.NewEncoder(f)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// Line is the chart's polyline of one figure: 800 by 160, its own peak at the top.
func (r *report) Line(figure string) string {
	value := func(m moment) int64 {
		switch figure {
		case "waiting":
			return m.Waiting
		case "called":
			return m.Called
		}
		return m.Sessions
	}
	peak, span := int64(1), 1.0
	for _, m := range r.Course {
		peak, span = max(peak, value(m)), max(span, m.Seconds)
	}
	var b strings.Builder
	for _, m := range r.Course {
		fmt.Fprintf(&b, "%.1f,%.1f ", 800*max(0, m.Seconds)/span, 160-160*float64(value(m))/float64(peak))
	}
	return b.String()
}

// Peak is the highest value of one figure.
func (r *report) Peak(figure string) int64 {
	peak := int64(0)
	for _, m := range r.Course {
		peak = max(peak, map[string]int64{"waiting": m.Waiting, "called": m.Called, "sessions": m.Sessions}[figure])
	}
	return peak
}
