package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/policy"
)

const base = "arn:aws:iot:us-east-1:123456789012:"

func parse(t testing.TB, text string) *policy.Document {
	t.Helper()
	d, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return d
}

// allow is a document with one Allow statement for a resource under base.
func allow(t testing.TB, action, resource, rest string) *policy.Document {
	t.Helper()
	return parse(t, fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":%q,"Resource":%q%s}}`, action, resource, rest))
}

func TestMalformedDocumentsAreRefused(t *testing.T) {
	stmt := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	cond := func(s string) string {
		return stmt(`{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":` + s + `}`)
	}
	for name, text := range map[string]string{
		"empty":                       ``,
		"not an object":               `[]`,
		"not closed":                  `{"Version":"2012-10-17","Statement":[`,
		"something behind":            stmt("") + `{}`,
		"no version":                  `{"Statement":[]}`,
		"unknown version":             `{"Version":"2012-10-18","Statement":[]}`,
		"no statement":                `{"Version":"2012-10-17"}`,
		"unknown member":              `{"Version":"2012-10-17","Statement":[],"Principal":"*"}`,
		"member twice":                `{"Version":"2012-10-17","Statement":[],"Statement":[]}`,
		"statement a string":          stmt(`"x"`),
		"principal":                   stmt(`{"Effect":"Allow","Action":"iot:*","Resource":"*","Principal":"*"}`),
		"effect in another case":      stmt(`{"Effect":"allow","Action":"iot:*","Resource":"*"}`),
		"no effect":                   stmt(`{"Action":"iot:*","Resource":"*"}`),
		"no action":                   stmt(`{"Effect":"Allow","Resource":"*"}`),
		"no resource":                 stmt(`{"Effect":"Allow","Action":"iot:*"}`),
		"both action and notaction":   stmt(`{"Effect":"Allow","Action":"iot:*","NotAction":"iot:*","Resource":"*"}`),
		"both kinds of resource":      stmt(`{"Effect":"Allow","Action":"iot:*","Resource":"*","NotResource":"*"}`),
		"empty list of actions":       stmt(`{"Effect":"Allow","Action":[],"Resource":"*"}`),
		"empty list of resources":     stmt(`{"Effect":"Allow","Action":"iot:*","NotResource":[]}`),
		"an action without a service": stmt(`{"Effect":"Allow","Action":"Publish","Resource":"*"}`),
		"a resource that is no ARN":   stmt(`{"Effect":"Allow","Action":"iot:*","Resource":"topic/a"}`),
		"a number as resource":        stmt(`{"Effect":"Allow","Action":"iot:*","Resource":[1]}`),
		"unknown operator":            cond(`{"StringMatches":{"iot:ClientId":"a"}}`),
		"unknown quantifier":          cond(`{"ForSomeValues:StringEquals":{"iot:ClientId":"a"}}`),
		"operator without keys":       cond(`{"StringEquals":"a"}`),
		"value an object":             cond(`{"StringEquals":{"iot:ClientId":{"a":1}}}`),
		"no CIDR range":               cond(`{"IpAddress":{"aws:SourceIp":"10.0.0.0/99"}}`),
		"no date":                     cond(`{"DateLessThan":{"aws:CurrentTime":"soon"}}`),
		"no number":                   cond(`{"NumericLessThan":{"aws:EpochTime":"x"}}`),
		"no boolean":                  cond(`{"Bool":{"iot:Connection.Thing.IsAttached":"yes"}}`),
		"deep nesting":                stmt(strings.Repeat("[", 500) + strings.Repeat("]", 500)),
		"not UTF-8":                   stmt("\"\xff\""),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := policy.Parse([]byte(text)); !fault.Is(err, fault.Invalid) {
				t.Errorf("Parse gave %v, want fault.Invalid", err)
			}
		})
	}
}

func TestSizeCountsCharactersWithoutWhiteSpace(t *testing.T) {
	doc := func(n int) string {
		head, tail := `{"Version":"2012-10-17","Statement":[],"Id":"`, `"}`
		return head + strings.Repeat("é", n-len(head)-len(tail)) + tail
	}
	if _, err := policy.Parse([]byte(doc(2048))); err != nil {
		t.Errorf("2048 characters: %v", err)
	}
	if _, err := policy.Parse([]byte(strings.Repeat(" \n", 4000) + doc(2048))); err != nil {
		t.Errorf("2048 characters and white space: %v", err)
	}
	if _, err := policy.Parse([]byte(doc(2049))); !fault.Is(err, fault.TooLarge) {
		t.Errorf("2049 characters: %v, want fault.TooLarge", err)
	}
	if _, err := policy.Parse([]byte(strings.Repeat(" ", 1<<20) + doc(100))); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a megabyte of padding: %v, want fault.TooLarge", err)
	}
	if _, err := policy.ParseSize([]byte(doc(4000)), 4000); err != nil {
		t.Errorf("raised limit: %v", err)
	}
}

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"*", "anything at all", true},
		{"*a*", "bab", true},
		{"*a*", "bbb", false},
		{"*ab", "aab", true},
		{"*ab*ab", "ab", false},
		{"*ab*ab", "abab", true},
		{"*a?c", "xabc", true},
		{"*a?c*", "aac-abc", true},
		{"*?*?*", "x", false},
		{"*?*?*", "xy", true},
		{"***x***", "aaxaa", true},
		{"?", "é", true},
		{"?", "", false},
		{"?", "ab", false},
		{"*?", "é", true},
		{"*é?", "xéü", true},
		{"??", "é", false},
		{"*b?", "abcb", false},
		{"*b?", "abcbd", true},
	} {
		doc := allow(t, "iot:Publish", base+"topic/"+c.pattern, "")
		if got := policy.Compile([]*policy.Document{doc}, policy.Context{Base: base}).May(policy.Publish, c.text); got != c.want {
			t.Errorf("%q matches %q: got %v, want %v", c.pattern, c.text, got, c.want)
		}
	}
}

// naive is the textbook definition, exponential and therefore only for short
// texts.
func naive(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return naive(p[1:], s) || len(s) > 0 && naive(p, s[1:])
	case len(s) == 0:
		return false
	}
	return (p[0] == '?' || p[0] == s[0]) && naive(p[1:], s[1:])
}

func FuzzWildcardsAgreeWithTheDefinition(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("*aa*a?", "aaaaa")
	f.Add("?*é", "xé")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 12 || strings.ContainsAny(pattern, `$"\`) || strings.ToValidUTF8(pattern+text, "?") != pattern+text {
			return
		}
		for _, r := range pattern {
			if r < ' ' || r == 0x7f || r > 0xfff {
				return
			}
		}
		doc, err := policy.Parse(fmt.Appendf(nil, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:%s"}}`, pattern))
		if err != nil {
			t.Fatal(err)
		}
		got := policy.Compile([]*policy.Document{doc}, policy.Context{}).Decide(policy.Publish, "arn:"+text) == policy.Allow
		if want := naive([]rune(pattern), []rune(text)); got != want {
			t.Errorf("%q matches %q: got %v, want %v", pattern, text, got, want)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"arn:${iot:ClientId}*?","Condition":{"ForAllValues:StringLikeIfExists":{"iot:ConnectAttributes":["a*",1,true]}}}}`))
	f.Add([]byte(`{"Version":"2008-10-17","Statement":[{"Effect":"Deny","NotAction":["*"],"NotResource":"*","Condition":{"ArnLike":{"iot:LastWillTopic":"arn:*:${a}:?"}}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := policy.Parse(text)
		if err != nil {
			if c := fault.Of(err); c != fault.Invalid && c != fault.TooLarge {
				t.Fatalf("a foreign error: %v", err)
			}
			return
		}
		c := policy.Context{Base: base, ClientID: "c", Connected: true, LastWillTopic: base + "topic/w", Now: time.Now, SourceIP: netip.MustParseAddr("10.0.0.1")}
		d := policy.Compile([]*policy.Document{doc}, c)
		for _, a := range policy.Actions() {
			if d.May(a, "a/b") != (d.Decide(a, a.Resource(base, "a/b")) == policy.Allow) {
				t.Fatal("May and Decide disagree")
			}
			if d.Named(a.String(), "arn:x") != d.Decide(a, "arn:x") {
				t.Fatal("Named and Decide disagree")
			}
		}
		policy.Explain([]*policy.Document{doc}, c, policy.Connect, base+"client/c")
	})
}

func TestVariables(t *testing.T) {
	thing := &policy.Thing{Name: "t1", Type: "Pump", Attributes: map[string]string{"room": "r*", "Site": "n"}, Attached: true}
	cert := &policy.Certificate{ID: "abc", SerialNumber: "77", Subject: policy.Name{
		"CommonName": {`a,b`}, "Organization": {strings.Repeat("x", 1025)}, "Country": {"DE", "FR", "IT"}, "AlternativeName.DNSName": {"h.example"}}, Issuer: policy.Name{"CommonName": {"ca"}}}
	full := policy.Context{Base: base, ClientID: "c*", DomainName: "h", SourceIP: netip.MustParseAddr("::ffff:10.0.0.9"), Thing: thing, Certificate: cert,
		Extra: map[string][]string{"cognito-identity.amazonaws.com:sub": {"me"}, "jwt:aud": {"a", "b"}}}
	for _, c := range []struct {
		resource, topic string
		want            bool
	}{
		{"${iot:ClientId}", "c*", true},
		{"${iot:ClientId}", "cx", false},
		{"${IOT:clientid}", "c*", true},
		{"${iot:DomainName}/${aws:SourceIp}", "h/10.0.0.9", true},
		{"${iot:Connection.Thing.ThingName}/${iot:Connection.Thing.ThingTypeName}", "t1/Pump", true},
		{"${iot:Connection.Thing.Attributes[room]}", "r*", true},
		{"${iot:Connection.Thing.Attributes[room]}", "rx", false},
		{"${iot:Connection.Thing.Attributes[site]}", "n", false},
		{"${iot:Certificate.Subject.CommonName}", `a\,b`, true},
		{"${iot:Certificate.Subject.CommonName}", `a,b`, false},
		{"${iot:Certificate.Subject.Organization}", strings.Repeat("x", 1025), false},
		{"${iot:Certificate.Subject.Country.2}", "IT", true},
		{"${iot:Certificate.Subject.Country.3}", "", false},
		{"${iot:Certificate.Subject.Country.List}", "DE", false},
		{"${iot:Certificate.Subject.AlternativeName.DNSName}", "h.example", true},
		{"${iot:Certificate.Issuer.CommonName}${iot:Certificate.SerialNumber}", "ca77", true},
		{"${cognito-identity.amazonaws.com:sub}", "me", true},
		{"${jwt:aud}", "a", false},
		{"${*}${?}${$}", "*?$", true},
		{"${*}", "x", false},
		{"${aws:CurrentTime}", "x", false},
		{"${unknown}", "${unknown}", false},
		{"a${", "a${", true},
		{"$aws/${iot:ClientId}/*", "$aws/c*/x", true},
	} {
		doc := allow(t, "iot:Publish", base+"topic/"+c.resource, "")
		if got := policy.Compile([]*policy.Document{doc}, full).May(policy.Publish, c.topic); got != c.want {
			t.Errorf("%s allows %q: got %v, want %v", c.resource, c.topic, got, c.want)
		}
	}
	old := parse(t, `{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"`+base+`topic/${iot:ClientId}"}}`)
	d := policy.Compile([]*policy.Document{old}, policy.Context{Base: base, ClientID: "c"})
	if d.May(policy.Publish, "c") || !d.May(policy.Publish, "${iot:ClientId}") {
		t.Error("version 2008-10-17 must not fill in variables")
	}
}

func TestVariableWithoutValueFailsClosed(t *testing.T) {
	const missing = "${iot:Connection.Thing.ThingName}"
	everything := allow(t, "iot:*", "*", "")
	for _, c := range []struct {
		name, text string
		want       bool
	}{
		{"allow", `{"Effect":"Allow","Action":"iot:Publish","Resource":"` + base + `topic/` + missing + `/*"}`, false},
		{"allow all but", `{"Effect":"Allow","Action":"iot:Publish","NotResource":"` + base + `topic/` + missing + `/*"}`, false},
	} {
		doc := parse(t, `{"Version":"2012-10-17","Statement":`+c.text+`}`)
		d := policy.Compile([]*policy.Document{doc}, policy.Context{Base: base, ClientID: missing})
		for _, topic := range []string{missing + "/a", "x/a", "/a"} {
			if got := d.May(policy.Publish, topic); got != c.want {
				t.Errorf("%s: publish to %q: got %v, want %v", c.name, topic, got, c.want)
			}
		}
	}
	deny := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iot:Publish","Resource":"`+base+`topic/`+missing+`"}}`)
	if !policy.Compile([]*policy.Document{everything, deny}, policy.Context{Base: base}).May(policy.Publish, "a") {
		t.Error("a Deny with a variable without a value must be inert")
	}
	denyBut := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iot:Publish","NotResource":"`+base+`topic/`+missing+`"}}`)
	if policy.Compile([]*policy.Document{everything, denyBut}, policy.Context{Base: base}).May(policy.Publish, "a") {
		t.Error("a Deny of all but a variable without a value must deny")
	}
}

func TestThingIsBelievedOnlyWhenAttachedOrUnattachable(t *testing.T) {
	doc := allow(t, "iot:Connect", base+"client/${iot:Connection.Thing.ThingName}", "")
	for _, c := range []struct {
		attached, unattachable, want bool
	}{{true, false, true}, {false, false, false}, {false, true, true}} {
		d := policy.Compile([]*policy.Document{doc}, policy.Context{Base: base, ClientID: "t", Unattachable: c.unattachable,
			Thing: &policy.Thing{Name: "t", Attached: c.attached}})
		if got := d.May(policy.Connect, "t"); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestConditions(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	c := policy.Context{Base: base, ClientID: "Dev-1", SourceIP: netip.MustParseAddr("10.1.2.3"), Connected: true,
		ConnectAttributes: []string{"LastWill"}, LastWillTopic: base + "topic/will/x", Now: func() time.Time { return now },
		Thing: &policy.Thing{Name: "t", Attached: true, Attributes: map[string]string{"n": "5", "owner": "Dev-1"}}}
	for _, k := range []struct {
		cond string
		want bool
	}{
		{`{"StringEquals":{"iot:ClientId":"Dev-1"}}`, true},
		{`{"StringEquals":{"iot:ClientId":["a","Dev-1"]}}`, true},
		{`{"StringEquals":{"iot:ClientId":"dev-1"}}`, false},
		{`{"StringEquals":{"IOT:CLIENTID":"Dev-1"}}`, true},
		{`{"StringEqualsIgnoreCase":{"iot:ClientId":"dev-1"}}`, true},
		{`{"StringNotEqualsIgnoreCase":{"iot:ClientId":"dev-1"}}`, false},
		{`{"StringNotEquals":{"iot:ClientId":["a","Dev-1"]}}`, false},
		{`{"StringNotEquals":{"iot:ClientId":["a","b"]}}`, true},
		{`{"StringEquals":{"iot:Connection.Thing.Attributes[owner]":"${iot:ClientId}"}}`, true},
		{`{"StringEquals":{"iot:ClientId":"${no:such}"}}`, false},
		{`{"StringLike":{"iot:ClientId":"Dev-?"}}`, true},
		{`{"StringLike":{"iot:ClientId":"*-${*}"}}`, false},
		{`{"StringNotLike":{"iot:ClientId":"Dev*"}}`, false},
		{`{"StringEquals":{"no:key":"a"}}`, false},
		{`{"StringNotEquals":{"no:key":"a"}}`, true},
		{`{"StringEqualsIfExists":{"no:key":"a"}}`, true},
		{`{"StringEqualsIfExists":{"iot:ClientId":"a"}}`, false},
		{`{"StringNotEqualsIfExists":{"iot:ClientId":"Dev-1"}}`, false},
		{`{"ForAnyValue:StringEquals":{"no:key":"a"}}`, false},
		{`{"ForAnyValue:StringEqualsIfExists":{"no:key":"a"}}`, true},
		{`{"ForAllValues:StringEquals":{"no:key":"a"}}`, true},
		{`{"Null":{"no:key":"true"}}`, true},
		{`{"Null":{"no:key":false}}`, false},
		{`{"Null":{"iot:ClientId":"false"}}`, true},
		{`{"NumericEquals":{"iot:Connection.Thing.Attributes[n]":5.0}}`, true},
		{`{"NumericLessThan":{"iot:Connection.Thing.Attributes[n]":"6"}}`, true},
		{`{"NumericGreaterThanEquals":{"iot:Connection.Thing.Attributes[n]":6}}`, false},
		{`{"NumericNotEquals":{"iot:Connection.Thing.Attributes[n]":6}}`, true},
		{`{"NumericLessThan":{"iot:ClientId":6}}`, false},
		{`{"DateLessThan":{"aws:CurrentTime":"2026-05-04T12:00:01Z"}}`, true},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-05-04T14:00:00+02:00"}}`, false},
		{`{"DateGreaterThanEquals":{"aws:CurrentTime":"2026-05-04T14:00:00+02:00"}}`, true},
		{`{"DateEquals":{"aws:CurrentTime":1777896000}}`, true},
		{`{"NumericGreaterThan":{"aws:EpochTime":1777895999}}`, true},
		{`{"Bool":{"iot:Connection.Thing.IsAttached":true}}`, true},
		{`{"Bool":{"iot:Connection.Thing.IsAttached":"False"}}`, false},
		{`{"IpAddress":{"aws:SourceIp":["192.0.2.0/24","10.1.2.3"]}}`, true},
		{`{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`, false},
		{`{"IpAddress":{"aws:SourceIp":"::/0"}}`, false},
		{`{"ArnLike":{"iot:LastWillTopic":"arn:aws:iot:*:123456789012:topic/will/*"}}`, true},
		{`{"ArnEquals":{"iot:LastWillTopic":"arn:aws:iot:us-east-1:123456789012:topic/will/?"}}`, true},
		{`{"ArnLike":{"iot:LastWillTopic":"arn:*"}}`, false},
		{`{"ArnNotEquals":{"iot:LastWillTopic":"arn:aws:iot:us-east-1:123456789012:topic/will/x"}}`, false},
		{`{"StringEquals":{"iot:ClientId":"Dev-1"},"Bool":{"iot:Connection.Thing.IsAttached":"false"}}`, false},
		{`{"StringEquals":{"iot:ClientId":"Dev-1","iot:DomainName":"x"}}`, false},
		{`{}`, true},
	} {
		doc := allow(t, "iot:Connect", "*", `,"Condition":`+k.cond)
		if got := policy.Compile([]*policy.Document{doc}, c).May(policy.Connect, "Dev-1"); got != k.want {
			t.Errorf("%s: got %v, want %v", k.cond, got, k.want)
		}
	}
}

func TestTimeConditionsAreAnsweredAtEachDecision(t *testing.T) {
	now := time.Unix(100, 0)
	doc := allow(t, "iot:Publish", "*", `,"Condition":{"DateLessThan":{"aws:CurrentTime":"1970-01-01T00:02:00Z"}}`)
	d := policy.Compile([]*policy.Document{doc}, policy.Context{Base: base, Now: func() time.Time { return now }})
	if !d.May(policy.Publish, "a") {
		t.Error("refused before the time")
	}
	now = time.Unix(121, 0)
	if d.May(policy.Publish, "a") {
		t.Error("allowed after the time")
	}
}

func TestActionsOfTheControlPlaneByName(t *testing.T) {
	doc := parse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Describe*","IOT:list*"],"Resource":"*"},{"Effect":"Deny","Action":"iot:DescribeEndpoint","Resource":"*"}]}`)
	d := policy.Compile([]*policy.Document{doc}, policy.Context{Base: base})
	for action, want := range map[string]policy.Decision{"iot:DescribeThing": policy.Allow, "iot:ListThings": policy.Allow, "iot:DescribeEndpoint": policy.ExplicitDeny, "iot:CreateThing": policy.ImplicitDeny} {
		if got := d.Named(action, "*"); got != want {
			t.Errorf("%s: got %v, want %v", action, got, want)
		}
	}
}

func TestExplain(t *testing.T) {
	a := allow(t, "iot:Publish", base+"topic/*", "")
	a.Name = "A"
	b := parse(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:Publish","Resource":"`+base+`topic/x"},{"Effect":"Allow","Action":"iot:Publish","Resource":"`+base+`topic/${iot:ClientId}"}]}`)
	b.Name = "B"
	docs := []*policy.Document{a, b}
	e := policy.Explain(docs, policy.Context{Base: base}, policy.Publish, base+"topic/x")
	if e.Decision != policy.ExplicitDeny || fmt.Sprint(e.Allowed, e.Denied, e.Missing) != "[A] [B] [iot:ClientId]" {
		t.Errorf("got %+v", e)
	}
	e = policy.Explain(docs, policy.Context{Base: base}, policy.Subscribe, base+"topicfilter/x")
	if e.Decision != policy.ImplicitDeny || e.Allowed != nil || e.Denied != nil || e.Missing != nil {
		t.Errorf("got %+v", e)
	}
}

func TestNilDeciderDeniesEverything(t *testing.T) {
	var d *policy.Decider
	if d.May(policy.Publish, "a") || d.Decide(policy.Publish, "*") != policy.ImplicitDeny || d.Named("iot:X", "*") != policy.ImplicitDeny {
		t.Error("a nil Decider allowed something")
	}
}

// A matcher that gives back what a star took needs longer than the universe for
// these; the bound here is generous for a loaded machine.
func TestHostilePatternsAreBoundedInTime(t *testing.T) {
	for name, pattern := range map[string]string{
		"a million stars":           strings.Repeat("*", 1_000_000),
		"a million stars and marks": strings.Repeat("*?", 500_000),
		"stars and letters":         strings.Repeat("*a", 500_000),
		"long runs with marks":      strings.Repeat("*"+strings.Repeat("a?", 100)+"b", 5_000),
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := policy.ParseSize([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:`+pattern+`b"}}`), 2<<20)
			if err != nil {
				t.Fatal(err)
			}
			d := policy.Compile([]*policy.Document{doc}, policy.Context{Base: base})
			text := "arn:" + strings.Repeat("a", 65_000)
			start := time.Now()
			if d.Decide(policy.Publish, text) == policy.Allow {
				t.Error("matched")
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("one decision took %v", took)
			}
		})
	}
	if _, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"` + strings.Repeat("*", 1_000_000) + `"}}`)); !fault.Is(err, fault.TooLarge) {
		t.Errorf("at the default limit: %v, want fault.TooLarge", err)
	}
}

// fleet is a policy as devices have it: ten statements, variables, one denial.
func fleet(t testing.TB) *policy.Decider {
	doc := parse(t, `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
	{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":["arn:aws:iot:*:*:topic/$aws/things/${iot:Connection.Thing.ThingName}/*","arn:aws:iot:us-east-1:123456789012:topic/site/${iot:Connection.Thing.Attributes[site]}/${iot:ClientId}/*"]},
	{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:*:*:topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/*"},
	{"Effect":"Deny","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/*/secret/*"},
	{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:123456789012:topic/common","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}]}`)
	return policy.Compile([]*policy.Document{doc}, policy.Context{Base: base, ClientID: "pump-17",
		Thing: &policy.Thing{Name: "pump-17", Attached: true, Attributes: map[string]string{"site": "north"}}})
}

func TestDecisionOnThePublishPathDoesNotAllocate(t *testing.T) {
	d := fleet(t)
	topic := "site/north/pump-17/state/temperature"
	if n := testing.AllocsPerRun(100, func() {
		if !d.May(policy.Publish, topic) {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func BenchmarkMayPublish(b *testing.B) {
	d := fleet(b)
	for b.Loop() {
		if !d.May(policy.Publish, "site/north/pump-17/state/temperature") {
			b.Fatal("refused")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		fleet(b)
	}
}
