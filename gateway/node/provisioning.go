package node

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"tidegate/gateway/audit"
	"tidegate/gateway/authz"
	"tidegate/gateway/authz/bearer"
	"tidegate/gateway/callout"
	"tidegate/gateway/fault"
	"tidegate/gateway/ingest"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/provision"
	"tidegate/gateway/reserved"
)

// FunctionConfig is a function where AWS has a Lambda function: behind custom authorizers
// and pre-provisioning hooks, which name it by its ARN,
// arn:aws:lambda:REGION:ACCOUNT:function:NAME. It is one of three things.
type FunctionConfig struct {
	Name    string        `yaml:"name"`
	Command []string      `yaml:"command"` // a program and its arguments: JSON in on standard input, JSON out
	URL     string        `yaml:"url"`     // an HTTP endpoint that JSON is posted to
	Roots   string        `yaml:"roots"`   // file with the authorities to trust for it; empty for the system's
	Timeout time.Duration `yaml:"timeout"` // for one call; 5s unless given
	JWT     bearer.Config `yaml:"jwt"`     // the built-in verifier of JSON Web Tokens, for custom authorizers
}

// Validate says what is impossible in c.
func (c FunctionConfig) Validate() error {
	var errs []error
	no := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" || callout.Name("arn:aws:lambda:r:a:function:"+c.Name) != c.Name {
		no("name: is %q, expected the name of a function", c.Name)
	}
	kinds := 0
	for _, is := range []bool{len(c.Command) > 0, c.URL != "", c.JWT.Set()} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		no("command, url, jwt: %d of them are given, expected one", kinds)
	}
	if len(c.Command) > 0 && !filepath.IsAbs(c.Command[0]) {
		no("command: is %q, expected a program with its whole path", c.Command[0])
	}
	if u, err := url.Parse(c.URL); c.URL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		no("url: is %q, expected http://… or https://…", c.URL)
	}
	if c.Timeout < 0 || c.Timeout > maxFunction {
		no("timeout: is %v, expected up to %v", c.Timeout, maxFunction)
	}
	if c.JWT.Set() {
		if err := c.JWT.Validate(); err != nil {
			no("jwt: %w", err)
		}
	}
	return errors.Join(errs...)
}

// functionMetrics registers what functions counts.
func functionMetrics(functions *callout.Set, m *metrics.Set) {
	count := func(name, help string, read func(callout.Stats) uint64) {
		m.Counter("tidegate_callout_"+name, help, func() float64 { return float64(read(functions.Stats())) })
	}
	count("calls_total", "Calls of functions.", func(s callout.Stats) uint64 { return s.Calls })
	count("failed_total", "Calls of functions that failed or took too long.", func(s callout.Stats) uint64 { return s.Failed })
	count("busy_total", "Calls of functions given up because too many were under way.", func(s callout.Stats) uint64 { return s.Busy })
	m.Gauge("tidegate_callout_running", "Calls of functions under way.", func() float64 { return float64(functions.Stats().Running) })
}

// maxFunction bounds what an operator may let a client wait for a function.
const maxFunction = time.Minute

// functions makes the functions that are configured.
func (n *Node) functions() (*callout.Set, error) {
	set := callout.NewSet()
	for _, c := range n.cfg.Functions {
		roots := c.Roots
		if c.JWT.Set() {
			roots = c.JWT.Roots
		}
		client, err := callout.Client(roots)
		if err != nil {
			return nil, fmt.Errorf("function %s: %w", c.Name, err)
		}
		limit := c.Timeout
		if limit == 0 {
			limit = callout.TimeLimit
		}
		f := callout.Endpoint(client, c.URL)
		switch {
		case len(c.Command) > 0:
			f = callout.Command(c.Command)
		case c.JWT.Set():
			jwt := c.JWT
			jwt.Cache = filepath.Join(n.cfg.Data, "keys", c.Name+".json")
			f = bearer.New(jwt, client, n.Clock, n.Log).Call
		}
		set.AddLimit(c.Name, f, limit)
	}
	return set, nil
}

// openAudit has every change and every refusal written down. It comes before the first
// change.
func (n *Node) openAudit(road *ingest.Road, set *metrics.Set) (err error) {
	if n.audit, err = audit.Open(n.store, n.Clock, n.Log, n.cfg.Audit); err != nil {
		return err
	}
	n.registry.Through(road.Commit)
	n.registry.Witness(n.audit.Witness)
	events := reserved.NewRegistryEvents(n.registry)
	n.registry.Witness(events.Witness)
	n.memberships = reserved.NewMemberships(events, n.store, n.Clock, n.Log, road.Commit)
	n.operators.Through(road.Commit)
	n.operators.Witness(n.audit.Person)
	n.audit.Through(road.Commit)
	n.authz.OnRefused(func(r authz.Refusal) {
		x := audit.Refusal{What: r.What, Name: r.Name, By: r.Principal, Client: r.Client, Err: r.Err}
		if r.Remote.IsValid() {
			x.Address = r.Remote.String()
		}
		n.audit.Refuse(x)
	})
	n.audit.Metrics(set)
	return nil
}

// openProvisioning opens what brings devices in: fleet provisioning, first contact,
// registration tasks, custom authorizers.
func (n *Node) openProvisioning(road *ingest.Road, set *metrics.Set) error {
	functions, err := n.functions()
	if err != nil {
		return err
	}
	functionMetrics(functions, set)
	n.authz.Custom(functions)
	first := provision.NewFirstContact(n.registry, n.identity, road.Submit, n.Log)
	n.authz.OnContact(func(c authz.Contact) { first.Meet(c.Certificate, c.CA) })
	n.fleet = provision.NewFleet(n.registry, n.identity, functions, n.Clock, n.Log)
	if n.tasks, err = provision.OpenTasks(n.store, n.registry, n.identity, filepath.Join(n.cfg.Data, "registration"), n.Clock, n.Log); err != nil {
		return err
	}
	n.claims = reserved.NewProvisioning(n.fleet, road.Submit, n.Log)
	topics := n.claims
	topics.OnRefused(func(m *mqtt.Message, template string, err error) {
		n.audit.Refuse(audit.Refusal{What: "provision", Name: m.Topic, By: m.Principal, Client: m.From, Err: err})
	})
	topics.Metrics(set)
	for _, f := range topics.Filters() {
		n.broker.Watch(f, topics.Note)
	}
	return nil
}

// addProvisioning adds the tasks of what openProvisioning has opened.
func (n *Node) addProvisioning() {
	n.group.OnStop("custom authorizers", func() error { n.authz.Wait(); return nil })
	n.group.Add("provisioning", n.claims.Run)
	n.group.Add("passing certificates", n.fleet.Run)
	n.group.Add("registration tasks", n.tasks.Run)
	n.group.Restart("dynamic groups", n.memberships.Run)
}

// past gives what can be looked back at, the oldest first: what the journal keeps, and
// the audit log, which keeps its entries longer.
func (n *Node) past(fn func(run *mqtt.Run, lost uint64) bool) error {
	var entries []*mqtt.Run
	err := n.audit.Entries(time.Time{}, func(m mqtt.Message) bool {
		m.Payload = bytes.Clone(m.Payload)
		entries = append(entries, mqtt.NewRun(&m))
		return true
	})
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the audit log cannot be read")
	}
	going := true
	err = n.history(func(run *mqtt.Run, lost uint64) bool {
		if run != nil && len(run.Topic) > len(audit.Prefix) && run.Topic[:len(audit.Prefix)] == audit.Prefix {
			return true // it is among the entries
		}
		for going && run != nil && len(entries) > 0 && !entries[0].At.After(run.At) {
			going = fn(entries[0], 0)
			entries = entries[1:]
		}
		going = going && fn(run, lost)
		return going
	})
	for ; err == nil && going && len(entries) > 0; entries = entries[1:] {
		going = fn(entries[0], 0)
	}
	return err
}
