// Package rules keeps the rules of the gateway and works out what follows from a message.
//
// A rule is a statement of the rule language (iotsql) and the actions to take with what it selects. Match
// says which rules look at a topic, and is cheap enough to be asked for every topic once; Eval evaluates
// them against one message and gives the messages that follow. The package writes nothing and publishes
// nothing: what it returns, the road commits together with the message that caused it.
//
// A message published to $aws/rules/NAME/… is addressed to that rule alone and delivered to nobody
// (Basic Ingest). A rule's result goes through the rules again, at most MaxHops deep.
//
//	eng, err := rules.New(cfg, rules.Deps{Clock: clk, Log: log, Account: "123456789012"})
//	if m := eng.Match("dt/pump1/flow"); m != nil {
//		results := m.Eval(&msg)
//	}
package rules

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
	"tidegate/gateway/logs"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/mqtt/awstopic"
	"tidegate/gateway/mqtt/topicindex"
	"tidegate/gateway/rules/iotsql"
)

// MaxHops is how many rules may follow one another before a chain is cut.
const MaxHops = 8

// Engine holds the rules. Its methods may be called concurrently.
type Engine struct {
	now     func() time.Time
	log     *slog.Logger
	account string
	inputs  sync.Pool

	maxPayload int

	gen    atomic.Uint64
	mu     sync.RWMutex // guards what follows
	rules  map[string]*rule
	index  *topicindex.Index[*rule, struct{}]
	counts map[string]*counts // of every rule there has been, so that a changed rule counts on
	shown  *metrics.Set       // where the counters of new rules are registered

	looped, unaddressed atomic.Uint64
}

// rule is one rule, compiled.
type rule struct {
	def     Rule
	st      *iotsql.Statement
	actions []*republish
	onError *republish
	*counts
}

// counts are the numbers of a rule.
type counts struct{ matched, passed, failed, taken, actionFailed atomic.Uint64 }

// Deps are what the engine stands on.
type Deps struct {
	Clock   clock.Clock
	Log     *slog.Logger
	Account string // 12 digits, what accountid() tells

	// MaxPayload is the largest result a rule may send on, in bytes; 0 is AWS's 128 KiB. Larger ones are
	// failed actions.
	MaxPayload int
}

// maxPayload is the largest message of AWS IoT.
const maxPayload = 128 << 10

// New compiles the rules of cfg. Its error joins what Validate says.
func New(cfg Config, d Deps) (*Engine, error) {
	e := &Engine{now: d.Clock.Now, log: d.Log, account: d.Account, maxPayload: d.MaxPayload, counts: map[string]*counts{}}
	if e.maxPayload == 0 {
		e.maxPayload = maxPayload
	}
	e.inputs.New = func() any { return new(iotsql.Input) }
	return e, e.Load(cfg)
}

// Load puts the rules of cfg in the place of all others, or changes nothing: its error joins what Validate
// says. A rule of the same name counts on.
func (e *Engine) Load(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	rules := make(map[string]*rule, len(cfg))
	index := &topicindex.Index[*rule, struct{}]{AWS: true}
	for _, def := range cfg {
		r, err := compile(def)
		if err != nil {
			return err
		}
		rules[def.Name] = r
		if f := r.st.Filter(); f != "" && !def.Disabled {
			if _, err := index.Add(f, r, struct{}{}); err != nil {
				return fault.Wrap(fault.Invalid, err, "rule %s: the topic filter %q cannot be used", def.Name, f)
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, r := range rules {
		if e.counts[name] == nil {
			e.counts[name] = new(counts)
			e.show(name)
		}
		r.counts = e.counts[name]
	}
	e.rules, e.index = rules, index
	e.gen.Add(1)
	return nil
}

// Info is a rule and what it has done since the start.
type Info struct {
	Rule
	Filter string // of its statement; empty: for Basic Ingest only

	Matched, Passed, Failed, Actions, ActionsFailed uint64 // as the metrics of the same names
}

// Rules gives the rules in the order of their names.
func (e *Engine) Rules() []Info {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]Info, 0, len(e.rules))
	for _, r := range e.rules {
		out = append(out, Info{r.def, r.st.Filter(), r.matched.Load(), r.passed.Load(), r.failed.Load(), r.taken.Load(), r.actionFailed.Load()})
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Gen changes whenever what Match would say may have changed.
func (e *Engine) Gen() uint64 { return e.gen.Load() }

// Matched is the rules that look at one topic. It holds until Gen changes.
type Matched struct {
	e       *Engine
	topic   string // as the rules see it
	private bool
	rules   []*rule
}

// Private says whether messages of this topic are for its rule alone: nobody may receive them.
func (m *Matched) Private() bool { return m.private }

// Match gives the rules that look at topic, in the order of their names; nil for none. No rule sees what is
// sent to one connection alone.
func (e *Engine) Match(topic string) *Matched {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if awstopic.Is(topic) {
		if t, ok := awstopic.Parse(topic); ok && t.Service == awstopic.Rules {
			m := &Matched{e: e, topic: t.Rest, private: true}
			if r := e.rules[t.Name]; r != nil && !r.def.Disabled {
				m.rules = []*rule{r}
			}
			return m
		}
		if awstopic.Direct(topic) {
			return nil
		}
	}
	var m *Matched
	e.index.Match(topic, func(r *rule, _ struct{}) {
		if m == nil {
			m = &Matched{e: e, topic: topic}
		}
		m.rules = append(m.rules, r)
	})
	if m != nil {
		slices.SortFunc(m.rules, func(a, b *rule) int { return strings.Compare(a.def.Name, b.def.Name) })
	}
	return m
}

// Eval evaluates the rules against msg and gives the messages that follow, in the order of the rules'
// actions. A rule that fails says so in its counters and, where it has one, by its error action.
func (m *Matched) Eval(msg *mqtt.Message) []mqtt.Message {
	e := m.e
	if len(m.rules) == 0 { // Basic Ingest to a rule that is not there, or disabled
		e.unaddressed.Add(1)
		return nil
	}
	if msg.Hops >= MaxHops {
		e.looped.Add(1)
		return nil
	}
	in := e.inputs.Get().(*iotsql.Input)
	defer func() {
		in.Reset("", nil) // keep nothing of the message
		e.inputs.Put(in)
	}()
	in.Reset(m.topic, msg.Payload)
	in.Context = iotsql.Context{AccountID: e.account, Principal: msg.Principal, Now: e.now, Props: &msg.Props}
	if msg.Origin == mqtt.Client || msg.Origin == mqtt.Will {
		in.Context.ClientID, in.Context.MQTT = msg.From, true
	}
	var out []mqtt.Message
	for _, r := range m.rules {
		out = r.eval(e, in, msg, out)
	}
	return out
}

// eval appends what r makes of msg.
func (r *rule) eval(e *Engine, in *iotsql.Input, msg *mqtt.Message, out []mqtt.Message) []mqtt.Message {
	r.matched.Add(1)
	res, err := r.st.Eval(in)
	var failures []failure
	switch {
	case err != nil:
		r.failed.Add(1)
		e.log.Debug("rule failed", "rule", r.def.Name, logs.Err(err))
		failures = append(failures, failure{"SqlStatement", "", fault.Message(err)})
	case !res.Matched:
		return out
	default:
		r.passed.Add(1)
		for _, a := range r.actions {
			r.taken.Add(1)
			m, err := a.message(in, msg, res.Payload)
			if err == nil && len(m.Payload) > e.maxPayload {
				err = fault.New(fault.TooLarge, "the result has %d bytes; a message may have %d", len(m.Payload), e.maxPayload)
			}
			if err != nil {
				r.actionFailed.Add(1)
				e.log.Debug("action of a rule failed", "rule", r.def.Name, logs.Err(err))
				failures = append(failures, failure{"RepublishAction", a.topic.source, fault.Message(err)})
				continue
			}
			out = append(out, m)
		}
	}
	if len(failures) == 0 || r.onError == nil {
		return out
	}
	client := in.Context.ClientID
	if client == "" {
		client = "n/a"
	}
	doc, _ := json.Marshal(errorMessage{Rule: r.def.Name, Topic: msg.Topic, Trace: in.TraceID(), ClientID: client,
		Payload: base64.StdEncoding.EncodeToString(msg.Payload), Failures: failures}) // strings only: cannot fail
	m, err := r.onError.message(in, msg, doc)
	if err != nil {
		r.actionFailed.Add(1)
		e.log.Debug("error action of a rule failed", "rule", r.def.Name, logs.Err(err))
		return out
	}
	return append(out, m)
}

// errorMessage is what an error action is given (spec/rules.md §8.1).
type errorMessage struct {
	Rule     string    `json:"ruleName"`
	Topic    string    `json:"topic"`
	Trace    string    `json:"cloudwatchTraceId"`
	ClientID string    `json:"clientId"`
	Payload  string    `json:"base64OriginalPayload"`
	Failures []failure `json:"failures"`
}

type failure struct {
	Action   string `json:"failedAction"`
	Resource string `json:"failedResource"`
	Message  string `json:"errorMessage"`
}

// Metrics registers the engine's counters and those of each rule, also of rules that come later. It may be
// called once.
func (e *Engine) Metrics(m *metrics.Set) {
	m.Counter("tidegate_rules_looped_total", "Messages not evaluated because rules had followed one another too often.",
		func() float64 { return float64(e.looped.Load()) })
	m.Counter("tidegate_rules_not_found_total", "Messages addressed to a rule that is not there or is disabled.",
		func() float64 { return float64(e.unaddressed.Load()) })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shown = m
	for name := range e.counts {
		e.show(name)
	}
}

// show registers the counters of a rule. The caller holds mu.
func (e *Engine) show(name string) {
	if e.shown == nil {
		return
	}
	r := e.counts[name]
	for _, c := range []struct {
		name, help string
		v          *atomic.Uint64
	}{
		{"tidegate_rule_matched_total", "Messages the rule looked at.", &r.matched},
		{"tidegate_rule_passed_total", "Messages the rule selected.", &r.passed},
		{"tidegate_rule_failed_total", "Messages the rule could not evaluate.", &r.failed},
		{"tidegate_rule_actions_total", "Actions taken, failed ones among them.", &r.taken},
		{"tidegate_rule_action_failed_total", "Actions that failed.", &r.actionFailed},
	} {
		e.shown.Counter(c.name, c.help, func() float64 { return float64(c.v.Load()) }, "rule", name)
	}
}
