package mqtt_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"tidegate/gateway/mqtt"
)

func full() mqtt.Message {
	return mqtt.Message{Topic: "a/b", Payload: []byte("hi"), QoS: 1, Retain: true, Props: mqtt.Props{Format: 1, HasFormat: true,
		Expiry: 60, HasExpiry: true, ContentType: "text/plain", ResponseTopic: "r/1", Correlation: []byte{1, 2},
		User: []mqtt.UserProp{{Key: "k", Value: "v"}, {Key: "k", Value: strings.Repeat("w", 300)}}}}
}

func TestARunGivesBackWhatWentIn(t *testing.T) {
	want := full()
	r := mqtt.NewRun(&want)
	if got := r.Message(0); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	p, err := mqtt.ParsePublish(r.Frame(0), true)
	if err == nil {
		t.Fatal("packet id 0 passed") // NewRun leaves the id to whoever sends it
	}
	b := mqtt.AppendPublish(nil, &want, true, 7)
	if p, err = mqtt.ParsePublish(b, true); err != nil || p.ID != 7 || string(p.Topic) != "a/b" || string(p.Payload) != "hi" || !p.Retain || p.IDAt != r.Frames[0].ID {
		t.Errorf("parsed %+v, %v", p, err)
	}
	b = mqtt.AppendPublish(nil, &want, false, 7)
	if p, err = mqtt.ParsePublish(b, false); err != nil || string(p.Payload) != "hi" {
		t.Errorf("3.1.1: parsed %+v, %v", p, err)
	}
}

func TestPublishThatBreaksARule(t *testing.T) {
	for name, f := range map[string][]byte{
		"[MQTT-3.3.1-4] QoS 3":             {0x36, 5, 0, 1, 'a', 0, 1},
		"[MQTT-3.3.1-2] DUP with QoS 0":    {0x38, 3, 0, 1, 'a'},
		"[MQTT-2.2.1-3] packet id 0":       {0x32, 6, 0, 1, 'a', 0, 0, 0},
		"topic longer than the packet":     {0x30, 3, 0, 9, 'a'},
		"no room for the packet id":        {0x32, 4, 0, 1, 'a', 0},
		"properties longer than packet":    {0x30, 4, 0, 1, 'a', 9},
		"unknown property":                 {0x30, 6, 0, 1, 'a', 2, 0x7f, 0},
		"the same property twice":          {0x30, 8, 0, 1, 'a', 4, 1, 0, 1, 0},
		"payload format 2":                 {0x30, 6, 0, 1, 'a', 2, 1, 2},
		"[MQTT-3.3.4-6] subscription id":   {0x30, 6, 0, 1, 'a', 2, 0x0b, 1},
		"response topic with a wildcard":   {0x30, 8, 0, 1, 'a', 4, 8, 0, 1, '#'},
		"topic alias 0":                    {0x30, 7, 0, 1, 'a', 3, 0x23, 0, 0},
		"remaining length of five bytes":   {0x30, 0xff, 0xff, 0xff, 0xff, 1},
		"shorter than its length says":     {0x30, 9, 0, 1, 'a', 0},
		"user property cut off":            {0x30, 8, 0, 1, 'a', 4, 0x26, 0, 9, 'k'},
		"correlation longer than the rest": {0x30, 8, 0, 1, 'a', 4, 9, 0, 9, 'k'},
	} {
		if p, err := mqtt.ParsePublish(f, true); err == nil {
			t.Errorf("%s: passed as %+v", name, p)
		}
	}
}

func TestTopicsAndFilters(t *testing.T) {
	for _, bad := range []string{"", "a/+", "#", "a\x00b", "\xff", strings.Repeat("a", 65536)} {
		if mqtt.ValidTopic(bad) == nil {
			t.Errorf("topic %.20q passed", bad)
		}
	}
	for _, bad := range []string{"", "a#", "#/a", "a/#/b", "+a", "a/b+", "\xff", "\x00"} {
		if mqtt.ValidFilter(bad) == nil {
			t.Errorf("filter %q passed", bad)
		}
	}
	for _, good := range []string{"#", "+", "/", "a/#", "+/+/#", "$SYS/#", "a//b"} {
		if err := mqtt.ValidFilter(good); err != nil {
			t.Errorf("filter %q: %v", good, err)
		}
	}
	for _, c := range []struct {
		filter, topic string
		mqtt, aws     bool
	}{
		{"a/#", "a", true, false}, {"a/#", "a/", true, true}, {"a/#", "a/b/c", true, true}, {"#", "a", true, true},
		{"#", "$SYS/x", false, false}, {"+/x", "$SYS/x", false, false}, {"$SYS/#", "$SYS/x", true, true}, {"+", "/", false, false},
		{"+/+", "/", true, true}, {"/+", "/", true, true}, {"a/+/c", "a/b/c", true, true}, {"a/+", "a", false, false}, {"a/+", "a/", true, true},
		{"a", "b", false, false}, {"a/b", "a", false, false}, {"a", "a/b", false, false}, {"a/+/#", "a", false, false}, {"a/+/#", "a/b", true, false},
	} {
		if got := mqtt.Match(c.filter, c.topic); got != c.mqtt {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.topic, got)
		}
		if got := mqtt.MatchAWS(c.filter, c.topic); got != c.aws {
			t.Errorf("MatchAWS(%q, %q) = %v", c.filter, c.topic, got)
		}
	}
	if n, f, ok, err := mqtt.SplitShare("$share/g/a/#"); n != "g" || f != "a/#" || !ok || err != nil {
		t.Errorf("split: %q %q %v %v", n, f, ok, err)
	}
	for _, bad := range []string{"$share/g", "$share//a", "$share/g+/a", "$share/g/"} {
		if _, _, ok, err := mqtt.SplitShare(bad); !ok || err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func FuzzParsePublish(f *testing.F) {
	m := full()
	f.Add(mqtt.AppendPublish(nil, &m, true, 7), true)
	f.Add(mqtt.AppendPublish(nil, &m, false, 7), false)
	f.Fuzz(func(t *testing.T, b []byte, v5 bool) {
		p, err := mqtt.ParsePublish(b, v5)
		if err != nil {
			return
		}
		props, err := mqtt.ParseProps(p.Props)
		if err != nil {
			t.Fatalf("checked properties do not parse: %v", err)
		}
		again := mqtt.AppendPublish(nil, &mqtt.Message{Topic: string(p.Topic), Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, Props: props}, v5, p.ID)
		q, err := mqtt.ParsePublish(again, v5)
		if err != nil && !(v5 && len(p.Topic) == 0) {
			t.Fatalf("own encoding refused: %v", err)
		}
		if !bytes.Equal(p.Payload, q.Payload) || p.ID != q.ID {
			t.Fatal("payload or id changed on the way")
		}
	})
}
