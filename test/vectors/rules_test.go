package vectors_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/rules/iotsql"
)

// ruleVector is what rules-sql.json and substitution.json share.
type ruleVector struct {
	ID, Topic     string
	SQLVersion    string          `json:"sqlVersion"`
	Payload       json.RawMessage `json:"payload"`
	PayloadText   *string         `json:"payloadText"`
	PayloadBase64 *string         `json:"payloadBase64"`
	Context       ruleContext     `json:"context"`
}

// ruleContext is the message context. Its fields are read leniently: each of the ways in
// which the sets write a property.
type ruleContext struct {
	ClientID, Principal, AccountID, RuleName *string
	Transport                                string
	UserProperties                           json.RawMessage
	ContentType, ResponseTopic               string
	MQTT5                                    *struct {
		ContentType, ResponseTopic string
		CorrelationData            string // Base64
		PayloadFormatIndicator     *byte
		FormatIndicator            json.RawMessage
		UserProperties             json.RawMessage
	}
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

func or(s *string, otherwise string) string {
	if s != nil {
		return *s
	}
	return otherwise
}

// input makes the message the vector describes. A topic of Basic Ingest is known by its
// rule's name without the prefix.
func (v ruleVector) input() (*iotsql.Input, error) {
	payload, err := v.payload()
	if err != nil {
		return nil, err
	}
	c := v.Context
	in := &iotsql.Input{Topic: v.Topic, Payload: payload}
	if rest, ok := strings.CutPrefix(v.Topic, "$aws/rules/"); ok {
		name, rest, _ := strings.Cut(rest, "/")
		if name == or(c.RuleName, name) {
			in.Topic = rest
		}
	}
	https := strings.HasPrefix(strings.ToLower(c.Transport), "http")
	in.Context = iotsql.Context{
		AccountID: or(c.AccountID, "123456789012"),
		ClientID:  or(c.ClientID, "dev-1"),
		Principal: or(c.Principal, "cert-thumbprint-1"),
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
		if m.PayloadFormatIndicator != nil {
			p.HasFormat, p.Format = true, *m.PayloadFormatIndicator
		}
		if f := m.FormatIndicator; f != nil {
			p.HasFormat = true
			if bytes.Contains(f, []byte("UTF8")) || bytes.Equal(f, []byte("1")) {
				p.Format = 1
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

func TestRulesSQL(t *testing.T) {
	var set []struct {
		ruleVector
		SQL       string
		Expect    json.RawMessage
		ExpectRaw *string
		NoMatch   bool
		NoAction  bool
	}
	if !load(t, "rules-sql.json", &set) {
		return
	}
	for _, v := range set {
		run(t, v.ID, disputedRules, func() error {
			version, err := iotsql.ParseVersion(v.SQLVersion)
			if err != nil {
				return err
			}
			st, err := iotsql.Parse(v.SQL, version)
			if err != nil {
				return err
			}
			addressed := strings.HasPrefix(v.Topic, "$aws/rules/")
			if matches := addressed || st.Matches(v.Topic); matches == v.NoMatch {
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
			case err != nil:
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
			}
			return matchExact(v.Expect, res.Payload)
		})
	}
}

func TestSubstitution(t *testing.T) {
	var set []struct {
		ruleVector
		Template  string
		SQLSelect string
		Expect    string
	}
	if !load(t, "substitution.json", &set) {
		return
	}
	for _, v := range set {
		run(t, v.ID, disputedRules, func() error {
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
			if err == nil && got != v.Expect {
				err = fmt.Errorf("got %q, want %q", got, v.Expect)
			}
			return err
		})
	}
}

// disputedRules are vectors of rules-sql.json and substitution.json we hold to be wrong.
var disputedRules = map[string]string{}
