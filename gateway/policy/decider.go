package policy

import "slices"

// Decision is the answer of all policies together.
type Decision uint8

// The three answers. ImplicitDeny is the zero value.
const (
	ImplicitDeny Decision = iota // nothing spoke for it
	Allow
	ExplicitDeny // something spoke against it
)

// String gives the name TestAuthorization uses.
func (d Decision) String() string {
	switch d {
	case Allow:
		return "ALLOWED"
	case ExplicitDeny:
		return "EXPLICIT_DENY"
	}
	return "IMPLICIT_DENY"
}

// Decider answers for one connection. It is immutable, safe for concurrent use,
// and lasts until a policy, an attachment or the thing changes; then compile
// another. A nil Decider denies everything.
type Decider struct {
	base  string
	rules []rule // denials first
	ctx   Context
}

// rule is a statement with the connection's values filled in.
type rule struct {
	mask     uint32
	deny     bool
	not      bool // the patterns are of a NotResource
	inert    bool // an Allow with NotResource and a variable without a value
	patterns []pattern
	timed    []*condition // those that must be answered at each decision
	from     *statement
	doc      int
}

// Compile fills in what is known of a connection. Conditions whose keys cannot
// change are answered here; statements they switch off are left out.
func Compile(docs []*Document, c Context) *Decider {
	d := &Decider{base: c.Base, ctx: c}
	for i, doc := range docs {
		for _, s := range doc.statements {
			if r, ok := s.compile(&d.ctx); ok {
				r.doc = i
				d.rules = append(d.rules, r)
			}
		}
	}
	slices.SortStableFunc(d.rules, func(a, b rule) int {
		switch {
		case a.deny == b.deny:
			return 0
		case a.deny:
			return -1
		}
		return 1
	})
	return d
}

// compile makes the statement's rule, or says that its conditions do not hold.
func (s *statement) compile(c *Context) (rule, bool) {
	r := rule{mask: s.mask, deny: s.deny, not: s.notResources, from: s}
	for i := range s.conditions {
		k := &s.conditions[i]
		if k.timed {
			r.timed = append(r.timed, k)
		} else if !k.holds(c) {
			return rule{}, false
		}
	}
	for i := range s.resources {
		p := s.resources[i].pattern(c)
		if p.never {
			// "Everything but ${x}" without x would be everything: an Allow must
			// fail closed instead. A Deny of it denies.
			if s.notResources && !s.deny {
				r.inert = true
			}
			continue
		}
		r.patterns = append(r.patterns, p)
	}
	return r, !r.inert
}

// applies says whether the rule speaks of the resource, now.
func (r *rule) applies(resource []byte, c *Context) bool {
	hit := false
	for i := range r.patterns {
		if r.patterns[i].match(resource) {
			hit = true
			break
		}
	}
	if hit == r.not {
		return false
	}
	for _, k := range r.timed {
		if !k.holds(c) {
			return false
		}
	}
	return true
}

// May says whether the action is allowed on a name under the Decider's base ARN:
// a topic, filter, client id, thing ("pump1", "pump1/shadow") or role alias.
func (d *Decider) May(a Action, name string) bool {
	if d == nil || a >= actions {
		return false
	}
	var buf [320]byte // an ARN of the longest topic; longer ones spill to the heap
	return d.decide(a, a.append(buf[:0], d.base, name)) == Allow
}

// Decide answers for a whole ARN.
func (d *Decider) Decide(a Action, resource string) Decision {
	if d == nil || a >= actions {
		return ImplicitDeny
	}
	var buf [320]byte
	return d.decide(a, append(buf[:0], resource...))
}

func (d *Decider) decide(a Action, resource []byte) Decision {
	bit := uint32(1) << a
	for i := range d.rules {
		r := &d.rules[i]
		if r.mask&bit != 0 && r.applies(resource, &d.ctx) {
			if r.deny {
				return ExplicitDeny
			}
			return Allow
		}
	}
	return ImplicitDeny
}

// Named answers for an action that is not in the table, for example an
// operation of the control plane ("iot:CreateThing").
func (d *Decider) Named(action, resource string) Decision {
	if d == nil {
		return ImplicitDeny
	}
	for i := range d.rules {
		r := &d.rules[i]
		if r.from.selects(action) && r.applies([]byte(resource), &d.ctx) {
			if r.deny {
				return ExplicitDeny
			}
			return Allow
		}
	}
	return ImplicitDeny
}

// Explanation says how a decision came about, for TestAuthorization.
type Explanation struct {
	Decision Decision
	Allowed  []string // names of the documents with a matching Allow
	Denied   []string // names of the documents with a matching Deny
	Missing  []string // keys the policies name for this action that had no value
}

// Explain answers like Decide and gives the reasons. It looks at every
// statement, so it is for people, not for the road of a message.
func Explain(docs []*Document, c Context, a Action, resource string) Explanation {
	d := Compile(docs, c)
	e := Explanation{Decision: d.Decide(a, resource)}
	for i := range d.rules {
		r := &d.rules[i]
		if r.mask&(1<<a) == 0 || !r.applies([]byte(resource), &c) {
			continue
		}
		list := &e.Allowed
		if r.deny {
			list = &e.Denied
		}
		if name := docs[r.doc].Name; !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	for _, doc := range docs {
		for _, s := range doc.statements {
			if s.mask&(1<<a) != 0 {
				e.Missing = s.missing(&c, e.Missing)
			}
		}
	}
	slices.Sort(e.Missing)
	e.Missing = slices.Compact(e.Missing)
	return e
}

// missing appends the keys a statement names that have no value.
func (s *statement) missing(c *Context, names []string) []string {
	for i := range s.resources {
		names = s.resources[i].missing(c, names)
	}
	for i := range s.conditions {
		k := &s.conditions[i]
		if _, ok := c.values(k.key); !ok {
			names = append(names, k.key)
		}
		for j := range k.values {
			names = k.values[j].missing(c, names)
		}
	}
	return names
}
