package uplink

import (
	"strings"
	"testing"
)

func TestRoutesMapTopics(t *testing.T) {
	for _, c := range []struct{ filter, template, topic, want string }{
		{"dt/#", "{topic}", "dt/pump/flow", "dt/pump/flow"},
		{"dt/#", "site7/{topic}", "dt/pump/flow", "site7/dt/pump/flow"},
		{"dt/#", "site7/{rest}", "dt/pump/flow", "site7/pump/flow"},
		{"dt/#", "site7/{rest}", "dt", "site7/"},
		{"#", "x/{rest}/y", "a/b", "x/a/b/y"},
		{"a/+/b/+/c", "{2}/{1}/{2}", "a/one/b/two/c", "two/one/two"},
		{"+/+/#", "{1}-{2}-{rest}", "p/q/r/s", "p-q-r/s"},
		{"fixed", "other", "fixed", "other"},
		{"cmd/+", "dev/{1}", "cmd/", "dev/"},
	} {
		r, err := newRoute(c.filter, c.template, 1)
		if err != nil {
			t.Errorf("%s → %s: %v", c.filter, c.template, err)
			continue
		}
		if got := r.topic(c.topic); got != c.want {
			t.Errorf("%s → %s makes %q of %q, want %q", c.filter, c.template, got, c.topic, c.want)
		}
	}
}

func TestTemplatesThatCannotWorkAreRefused(t *testing.T) {
	for _, c := range []struct{ filter, template, want string }{
		{"", "{topic}", "filter: the topic filter is empty"},
		{"a/#/b", "{topic}", "filter: "},
		{"a/+", "{2}", "{2} stands for nothing"},
		{"a/+", "{rest}", "{rest} stands for nothing"},
		{"a/#", "{0}", "{0} stands for nothing"},
		{"a/#", "x/{topic", "not closed"},
		{"a/#", "x/+/{topic}", "wildcard"},
		{"a/#", "x/{site}", "{site} stands for nothing"},
	} {
		if _, err := newRoute(c.filter, c.template, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s → %s: %v, want %q", c.filter, c.template, err, c.want)
		}
	}
}

func TestValidateSaysEverythingAtOnce(t *testing.T) {
	two := byte(2)
	bad := Config{Name: "a b", URL: "http://x", Password: "p", Window: 5000, KeepAlive: 1, BackoffMin: 1, BackoffMax: 1,
		Up: []Route{{Filter: "ok"}, {Filter: "+a", QoS: &two}}, Down: []Route{{Filter: "c/#", Topic: "{1}"}}}
	err := bad.Validate()
	if err == nil {
		t.Fatal("passed")
	}
	for _, want := range []string{"name: ", "url: ", "password: ", "up[1].qos: ", "up[1].filter: ", "down[0].topic: ", "window: ", "keep_alive: ", "backoff_min: ", "backoff_max: "} {
		if !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("nothing about %q in\n%v", want, err)
		}
	}
	good := Config{Name: "site7", URL: "mqtt://h", Up: []Route{{Filter: "dt/#"}}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	good.TLS.CA = "ca.pem"
	if err := good.Validate(); err == nil || !strings.Contains(err.Error(), "expected mqtts") {
		t.Errorf("got %v", err)
	}
}
