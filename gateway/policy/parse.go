package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidegate/gateway/fault"
)

// Parse reads a document of at most [MaxSize] characters.
//
//	{ "Version": "2012-10-17" | "2008-10-17", "Id"?: s, "Statement": stmt | [stmt…] }
//	stmt: { "Sid"?: s, "Effect": "Allow" | "Deny",
//	        "Action" | "NotAction": s | [s…], "Resource" | "NotResource": s | [s…],
//	        "Condition"?: { operator: { key: s | [s…] } } }
//
// Errors are fault.Invalid, or fault.TooLarge for a document over the size, with
// a text that says where. Unknown and repeated members are errors: a policy that
// does not say what its author meant must not be in force.
func Parse(text []byte) (*Document, error) { return ParseSize(text, MaxSize) }

// ParseSize is Parse with another limit in characters, white space not counted.
// It is for gateways whose operator has raised the limit.
func ParseSize(text []byte, limit int) (*Document, error) {
	if len(text) > max(maxBytes, 8*limit) || countChars(text) > limit {
		return nil, fault.New(fault.TooLarge, "the policy document is longer than %d characters without white space", limit)
	}
	if !utf8.Valid(text) {
		return nil, malformed("it is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	root, err := decode(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, malformed("something follows the document")
	}
	return document(root)
}

func countChars(text []byte) int {
	n := 0
	for _, r := range string(text) {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

// object is a JSON object whose members keep their order and cannot repeat.
type object struct {
	names  []string
	values []any
}

// maxDepth is how deep JSON may nest: document, statements, statement,
// condition, operator, values, and one to spare.
const maxDepth = 8

// decode reads a value: object, []any, string, json.Number, bool or nil.
func decode(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, malformed("it nests too deeply")
	}
	t, err := dec.Token()
	if err != nil {
		return nil, malformed("it is not JSON (near byte %d)", dec.InputOffset())
	}
	switch t {
	case json.Delim('{'):
		var o object
		seen := map[string]bool{}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, malformed("it is not JSON (near byte %d)", dec.InputOffset())
			}
			s, _ := name.(string)
			if seen[s] {
				return nil, malformed("member %q appears twice", clip(s))
			}
			seen[s] = true
			v, err := decode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			o.names, o.values = append(o.names, s), append(o.values, v)
		}
		if _, err := dec.Token(); err != nil {
			return nil, malformed("it ends within an object")
		}
		return o, nil
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := dec.Token(); err != nil {
			return nil, malformed("it ends within a list")
		}
		return list, nil
	}
	return t, nil
}

// clip keeps a quoted piece of a hostile document short.
func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

func document(root any) (*Document, error) {
	o, ok := root.(object)
	if !ok {
		return nil, malformed("it is not an object")
	}
	d := &Document{}
	var list []any
	found := false
	for i, name := range o.names {
		v := o.values[i]
		switch name {
		case "Version":
			s, _ := v.(string)
			if s != version2012 && s != version2008 {
				return nil, malformed("Version is not %q or %q", version2012, version2008)
			}
			d.version = s
		case "Id":
			if _, ok := v.(string); !ok {
				return nil, malformed("Id is not a string")
			}
		case "Statement":
			found = true
			if l, ok := v.([]any); ok {
				list = l
			} else {
				list = []any{v}
			}
		default:
			return nil, malformed("member %q is unknown", clip(name))
		}
	}
	if d.version == "" {
		return nil, malformed("Version is missing")
	}
	if !found {
		return nil, malformed("Statement is missing")
	}
	for i, v := range list {
		s, err := parseStatement(v, d.version == version2012, fmt.Sprintf("statement %d", i+1))
		if err != nil {
			return nil, err
		}
		d.statements = append(d.statements, s)
	}
	return d, nil
}

func parseStatement(v any, expand bool, where string) (*statement, error) {
	o, ok := v.(object)
	if !ok {
		return nil, malformed("%s is not an object", where)
	}
	s := &statement{}
	var effect, action, resource bool
	for i, name := range o.names {
		v := o.values[i]
		switch name {
		case "Sid":
			if _, ok := v.(string); !ok {
				return nil, malformed("%s: Sid is not a string", where)
			}
		case "Effect":
			effect = true
			switch v {
			case "Allow":
			case "Deny":
				s.deny = true
			default:
				return nil, malformed("%s: Effect is not Allow or Deny", where)
			}
		case "Action", "NotAction":
			if action {
				return nil, malformed("%s has both Action and NotAction", where)
			}
			action, s.notActions = true, name == "NotAction"
			list, err := texts(v, name, where)
			if err != nil {
				return nil, err
			}
			for _, a := range list {
				if a != "*" && !strings.Contains(a, ":") {
					return nil, malformed("%s: %q is no action", where, clip(a))
				}
				s.actions = append(s.actions, compilePattern(foldASCII(a)))
			}
		case "Resource", "NotResource":
			if resource {
				return nil, malformed("%s has both Resource and NotResource", where)
			}
			resource, s.notResources = true, name == "NotResource"
			list, err := texts(v, name, where)
			if err != nil {
				return nil, err
			}
			for _, r := range list {
				if !strings.HasPrefix(r, "arn:") && !strings.HasPrefix(r, "*") {
					return nil, malformed("%s: %q is neither an ARN nor *", where, clip(r))
				}
				s.resources = append(s.resources, parseTemplate(r, true, expand))
			}
		case "Condition":
			if err := s.parseConditions(v, expand, where); err != nil {
				return nil, err
			}
		default:
			return nil, malformed("%s: member %q is unknown", where, clip(name))
		}
	}
	for name, ok := range map[string]bool{"Effect": effect, "Action": action, "Resource": resource} {
		if !ok {
			return nil, malformed("%s: %s is missing", where, name)
		}
	}
	for _, a := range Actions() {
		if s.selects(a.String()) {
			s.mask |= 1 << a
		}
	}
	return s, nil
}

// texts reads a string or a list of at least one.
func texts(v any, name, where string) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil, malformed("%s: %s is not a string or a list of strings", where, name)
	}
	var out []string
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			return nil, malformed("%s: %s holds something that is not a string", where, name)
		}
		out = append(out, s)
	}
	return out, nil
}

func (s *statement) parseConditions(v any, expand bool, where string) error {
	o, ok := v.(object)
	if !ok {
		return malformed("%s: Condition is not an object", where)
	}
	for i, name := range o.names {
		base := condition{}
		rest := name
		if r, ok := strings.CutPrefix(rest, "ForAllValues:"); ok {
			base.set, rest = forAllValues, r
		} else if r, ok := strings.CutPrefix(rest, "ForAnyValue:"); ok {
			base.set, rest = forAnyValue, r
		}
		if r, ok := strings.CutSuffix(rest, "IfExists"); ok {
			base.ifExists, rest = true, r
		}
		base.op = operators[rest]
		if base.op == nil || base.op.null && (base.ifExists || base.set != single) {
			return malformed("%s: %q is no condition operator", where, clip(name))
		}
		keys, ok := o.values[i].(object)
		if !ok {
			return malformed("%s: %s is not an object", where, name)
		}
		for j, key := range keys.names {
			c := base
			c.key, c.timed = key, isTime(foldASCII(key))
			values, ok := keys.values[j].([]any)
			if !ok {
				values = []any{keys.values[j]}
			}
			for _, v := range values {
				text, err := scalar(v)
				if err != nil {
					return malformed("%s: a value of %s is not a string", where, clip(key))
				}
				t := parseTemplate(text, c.op.wild, expand)
				if c.op.check != nil && t.shared && !c.op.check(text) {
					return malformed("%s: %q is not %s", where, clip(text), c.op.want)
				}
				c.values = append(c.values, t)
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return nil
}

// scalar gives a condition's value as text; IAM takes bare numbers and booleans.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		if v {
			return "true", nil
		}
		return "false", nil
	}
	return "", fmt.Errorf("no scalar")
}
