package restjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"tidegate/gateway/fault"
)

// field is a field of an input struct and where it comes from.
type field struct {
	index []int
	from  string // "path", "query", "header", "body" for the whole body, "" for a member of it
	name  string
	need  bool
}

// fieldsOf reads the tags of an input struct; a mistake there is a defect.
func fieldsOf(t reflect.Type, op string) []field {
	var out []field
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() {
			continue
		}
		x := field{index: f.Index}
		_, x.need = f.Tag.Lookup("need")
		if at, ok := f.Tag.Lookup("at"); ok {
			x.from, x.name, _ = strings.Cut(at, ",")
			switch x.from {
			case "path", "query", "header", "body":
			default:
				panic("BUG: " + op + ": tag at:" + strconv.Quote(at))
			}
		} else {
			x.name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
		}
		out = append(out, x)
	}
	return out
}

func missing(name string) error {
	return fault.New(fault.Invalid, "1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", name)
}

// decode fills an input struct.
func decode(v reflect.Value, fields []field, r *http.Request, labels map[string]string, body []byte) error {
	members := false
	for i := range fields {
		members = members || fields[i].from == ""
	}
	if members && len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, v.Addr().Interface()); err != nil {
			var wrong *json.UnmarshalTypeError
			if errors.As(err, &wrong) && wrong.Field != "" {
				return fault.Wrap(fault.Invalid, err, "the member %s of the request body is of the wrong type", wrong.Field)
			}
			return fault.Wrap(fault.Invalid, err, "the request body is not a JSON object")
		}
	}
	query := r.URL.Query()
	for i := range fields {
		f := &fields[i]
		dst := v.FieldByIndex(f.index)
		text, given := "", false
		switch f.from {
		case "path":
			text, given = labels[f.name], true
		case "query":
			text, given = query.Get(f.name), query.Has(f.name)
		case "header":
			text = r.Header.Get(f.name)
			given = text != ""
		case "body":
			if len(body) == 0 && f.need {
				return missing("payload")
			}
			dst.SetBytes(body)
			continue
		default:
			// What the tags bind elsewhere is not taken from the body.
			if f.need && dst.IsZero() {
				return missing(f.name)
			}
			continue
		}
		dst.SetZero()
		if !given {
			if f.need {
				return missing(f.name)
			}
			continue
		}
		if err := assign(dst, text); err != nil {
			return fault.New(fault.Invalid, "1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: Member must be %s", text, f.name, kindOf(dst.Type()))
		}
	}
	return nil
}

// kindOf says what a field takes, as callers know it.
func kindOf(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "an integer"
	}
	return "a " + t.Kind().String()
}

// assign sets a field from the text of a label, query parameter or header.
func assign(dst reflect.Value, text string) error {
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	switch dst.Kind() {
	case reflect.String:
		dst.SetString(text)
	case reflect.Bool:
		switch text {
		case "true", "false":
			dst.SetBool(text == "true")
		default:
			return strconv.ErrSyntax
		}
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		dst.SetInt(n)
	default:
		panic("BUG: an input field of kind " + dst.Kind().String())
	}
	return nil
}
