package provision

import (
	"strconv"
	"strings"
)

// resolver carries out the functions of a template.
type resolver struct {
	t      *Template
	values map[string]string
}

// value resolves an expression: an object with the one member Ref or Fn::… is a
// function, everything else is taken apart and put together again.
func (r *resolver) value(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 1 {
			for name, arg := range v {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return r.call(name, arg)
				}
			}
		}
		out := make(map[string]any, len(v))
		for k, e := range v {
			value, err := r.value(e)
			if err != nil {
				return nil, err
			}
			out[k] = value
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			value, err := r.value(e)
			if err != nil {
				return nil, err
			}
			out[i] = value
		}
		return out, nil
	}
	return v, nil
}

func (r *resolver) call(name string, arg any) (any, error) {
	switch name {
	case "Ref":
		s, ok := arg.(string)
		if !ok {
			return nil, wrong("the argument of Ref is not a string")
		}
		if v, ok := r.values[s]; ok {
			return v, nil
		}
		return map[string]any{"Ref": s}, nil
	case "Fn::Join":
		return r.join(arg)
	case "Fn::Select":
		return r.choose(arg)
	case "Fn::Split":
		return r.split(arg)
	case "Fn::FindInMap":
		return r.findInMap(arg)
	case "Fn::Sub":
		return r.sub(arg)
	}
	return nil, wrong("the function %q is unknown", name)
}

// args takes a list of n arguments.
func args(name string, arg any, n int) ([]any, error) {
	list, ok := arg.([]any)
	if !ok || len(list) != n {
		return nil, wrong("%s takes a list of %d", name, n)
	}
	return list, nil
}

// text resolves an expression that must give a text.
func (r *resolver) text(name string, v any) (string, error) {
	v, err := r.value(v)
	if err != nil {
		return "", err
	}
	if s, ok := scalarText(v); ok {
		return s, nil
	}
	if v, ok := v.(map[string]any); ok {
		if p, ok := v["Ref"].(string); ok {
			return "", wrong("%s needs the parameter %q, which has no value", name, p)
		}
	}
	return "", wrong("%s finds no text where it needs one", name)
}

// list resolves an expression that must give a list.
func (r *resolver) list(name string, v any) ([]any, error) {
	v, err := r.value(v)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, wrong("%s finds no list where it needs one", name)
	}
	return list, nil
}

func (r *resolver) join(arg any) (any, error) {
	a, err := args("Fn::Join", arg, 2)
	if err != nil {
		return nil, err
	}
	delimiter, err := r.text("Fn::Join", a[0])
	if err != nil {
		return nil, err
	}
	list, err := r.list("Fn::Join", a[1])
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, e := range list {
		s, err := r.text("Fn::Join", e)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(delimiter)
		}
		b.WriteString(s)
		if b.Len() > maxText {
			return nil, wrong("Fn::Join makes a text of more than %d bytes", maxText)
		}
	}
	return b.String(), nil
}

func (r *resolver) choose(arg any) (any, error) {
	a, err := args("Fn::Select", arg, 2)
	if err != nil {
		return nil, err
	}
	text, err := r.text("Fn::Select", a[0])
	if err != nil {
		return nil, err
	}
	list, err := r.list("Fn::Select", a[1])
	if err != nil {
		return nil, err
	}
	i, err := strconv.ParseUint(text, 10, 31)
	if err != nil || int(i) >= len(list) {
		return nil, wrong("Fn::Select asks for element %q of %d", text, len(list))
	}
	if list[i] == nil {
		return nil, wrong("Fn::Select finds null at %d", i)
	}
	return list[i], nil
}

func (r *resolver) split(arg any) (any, error) {
	a, err := args("Fn::Split", arg, 2)
	if err != nil {
		return nil, err
	}
	delimiter, err := r.text("Fn::Split", a[0])
	if err != nil {
		return nil, err
	}
	if delimiter == "" {
		return nil, wrong("Fn::Split needs a delimiter")
	}
	text, err := r.text("Fn::Split", a[1])
	if err != nil {
		return nil, err
	}
	parts := strings.Split(text, delimiter)
	out := make([]any, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out, nil
}

func (r *resolver) findInMap(arg any) (any, error) {
	a, err := args("Fn::FindInMap", arg, 3)
	if err != nil {
		return nil, err
	}
	var keys [3]string
	for i := range keys {
		if keys[i], err = r.text("Fn::FindInMap", a[i]); err != nil {
			return nil, err
		}
	}
	v, ok := r.t.mappings[keys[0]][keys[1]][keys[2]]
	if !ok {
		return nil, wrong("Mappings have no entry %q, %q, %q", keys[0], keys[1], keys[2])
	}
	return v, nil
}

// sub replaces ${Name} by its own variables, then by parameters; ${!Name} stands
// for the text ${Name}, and a name without a value stays. What was put in is not
// looked at again.
func (r *resolver) sub(arg any) (any, error) {
	text, ok := arg.(string)
	own := map[string]string{}
	if !ok {
		a, err := args("Fn::Sub", arg, 2)
		if err != nil {
			return nil, err
		}
		vars, okVars := a[1].(map[string]any)
		if text, ok = a[0].(string); !ok || !okVars {
			return nil, wrong("Fn::Sub takes a text, or a text and an object")
		}
		for name, e := range vars {
			if own[name], err = r.text("Fn::Sub", e); err != nil {
				return nil, err
			}
		}
	}
	var b strings.Builder
	for text != "" {
		head, rest, found := strings.Cut(text, "${")
		b.WriteString(head)
		name, tail, closed := strings.Cut(rest, "}")
		if !found || !closed {
			b.WriteString(text[len(head):])
			break
		}
		text = tail
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			b.WriteString("${" + literal + "}")
		} else if v, ok := own[name]; ok {
			b.WriteString(v)
		} else if v, ok := r.values[name]; ok {
			b.WriteString(v)
		} else {
			b.WriteString("${" + name + "}")
		}
		if b.Len() > maxText {
			return nil, wrong("Fn::Sub makes a text of more than %d bytes", maxText)
		}
	}
	return b.String(), nil
}
