package rules_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
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
	e := engine(t, rules.Config{{Name: "r", SQL: "SELECT a FROM 'x'", Actions: []rules.Action{republish("${missing}"), republish("good"), republish("bad/#")}, ErrorAction: &fail}})
	m := mqtt.Message{Topic: "x", Payload: []byte(`{"a":1}`), Origin: mqtt.Client, From: "c1"}
	got := e.Match("x").Eval(&m)
	if len(got) != 2 || got[0].Topic != "good" || got[1].Topic != "errors" {
		t.Fatalf("got %+v", got)
	}
	var doc struct {
		RuleName, Topic, ClientID, Base64OriginalPayload string
		Failures                                         []struct{ FailedAction, ErrorMessage string }
	}
	if err := json.Unmarshal(got[1].Payload, &doc); err != nil || doc.RuleName != "r" || doc.Topic != "x" || doc.ClientID != "c1" ||
		doc.Base64OriginalPayload != "eyJhIjoxfQ==" || len(doc.Failures) != 2 || doc.Failures[0].FailedAction != "RepublishAction" {
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
	c := rules.Config{
		{Name: "has-hyphen", SQL: "SELECT FROM", Version: "1999-01-01"},
		{Name: "ok", SQL: "SELECT * FROM 'a'", Actions: []rules.Action{{}, {Republish: &rules.Republish{}}, {Republish: &rules.Republish{Topic: "a", QoS: 2}}, republish("${")}},
		{Name: "ok", SQL: "SELECT * FROM 'a'", Actions: long},
		{Name: "ext", SQL: "SELECT aws_lambda('arn', *) AS x FROM 'a'"},
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("passed")
	}
	for _, want := range []string{"[0].name: \"has-hyphen\"", "[0].version:", "[0].sql:", "[1].actions[0].republish:", "[1].actions[1].republish.topic:",
		"[1].actions[2].republish.qos:", "[1].actions[3].republish.topic:", "[2].actions: 11", "[2].name: there are two", "[3].sql: aws_lambda()"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said in\n%v", want, err)
		}
	}
	if rules.DefaultConfig().Validate() != nil {
		t.Error("the default is wrong")
	}
}
