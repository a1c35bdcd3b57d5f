package restjson

import (
	"encoding/json"
	"net/url"
	"strconv"

	"tidegate/gateway/fault"
)

// Kind says what a member in the query is.
type Kind uint8

// The kinds.
const (
	Text Kind = iota
	Integer
	Boolean
)

// Forward makes an operation whose input do gets as one JSON object: the members of the
// body, those of the query that are named, and the labels of the path, which win.
func Forward(name, method, path string, query map[string]Kind, do func(c *Call, input []byte) (any, error)) Op {
	return Op{Name: name, Method: method, Path: path, segments: split(path), call: func(c *Call, labels map[string]string, body []byte) (any, error) {
		in := map[string]json.RawMessage{}
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil || in == nil {
				return nil, fault.Wrap(fault.Invalid, err, "the request body is not a JSON object")
			}
		}
		given := c.Request.URL.Query()
		for member, kind := range query {
			if err := fromQuery(in, given, member, kind); err != nil {
				return nil, err
			}
		}
		for member, v := range labels {
			in[member] = quoted(v)
		}
		input, err := json.Marshal(in)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "the request cannot be read")
		}
		return do(c, input)
	}}
}

func quoted(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic("BUG: a string that is not JSON: " + err.Error())
	}
	return b
}

// fromQuery adds a member that the query has.
func fromQuery(in map[string]json.RawMessage, q url.Values, member string, kind Kind) error {
	if !q.Has(member) {
		return nil
	}
	v := q.Get(member)
	switch kind {
	case Integer:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fault.New(fault.Invalid, "%s must be an integer", member)
		}
		in[member] = json.RawMessage(strconv.FormatInt(n, 10))
	case Boolean:
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fault.New(fault.Invalid, "%s must be true or false", member)
		}
		in[member] = json.RawMessage(strconv.FormatBool(b))
	default:
		in[member] = quoted(v)
	}
	return nil
}
