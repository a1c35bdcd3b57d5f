package iotsql

import (
	"math/rand/v2"
	"time"
	"unsafe"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
)

// Bounds of one evaluation.
const (
	maxNesting = 1000                   // levels of a value
	maxBytes   = 8 << 20                // bytes of all texts and documents built
	maxSteps   = 1 << 20                // elements looked at, calls of costly functions
	regexTime  = 200 * time.Millisecond // of all regular expressions together
)

// Context is what a rule can ask about a message besides its topic and payload. Empty
// fields are Undefined in the language unless noted.
type Context struct {
	AccountID string
	ClientID  string // of the MQTT client; empty: "n/a", published otherwise
	Principal string
	MQTT      bool             // came over MQTT: only then there is a trace id
	TraceID   string           // empty: made up when it is asked for
	Props     *mqtt.Props      // of MQTT 5; nil: none
	Now       func() time.Time // nil: timestamp() is Undefined
	Random    func() uint64    // nil: math/rand/v2; for rand(), newuuid() and traceid()
}

// External answers the calls that leave a rule (§6.6). name is in lower case, args are
// JSON texts, nil for Undefined. The answer is a JSON text, nil for Undefined. An error
// fails the rule for this message. The arguments may be kept.
type External interface {
	Call(name string, args [][]byte) ([]byte, error)
}

// Input is a message as rules see it. Its payload is parsed when the first rule asks for
// it, once for all rules. Topic, Payload and Context must not change between Reset and the
// last use of what was evaluated.
//
// Topic is what topic() tells: for Basic Ingest the part behind the rule's name.
type Input struct {
	Topic    string
	Payload  []byte
	Context  Context
	External External

	parsed bool // doc was tried
	json   bool // the payload is JSON
	doc    document

	whole  bool       // the statement's version takes 10.0 for an Int
	of     *Statement // whose variables vars are
	vars   []value
	scopes []scope
	stack  []value // arguments of the calls in progress
	err    error
	steps  int
	bytes  int
	regex  time.Duration
}

// scope is an element that a nested query looks at.
type scope struct {
	alias string
	elem  value
}

// Reset makes the Input ready for another message. It keeps the memory it works in.
func (in *Input) Reset(topic string, payload []byte) {
	clear(in.stack[:cap(in.stack)])
	clear(in.vars[:cap(in.vars)])
	clear(in.scopes[:cap(in.scopes)])
	*in = Input{Topic: topic, Payload: payload, doc: document{nodes: in.doc.nodes[:0]},
		vars: in.vars[:0], scopes: in.scopes[:0], stack: in.stack[:0]}
}

// JSON says whether the payload is one JSON value.
func (in *Input) JSON() bool { return in.root() }

// root parses the payload if that was not done yet, and says whether it is JSON.
func (in *Input) root() bool {
	if !in.parsed {
		in.parsed = true
		in.json = in.doc.parse(unsafe.String(unsafe.SliceData(in.Payload), len(in.Payload)))
	}
	return in.json
}

// begin starts the evaluation of a statement or of a template.
func (in *Input) begin(v Version) {
	in.whole = v != V2015
	in.err, in.steps, in.bytes, in.regex = nil, 0, 0, 0
	in.scopes, in.stack = in.scopes[:0], in.stack[:0]
}

// assign evaluates the variables of SET.
func (in *Input) assign(st *Statement) {
	in.vars = in.vars[:0]
	for _, e := range st.set {
		in.vars = append(in.vars, e(in))
	}
	in.of = st
}

// fail notes the first error of an evaluation.
func (in *Input) fail(err error) {
	if in.err == nil {
		in.err = err
	}
}

// spend counts n steps; it is false when the evaluation has failed or this was too much.
func (in *Input) spend(n int) bool {
	if in.steps += n; in.steps > maxSteps {
		in.fail(errTooMuch)
	}
	return in.err == nil
}

// grow counts n bytes built; it is false when the evaluation has failed or this was too
// much.
func (in *Input) grow(n int) bool {
	if in.bytes += n; in.bytes > maxBytes {
		in.fail(errTooLarge)
	}
	return in.err == nil
}

// room says whether a text of n bytes may go on growing.
func (in *Input) room(n int) bool {
	if in.bytes+n > maxBytes {
		in.fail(errTooLarge)
	}
	return in.err == nil
}

// built counts a text that was made, and gives it as a value.
func (in *Input) built(s string) value {
	if !in.grow(len(s)) {
		return undef
	}
	return textValue(s)
}

// call asks External.
func (in *Input) call(name string, args []value) value {
	if in.External == nil || in.err != nil {
		return undef
	}
	texts := make([][]byte, len(args))
	for i, a := range args {
		if a.kind != undefined {
			texts[i] = in.appendJSON(nil, a, 0)
		}
	}
	answer, err := in.External.Call(name, texts)
	switch {
	case err != nil:
		in.fail(fault.Wrap(fault.Of(err), err, "%s: %s", name, fault.Message(err)))
		return undef
	case answer == nil:
		return undef
	}
	var d document
	if !in.grow(len(answer)) || !d.parse(string(answer)) {
		return undef
	}
	return d.load(0, in.whole)
}

// random gives bits for functions that promise nothing to whoever wants to guess them.
func (in *Input) random() uint64 {
	if in.Context.Random != nil {
		return in.Context.Random()
	}
	return rand.Uint64()
}
