package rules

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"tidegate/gateway/fault"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/rules/iotsql"
)

// Headers are the MQTT 5 properties of a republished message. Each is a template; one that
// expands to nothing is left out.
type Headers struct {
	PayloadFormat  string         `yaml:"payload_format"` // UNSPECIFIED_BYTES or UTF8_DATA
	ContentType    string         `yaml:"content_type"`
	ResponseTopic  string         `yaml:"response_topic"`
	Correlation    string         `yaml:"correlation_data"` // Base64
	Expiry         string         `yaml:"message_expiry"`   // whole seconds, 0 to 4,294,967,295
	UserProperties []UserProperty `yaml:"user_properties"`  // at most 100
}

// UserProperty is one pair; keys may repeat, and the order stays.
type UserProperty struct {
	Key   string `yaml:"key"`
	Value string `yaml:"value"`
}

// maxUserProperties is AWS's quota for one action.
const maxUserProperties = 100

// header is one template and the property it becomes.
type header struct {
	name string // as failures name it
	t    *iotsql.Template
	set  func(p *mqtt.Props, value string) bool // false: no value the property can have
}

// userProperty is a pair of templates.
type userProperty struct{ key, value *iotsql.Template }

type headers struct {
	plain []header
	user  []userProperty
}

// compile compiles the templates. Its error begins with the key.
func (h Headers) compile(st *iotsql.Statement) (*headers, error) {
	out := &headers{}
	for _, x := range []struct {
		key, source string
		set         func(p *mqtt.Props, value string) bool
	}{
		{"payload_format", h.PayloadFormat, setFormat},
		{"content_type", h.ContentType, func(p *mqtt.Props, v string) bool { p.ContentType = v; return true }},
		{"response_topic", h.ResponseTopic, func(p *mqtt.Props, v string) bool { p.ResponseTopic = v; return mqtt.ValidTopic(v) == nil }},
		{"correlation_data", h.Correlation, setCorrelation},
		{"message_expiry", h.Expiry, setExpiry},
	} {
		if x.source == "" {
			continue
		}
		t, err := st.Template(x.source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.key, err)
		}
		if err := served(t.External()); err != nil {
			return nil, fmt.Errorf("%s: %w", x.key, err)
		}
		if fixed, ok := t.Fixed(); ok && !x.set(&mqtt.Props{}, fixed) {
			return nil, fmt.Errorf("%s: %q is not what it can be", x.key, fixed)
		}
		out.plain = append(out.plain, header{x.key, t, x.set})
	}
	if len(h.UserProperties) > maxUserProperties {
		return nil, fmt.Errorf("user_properties: %d are more than the %d an action may have", len(h.UserProperties), maxUserProperties)
	}
	for i, u := range h.UserProperties {
		key, err := st.Template(u.Key)
		if err == nil {
			err = served(key.External())
		}
		if err != nil {
			return nil, fmt.Errorf("user_properties[%d].key: %w", i, err)
		}
		value, err := st.Template(u.Value)
		if err == nil {
			err = served(value.External())
		}
		if err != nil {
			return nil, fmt.Errorf("user_properties[%d].value: %w", i, err)
		}
		out.user = append(out.user, userProperty{key, value})
	}
	return out, nil
}

// expand makes the properties for a message.
func (h *headers) expand(in *iotsql.Input) (p mqtt.Props, err error) {
	for _, x := range h.plain {
		v, err := x.t.Expand(in)
		if err != nil {
			return p, err
		}
		if v != "" && !x.set(&p, v) {
			return p, fault.New(fault.Invalid, "the header %s cannot be %q", x.name, short(v))
		}
	}
	for _, u := range h.user {
		k, err := u.key.Expand(in)
		if err != nil {
			return p, err
		}
		v, err := u.value.Expand(in)
		if err != nil {
			return p, err
		}
		if k != "" || v != "" {
			p.User = append(p.User, mqtt.UserProp{Key: k, Value: v})
		}
	}
	return p, nil
}

func short(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

func setFormat(p *mqtt.Props, v string) bool {
	p.HasFormat = true
	switch v {
	case "UTF8_DATA":
		p.Format = 1
	case "UNSPECIFIED_BYTES":
		p.Format = 0
	default:
		return false
	}
	return true
}

func setCorrelation(p *mqtt.Props, v string) bool {
	b, err := base64.StdEncoding.DecodeString(v)
	p.Correlation = b
	return err == nil
}

func setExpiry(p *mqtt.Props, v string) bool {
	n, err := strconv.ParseUint(v, 10, 32)
	p.HasExpiry, p.Expiry = true, uint32(n)
	return err == nil
}
