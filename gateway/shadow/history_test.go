package shadow_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/jsondoc"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

func text(v *jsondoc.Value) string {
	if v.Kind() == jsondoc.None {
		return "-"
	}
	return string(jsondoc.Append(nil, v))
}

// change makes a change at a second of the test's time in somebody's name; an empty request deletes.
func (h *house) change(t *testing.T, id shadow.ID, at int64, by, request string) {
	t.Helper()
	h.clk.Set(time.Unix(t0+at, 0))
	who := shadow.Who{By: by, From: "c-" + by}
	if err := h.db.Wait(func(u *store.Unit) error {
		if request == "" {
			_, err := h.Delete(u, id, who, nil)
			return err
		}
		_, err := h.Update(u, id, who, []byte(request), 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// told gives the past of a shadow, oldest first.
func (h *house) told(t *testing.T, id shadow.ID) (list []string) {
	t.Helper()
	if err := h.Log(h.db, id, func(e shadow.Entry) bool {
		line := fmt.Sprintf("%d %s %s v%d %s after %s", e.At.Unix()-t0, e.By, e.From, e.Version, text(&e.State), text(&e.Before))
		list = append([]string{line}, list...)
		if e.Deleted != (e.State.Kind() == jsondoc.None) || e.ID != id {
			t.Errorf("%+v", e)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// was tells what a shadow was at a second of the test's time: its version and state, or why nobody can tell.
func (h *house) was(id shadow.ID, at int64) string {
	e, err := h.At(h.db, id, time.Unix(t0+at, 0))
	if err != nil {
		return fault.Of(err).String()
	}
	return fmt.Sprintf("v%d %s", e.Version, text(&e.State))
}

func TestThePastTellsWhoChangedWhatWhen(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.change(t, kiln, 10, "ada", `{"state":{"desired":{"t":1,"zone":{"a":[1,2]}}}}`)
	h.change(t, kiln, 20, "bob", `{"state":{"desired":{"t":2},"reported":{"t":1.0}}}`)
	h.change(t, shadow.ID{Thing: "kiln7", Name: "cfg"}, 25, "eve", `{"state":{"desired":{"x":1}}}`)
	h.change(t, kiln, 30, "ada", ``)
	h.change(t, kiln, 40, "eve", `{"state":{"reported":{"t":null}}}`)
	h.change(t, kiln, 50, "", `{"state":{"reported":{"t":1}}}`)
	h.change(t, kiln, 60, "bob", `{"state":null}`)
	want := []string{
		`10 ada c-ada v1 {"desired":{"t":1,"zone":{"a":[1,2]}}} after -`,
		`20 bob c-bob v2 {"desired":{"t":2,"zone":{"a":[1,2]}},"reported":{"t":1.0}} after {"desired":{"t":1,"zone":{"a":[1,2]}}}`,
		`30 ada c-ada v2 - after {"desired":{"t":2,"zone":{"a":[1,2]}},"reported":{"t":1.0}}`,
		`40 eve c-eve v4 {} after -`,
		`50  c- v5 {"reported":{"t":1}} after {}`,
		`60 bob c-bob v6 {} after {"reported":{"t":1}}`,
	}
	then := map[int64]string{
		9: "not found", 10: `v1 {"desired":{"t":1,"zone":{"a":[1,2]}}}`, 19: `v1 {"desired":{"t":1,"zone":{"a":[1,2]}}}`,
		29: `v2 {"desired":{"t":2,"zone":{"a":[1,2]}},"reported":{"t":1.0}}`, 30: "not found", 39: "not found", 40: "v4 {}", 55: `v5 {"reported":{"t":1}}`, 99: "v6 {}",
	}
	check := func(when string) {
		t.Helper()
		if got := strings.Join(h.told(t, kiln), "\n"); got != strings.Join(want, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", when, got, strings.Join(want, "\n"))
		}
		for at, want := range then {
			if got := h.was(kiln, at); got != want {
				t.Errorf("%s, at %d: got %s, want %s", when, at, got, want)
			}
		}
	}
	check("before an apply")
	if err := h.db.Flush(); err != nil {
		t.Fatal(err)
	}
	check("after an apply")
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	h = open(t, dir)
	h.clk.Set(time.Unix(t0+70, 0))
	check("after a restart")

	h.change(t, kiln, 70, "ada", ``)
	h.clk.Set(time.Unix(t0+71, 0).Add(48 * time.Hour))
	if n, err := h.Sweep(h.db); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	want = append(want, `70 ada c-ada v6 - after {}`)
	then[99] = "not found"
	check("when it is gone and forgotten")
}

// Where the past has an end, nobody guesses.
func TestAPastThatGoesBackOnlySoFar(t *testing.T) {
	dir := t.TempDir()
	cfg := store.DefaultConfig(dir)
	cfg.Ballast, cfg.TrailBytes = -1, 400
	h := openWith(t, cfg)
	for i := int64(1); i <= 40; i++ {
		h.change(t, kiln, 10*i, "ada", fmt.Sprintf(`{"state":{"reported":{"n":%d}}}`, i))
		if err := h.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	told := h.told(t, kiln)
	if n := len(told); n < 2 || n > 12 || !strings.HasPrefix(told[n-1], "400 ada c-ada v40 ") {
		t.Fatalf("the past has %q", told)
	}
	first := int64(41 - len(told)) // the oldest change that is known, and hence the state before
	for at, want := range map[int64]string{
		10*first + 1:  fmt.Sprintf(`v%d {"reported":{"n":%d}}`, first, first),
		10*first - 1:  fmt.Sprintf(`v%d {"reported":{"n":%d}}`, first-1, first-1),
		10*first - 9:  fmt.Sprintf(`v%d {"reported":{"n":%d}}`, first-1, first-1),
		10*first - 11: "unavailable", 1: "unavailable", 1000: `v40 {"reported":{"n":40}}`,
	} {
		if got := h.was(kiln, at); got != want {
			t.Errorf("at %d: got %s, want %s", at, got, want)
		}
	}

	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.TrailBytes = -1 // a change that left no note breaks the chain
	h = openWith(t, cfg)
	h.change(t, kiln, 500, "ada", `{"state":{"reported":{"n":41}}}`)
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.TrailBytes = 1 << 20
	h = openWith(t, cfg)
	if got := h.told(t, kiln); len(got) != 0 {
		t.Errorf("behind a gap: %q", got)
	}
	if got := h.was(kiln, 500) + " " + h.was(kiln, 499); got != `v41 {"reported":{"n":41}} unavailable` {
		t.Error(got)
	}
	h.change(t, kiln, 510, "ada", `{"state":{"reported":{"n":42}}}`)
	if got := h.told(t, kiln); len(got) != 1 {
		t.Errorf("behind a gap: %q", got)
	}
	if got := h.was(kiln, 509) + " " + h.was(kiln, 499); got != `v41 {"reported":{"n":41}} unavailable` {
		t.Error(got)
	}
	if err := h.Log(h.db, shadow.ID{Thing: "a b"}, nil); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	if _, err := h.At(h.db, shadow.ID{Thing: "x", Name: "%"}, time.Unix(t0, 0)); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
	if got := h.was(shadow.ID{Thing: "nobody"}, 0); got != "not found" {
		t.Error(got)
	}
}

// Whatever happens to a shadow, the past tells it as a witness has written it down.
func TestThePastIsWhatAWitnessWroteDown(t *testing.T) {
	h := newHouse(t)
	r := rand.New(rand.NewPCG(3, 4))
	leaf := func() string {
		return []string{`1`, `1.0`, `"a"`, `null`, `true`, `[1,{"a":2}]`, `[]`, `{}`, `{"a":1}`, `{"a":null,"b":{"c":2}}`, `{"b":{"c":null}}`}[r.IntN(11)]
	}
	section := func() string {
		if r.IntN(12) == 0 {
			return "null"
		}
		return fmt.Sprintf(`{"p":%s,"q":%s}`, leaf(), leaf())
	}
	var want []string
	before := "-"
	for i := int64(1); i <= 400; i++ {
		request := fmt.Sprintf(`{"state":{"desired":%s,"reported":%s}}`, section(), section())
		if before != "-" && r.IntN(15) == 0 {
			request = ""
		}
		h.change(t, kiln, i, "w", request)
		doc, ok, err := h.Load(h.db, kiln)
		if err != nil || ok != (request != "") {
			t.Fatal(ok, err)
		}
		now := "-"
		if ok {
			state := doc.State()
			now = text(&state)
		}
		want = append(want, now+" after "+before)
		before = now
		if r.IntN(50) == 0 {
			if err := h.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := h.told(t, kiln)
	if len(got) != len(want) {
		t.Fatalf("%d changes are told, there were %d", len(got), len(want))
	}
	for i := range got {
		if !strings.HasSuffix(got[i], want[i]) || !strings.HasPrefix(got[i], fmt.Sprint(i+1, " w")) {
			t.Fatalf("change %d\n got %s\nwant %s", i, got[i], want[i])
		}
	}
}
