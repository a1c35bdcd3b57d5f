package vectors_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/rules/iotsql"
)

// ruleVector is what rules-sql.json and substitution.json share.
type ruleVector struct {
	Topic         string
	SQLVersion    string          `json:"sqlVersion"`
	Payload       json.RawMessage `json:"payload"`
	PayloadText   *string         `json:"payloadText"`
	PayloadBase64 *string         `json:"payloadBase64"`
	Context       ruleContext     `json:"context"`
}

// ruleContext is the message context. Its fields are read leniently: each of the ways in
// which the sets write a property.
type ruleContext struct {
	ClientID, Principal, AccountID, RuleName optional
	Transport, Protocol                      string
	UserProperties                           json.RawMessage
	ContentType, ResponseTopic               string
	MQTT5                                    *struct {
		ContentType, ResponseTopic      string
		CorrelationData                 string // Base64
		PayloadFormatIndicator          json.RawMessage
		FormatIndicator, UserProperties json.RawMessage
	}
}

// optional is a text that may be given, given as null, or not given.
type optional struct {
	given bool
	text  string
}

func (o *optional) UnmarshalJSON(b []byte) error {
	o.given = true
	if string(b) == "null" {
		return nil
	}
	return json.Unmarshal(b, &o.text)
}

func (o optional) or(otherwise string) string {
	if o.given {
		return o.text
	}
	return otherwise
}

func (v ruleVector) payload() ([]byte, error) {
	switch {
	case v.PayloadText != nil:
		return []byte(*v.PayloadText), nil
	case v.PayloadBase64 != nil:
		return base64.StdEncoding.DecodeString(*v.PayloadBase64)
	}
	return v.Payload, nil
}

// addressed says whether the topic is one of Basic Ingest, whether it addresses the
// vector's rule, and what topic the rule then sees.
func (v ruleVector) addressed() (basic, own bool, topic string) {
	rest, basic := strings.CutPrefix(v.Topic, "$aws/rules/")
	if !basic {
		return false, false, v.Topic
	}
	name, rest, _ := strings.Cut(rest, "/")
	return true, name == v.Context.RuleName.or(name), rest
}

// input makes the message the vector describes.
func (v ruleVector) input() (*iotsql.Input, error) {
	payload, err := v.payload()
	if err != nil {
		return nil, err
	}
	c := v.Context
	in := &iotsql.Input{Payload: payload}
	_, _, in.Topic = v.addressed()
	https := strings.HasPrefix(strings.ToLower(c.Transport+c.Protocol), "http")
	in.Context = iotsql.Context{
		AccountID: c.AccountID.or("123456789012"),
		ClientID:  c.ClientID.or("dev-1"),
		Principal: c.Principal.or("cert-thumbprint-1"),
		MQTT:      !https,
		Now:       time.Now,
	}
	if https {
		in.Context.ClientID = ""
	}
	in.Context.Props, err = c.props()
	return in, err
}

func (c ruleContext) props() (*mqtt.Props, error) {
	p := &mqtt.Props{ContentType: c.ContentType, ResponseTopic: c.ResponseTopic}
	user := c.UserProperties
	if m := c.MQTT5; m != nil {
		if m.ContentType != "" {
			p.ContentType = m.ContentType
		}
		if m.ResponseTopic != "" {
			p.ResponseTopic = m.ResponseTopic
		}
		if m.CorrelationData != "" {
			b, err := base64.StdEncoding.DecodeString(m.CorrelationData)
			if err != nil {
				b = []byte(m.CorrelationData)
			}
			p.Correlation = b
		}
		for _, f := range []json.RawMessage{m.PayloadFormatIndicator, m.FormatIndicator} {
			if f != nil && string(f) != "null" {
				p.HasFormat = true
				if bytes.Contains(f, []byte("UTF8")) || string(f) == "1" || string(f) == "true" {
					p.Format = 1
				}
			}
		}
		if m.UserProperties != nil {
			user = m.UserProperties
		}
	}
	var err error
	p.User, err = userProps(user)
	return p, err
}

// userProps reads user properties: objects of one pair, {key, value} objects, pairs, or
// one object.
func userProps(raw json.RawMessage) ([]mqtt.UserProp, error) {
	if raw == nil {
		return nil, nil
	}
	var out []mqtt.UserProp
	add := func(m map[string]any) {
		if k, ok := m["key"].(string); ok && len(m) == 2 {
			out = append(out, mqtt.UserProp{Key: k, Value: fmt.Sprint(m["value"])})
			return
		}
		for _, k := range keys(m) {
			if many, ok := m[k].([]any); ok {
				for _, v := range many {
					out = append(out, mqtt.UserProp{Key: k, Value: fmt.Sprint(v)})
				}
				continue
			}
			out = append(out, mqtt.UserProp{Key: k, Value: fmt.Sprint(m[k])})
		}
	}
	v, err := decode(raw)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case map[string]any:
		add(v)
	case []any:
		for _, e := range v {
			switch e := e.(type) {
			case map[string]any:
				add(e)
			case []any:
				if len(e) == 2 {
					out = append(out, mqtt.UserProp{Key: fmt.Sprint(e[0]), Value: fmt.Sprint(e[1])})
				}
			}
		}
	}
	return out, nil
}

// sqlVector is an element of rules-sql.json.
type sqlVector struct {
	ruleVector
	SQL       string
	Expect    json.RawMessage
	ExpectRaw *string
	NoMatch   bool
	NoAction  bool
	Error     bool // the statement is refused, or fails on the message
}

func TestRulesSQL(t *testing.T) {
	each(t, "rules-sql.json", disputedRules, func(v sqlVector) error {
		err := v.check()
		switch {
		case v.Error && err == nil:
			return errors.New("got no error")
		case v.Error:
			return nil
		}
		return err
	})
}

func (v *sqlVector) check() error {
	version, err := iotsql.ParseVersion(v.SQLVersion)
	if err != nil {
		return err
	}
	st, err := iotsql.Parse(v.SQL, version)
	if err != nil {
		return err
	}
	basic, matches, _ := v.addressed()
	if !basic { // nothing else listens to Basic Ingest
		matches = st.Matches(v.Topic)
	}
	if matches == v.NoMatch {
		return fmt.Errorf("filter %q, topic %q: got match %v", st.Filter(), v.Topic, matches)
	}
	if v.NoMatch {
		return nil
	}
	in, err := v.input()
	if err != nil {
		return err
	}
	res, err := st.Eval(in)
	switch {
	case err != nil || v.Error:
		return err
	case res.Matched == v.NoAction:
		return fmt.Errorf("got matched %v with payload %q", res.Matched, res.Payload)
	case v.NoAction:
		return nil
	case v.ExpectRaw != nil:
		want, err := base64.StdEncoding.DecodeString(*v.ExpectRaw)
		if err == nil && !bytes.Equal(res.Payload, want) {
			err = fmt.Errorf("got %q, want %q", res.Payload, want)
		}
		return err
	case len(res.Payload) == 0 && string(v.Expect) == `""`: // Undefined alone is nothing
		return nil
	}
	return matchExact(v.Expect, res.Payload)
}

// templateVector is an element of substitution.json.
type templateVector struct {
	ruleVector
	Template  string
	SQLSelect string
	Expect    json.RawMessage
}

func TestSubstitution(t *testing.T) {
	each(t, "substitution.json", disputedRules, func(v templateVector) error {
		version, err := iotsql.ParseVersion(v.SQLVersion)
		if err != nil {
			return err
		}
		in, err := v.input()
		if err != nil {
			return err
		}
		parse := func() (*iotsql.Template, error) { return iotsql.ParseTemplate(v.Template, version) }
		if v.SQLSelect != "" {
			st, err := iotsql.Parse(v.SQLSelect, version)
			if err != nil {
				return err
			}
			if _, err := st.Eval(in); err != nil {
				return err
			}
			parse = func() (*iotsql.Template, error) { return st.Template(v.Template) }
		}
		tmpl, err := parse()
		if err != nil {
			return err
		}
		got, err := tmpl.Expand(in)
		if err != nil {
			return err
		}
		quoted, err := json.Marshal(got)
		if err != nil {
			return err
		}
		if err := matchExact(v.Expect, quoted); err == nil || !bytes.HasPrefix(v.Expect, []byte("{")) {
			return err
		}
		return matchExact(v.Expect, []byte(got)) // a matcher of numbers
	})
}

// disputedRules are vectors of rules-sql.json and substitution.json we hold to be wrong.
var disputedRules = map[string]string{}
