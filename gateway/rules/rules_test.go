package rules_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/metrics"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/rules"
)

func engine(t *testing.T, c rules.Config) *rules.Engine {
	t.Helper()
	e, err := rules.New(c, rules.Deps{Clock: clocktest.New(time.UnixMilli(1234)), Log: slog.New(slog.DiscardHandler), Account: "123456789012"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func republish(topic string) rules.Action {
	return rules.Action{Republish: &rules.Republish{Topic: topic, QoS: 1}}
}

func eval(e *rules.Engine, m mqtt.Message) (out []string) {
	x := e.Match(m.Topic)
	if x == nil {
		return nil
	}
	for _, r := range x.Eval(&m) {
		out = append(out, r.Topic+" "+string(r.Payload))
	}
	return out
}

func TestARuleSelectsAndRepublishes(t *testing.T) {
	e := engine(t, rules.Config{{Name: "hot", SQL: "SELECT temp * 2 AS double, topic(2) AS thing, timestamp() AS at FROM 'dt/+/climate' WHERE temp > 30",
		Actions: []rules.Action{republish("alarm/${topic(2)}"), republish("$$aws/things/${topic(2)}/shadow/update")}}})
	m := mqtt.Message{Topic: "dt/oven/climate", Payload: []byte(`{"temp":31.5}`), Hops: 2, From: "x"}
	got := e.Match(m.Topic).Eval(&m)
	if len(got) != 2 || got[0].Topic != "alarm/oven" || string(got[0].Payload) != `{"double":63,"thing":"oven","at":1234}` ||
		got[1].Topic != "$aws/things/oven/shadow/update" || got[0].QoS != 1 || got[0].Hops != 3 || got[0].Origin != mqtt.Rule {
		t.Errorf("got %+v", got)
	}
	m.Payload = []byte(`{"temp":30}`)
	if got := e.Match(m.Topic).Eval(&m); got != nil {
		t.Errorf("30 is not above 30: %+v", got)
	}
	if e.Match("dt/oven") != nil || e.Match("$dt/oven/climate") != nil {
		t.Error("a rule looks at a topic its filter does not cover")
	}
}

func TestBasicIngestReachesOneRuleAndNobodyElse(t *testing.T) {
	e := engine(t, rules.Config{
		{Name: "one", SQL: "SELECT topic() AS t, topic(1) AS first FROM 'never/matches'", Actions: []rules.Action{republish("out")}},
		{Name: "all", SQL: "SELECT * FROM '#'", Actions: []rules.Action{republish("wrong")}},
		{Name: "off", SQL: "SELECT *", Disabled: true, Actions: []rules.Action{republish("wrong")}},
	})
	m := mqtt.Message{Topic: "$aws/rules/one/a/b"}
	if x := e.Match(m.Topic); !x.Private() {
		t.Error("others may receive it")
	}
	if got := strings.Join(eval(e, m), ","); got != `out {"t":"a/b","first":"a"}` {
		t.Errorf("got %s", got)
	}
	for _, topic := range []string{"$aws/rules/off/a", "$aws/rules/nobody/a"} {
		if x := e.Match(topic); x == nil || !x.Private() || len(eval(e, mqtt.Message{Topic: topic})) > 0 {
			t.Errorf("%s is not dropped", topic)
		}
	}
}

func TestAFailedActionGoesToTheErrorAction(t *testing.T) {
	fail := republish("errors")
	e := engine(t, rules.Config{{Name: "r", SQL: "SELECT a FROM 'x'", Actions: []rules.Action{republish("${missing}"), republish("good"), republish("bad/${h}")}, ErrorAction: &fail}})
	m := mqtt.Message{Topic: "x", Payload: []byte(`{"a":1,"h":"#"}`), Origin: mqtt.Client, From: "c1"}
	got := e.Match("x").Eval(&m)
	if len(got) != 2 || got[0].Topic != "good" || got[1].Topic != "errors" {
		t.Fatalf("got %+v", got)
	}
	var doc struct {
		RuleName, Topic, ClientID, Base64OriginalPayload, CloudwatchTraceID string

		Failures []struct{ FailedAction, FailedResource, ErrorMessage string }
	}
	if err := json.Unmarshal(got[1].Payload, &doc); err != nil || doc.RuleName != "r" || doc.Topic != "x" || doc.ClientID != "c1" ||
		doc.Base64OriginalPayload != "eyJhIjoxLCJoIjoiIyJ9" || len(doc.Failures) != 2 || doc.Failures[0].FailedAction != "RepublishAction" ||
		doc.Failures[1].FailedResource != "bad/${h}" || len(doc.CloudwatchTraceID) != 36 {
		t.Errorf("error message %s (%v)", got[1].Payload, err)
	}
}

func TestARuleThatFeedsItselfIsCut(t *testing.T) {
	e := engine(t, rules.Config{{Name: "echo", SQL: "SELECT * FROM 'loop'", Actions: []rules.Action{republish("loop")}}})
	m := mqtt.Message{Topic: "loop", Payload: []byte("x")}
	n := 0
	for ; n < 100; n++ {
		out := e.Match("loop").Eval(&m)
		if len(out) == 0 {
			break
		}
		m = out[0]
	}
	if n != rules.MaxHops {
		t.Errorf("went round %d times", n)
	}
}

func TestResultsOutliveTheNextMessage(t *testing.T) {
	e := engine(t, rules.Config{{Name: "r", SQL: "SELECT a, 'text' AS b FROM 'x'", Actions: []rules.Action{republish("y")}}})
	first := e.Match("x").Eval(&mqtt.Message{Topic: "x", Payload: []byte(`{"a":"first"}`)})
	e.Match("x").Eval(&mqtt.Message{Topic: "x", Payload: []byte(`{"a":"other"}`)})
	if got := string(first[0].Payload); got != `{"a":"first","b":"text"}` {
		t.Errorf("now it is %s", got)
	}
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	long := make([]rules.Action, 11)
	for i := range long {
		long[i] = republish("a")
	}
	with := func(h rules.Headers) rules.Action {
		return rules.Action{Republish: &rules.Republish{Topic: "a", Headers: h}}
	}
	ext := republish("${get_thing_shadow('t', 'r').x}")
	c := rules.Config{
		{Name: "has-hyphen", SQL: "SELECT FROM", Version: "1999-01-01"},
		{Name: "ok", SQL: "SELECT * FROM 'a'", Actions: []rules.Action{{}, {Republish: &rules.Republish{}}, {Republish: &rules.Republish{Topic: "a", QoS: 2}}, republish("${")}},
		{Name: "ok", SQL: "SELECT * FROM 'a'", Actions: long},
		{Name: "ext", SQL: "SELECT aws_lambda('arn', *) AS x FROM 'a'"},
		{Name: "more", SQL: "SELECT * FROM 'a'", ErrorAction: &ext, Actions: []rules.Action{
			republish("a/#"), republish("$$aws/things/t/jobs/get"), with(rules.Headers{Expiry: "${"}), with(rules.Headers{PayloadFormat: "TEXT"}),
			with(rules.Headers{UserProperties: []rules.UserProperty{{Key: "k", Value: "${aws_lambda('a', *)}"}}}), republish("$$aws/things/t/shadow/update/accepted"), republish("$$tidegate/audit/x"), republish("$$SYS/broker/uptime")}},
		{Name: "deep", SQL: "SELECT * FROM '" + strings.Repeat("a/", 300) + "b'"},
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("passed")
	}
	for _, want := range []string{"[0].name: \"has-hyphen\"", "[0].version:", "[0].sql:", "[1].actions[0].republish:", "[1].actions[1].republish.topic:",
		"[1].actions[2].republish.qos:", "[4].actions[0].republish.topic: the topic contains a wildcard", "[4].actions[1].republish.topic: a rule may not publish",
		"[4].actions[2].republish.headers.message_expiry: column 3", "[4].actions[3].republish.headers.payload_format: \"TEXT\"", "[4].actions[4].republish.headers.user_properties[0].value: aws_lambda()",
		"[4].actions[5].republish.topic: a rule may not publish", "[4].actions[6].republish.topic: a rule may not publish", "[4].actions[7].republish.topic: a rule may not publish", "[4].error_action.republish.topic: get_thing_shadow()", "[5].sql: the topic filter has more than", "[1].actions[3].republish.topic:", "[2].actions: 11", "[2].name: there are two", "[3].sql: aws_lambda()"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said in\n%v", want, err)
		}
	}
	if rules.DefaultConfig().Validate() != nil {
		t.Error("the default is wrong")
	}
}

func TestHeadersAreTemplates(t *testing.T) {
	e := engine(t, rules.Config{{Name: "r", SQL: "SET @id = a + 1 SELECT a FROM 'x'", Actions: []rules.Action{{Republish: &rules.Republish{Topic: "y/${@id}", Headers: rules.Headers{
		PayloadFormat: "UTF8_DATA", ContentType: "application/${kind}", ResponseTopic: "re/${topic()}", Correlation: "${encode(kind, 'base64')}", Expiry: "${ttl}",
		UserProperties: []rules.UserProperty{{Key: "k", Value: "${a}"}, {Key: "k", Value: "two"}, {Key: "${none}", Value: "${none}"}}}}}}}})
	eval := func(payload string) []mqtt.Message {
		m := mqtt.Message{Topic: "x", Payload: []byte(payload), Props: mqtt.Props{ContentType: "not/carried"}, Retain: true}
		return e.Match("x").Eval(&m)
	}
	got := eval(`{"a":1,"kind":"json","ttl":60}`)
	want := mqtt.Props{HasFormat: true, Format: 1, ContentType: "application/json", ResponseTopic: "re/x", Correlation: []byte("json"), HasExpiry: true, Expiry: 60,
		User: []mqtt.UserProp{{Key: "k", Value: "1"}, {Key: "k", Value: "two"}}}
	if len(got) != 1 || got[0].Topic != "y/2" || got[0].Retain || !reflect.DeepEqual(got[0].Props, want) {
		t.Errorf("got %+v", got)
	}
	if got = eval(`{"a":1}`); len(got) != 1 || got[0].Props.HasExpiry || got[0].Props.ContentType != "application/" || got[0].Props.Correlation != nil {
		t.Errorf("headers that expand to nothing: got %+v", got)
	}
	for _, bad := range []string{`{"a":1,"ttl":-1}`, `{"a":1,"ttl":1.5}`, `{"a":1,"ttl":4294967296}`, `{"a":1,"ttl":"x"}`, `{"a":"+"}`} {
		if got := eval(bad); got != nil {
			t.Errorf("%s: got %+v", bad, got)
		}
	}
}

func TestWhatARuleMayNotPublishTo(t *testing.T) {
	e := engine(t, rules.Config{{Name: "r", SQL: "SELECT * FROM 'x'", Actions: []rules.Action{republish("${t}")}}})
	for topic, want := range map[string]bool{"a/b": true, "a//b": true, "": false, "a/+": false, "$aws/things/t/shadow/get": true, "$aws/things/t/shadow/get/accepted": false,
		"$aws/things/t/jobs/get": false, "$aws/events/presence/connected/c": false, "$aws/rules/r/x": true} {
		m := mqtt.Message{Topic: "x", Payload: []byte(`{"t":"` + topic + `"}`)}
		if got := e.Match("x").Eval(&m); len(got) == 1 != want {
			t.Errorf("%q: got %+v", topic, got)
		}
	}
}

func TestAResultThatIsTooLargeFails(t *testing.T) {
	e, err := rules.New(rules.Config{{Name: "r", SQL: "SELECT s FROM 'x'", Actions: []rules.Action{republish("y")}}},
		rules.Deps{Clock: clocktest.New(time.UnixMilli(1234)), Log: slog.New(slog.DiscardHandler), MaxPayload: 20})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]int{strings.Repeat("x", 12): 1, strings.Repeat("x", 13): 0} {
		if got := eval(e, mqtt.Message{Topic: "x", Payload: []byte(`{"s":"` + s + `"}`)}); len(got) != want {
			t.Errorf("%d bytes: got %v", len(s), got)
		}
	}
}

func TestNoRuleSeesWhatIsForOneClientAlone(t *testing.T) {
	e := engine(t, rules.Config{{Name: "r", SQL: "SELECT * FROM '$aws/things/#'", Actions: []rules.Action{republish("y")}}})
	if e.Match("$aws/things/t/jobs/get/accepted") != nil {
		t.Error("a rule sees the answer to a jobs request")
	}
	if e.Match("$aws/things/t/shadow/update/accepted") == nil {
		t.Error("a rule does not see the answer of a shadow")
	}
}

func TestOneRuleThatFailsLeavesTheOthers(t *testing.T) {
	fail := republish("errors")
	e := engine(t, rules.Config{
		{Name: "a", Version: "2015-10-08", SQL: "SELECT VALUE a FROM 'x'", Actions: []rules.Action{republish("a")}, ErrorAction: &fail},
		{Name: "b", SQL: "SELECT VALUE a FROM 'x'", Actions: []rules.Action{republish("b")}},
		{Name: "c", SQL: "SELECT VALUE a FROM 'x' WHERE a = 1", Actions: []rules.Action{republish("c")}},
		{Name: "d", SQL: "SELECT VALUE a FROM 'x'", Disabled: true, Actions: []rules.Action{republish("d")}},
	})
	got := eval(e, mqtt.Message{Topic: "x", Payload: []byte(`{"a":[1]}`)})
	if len(got) != 2 || !strings.HasPrefix(got[0], "errors {") || !strings.Contains(got[0], "needs SQL version 2016-03-23") || got[1] != "b [1]" {
		t.Errorf("got %q", got)
	}
}

func TestLoadReplacesAndCountsOn(t *testing.T) {
	one := rules.Config{{Name: "r", SQL: "SELECT * FROM 'x'", Actions: []rules.Action{republish("y")}}}
	e := engine(t, one)
	set := metrics.New()
	e.Metrics(set)
	x, gen := e.Match("x"), e.Gen()
	eval(e, mqtt.Message{Topic: "x"})
	eval(e, mqtt.Message{Topic: "$aws/rules/gone/x"})
	if err := e.Load(rules.Config{{Name: "bad"}}); err == nil || e.Gen() != gen || e.Match("x") == nil {
		t.Errorf("a bad configuration: %v", err)
	}
	two := rules.Config{{Name: "r", SQL: "SELECT * FROM 'z'", Actions: []rules.Action{republish("y")}}, {Name: "s", SQL: "SELECT * FROM 'z' WHERE nope", Actions: []rules.Action{republish("y")}}}
	if err := e.Load(two); err != nil || e.Gen() == gen || e.Match("x") != nil || e.Match("z") == nil {
		t.Errorf("after Load: %v", err)
	}
	if got := x.Eval(&mqtt.Message{Topic: "x"}); len(got) != 1 {
		t.Error("what was matched before does not hold")
	}
	eval(e, mqtt.Message{Topic: "z"})
	w := httptest.NewRecorder()
	set.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`tidegate_rule_matched_total{rule="r"} 3`, `tidegate_rule_passed_total{rule="r"} 3`, `tidegate_rule_actions_total{rule="r"} 3`,
		`tidegate_rule_matched_total{rule="s"} 1`, `tidegate_rule_passed_total{rule="s"} 0`, `tidegate_rules_not_found_total 1`} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("%s is not among the numbers", want)
		}
	}
}

func BenchmarkEngine(b *testing.B) {
	var c rules.Config
	for i := range 100 {
		c = append(c, rules.Rule{Name: fmt.Sprintf("r%d", i), SQL: fmt.Sprintf("SELECT temp FROM 'dt/#' WHERE temp > %d", 31+i), Actions: []rules.Action{republish("alarm")}})
	}
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e, err := rules.New(c[:n], rules.Deps{Clock: clocktest.New(time.UnixMilli(1)), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			m := mqtt.Message{Topic: "dt/pump/climate", Payload: []byte(`{"deviceid":"pump-0042","ts":1718031415926,"temp":30.98,"humidity":32.43,"pressure":1013.25,"state":"running","seq":48151623}`)}
			x := e.Match(m.Topic)
			b.ReportAllocs()
			for b.Loop() {
				if x.Eval(&m) != nil {
					b.Fatal("a rule passed")
				}
			}
		})
	}
}
