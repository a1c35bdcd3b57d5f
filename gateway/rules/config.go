package rules

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt/topicindex"
	"tidegate/gateway/rules/iotsql"
)

// Config is the list of rules in the configuration.
//
//	rules:
//	  - name: too_hot
//	    sql: SELECT temp, topic(2) AS thing FROM 'dt/+/climate' WHERE temp > 30
//	    actions:
//	      - republish: {topic: 'alarm/${topic(2)}', qos: 1}
type Config []Rule

// Rule is one rule as it is written down.
type Rule struct {
	Name        string   `yaml:"name"` // 1 to 128 letters, digits and underscores
	Description string   `yaml:"description"`
	SQL         string   `yaml:"sql"`
	Version     string   `yaml:"version"` // of the language; empty for 2016-03-23
	Disabled    bool     `yaml:"disabled"`
	Actions     []Action `yaml:"actions"` // at most 10
	ErrorAction *Action  `yaml:"error_action"`
}

// Action is what to do with what a rule selects: exactly one of its fields is set.
type Action struct {
	Republish *Republish `yaml:"republish"`
}

// Republish publishes to another topic.
type Republish struct {
	Topic   string  `yaml:"topic"` // a template; a leading $$ stands for $
	QoS     byte    `yaml:"qos"`   // 0 or 1
	Headers Headers `yaml:"headers"`
}

// maxActions is AWS's quota for one rule (spec/rules.md §10).
const maxActions = 10

var validName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)

// DefaultConfig has no rules.
func DefaultConfig() Config { return nil }

// Validate says everything that is wrong with c, each error beginning with its key.
func (c Config) Validate() error {
	var errs []error
	seen := map[string]bool{}
	for i, r := range c {
		if _, err := compile(r); err != nil {
			for _, e := range unjoin(err) {
				errs = append(errs, fmt.Errorf("[%d].%w", i, e))
			}
		}
		if seen[r.Name] {
			errs = append(errs, fmt.Errorf("[%d].name: there are two rules called %q", i, r.Name))
		}
		seen[r.Name] = true
	}
	return errors.Join(errs...)
}

func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// compile makes a rule of what is written down. Its error joins everything that is wrong, each beginning
// with its key.
func compile(def Rule) (*rule, error) {
	r := &rule{def: def}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName.MatchString(def.Name) {
		wrong("name: %q must be 1 to 128 letters, digits and underscores", def.Name)
	}
	version := iotsql.V2016
	if def.Version != "" {
		v, err := iotsql.ParseVersion(def.Version)
		if err != nil {
			wrong("version: %w", err)
		}
		version = v
	}
	st, err := iotsql.Parse(def.SQL, version)
	if err != nil {
		wrong("sql: %w", err)
		return nil, errors.Join(errs...)
	}
	r.st = st
	if err := served(st.External()); err != nil {
		wrong("sql: %w", err)
	}
	if strings.Count(st.Filter(), "/") >= topicindex.MaxLevels {
		wrong("sql: the topic filter has more than %d levels", topicindex.MaxLevels)
	}
	if len(def.Actions) > maxActions {
		wrong("actions: %d are more than the %d a rule may have", len(def.Actions), maxActions)
	}
	for i, a := range def.Actions {
		p, err := a.compile(st)
		if err != nil {
			wrong("actions[%d].%w", i, err)
		}
		r.actions = append(r.actions, p)
	}
	if def.ErrorAction != nil {
		if r.onError, err = def.ErrorAction.compile(st); err != nil {
			wrong("error_action.%w", err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return r, nil
}

func (a Action) compile(st *iotsql.Statement) (*republish, error) {
	switch {
	case a.Republish == nil:
		return nil, fault.New(fault.Invalid, "republish: an action needs what to do; republish is served")
	case a.Republish.QoS > 1:
		return nil, fault.New(fault.Invalid, "republish.qos: must be 0 or 1")
	case a.Republish.Topic == "":
		return nil, fault.New(fault.Invalid, "republish.topic: is missing")
	}
	t, err := newTopic(a.Republish.Topic, st)
	if err != nil {
		return nil, fmt.Errorf("republish.topic: %w", err)
	}
	h, err := a.Republish.Headers.compile(st)
	if err != nil {
		return nil, fmt.Errorf("republish.headers.%w", err)
	}
	return &republish{topic: t, qos: a.Republish.QoS, headers: h}, nil
}

// served refuses functions that leave the gateway: nothing here answers them yet, and a rule that
// silently saw Undefined in their place would be worse than one that is not taken.
func served(external []string) error {
	if len(external) > 0 {
		return fault.New(fault.Unsupported, "%s() is not served here", external[0])
	}
	return nil
}
