package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"

	"usher/gateway/policy"
)

// variable is a flag's name in the environment; with _FILE after it, the name of
// a file that holds the value.
func variable(flag string) string {
	return "USHER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// nameVariables shows each flag's variable in the help.
func nameVariables(k *kong.Kong) error {
	return kong.Visit(k.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok && flag.Name != "help" {
			flag.Help += " ($" + variable(flag.Name) + ")"
		}
		return next(nil)
	})
}

// sources give flags that the command line left out their values: from the
// environment, then from the file that --config names.
type sources struct {
	getenv func(string) string
	file   *configFile // nil until read
}

func (s *sources) Validate(*kong.Application) error { return nil }

func (s *sources) Resolve(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if flag.Name == "help" {
		return nil, nil
	}
	value, err := s.environment(flag.Name)
	if value != "" || err != nil {
		return given(value), err
	}
	if s.file == nil {
		if err := s.read(ctx); err != nil {
			return nil, err
		}
	}
	return given(s.file.Flags[strings.ReplaceAll(flag.Name, "-", "_")]), nil
}

// given turns "no value" into the nil that kong takes for it.
func given(value string) any {
	if value == "" {
		return nil
	}
	return value
}

func (s *sources) environment(flag string) (string, error) {
	name := variable(flag)
	value, path := s.getenv(name), s.getenv(name+"_FILE")
	switch {
	case path == "":
		return value, nil
	case value != "":
		return "", fmt.Errorf("both %s and %s_FILE are set", name, name)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s_FILE: %w", name, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

func (s *sources) read(ctx *kong.Context) error {
	s.file = &configFile{}
	for _, flag := range ctx.Flags() {
		if flag.Name != "config" {
			continue
		}
		path, _ := ctx.FlagValue(flag).(string)
		if path == "" {
			var err error
			if path, err = s.environment("config"); err != nil {
				return err
			}
		}
		if path == "" {
			return nil
		}
		file, err := readConfig(path)
		if err != nil {
			return err
		}
		for name := range file.Flags {
			if !slices.ContainsFunc(ctx.Flags(), func(f *kong.Flag) bool { return strings.ReplaceAll(f.Name, "-", "_") == name }) {
				return fmt.Errorf("%s: %s is no setting of this command", path, name)
			}
		}
		s.file = file
	}
	return nil
}

// configFile is the file that --config names: any flag under its name with
// underscores, and what flags cannot say.
type configFile struct {
	// Origins are the sites that rooms protect and routes lead to, by name.
	Origins map[string]originSettings `yaml:"origins"`
	// Routes lead unprotected paths of a host to an origin.
	Routes []route `yaml:"routes"`
	// Rooms are made where they are missing, as by PUT rooms/{room}, once a worker,
	// or a gateway with --records-dir, records rooms; what an operator changed later stays.
	Rooms map[string]any `yaml:"rooms"`
	// Policies, Lists and Candidate are the rate limits until an operator sets others, as by
	// PUT policies; docs/policies.md is their manual.
	Policies  yaml.Node `yaml:"policies"`
	Lists     yaml.Node `yaml:"lists"`
	Candidate yaml.Node `yaml:"candidate"`

	Flags map[string]string `yaml:",inline"`
}

type route struct {
	Host       string `yaml:"host"`        // default: every host
	PathPrefix string `yaml:"path_prefix"` // default: /
	Origin     string `yaml:"origin"`
	Cache      bool   `yaml:"cache"` // answers that allow it are kept for all who bring no cookie
}

func readConfig(path string) (*configFile, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var file configFile
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) { // an empty file says nothing
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &file, nil
}

// limits are the rate limits that the file sets.
func (f *configFile) limits() (*policy.Document, error) {
	defaults := policy.Defaults()
	change, faults := policy.ParseNodes(&f.Policies, &f.Lists, &f.Candidate)
	var all []error
	for _, fault := range faults {
		all = append(all, fault)
	}
	document := change.Apply(defaults, defaults)
	return &document, errors.Join(all...)
}

// effective is the configuration in force, with secrets left out, as one log
// attribute. A flag's tag says how secret it is: "url" hides a URL's password
// and query, "all" everything.
func effective(command *kong.Context) slog.Attr {
	var attrs []any
	for _, flag := range command.Flags() {
		if flag.Name == "help" {
			continue
		}
		attrs = append(attrs, slog.String(strings.ReplaceAll(flag.Name, "-", "_"), shown(flag, command.FlagValue(flag))))
	}
	return slog.Group("config", attrs...)
}

func shown(flag *kong.Flag, value any) string {
	text := fmt.Sprint(value)
	if text == "" {
		return ""
	}
	switch flag.Tag.Get("secret") {
	case "all":
		return "***"
	case "url":
		if several, ok := value.([]*url.URL); ok {
			var all []string
			for _, u := range several {
				all = append(all, redacted(u.String()))
			}
			return strings.Join(all, ",")
		}
		return redacted(text)
	}
	return text
}

func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "***"
	}
	u.RawQuery = ""
	return u.Redacted()
}
