package shadow_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/shadow"
)

// log is a journal as short as it can be.
type log struct {
	runs []*mqtt.Run // nil: 3 records are missing
}

func (l *log) past(fn func(*mqtt.Run, uint64) bool) error {
	for _, r := range l.runs {
		lost := uint64(0)
		if r == nil {
			lost = 3
		}
		if !fn(r, lost) {
			break
		}
	}
	return nil
}

func (l *log) add(topic, payload string, at int64, by string) {
	l.runs = append(l.runs, mqtt.NewRun(&mqtt.Message{Topic: "$aws/things/kiln7/shadow/" + topic, Payload: []byte(payload), At: time.Unix(at, 0), Principal: by, From: "c-" + by, Origin: mqtt.Service}))
}

func text(v *jsondoc.Value) string {
	if v.Kind() == jsondoc.None {
		return ""
	}
	return string(jsondoc.Append(nil, v))
}

func TestAPastIsRead(t *testing.T) {
	h := newHouse(t)
	var l log
	change := func(at int64, by, state string) {
		t.Helper()
		h.clk.Set(time.Unix(at, 0))
		c, err := h.update(kiln, `{"state":{"desired":`+state+`}}`)
		if err != nil {
			t.Fatal(err)
		}
		l.add("update/documents", string(c.Documents), at, by)
		l.add("update/accepted", string(c.Accepted), at, by)
	}
	change(t0+10, "ada", `{"t":1}`)
	change(t0+20, "bob", `{"t":2}`)
	l.runs = append(l.runs, nil)
	l.add("delete/accepted", fmt.Sprintf(`{"version":2,"timestamp":%d}`, t0+30), t0+30, "ada")
	l.add("update/documents", `{"current":"nonsense"`, t0+35, "eve")
	l.runs = append(l.runs, mqtt.NewRun(&mqtt.Message{Topic: "$aws/things/kiln7/shadow/update/documents", Payload: []byte(`{"current":{"version":9,"state":{}}}`), Origin: mqtt.Cloud, At: time.Unix(t0+36, 0)}))
	change(t0+40, "eve", `{"t":4}`)

	var got []string
	err := shadow.Log(l.past, kiln, time.Unix(t0+15, 0), func(e shadow.Entry) bool {
		got = append(got, fmt.Sprint(e.At.Unix()-t0, e.By, e.From, e.Version, e.Deleted, e.Lost, text(&e.Before), text(&e.State)))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(got)
	want := `["20bobc-bob2 false 0{\"desired\":{\"t\":1}}{\"desired\":{\"t\":2}}","30adac-ada2 true 3","40evec-eve3 false 0{\"desired\":{\"t\":2}}{\"desired\":{\"t\":4}}"]`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}

	for at, want := range map[int64]string{5: "not found", 10: `{"desired":{"t":1}}`, 29: `{"desired":{"t":2}}`, 31: "not found", 50: `{"desired":{"t":4}}`} {
		e, err := h.At(h.db, l.past, kiln, time.Unix(t0+at, 0))
		got := text(&e.State)
		if err != nil {
			got = fault.Of(err).String()
		}
		if got != want {
			t.Errorf("at %d: %s, %v, want %s", at, got, err, want)
		}
	}
	short := log{l.runs[2:]} // the beginning is no longer kept
	if e, err := h.At(h.db, short.past, kiln, time.Unix(t0+12, 0)); err != nil || text(&e.State) != `{"desired":{"t":1}}` || e.By != "" {
		t.Errorf("%+v, %v", e, err)
	}
	none := log{}
	if e, err := h.At(h.db, none.past, kiln, time.Unix(t0+60, 0)); err != nil || e.Version != 3 || text(&e.State) != `{"desired":{"t":4}}` {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := h.At(h.db, none.past, kiln, time.Unix(t0+39, 0)); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	late := log{l.runs[5:6]} // begins with the deletion
	if _, err := h.At(h.db, late.past, kiln, time.Unix(t0+29, 0)); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}
