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
//	eng, err := rules.New(cfg)
//	if m := eng.Match("dt/pump1/flow"); m != nil {
//		results := m.Eval(&msg)
//	}
package rules

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"

	"tidegate/gateway/clock"
	"tidegate/gateway/fault"
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
	clk     clock.Clock
	log     *slog.Logger
	account string
	inputs  sync.Pool

	gen   atomic.Uint64
	mu    sync.RWMutex // guards what follows
	rules map[string]*rule
	index topicindex.Index[*rule, struct{}]

	looped atomic.Uint64
}

// rule is one rule, compiled.
type rule struct {
	def     Rule
	st      *iotsql.Statement
	actions []*republish
	onError *republish

	matched, passed, failed, actionFailed atomic.Uint64
}

// Deps are what the engine stands on.
type Deps struct {
	Clock   clock.Clock
	Log     *slog.Logger
	Account string // 12 digits, what accountid() tells
}

// New compiles the rules of cfg. Its error joins what Validate says.
func New(cfg Config, d Deps) (*Engine, error) {
	e := &Engine{clk: d.Clock, log: d.Log, account: d.Account, rules: map[string]*rule{}, index: topicindex.Index[*rule, struct{}]{AWS: true}}
	e.inputs.New = func() any { return new(iotsql.Input) }
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for _, def := range cfg {
		r, err := compile(def)
		if err != nil {
			return nil, err
		}
		e.rules[def.Name] = r
		if f := r.st.Filter(); f != "" && !def.Disabled {
			if _, err := e.index.Add(f, r, struct{}{}); err != nil {
				return nil, fault.New(fault.Invalid, "rule %s: the topic filter %q has too many levels", def.Name, f)
			}
		}
	}
	return e, nil
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

// Match gives the rules that look at topic, nil for none.
func (e *Engine) Match(topic string) *Matched {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if t, ok := awstopic.Parse(topic); ok && t.Service == awstopic.Rules {
		m := &Matched{e: e, topic: t.Rest, private: true}
		if r := e.rules[t.Name]; r != nil && !r.def.Disabled {
			m.rules = []*rule{r}
		}
		return m
	}
	var m *Matched
	e.index.Match(topic, func(r *rule, _ struct{}) {
		if m == nil {
			m = &Matched{e: e, topic: topic}
		}
		m.rules = append(m.rules, r)
	})
	return m
}

// Eval evaluates the rules against msg and gives the messages that follow, in the order of the rules'
// actions. A rule that fails says so in its counters and, where it has one, by its error action.
func (m *Matched) Eval(msg *mqtt.Message) []mqtt.Message {
	if len(m.rules) == 0 {
		return nil
	}
	e := m.e
	if msg.Hops >= MaxHops {
		e.looped.Add(1)
		return nil
	}
	in := e.inputs.Get().(*iotsql.Input)
	defer e.inputs.Put(in)
	in.Reset(m.topic, msg.Payload)
	in.Context = iotsql.Context{AccountID: e.account, Principal: msg.Principal, Now: e.clk.Now, Props: &msg.Props}
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
		e.log.Debug("rule failed", "rule", r.def.Name, "err", err)
		failures = append(failures, failure{"SqlStatement", "", fault.Message(err)})
	case !res.Matched:
		return out
	default:
		r.passed.Add(1)
		for _, a := range r.actions {
			m, err := a.message(in, msg, res.Payload)
			if err != nil {
				r.actionFailed.Add(1)
				e.log.Debug("action of a rule failed", "rule", r.def.Name, "err", err)
				failures = append(failures, failure{"RepublishAction", a.topic.source, fault.Message(err)})
				continue
			}
			out = append(out, m)
		}
	}
	if len(failures) == 0 || r.onError == nil {
		return out
	}
	doc, _ := json.Marshal(errorMessage{Rule: r.def.Name, Topic: msg.Topic, ClientID: in.Context.ClientID,
		Payload: base64.StdEncoding.EncodeToString(msg.Payload), Failures: failures}) // strings only: cannot fail
	m, err := r.onError.message(in, msg, doc)
	if err != nil {
		r.actionFailed.Add(1)
		e.log.Debug("error action of a rule failed", "rule", r.def.Name, "err", err)
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

// Metrics registers the counters of each rule.
func (e *Engine) Metrics(m *metrics.Set) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	m.Counter("tidegate_rules_looped_total", "Messages not evaluated because rules had followed one another too often.", func() float64 { return float64(e.looped.Load()) })
	for name, r := range e.rules {
		for _, c := range []struct {
			name, help string
			v          *atomic.Uint64
		}{
			{"tidegate_rule_matched_total", "Messages the rule looked at.", &r.matched},
			{"tidegate_rule_passed_total", "Messages the rule selected.", &r.passed},
			{"tidegate_rule_failed_total", "Messages the rule could not evaluate.", &r.failed},
			{"tidegate_rule_action_failed_total", "Actions that failed.", &r.actionFailed},
		} {
			m.Counter(c.name, c.help, func() float64 { return float64(c.v.Load()) }, "rule", name)
		}
	}
}
