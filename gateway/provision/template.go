package provision

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"tidegate/gateway/fault"
)

// MaxTemplate is how many characters a template may have (botocore iot model,
// TemplateBody).
const MaxTemplate = 10240

// maxText bounds every text a template makes, in bytes, so that a device's long
// parameter repeated by Fn::Sub cannot fill the memory.
const maxText = 64 << 10

// CertificateID is the pseudo-parameter with the id of the certificate that is
// being provisioned. It alone may be used without being declared: templates in
// the developer guide do so.
const CertificateID = "AWS::IoT::Certificate::Id"

// The types of resources.
const (
	TypeThing       = "AWS::IoT::Thing"
	TypeCertificate = "AWS::IoT::Certificate"
	TypePolicy      = "AWS::IoT::Policy"
)

// Template is a parsed provisioning template. It is immutable.
type Template struct {
	parameters map[string]parameter
	mappings   map[string]map[string]map[string]any // scalars, or lists of them
	resources  map[string]resource
	device     map[string]any // nil without DeviceConfiguration
}

type parameter struct {
	Type    string
	Default *string
}

type resource struct {
	Type             string
	Properties       map[string]any
	OverrideSettings map[string]string
}

// overrides lists, by resource type, the settings and the values they take.
var overrides = map[string]map[string][]string{
	TypeThing: {
		"AttributePayload": {"DO_NOTHING", "REPLACE", "FAIL", "MERGE"},
		"ThingTypeName":    {"DO_NOTHING", "REPLACE", "FAIL"},
		"ThingGroups":      {"DO_NOTHING", "REPLACE", "FAIL", "MERGE"},
	},
	TypeCertificate: {"Status": {"DO_NOTHING", "REPLACE", "FAIL"}},
	TypePolicy:      {},
}

func wrong(format string, args ...any) error {
	return fault.New(fault.Invalid, "the provisioning template is not valid: "+format, args...)
}

// ParseTemplate reads a template (developer guide, "Provisioning templates").
//
//	{ "Parameters": { name: { "Type": "String", "Default"?: s } },
//	  "Mappings"?: { table: { key: { name: s or [s…] } } },
//	  "Resources": { logical name: { "Type", "Properties", "OverrideSettings"? } },
//	  "DeviceConfiguration"?: { key: value } }
//
// Errors are fault.Invalid, or fault.TooLarge over [MaxTemplate].
func ParseTemplate(body string) (*Template, error) {
	if utf8.RuneCountInString(body) > MaxTemplate {
		return nil, fault.New(fault.TooLarge, "the provisioning template is longer than %d characters", MaxTemplate)
	}
	var doc struct {
		Description         string
		Parameters          map[string]parameter
		Mappings            map[string]map[string]map[string]any
		Resources           map[string]resource
		DeviceConfiguration map[string]any
	}
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the provisioning template is not valid: it is not JSON of the expected shape")
	}
	if dec.More() {
		return nil, wrong("something follows the document")
	}
	for name, p := range doc.Parameters {
		if p.Type != "String" {
			return nil, wrong("parameter %q: the only Type is String", name)
		}
	}
	for table, keys := range doc.Mappings {
		for _, names := range keys {
			for name, v := range names {
				if !plain(v) {
					return nil, wrong("Mappings %q: %q is neither a plain value nor a list of them", table, name)
				}
			}
		}
	}
	if len(doc.Resources) == 0 {
		return nil, wrong("it has no Resources")
	}
	for name, r := range doc.Resources {
		allowed, ok := overrides[r.Type]
		if !ok {
			return nil, wrong("resource %q: the Type %q is unknown", name, r.Type)
		}
		if r.Properties == nil {
			return nil, wrong("resource %q has no Properties", name)
		}
		for key, value := range r.OverrideSettings {
			if !slices.Contains(allowed[key], value) {
				return nil, wrong("resource %q: OverrideSettings cannot hold %q: %q", name, key, value)
			}
		}
	}
	return &Template{doc.Parameters, doc.Mappings, doc.Resources, doc.DeviceConfiguration}, nil
}

// plain says whether a value is what Mappings may hold: no parameters and no functions.
func plain(v any) bool {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, e := range list {
		if _, ok := scalarText(e); !ok {
			return false
		}
	}
	return true
}

// Parameters lists the declared parameters in alphabetical order.
func (t *Template) Parameters() []string {
	return slices.Sorted(maps.Keys(t.parameters))
}

// CheckFor says whether a template of a registered type can work: fleet provisioning and
// just-in-time provisioning are for the one certificate at hand. Errors are fault.Invalid.
func (t *Template) CheckFor(kind string) error {
	for _, r := range t.resources {
		if r.Type != TypeCertificate {
			continue
		}
		if ref, ok := r.Properties["CertificateId"].(map[string]any); ok && ref["Ref"] == CertificateID {
			return nil
		}
	}
	return wrong("a template of the type %s has a certificate whose CertificateId is {\"Ref\": %q}", kind, CertificateID)
}

// Resolved is a template with its parameters filled in.
type Resolved struct {
	Resources           map[string]Resource // by logical name
	DeviceConfiguration map[string]any      // never nil
}

// Resource is one resource of a resolved template.
type Resource struct {
	Type       string
	Properties map[string]any // string, json.Number, bool, nil, []any and map[string]any
	Override   map[string]string
}

// Resolve fills in parameters and carries out the functions. Parameters that are
// not declared are ignored. A declared parameter with neither value nor default
// is an error when strict is set (just-in-time provisioning); otherwise a Ref to
// it stays as it stands, which only matters where it is used.
//
// Errors are fault.Invalid: a parameter without a value where a text is needed,
// an index out of range, an unknown map entry or function.
func (t *Template) Resolve(parameters map[string]string, strict bool) (*Resolved, error) {
	r := &resolver{t: t, values: map[string]string{}}
	for name, p := range t.parameters {
		if v, ok := parameters[name]; ok {
			r.values[name] = v
		} else if p.Default != nil {
			r.values[name] = *p.Default
		} else if strict {
			return nil, wrong("parameter %q has no value", name)
		}
	}
	if v, ok := parameters[CertificateID]; ok {
		r.values[CertificateID] = v
	}
	out := &Resolved{Resources: map[string]Resource{}, DeviceConfiguration: map[string]any{}}
	for name, res := range t.resources {
		props := map[string]any{}
		for key, v := range res.Properties {
			value, err := r.value(v)
			if err != nil {
				return nil, err
			}
			props[key] = value
		}
		out.Resources[name] = Resource{res.Type, props, res.OverrideSettings}
	}
	for key, v := range t.device {
		value, err := r.value(v)
		if err != nil {
			return nil, err
		}
		switch value.(type) {
		case map[string]any, []any:
			return nil, wrong("DeviceConfiguration %q is not a plain value", key)
		}
		out.DeviceConfiguration[key] = value
	}
	return out, nil
}
