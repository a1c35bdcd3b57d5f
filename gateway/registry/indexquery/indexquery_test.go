package indexquery_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"tidegate/gateway/fault"
	"tidegate/gateway/registry/indexquery"
)

func lamp(t *testing.T) indexquery.Doc {
	t.Helper()
	d := indexquery.Doc{
		"thingName":        {indexquery.Text("Lamp:1")},
		"thingGroupNames":  {indexquery.Text("kitchen"), indexquery.Text("floor-1")},
		"attributes.watt":  {indexquery.Attribute("7.50")},
		"attributes.serie": {indexquery.Attribute("007")},
		"attributes.star":  {indexquery.Attribute("a*b")},
	}
	var shadow any
	dec := json.NewDecoder(strings.NewReader(`{"reported":{"text":"The quick Brown fox","on":true,"big":9007199254740993,"list":["x",2,null],"mixed":[1,{"a":2}],"nothing":null,"empty":"","deep":{"er":{"n":-3e2}}}}`))
	dec.UseNumber()
	if err := dec.Decode(&shadow); err != nil {
		t.Fatal(err)
	}
	d.AddJSON("shadow", shadow)
	return d
}

func TestMatching(t *testing.T) {
	d := lamp(t)
	for query, want := range map[string]bool{
		`*`:                                          true,
		`thingName:lamp:1`:                           true,
		`thingName:Lamp\:1`:                          true,
		`thingName:lamp`:                             false,
		`thingName:lamp*`:                            true,
		`thingName:?amp:1`:                           true,
		`registry.thingGroupNames:kitchen`:           true,
		`thingGroupNames:floor-1`:                    true,
		`thingGroupNames:(floor-1 AND -cellar)`:      true,
		`thingGroupNames:(floor-1 AND -kitchen)`:     false,
		`attributes.watt:7.5`:                        true,
		`attributes.watt:[7 TO *]`:                   true,
		`attributes.watt:[* TO 7}`:                   false,
		`attributes.watt:[* TO *]`:                   true,
		`attributes.watt:[ 7.5  TO  7.5 ]`:           true,
		`attributes.watt:{7.5 TO 7.5}`:               false,
		`attributes.watt:["7" TO "8"]`:               true,
		`attributes.watt> 7`:                         true,
		`attributes.watt: [7 TO 8]`:                  true,
		`thingGroupNames: kitchen`:                   true,
		`thingGroupNames: kitchen AND cellar`:        false,
		`attributes.watt>=7.5 attributes.watt<=7.5`:  true,
		`attributes.serie:7`:                         false,
		`attributes.serie>1`:                         false,
		`attributes.serie:00*`:                       true,
		`attributes.star:a\*b`:                       true,
		`attributes.star:a\**`:                       true,
		`attributes.serie:0\*7`:                      false,
		`shadow.reported.text:QUICK`:                 true,
		`shadow.reported.text:"quick brown"`:         true,
		`shadow.reported.text:"quick fox"`:           false,
		`shadow.reported.text:"qu*"`:                 false,
		`shadow.reported.text:qu*`:                   true,
		`shadow.reported.text:*ow*`:                  true,
		`shadow.reported.text:["fa" TO "fz"]`:        true,
		`shadow.reported.on:TRUE`:                    true,
		`shadow.reported.list:2`:                     true,
		`shadow.reported.list:x`:                     true,
		`shadow.reported.mixed:1`:                    false,
		`shadow.reported.nothing:*`:                  false,
		`shadow.reported.empty:*`:                    true,
		`shadow.reported.empty:""`:                   true,
		`shadow.reported.deep.er.n:-300`:             true,
		`shadow.reported.deep.er.n<-299.5`:           true,
		`kitchen`:                                    true,
		`cellar`:                                     false,
		`brown AND floor-1`:                          true,
		`NOT cellar`:                                 true,
		`-kitchen`:                                   false,
		`NOT (cellar OR kitchen)`:                    false,
		`cellar OR kitchen AND NOT cellar`:           true,
		`(cellar OR kitchen) AND cellar`:             false,
		`and OR kitchen`:                             true,
		`thingName:(a OR (b OR lamp\:1))`:            true,
		`deviceDefender.P.B.inViolation:true`:        false,
		`attributes.none:*`:                          false,
		`NOT attributes.none:*`:                      true,
		"\tkitchen\n":                                true,
		`Kitchen floor-1 NOT thingName:lamp`:         true,
		`thingGroupNames:"kitchen"thingName:lamp\:1`: true,
	} {
		q, err := indexquery.Parse(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if got := q.Match(d); got != want {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
}

func TestInvalidQueriesAreRefused(t *testing.T) {
	for _, query := range []string{
		``, ` `, `AND`, `a AND`, `a OR`, `OR a`, `NOT`, `a NOT`, `()`, `(a`, `a)`, `a:`, `a:(`, `a:(b`, `:a`, `a:[1 TO 2`, `a:[1 2]`, `a: `, `a: AND b`,
		`a:[1 TO 2)`, `[1 TO 2]`, `a>b`, `a>"1"`, `a >1`, `a>`, `a:>5`, `a:"b`, `a\`, `a:b@c`, `a:b/c`, `a:b;c`, `a:b,c`, `a:b~2`, `a:b^2`, `a#`,
		`deviceDefender.P.B.inViolation:false`, `*a *b`, `a:*b c:*d`, "a:*b " + strings.Repeat("x", 100), strings.Repeat("a", 1001),
		strings.Repeat("a ", 13), strings.Repeat("(", 1000), "a\xff", `)`, `a:]`, `TO`,
	} {
		_, err := indexquery.Parse(query)
		if !fault.Is(err, fault.Invalid) || !errors.Is(err, indexquery.ErrInvalid) {
			t.Errorf("%s: got %v, want fault.Invalid and ErrInvalid", query, err)
		}
	}
	if _, err := indexquery.Parse(strings.Repeat("a ", 12)); err != nil {
		t.Errorf("twelve terms: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`a:[1 TO "b"} OR -x.y>=-5 NOT (z:(*q AND r?))`, `"a b" c\*d`, `é:ü*`} {
		f.Add(s, "some words 12")
	}
	f.Fuzz(func(t *testing.T, query, text string) {
		q, err := indexquery.Parse(query)
		if err != nil {
			if !errors.Is(err, indexquery.ErrInvalid) {
				t.Fatalf("a foreign error: %v", err)
			}
			return
		}
		d := indexquery.Doc{"a": {indexquery.Attribute(text)}, "é": {indexquery.Text(text)}}
		got := q.Match(d)
		again, err := indexquery.Parse("(" + q.String() + ")")
		if err == nil && again.Match(d) != got {
			t.Fatalf("parentheses around %q change the answer", query)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	q, err := indexquery.Parse(`thingTypeName:lamp AND attributes.watt>40 NOT connectivity.connected:true`)
	if err != nil {
		b.Fatal(err)
	}
	d := indexquery.Doc{"thingTypeName": {indexquery.Text("lamp")}, "attributes.watt": {indexquery.Attribute("60")}}
	for b.Loop() {
		if !q.Match(d) {
			b.Fatal("no match")
		}
	}
}
