package iotsql

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/dlclark/regexp2"
)

// regex is a compiled pattern. It may be used by many goroutines at once.
type regex struct {
	source  string
	literal string // not empty: the pattern is this text and nothing else
	re      *regexp2.Regexp
	groups  int
	names   map[string]int
}

// compileRegex compiles a pattern of Java's; nil for one that Java would refuse.
func compileRegex(pattern string) (r *regex) {
	out, groups, names, literal, err := translate(pattern)
	if err != nil {
		return nil
	}
	if literal != "" {
		return &regex{source: pattern, literal: literal}
	}
	defer func() { // the engine is not ours, and the pattern may come out of a message
		if recover() != nil {
			r = nil
		}
	}()
	re, err := regexp2.Compile(out, regexp2.None)
	if err != nil {
		return nil
	}
	re.MatchTimeout = regexTime
	return &regex{source: pattern, re: re, groups: groups, names: names}
}

// run calls f under the Input's stopwatch. A pattern that takes too long, alone or with
// those before it, fails the rule.
func (in *Input) run(f func() error) (ok bool) {
	if !in.spend(1) {
		return false
	}
	start := time.Now()
	defer func() {
		if recover() != nil {
			ok = false
		}
		if in.regex += time.Since(start); in.regex > regexTime || !ok {
			in.fail(errRegex)
			ok = false
		}
	}()
	return f() == nil
}

// find gives the first match of r in s.
func (in *Input) find(r *regex, s string) (match string, found bool) {
	if r.literal != "" {
		return r.literal, strings.Contains(s, r.literal)
	}
	in.run(func() error {
		m, err := r.re.FindStringMatch(s)
		if m != nil {
			match, found = m.String(), true
		}
		return err
	})
	return match, found
}

// replaceAll replaces every match of r in s, as Matcher.replaceAll does: $1 and ${name}
// are groups, a backslash takes the next character as it is. False for a replacement that
// Java would refuse, which it does when there is something to replace.
func (in *Input) replaceAll(r *regex, s, with string) (string, bool) {
	parts, good := r.replacement(with)
	if r.literal != "" {
		n := strings.Count(s, r.literal)
		if n == 0 {
			return s, true
		}
		if !good || !in.room(len(s)+n*(len(with)+len(parts)*len(r.literal))) {
			return "", false
		}
		var b strings.Builder
		for {
			before, after, found := strings.Cut(s, r.literal)
			b.WriteString(before)
			if !found {
				return b.String(), true
			}
			for _, p := range parts {
				if p.group >= 0 {
					b.WriteString(r.literal) // group 0, there is no other
				}
				b.WriteString(p.text)
			}
			s = after
		}
	}
	var b strings.Builder
	chars := []rune(s)
	ok := in.run(func() error {
		at := 0
		m, err := r.re.FindRunesMatch(chars)
		good = good || m == nil
		for ; m != nil && good; m, err = r.re.FindNextMatch(m) {
			b.WriteString(string(chars[at:m.Index]))
			for _, p := range parts {
				if p.group >= 0 {
					b.WriteString(m.GroupByNumber(p.group).String())
				}
				b.WriteString(p.text)
			}
			at = m.Index + m.Length
			if !in.spend(1) || !in.room(b.Len()) {
				return nil
			}
		}
		b.WriteString(string(chars[at:]))
		return err
	})
	return b.String(), ok && good && in.err == nil
}

// replacePart is a group's text, then a fixed one.
type replacePart struct {
	group int // -1: none
	text  string
}

func (r *regex) replacement(s string) ([]replacePart, bool) {
	parts := []replacePart{{group: -1}}
	var b strings.Builder
	flush := func() {
		parts[len(parts)-1].text = b.String()
		b.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return nil, false
			}
			b.WriteByte(s[i])
		case '$':
			i++
			group := -1
			switch {
			case i < len(s) && s[i] == '{':
				name, _, ok := strings.Cut(s[i+1:], "}")
				n, known := r.names[name]
				if !ok || !known {
					return nil, false
				}
				group, i = n, i+1+len(name)
			case i < len(s) && s[i] >= '0' && s[i] <= '9':
				if group = int(s[i] - '0'); group > r.groups {
					return nil, false
				}
				for i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' && group*10+int(s[i+1]-'0') <= r.groups {
					group = group*10 + int(s[i+1]-'0')
					i++
				}
			default:
				return nil, false
			}
			flush()
			parts = append(parts, replacePart{group: group})
		default:
			b.WriteByte(s[i])
		}
	}
	flush()
	return parts, true
}

// withRegex prepares a call whose second argument is a pattern: compiled now when it is
// written out in the statement, else when it differs from the last one.
func withRegex(t *term, args []expr, call func(in *Input, s string, r *regex, args []expr) value) expr {
	prepared := func(in *Input) *regex { return nil }
	if lit := t.args[1]; lit.op == opLiteral {
		if pattern, ok := (&Input{}).toText(lit.val); ok {
			r := compileRegex(pattern)
			prepared = func(*Input) *regex { return r }
		}
	} else {
		var last atomic.Pointer[regex]
		pattern := args[1]
		prepared = func(in *Input) *regex {
			p, ok := in.toText(pattern(in))
			if !ok {
				return nil
			}
			if r := last.Load(); r != nil && r.source == p {
				return r
			}
			if !in.spend(len(p)) { // compiling costs
				return nil
			}
			r := compileRegex(strings.Clone(p))
			if r != nil {
				last.Store(r)
			}
			return r
		}
	}
	return func(in *Input) value {
		s, ok := in.toText(args[0](in))
		if !ok {
			return undef
		}
		r := prepared(in)
		if r == nil || in.err != nil {
			return undef
		}
		return call(in, s, r, args[2:])
	}
}

// regexpMatches says whether a pattern matches somewhere in a text.
func regexpMatches(_ *compiler, t *term, args []expr) expr {
	return withRegex(t, args, func(in *Input, s string, r *regex, _ []expr) value {
		_, found := in.find(r, s)
		return boolValue(found)
	})
}

// regexpSubstr gives the first match, Undefined when there is none.
func regexpSubstr(_ *compiler, t *term, args []expr) expr {
	return withRegex(t, args, func(in *Input, s string, r *regex, _ []expr) value {
		m, found := in.find(r, s)
		if !found {
			return undef
		}
		return in.built(m)
	})
}

func regexpReplace(_ *compiler, t *term, args []expr) expr {
	return withRegex(t, args, func(in *Input, s string, r *regex, rest []expr) value {
		with, ok := in.toText(rest[0](in))
		if !ok {
			return undef
		}
		out, ok := in.replaceAll(r, s, with)
		if !ok {
			return undef
		}
		return in.built(out)
	})
}
