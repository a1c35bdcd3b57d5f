package provision_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/provision"
)

// The worked example of the developer guide's structure: every function once.
const greenhouse = `{"Parameters":{"Serial":{"Type":"String"},"Site":{"Type":"String","Default":"north"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
"Mappings":{"SiteUrl":{"north":{"url":"https://n.example"},"south":{"url":"https://s.example"}}},
"Resources":{
 "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["-",["gh",{"Ref":"Serial"}]]},"AttributePayload":{"site":{"Ref":"Site"},"batch":{"Fn::Select":["0",{"Fn::Split":["/",{"Ref":"Serial"}]}]}},"ThingGroups":[{"Ref":"Site"}]},
  "OverrideSettings":{"AttributePayload":"MERGE","ThingTypeName":"REPLACE","ThingGroups":"DO_NOTHING"}},
 "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
 "policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"gh-device"}}},
"DeviceConfiguration":{"endpointUrl":{"Fn::FindInMap":["SiteUrl",{"Ref":"Site"},"url"]},"label":{"Fn::Sub":"Unit ${Serial}"}}}`

func TestTemplateWithEveryFunction(t *testing.T) {
	tpl, err := provision.ParseTemplate(greenhouse)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tpl.Parameters(), " "); got != "AWS::IoT::Certificate::Id Serial Site" {
		t.Errorf("parameters: %s", got)
	}
	r, err := tpl.Resolve(map[string]string{"Serial": "7/7", "AWS::IoT::Certificate::Id": "c1", "Other": "x"}, true)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"ThingName": "gh-7/7", "AttributePayload": map[string]any{"site": "north", "batch": "7"}, "ThingGroups": []any{"north"}}
	if got := r.Resources["thing"].Properties; !reflect.DeepEqual(got, want) {
		t.Errorf("thing: got %v, want %v", got, want)
	}
	if got := r.Resources["thing"].Override["ThingGroups"]; got != "DO_NOTHING" {
		t.Errorf("override: got %q", got)
	}
	if got := r.Resources["certificate"].Properties["CertificateId"]; got != "c1" {
		t.Errorf("certificate: got %v", got)
	}
	if want := map[string]any{"endpointUrl": "https://n.example", "label": "Unit 7/7"}; !reflect.DeepEqual(r.DeviceConfiguration, want) {
		t.Errorf("device configuration: got %v, want %v", r.DeviceConfiguration, want)
	}
	if _, err := tpl.Resolve(map[string]string{"Serial": "1"}, true); !fault.Is(err, fault.Invalid) {
		t.Errorf("strict without the certificate's id: %v, want fault.Invalid", err)
	}
}

// one is a template with one thing whose name is the expression.
func one(expr string) string {
	return `{"Parameters":{"P":{"Type":"String"},"D":{"Type":"String","Default":"a,b"},"L":{"Type":"String"}},"Mappings":{"M":{"k":{"n":"v","l":["x","y"],"i":7}}},
	"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":` + expr + `}}}}`
}

func TestFunctions(t *testing.T) {
	for expr, want := range map[string]any{
		`{"Fn::Select":[1,{"Fn::FindInMap":["M","k","l"]}]}`:            "y",
		`{"Fn::Join":["-",[{"Fn::FindInMap":["M","k","i"]},true,2.5]]}`: "7-true-2.5",
		`{"Ref":"P"}`:                        "p",
		`{"Ref":"L"}`:                        map[string]any{"Ref": "L"},
		`{"Ref":"Undeclared"}`:               map[string]any{"Ref": "Undeclared"},
		`{"Ref":"P","b":1}`:                  map[string]any{"Ref": "P", "b": json.Number("1")},
		`{"Fn::Join":["",[]]}`:               "",
		`{"Fn::Join":[{"Ref":"P"},[1,"b"]]}`: "1pb",
		`{"Fn::Join":["+",{"Fn::Split":[",",{"Ref":"D"}]}]}`:                      "a+b",
		`{"Fn::Select":[{"Fn::Select":[0,["1"]]},["x","y"]]}`:                     "y",
		`{"Fn::Select":["0",[{"Ref":"P"},{"Ref":"L"}]]}`:                          "p",
		`{"Fn::Split":["--","a--b----c"]}`:                                        []any{"a", "b", "", "c"},
		`{"Fn::FindInMap":["M",{"Fn::Join":["",["k"]]},"n"]}`:                     "v",
		`{"Fn::Sub":"${P}-${!P}-${L}-${D}-$P-${"}`:                                "p-${P}-${L}-a,b-$P-${",
		`{"Fn::Sub":["${x}${P}",{"x":{"Fn::Sub":"[${P}]"},"P":"own"}]}`:           "[p]own",
		`{"Fn::Sub":["${x}",{"x":"${P}"}]}`:                                       "${P}",
		`[{"a":{"Ref":"P"}}]`:                                                     []any{map[string]any{"a": "p"}},
		`{"Fn::Sub":"${AWS::IoT::Certificate::Id}"}`:                              "id",
		`{"Fn::Join":["-",["a",{"Fn::Select":["1",{"Fn::Split":["|","x|y"]}]}]]}`: "a-y",
	} {
		tpl, err := provision.ParseTemplate(one(expr))
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		r, err := tpl.Resolve(map[string]string{"P": "p", provision.CertificateID: "id", "Undeclared": "u"}, false)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := r.Resources["t"].Properties["ThingName"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, want %#v", expr, got, want)
		}
	}
}

func TestFailingFunctions(t *testing.T) {
	for _, expr := range []string{
		`{"Ref":1}`, `{"Fn::Nope":"x"}`, `{"Fn::Join":["-"]}`, `{"Fn::Join":["-","x"]}`, `{"Fn::Join":["-",[null]]}`, `{"Fn::Join":["-",[["x"]]]}`,
		`{"Fn::Join":["-",[{"Ref":"L"}]]}`, `{"Fn::Select":["-1",["x"]]}`, `{"Fn::Select":["x",["x"]]}`, `{"Fn::Select":["0",[]]}`, `{"Fn::Select":[1,["x"]]}`,
		`{"Fn::Select":[0,[null]]}`, `{"Fn::Select":[0,"x"]}`, `{"Fn::Split":["","x"]}`, `{"Fn::Split":[",",["x"]]}`, `{"Fn::FindInMap":["M","k","x"]}`,
		`{"Fn::FindInMap":["N","k","n"]}`, `{"Fn::FindInMap":["M","k"]}`, `{"Fn::Sub":1}`, `{"Fn::Sub":["x"]}`, `{"Fn::Sub":["${x}",{"x":{"Ref":"L"}}]}`,
		`{"Fn::Sub":"` + strings.Repeat("${P}", 2000) + `"}`, `{"Fn::Join":["",[` + strings.Repeat(`{"Ref":"P"},`, 600) + `"x"]]}`,
	} {
		tpl, err := provision.ParseTemplate(one(expr))
		if err != nil {
			t.Errorf("%.40s: %v", expr, err)
			continue
		}
		if _, err := tpl.Resolve(map[string]string{"P": strings.Repeat("x", 1000)}, false); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.40s: got %v, want fault.Invalid", expr, err)
		}
	}
}

func TestMalformedTemplatesAreRefused(t *testing.T) {
	thing := `"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"x"}}`
	for name, body := range map[string]string{
		"empty":                ``,
		"a list":               `[]`,
		"no resources":         `{"Resources":{}}`,
		"unknown member":       `{"Resources":{` + thing + `},"Outputs":{}}`,
		"something behind":     `{"Resources":{` + thing + `}} {}`,
		"parameter type":       `{"Parameters":{"a":{"Type":"Number"}},"Resources":{` + thing + `}}`,
		"resource type":        `{"Resources":{"t":{"Type":"AWS::IoT::Gadget","Properties":{}}}}`,
		"no properties":        `{"Resources":{"t":{"Type":"AWS::IoT::Thing"}}}`,
		"function in mappings": `{"Mappings":{"a":{"b":{"c":{"Ref":"d"}}}},"Resources":{` + thing + `}}`,
		"override value":       `{"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{},"OverrideSettings":{"ThingTypeName":"MERGE"}}}}`,
		"override key":         `{"Resources":{"t":{"Type":"AWS::IoT::Policy","Properties":{},"OverrideSettings":{"Status":"REPLACE"}}}}`,
	} {
		if _, err := provision.ParseTemplate(body); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: got %v, want fault.Invalid", name, err)
		}
	}
	if _, err := provision.ParseTemplate(one(`"` + strings.Repeat("x", provision.MaxTemplate) + `"`)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("too long: got %v, want fault.TooLarge", err)
	}
	nested, err := provision.ParseTemplate(`{"Resources":{` + thing + `},"DeviceConfiguration":{"a":{"b":"c"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nested.Resolve(nil, false); !fault.Is(err, fault.Invalid) {
		t.Errorf("nested device configuration: got %v, want fault.Invalid", err)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(greenhouse, "77")
	f.Add(one(`{"Fn::Sub":["${x}${P}",{"x":{"Fn::Sub":"[${P}]"}}]}`), "${P}")
	f.Fuzz(func(t *testing.T, body, value string) {
		tpl, err := provision.ParseTemplate(body)
		if err != nil {
			return
		}
		if r, err := tpl.Resolve(map[string]string{"P": value, "Serial": value}, false); err == nil {
			if _, err := json.Marshal(r); err != nil {
				t.Fatal(err)
			}
		}
	})
}
