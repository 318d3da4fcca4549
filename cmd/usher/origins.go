package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"usher/gateway/origin"
)

// originSettings are one origin of the configuration: an address alone, or what
// docs/origins.md lists.
type originSettings struct {
	URLs           []string       `yaml:"urls"`
	Health         healthSettings `yaml:"health"`
	MaxInFlight    *int           `yaml:"max_in_flight"`
	TimeoutS       *float64       `yaml:"timeout_s"`
	SlowMS         *float64       `yaml:"slow_ms"`
	SlowStartS     *float64       `yaml:"slow_start_s"`
	Retries        *int           `yaml:"retries"`
	RetryBudget    *float64       `yaml:"retry_budget"`
	MaxAnswerBytes *int64         `yaml:"max_answer_bytes"`

	lines map[string]int // of each field that is there; "" is the origin itself
}

type healthSettings struct {
	Path         string   `yaml:"path"`
	IntervalS    *float64 `yaml:"interval_s"`
	TimeoutS     *float64 `yaml:"timeout_s"`
	FailAfter    *int     `yaml:"fail_after"`
	RecoverAfter *int     `yaml:"recover_after"`
}

var (
	originFields = []string{"urls", "health", "max_in_flight", "timeout_s", "slow_ms", "slow_start_s", "retries", "retry_budget", "max_answer_bytes"}
	healthFields = []string{"path", "interval_s", "timeout_s", "fail_after", "recover_after"}
)

// UnmarshalYAML takes an address or a mapping. It refuses fields that are none, which
// yaml's own strictness does not see within such a type.
func (o *originSettings) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		o.URLs, o.lines = []string{node.Value}, map[string]int{"": node.Line, "urls": node.Line}
		return nil
	}
	lines := map[string]int{"": node.Line}
	if err := errors.Join(fieldsOf(node, "", originFields, lines), nested(node, "health", healthFields, lines)); err != nil {
		return err
	}
	type plain originSettings // without this method
	if err := node.Decode((*plain)(o)); err != nil {
		return err
	}
	o.lines = lines
	return nil
}

// fieldsOf notes the lines of a mapping's fields and refuses those that are not known.
func fieldsOf(node *yaml.Node, prefix string, known []string, lines map[string]int) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want an address or a mapping", node.Line)
	}
	var faults []error
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if !slices.Contains(known, key.Value) {
			faults = append(faults, fmt.Errorf("line %d: %s%s is no setting of an origin", key.Line, prefix, key.Value))
		}
		lines[prefix+key.Value] = key.Line
	}
	return errors.Join(faults...)
}

func nested(node *yaml.Node, field string, known []string, lines map[string]int) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Kind == yaml.MappingNode && node.Content[i].Value == field {
			return fieldsOf(node.Content[i+1], field+".", known, lines)
		}
	}
	return nil
}

// config is the origin that the settings mean; its faults name their lines.
func (o *originSettings) config(name string) (origin.Config, error) {
	c := origin.Config{Health: origin.Health{Path: o.Health.Path}}
	var faults []error
	fault := func(field, message string) {
		line := o.lines[field]
		if line == 0 {
			line = o.lines[""]
		}
		faults = append(faults, fmt.Errorf("line %d: origin %s: %s %s", line, name, field, message))
	}
	for _, text := range o.URLs {
		u, err := url.Parse(text)
		if err != nil {
			fault("urls", "must be plain http:// or https:// addresses")
			continue
		}
		c.URLs = append(c.URLs, u)
	}
	span := func(field string, sent *float64, unit time.Duration, to *time.Duration) {
		switch {
		case sent == nil:
		case !(*sent > 0) || *sent*float64(unit) > math.MaxInt64/2:
			fault(field, "must be more than 0, and not beyond all measure")
		default:
			*to = time.Duration(*sent * float64(unit))
		}
	}
	span("health.interval_s", o.Health.IntervalS, time.Second, &c.Health.Interval)
	span("health.timeout_s", o.Health.TimeoutS, time.Second, &c.Health.Timeout)
	span("timeout_s", o.TimeoutS, time.Second, &c.Timeout)
	span("slow_ms", o.SlowMS, time.Millisecond, &c.Slow)
	span("slow_start_s", o.SlowStartS, time.Second, &c.SlowStart)
	count := func(field string, sent *int, to *int) {
		switch {
		case sent == nil:
		case *sent < 1:
			fault(field, "must be at least 1")
		default:
			*to = *sent
		}
	}
	count("health.fail_after", o.Health.FailAfter, &c.Health.FailAfter)
	count("health.recover_after", o.Health.RecoverAfter, &c.Health.RecoverAfter)
	count("max_in_flight", o.MaxInFlight, &c.MaxInFlight)
	if o.Retries != nil {
		if c.Retries = *o.Retries; *o.Retries == 0 {
			c.Retries = -1
		} else if *o.Retries < 0 {
			fault("retries", "must be from 0 to 10")
		}
	}
	if o.RetryBudget != nil {
		if c.RetryBudget = *o.RetryBudget; c.RetryBudget == 0 {
			c.Retries = -1
		}
	}
	if o.MaxAnswerBytes != nil {
		c.MaxAnswer = *o.MaxAnswerBytes
	}
	if len(faults) == 0 {
		for _, f := range c.Validate() {
			fault(f.Field, f.Message)
		}
	}
	return c, errors.Join(faults...)
}

// origins are the named origins of the configuration, once its routes name only those.
func (f *configFile) origins() (map[string]origin.Config, error) {
	origins := make(map[string]origin.Config, len(f.Origins))
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(f.Origins)) {
		settings := f.Origins[name]
		config, err := settings.config(name)
		faults = append(faults, err)
		origins[name] = config
	}
	for i, r := range f.Routes {
		if _, ok := f.Origins[r.Origin]; !ok {
			faults = append(faults, fmt.Errorf("route %d: there is no origin %q", i+1, r.Origin))
		}
	}
	return origins, errors.Join(faults...)
}
