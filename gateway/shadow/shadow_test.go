package shadow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/clock/clocktest"
	"tidegate/gateway/fault"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

const t0 = 1_700_000_000

// house is a room on a real store.
type house struct {
	*shadow.Room
	db  *store.Store
	clk *clocktest.Manual
}

func open(t testing.TB, dir string) *house {
	t.Helper()
	cfg := store.DefaultConfig(dir)
	cfg.Ballast = -1
	return openWith(t, cfg)
}

func openWith(t testing.TB, cfg store.Config) *house {
	t.Helper()
	clk := clocktest.New(time.Unix(t0, 0))
	db, err := store.Open(cfg, clk)
	if err != nil {
		t.Fatal(err)
	}
	db.Start()
	t.Cleanup(func() { _ = db.Close() })
	return &house{shadow.New(clk, shadow.DefaultLimits()), db, clk}
}

func newHouse(t testing.TB) *house { return open(t, t.TempDir()) }

func (h *house) update(id shadow.ID, request string) (c shadow.Change, err error) {
	err = h.db.Wait(func(u *store.Unit) (err error) {
		c, err = h.Update(u, id, me, []byte(request), shadow.WantAll)
		return err
	})
	return c, err
}

func (h *house) get(id shadow.ID, request string) (a shadow.Answer, err error) {
	err = h.db.Wait(func(u *store.Unit) (err error) { a, err = h.Get(u, id, []byte(request)); return err })
	return a, err
}

func (h *house) delete(id shadow.ID, request string) (a shadow.Answer, err error) {
	err = h.db.Wait(func(u *store.Unit) (err error) { a, err = h.Delete(u, id, me, []byte(request)); return err })
	return a, err
}

func (h *house) mustUpdate(t testing.TB, id shadow.ID, request string) shadow.Change {
	t.Helper()
	c, err := h.update(id, request)
	if err != nil {
		t.Fatalf("update %s: %v", request, err)
	}
	return c
}

var (
	kiln = shadow.ID{Thing: "kiln7"}
	me   = shadow.Who{By: "ada", From: "c1"}
)

// sameJSON compares two documents; T in want stands for t0 and T+n for n seconds later.
func sameJSON(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	for n := 9; n > 0; n-- {
		want = strings.ReplaceAll(want, fmt.Sprintf("T+%d", n), fmt.Sprint(t0+n))
	}
	want = strings.ReplaceAll(want, ":T", fmt.Sprint(":", t0))
	if want == "" {
		if got != nil {
			t.Errorf("%s: got %s, want none", what, got)
		}
		return
	}
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: the expectation is no JSON: %v\n%s", what, err, want)
	}
	if err := json.Unmarshal(got, &g); err != nil || !reflect.DeepEqual(g, w) {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

// The story of spec/shadow.md §9.
func TestTheWorkedExamples(t *testing.T) {
	h := newHouse(t)
	for i, step := range []struct{ request, accepted, delta, documents string }{
		{
			`{"state":{"reported":{"setC":20,"zones":["a","b"]}},"clientToken":"k1"}`,
			`{"state":{"reported":{"setC":20,"zones":["a","b"]}},"metadata":{"reported":{"setC":{"timestamp":T},"zones":[{"timestamp":T},{"timestamp":T}]}},"version":1,"timestamp":T,"clientToken":"k1"}`,
			``,
			`{"previous":null,"current":{"state":{"reported":{"setC":20,"zones":["a","b"]}},"metadata":{"reported":{"setC":{"timestamp":T},"zones":[{"timestamp":T},{"timestamp":T}]}},"version":1},"timestamp":T,"clientToken":"k1"}`,
		}, {
			`{"state":{"desired":{"setC":900,"fan":{"rpm":40}}}}`,
			`{"state":{"desired":{"setC":900,"fan":{"rpm":40}}},"metadata":{"desired":{"setC":{"timestamp":T+1},"fan":{"rpm":{"timestamp":T+1}}}},"version":2,"timestamp":T+1}`,
			`{"version":2,"timestamp":T+1,"state":{"setC":900,"fan":{"rpm":40}},"metadata":{"setC":{"timestamp":T+1},"fan":{"rpm":{"timestamp":T+1}}}}`,
			`{"previous":{"state":{"reported":{"setC":20,"zones":["a","b"]}},"metadata":{"reported":{"setC":{"timestamp":T},"zones":[{"timestamp":T},{"timestamp":T}]}},"version":1},
			  "current":{"state":{"desired":{"setC":900,"fan":{"rpm":40}},"reported":{"setC":20,"zones":["a","b"]}},"metadata":{"desired":{"setC":{"timestamp":T+1},"fan":{"rpm":{"timestamp":T+1}}},"reported":{"setC":{"timestamp":T},"zones":[{"timestamp":T},{"timestamp":T}]}},"version":2},"timestamp":T+1}`,
		}, {
			`{"state":{"reported":{"setC":900,"fan":{"mode":"auto"}}}}`,
			`{"state":{"reported":{"setC":900,"fan":{"mode":"auto"}}},"metadata":{"reported":{"setC":{"timestamp":T+2},"fan":{"mode":{"timestamp":T+2}}}},"version":3,"timestamp":T+2}`,
			`{"version":3,"timestamp":T+2,"state":{"fan":{"rpm":40}},"metadata":{"fan":{"rpm":{"timestamp":T+1}}}}`,
			"-",
		}, {
			`{"state":{"reported":{"fan":{"rpm":40.0}}}}`,
			`{"state":{"reported":{"fan":{"rpm":40.0}}},"metadata":{"reported":{"fan":{"rpm":{"timestamp":T+3}}}},"version":4,"timestamp":T+3}`,
			``, "-",
		}, {
			`{"state":{"desired":{"fan":null,"setC":{"top":900,"bottom":850}}}}`,
			`{"state":{"desired":{"fan":null,"setC":{"top":900,"bottom":850}}},"metadata":{"desired":{"fan":{"timestamp":T+4},"setC":{"top":{"timestamp":T+4},"bottom":{"timestamp":T+4}}}},"version":5,"timestamp":T+4}`,
			`{"version":5,"timestamp":T+4,"state":{"setC":{"top":900,"bottom":850}},"metadata":{"setC":{"top":{"timestamp":T+4},"bottom":{"timestamp":T+4}}}}`,
			"-",
		}, {
			`{"state":{"desired":null}}`,
			`{"state":{"desired":null},"metadata":{"desired":{"timestamp":T+5}},"version":6,"timestamp":T+5}`,
			``, "-",
		},
	} {
		c := h.mustUpdate(t, kiln, step.request)
		what := fmt.Sprint("step ", i, " ")
		sameJSON(t, what+"accepted", c.Accepted, step.accepted)
		sameJSON(t, what+"delta", c.Delta, step.delta)
		if step.documents != "-" {
			sameJSON(t, what+"documents", c.Documents, step.documents)
		}
		if i == 1 {
			a, err := h.get(kiln, `{"clientToken":"g"}`)
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, "get", a.Body, `{"state":{"desired":{"setC":900,"fan":{"rpm":40}},"reported":{"setC":20,"zones":["a","b"]},"delta":{"setC":900,"fan":{"rpm":40}}},
			  "metadata":{"desired":{"setC":{"timestamp":T+1},"fan":{"rpm":{"timestamp":T+1}}},"reported":{"setC":{"timestamp":T},"zones":[{"timestamp":T},{"timestamp":T}]}},"version":2,"timestamp":T+1,"clientToken":"g"}`)
		}
		h.clk.Advance(time.Second)
	}
	c, err := h.update(kiln, `{"state":{"desired":{"x":1}},"version":5,"clientToken":"z"}`)
	if !fault.Is(err, fault.Conflict) || fault.Message(err) != "Version conflict" || said(c.Token) != "z" || c.Accepted != nil {
		t.Errorf("lock failure: %+v %v", c, err)
	}
	a, err := h.delete(kiln, "")
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "delete", a.Body, `{"version":6,"timestamp":T+6}`)
	if _, err := h.get(kiln, ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("get after delete: %v", err)
	}
	if c := h.mustUpdate(t, kiln, `{"state":{}}`); c.Version <= 6 {
		t.Errorf("made anew at version %d", c.Version)
	}
}

// said gives a client token, nothing when there is none.
func said(token *string) string {
	if token == nil {
		return ""
	}
	return *token
}

func TestRefusalsAndTheirOrder(t *testing.T) {
	long := strings.Repeat("x", 9000)
	deep := strings.Repeat(`{"k":`, 9) + "1" + strings.Repeat("}", 9)
	token65 := `"clientToken":"` + strings.Repeat("t", 65) + `"`
	h := newHouse(t)
	h.mustUpdate(t, kiln, `{"state":{"reported":{"a":1}}}`)
	for _, c := range []struct {
		request string
		code    fault.Code
		message string
		token   string
	}{
		{"\xff", fault.Unsupported, "Unsupported documented encoding; supported encoding is UTF-8", ""},
		{"{\"state\":{\"desired\":{\"a\":\"\xe9\"}}}", fault.Unsupported, "Unsupported documented encoding; supported encoding is UTF-8", ""},
		{"\xff" + strings.Repeat("x", 200_000), fault.Unsupported, "Unsupported documented encoding; supported encoding is UTF-8", ""},
		{strings.Repeat(" ", 131_073), fault.TooLarge, "The payload exceeds the maximum size allowed", ""},
		{``, fault.Invalid, "Invalid JSON", ""},
		{`{"state":`, fault.Invalid, "Invalid JSON", ""},
		{`[]`, fault.Invalid, "Invalid JSON", ""},
		{`"x"`, fault.Invalid, "Invalid JSON", ""},
		{`{"state":{"desired":{"a":1}},}`, fault.Invalid, "Invalid JSON", ""},
		{`{"state":{"desired":"` + long + `","reported":{"x":"` + long + `"}},"clientToken":"k"}`, fault.TooLarge, "The payload exceeds the maximum size allowed", "k"},
		{`{"state":{"desired":{"x":"` + long + `"}},"version":7}`, fault.TooLarge, "The payload exceeds the maximum size allowed", ""},
		{`{"clientToken":"k"}`, fault.Invalid, "Missing required node: state", "k"},
		{`{` + token65 + `}`, fault.Invalid, "Missing required node: state", ""},
		{`{"state":1,"clientToken":"k"}`, fault.Invalid, "State node must be an object", "k"},
		{`{"state":[]}`, fault.Invalid, "State node must be an object", ""},
		{`{"state":"on",` + token65 + `}`, fault.Invalid, "State node must be an object", ""},
		{`{"state":{"desired":5,"foo":1}}`, fault.Invalid, "Desired node must be an object", ""},
		{`{"state":{"desired":[1]}}`, fault.Invalid, "Desired node must be an object", ""},
		{`{"state":{"reported":true,"foo":1}}`, fault.Invalid, "Reported node must be an object", ""},
		{`{"state":{"foo":{}},` + token65 + `}`, fault.Invalid, "State contains an invalid node", ""},
		{`{"state":{"delta":{"a":1}}}`, fault.Invalid, "State contains an invalid node", ""},
		{`{"state":{"desired":{"l":[1,null]}},"clientToken":"k"}`, fault.Invalid, "State contains an invalid node", "k"},
		{`{"state":{"desired":{"l":[{"a":[[null]]}]}}}`, fault.Invalid, "State contains an invalid node", ""},
		{`{"state":{"desired":` + deep + `},` + token65 + `}`, fault.Invalid, "Invalid clientToken", ""},
		{`{"state":{},"clientToken":7}`, fault.Invalid, "Invalid clientToken", ""},
		{`{"state":{},"clientToken":null}`, fault.Invalid, "Invalid clientToken", ""},
		{`{"state":{"desired":` + deep + `},"version":"x","clientToken":"k"}`, fault.Invalid, "JSON contains too many levels of nesting; maximum is 6", "k"},
		{`{"state":{"reported":{"l":[[[[[[[[1]]]]]]]]}}}`, fault.Invalid, "JSON contains too many levels of nesting; maximum is 6", ""},
		{strings.Repeat("[", 100_000), fault.Invalid, "JSON contains too many levels of nesting; maximum is 6", ""},
		{`{"state":{},"version":"1","clientToken":"k"}`, fault.Invalid, "Invalid version", "k"},
		{`{"state":{},"version":-1}`, fault.Invalid, "Invalid version", ""},
		{`{"state":{},"version":1.5}`, fault.Invalid, "Invalid version", ""},
		{`{"state":{},"version":null}`, fault.Invalid, "Invalid version", ""},
		{`{"state":{},"version":0}`, fault.Conflict, "Version conflict", ""},
		{`{"state":{},"version":2,"clientToken":"k"}`, fault.Conflict, "Version conflict", "k"},
		{`{"state":{},"version":99999999999999999999}`, fault.Conflict, "Version conflict", ""},
	} {
		change, err := h.update(kiln, c.request)
		if fault.Of(err) != c.code || fault.Message(err) != c.message || said(change.Token) != c.token || change.Accepted != nil {
			t.Errorf("%.60q: got %v %q token %q, want %v %q token %q", c.request, fault.Of(err), fault.Message(err), said(change.Token), c.code, c.message, c.token)
		}
	}
	a, err := h.get(kiln, "")
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "after all refusals", a.Body, `{"state":{"reported":{"a":1}},"metadata":{"reported":{"a":{"timestamp":T}}},"version":1,"timestamp":T}`)

	for request, want := range map[string]string{"{": "Invalid JSON", `[]`: "Invalid JSON", `{"clientToken":1}`: "Invalid clientToken", "\xff": "Unsupported documented encoding; supported encoding is UTF-8",
		strings.Repeat(" ", 200_000): "The payload exceeds the maximum size allowed"} {
		if _, err := h.get(kiln, request); fault.Message(err) != want {
			t.Errorf("get %.20q: %v, want %s", request, err, want)
		}
	}
	for id, want := range map[shadow.ID]string{
		{Thing: "none"}:                             "No shadow exists with name: 'none'",
		{Thing: "kiln7", Name: "cfg"}:               "No shadow exists with name: 'cfg'",
		{Thing: ""}:                                 "Invalid thing name",
		{Thing: "a/b"}:                              "Invalid thing name",
		{Thing: "ä"}:                                "Invalid thing name",
		{Thing: strings.Repeat("a", 129)}:           "Invalid thing name",
		{Thing: "a", Name: "x y"}:                   "Invalid shadow name",
		{Thing: "a", Name: strings.Repeat("a", 65)}: "Invalid shadow name",
	} {
		a, err := h.get(id, `{"clientToken":"q"}`)
		if fault.Message(err) != want || fault.Is(err, fault.NotFound) != strings.HasPrefix(want, "No") || said(a.Token) != "q" {
			t.Errorf("get %v: %v, want %s", id, err, want)
		}
		if a, err = h.delete(id, `{"clientToken":"q"}`); fault.Message(err) != want || said(a.Token) != "q" {
			t.Errorf("delete %v: %v, want %s", id, err, want)
		}
		if c, err := h.update(id, `{"clientToken":"q"}`); !fault.Is(err, fault.Invalid) || said(c.Token) != "q" {
			t.Errorf("update %v: %v, token %q", id, err, said(c.Token))
		}
	}
}

func TestATokenIsEchoedIffTheRequestHasOne(t *testing.T) {
	h := newHouse(t)
	for token, want := range map[string]string{`"clientToken":""`: `,"clientToken":""`, `"clientToken":"a\\"`: `,"clientToken":"a\\"`, `"other":1`: ""} {
		c := h.mustUpdate(t, kiln, `{"state":{"desired":{"a":1}},`+token+`}`)
		a, err := h.get(kiln, "{"+token+"}")
		if err != nil {
			t.Fatal(err)
		}
		d, err := h.delete(kiln, "{"+token+"}")
		if err != nil {
			t.Fatal(err)
		}
		for what, doc := range map[string][]byte{"accepted": c.Accepted, "delta": c.Delta, "documents": c.Documents, "get": a.Body, "delete": d.Body} {
			if !strings.HasSuffix(string(doc), want+"}") || want == "" && strings.Contains(string(doc), "clientToken") {
				t.Errorf("%s of a request with %s: %s", what, token, doc)
			}
		}
	}
}

func TestWhatIsAccepted(t *testing.T) {
	h := newHouse(t)
	deep := strings.Repeat(`{"k":`, 8) + "1" + strings.Repeat("}", 8)
	for i, request := range []string{
		`{"state":{}}`, `{"state":null}`, `{"state":{"desired":null,"reported":null}}`, `{"state":{"desired":{}}}`,
		`{"state":{"desired":{"d":{}}}}`, `{"state":{"reported":` + deep + `}}`, `{"state":{},"unknown":[null]}`, `{"state":{},"clientToken":""}`,
		`{"state":{},"clientToken":"` + strings.Repeat("t", 64) + `"}`, `{"state":{},"version":0}`, `{"state":{},"version":1}`,
		" \r\n\t{\"state\" : { } } ", `{"state":{"desired":{"gone":null}}}`, `{"state":{"desired":{"n":12345678901234567890.10}}}`,
	} {
		c := h.mustUpdate(t, shadow.ID{Thing: "A-b_9:z", Name: fmt.Sprintf("$s:x%d", i)}, request)
		if c.Version != 1 || !json.Valid(c.Accepted) || !json.Valid(c.Documents) {
			t.Errorf("%s: %+v", request, c)
		}
	}
	if _, err := h.update(kiln, `{"state":{},"version":2}`); fault.Message(err) != "Invalid version" {
		t.Errorf("version 2 of no shadow: %v", err)
	}
	h.mustUpdate(t, kiln, `{"state":{"desired":{"n":12345678901234567890.10,"s":"\u00e9\"\u0000"}}}`)
	a, _ := h.get(kiln, "")
	if !strings.Contains(string(a.Body), `"desired":{"n":12345678901234567890.10,"s":"é\"\u0000"}`) {
		t.Errorf("not exact: %s", a.Body)
	}
}

func TestTheSizeOfADocumentIsBounded(t *testing.T) {
	h := newHouse(t)
	half := strings.Repeat("x", 4000)
	h.mustUpdate(t, kiln, `{"state":{"desired":{"a":"`+half+`"}}}`)
	h.mustUpdate(t, kiln, `{"state":{"reported":{"a":"`+half+`"}}}`)
	room := 8192 - 2*len(`{"a":"`+half+`"}`)
	fits := strings.Repeat("y", room-len(`,"b":""`))
	if _, err := h.update(kiln, `{"state":{"reported":{"b":"`+fits+`y"}}}`); !fault.Is(err, fault.TooLarge) {
		t.Errorf("one byte too many: %v", err)
	}
	c := h.mustUpdate(t, kiln, `{"state":{"reported":{"b":"`+fits+`"}}}`)
	if c.Version != 3 {
		t.Errorf("version %d", c.Version)
	}
	// Nulls take room in the request, not in the document, and white space nowhere.
	var nulls strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&nulls, `"key%d" :  null, `, i)
	}
	h.mustUpdate(t, kiln, `{"state":{"reported":{`+nulls.String()+`"a":null}}}`)
}

func TestOnlyWhatIsWantedIsWritten(t *testing.T) {
	h := newHouse(t)
	for want := range shadow.WantAll + 1 {
		var c shadow.Change
		if err := h.db.Wait(func(u *store.Unit) (err error) {
			c, err = h.Update(u, kiln, me, []byte(`{"state":{"desired":{"a":1}}}`), want)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if (c.Accepted != nil) != (want&shadow.WantAccepted != 0) || (c.Delta != nil) != (want&shadow.WantDelta != 0) ||
			(c.Documents != nil) != (want&shadow.WantDocuments != 0) || c.Version != int64(want)+1 {
			t.Errorf("%b: %+v", want, c)
		}
		for _, b := range [][]byte{c.Accepted, c.Delta, c.Documents} {
			if b != nil && !json.Valid(b) {
				t.Errorf("%b: %s", want, b)
			}
		}
	}
}

func TestALeafKeepsTheTimeOfItsLastWrite(t *testing.T) {
	h := newHouse(t)
	h.mustUpdate(t, kiln, `{"state":{"reported":{"a":1,"b":{"c":1,"d":[1,{"e":2}]}}}}`)
	h.clk.Advance(time.Second)
	h.mustUpdate(t, kiln, `{"state":{"reported":{"a":1,"b":{"d":[1,{"e":2}]}}}}`)
	h.clk.Advance(time.Second)
	a, err := h.get(kiln, "")
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "get", a.Body, `{"state":{"reported":{"a":1,"b":{"c":1,"d":[1,{"e":2}]}}},
		"metadata":{"reported":{"a":{"timestamp":T+1},"b":{"c":{"timestamp":T},"d":[{"timestamp":T+1},{"e":{"timestamp":T+1}}]}}},"version":2,"timestamp":T+2}`)
}

func TestAShadowMadeAnewGoesOnCounting(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		h.mustUpdate(t, kiln, `{"state":{"desired":{"a":1}}}`)
	}
	a, err := h.delete(kiln, `{"clientToken":"d"}`)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "delete", a.Body, `{"version":3,"timestamp":T,"clientToken":"d"}`)
	if _, err := h.delete(kiln, "junk"); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	h.clk.Advance(48*time.Hour - time.Second)
	c := h.mustUpdate(t, kiln, `{"state":{"reported":{"b":1}}}`)
	if c.Version != 5 { // the grave holds 4
		t.Errorf("version %d after the grave", c.Version)
	}
	if !strings.HasPrefix(string(c.Documents), `{"previous":null,`) {
		t.Errorf("something was left: %s", c.Documents)
	}
	if _, err := h.delete(kiln, "junk"); err != nil { // content is ignored
		t.Fatal(err)
	}
	h.clk.Advance(48 * time.Hour)
	if c := h.mustUpdate(t, kiln, `{"state":{}}`); c.Version != 1 {
		t.Errorf("version %d two days later", c.Version)
	}
	if n, err := h.Sweep(h.db); n != 0 || err != nil { // making it anew has cleared the way to the graves
		t.Errorf("swept %d, %v", n, err)
	}
}

func TestGravesAreSweptWhenTheirTimeIsOver(t *testing.T) {
	h := newHouse(t)
	names := []string{"", "a", "b"}
	for _, n := range names {
		h.mustUpdate(t, shadow.ID{Thing: "x", Name: n}, `{"state":{}}`)
		if _, err := h.delete(shadow.ID{Thing: "x", Name: n}, ""); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (n int) {
		_ = h.db.Scan(store.KeyShadow, func(string, []byte) bool { n++; return true })
		return n
	}
	h.clk.Advance(47 * time.Hour)
	if n, err := h.Sweep(h.db); n != 0 || err != nil || left() != 6 {
		t.Errorf("too early: swept %d, %v; %d left", n, err, left())
	}
	h.clk.Advance(time.Hour)
	if n, err := h.Sweep(h.db); n != 3 || err != nil || left() != 0 {
		t.Errorf("swept %d, %v; %d left", n, err, left())
	}
}

func TestAGraveDugWithoutADateIsDatedLater(t *testing.T) {
	h := newHouse(t)
	h.clk.Set(time.Unix(100, 0)) // the machine starts in 1970
	h.clk.SetTrusted(false)
	h.mustUpdate(t, kiln, `{"state":{}}`)
	if _, err := h.delete(kiln, ""); err != nil {
		t.Fatal(err)
	}
	if n, err := h.Sweep(h.db); n != 0 || err != nil {
		t.Errorf("swept %d, %v without a date", n, err)
	}
	h.clk.Set(time.Unix(t0, 0))
	h.clk.SetTrusted(true)
	if n, err := h.Sweep(h.db); n != 1 || err != nil {
		t.Errorf("dated %d, %v", n, err)
	}
	h.clk.Advance(47 * time.Hour)
	if n, err := h.Sweep(h.db); n != 0 || err != nil {
		t.Errorf("swept %d, %v too early", n, err)
	}
	if c := h.mustUpdate(t, kiln, `{"state":{}}`); c.Version != 3 {
		t.Errorf("version %d: the counter was lost", c.Version)
	}
}

func TestRunSweepsEveryHour(t *testing.T) {
	h := newHouse(t)
	h.mustUpdate(t, kiln, `{"state":{}}`)
	if _, err := h.delete(kiln, ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx, h.db) }()
	for h.clk.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	h.clk.Advance(49 * time.Hour)
	for {
		if v, _ := h.db.Get(store.KeyShadow + "kiln7/"); v == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestListGivesPagesOfNamedShadows(t *testing.T) {
	h := newHouse(t)
	h.mustUpdate(t, shadow.ID{Thing: "x"}, `{"state":{}}`)
	h.mustUpdate(t, shadow.ID{Thing: "x-2", Name: "other"}, `{"state":{}}`)
	var want []string
	for i := range 30 {
		name := fmt.Sprintf("n%02d", i)
		h.mustUpdate(t, shadow.ID{Thing: "x", Name: name}, `{"state":{"desired":{"a":1}}}`)
		if i == 7 {
			if _, err := h.delete(shadow.ID{Thing: "x", Name: name}, ""); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want = append(want, name)
	}
	var got []string
	from, pages := "", 0
	for {
		names, next, err := h.List(h.db, "x", 10, from)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, names...)
		pages++
		if from = next; next == "" {
			break
		}
	}
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages: %v", pages, got)
	}
	if names, next, err := h.List(h.db, "x", 0, ""); len(names) != 25 || next == "" || err != nil {
		t.Errorf("default page: %d names, %q, %v", len(names), next, err)
	}
	if names, next, err := h.List(h.db, "never-seen", 0, ""); names == nil || len(names) != 0 || next != "" || err != nil {
		t.Errorf("unknown thing: %v %q %v", names, next, err)
	}
	for _, bad := range []struct {
		thing string
		max   int
		from  string
	}{{"", 1, ""}, {"a/b", 1, ""}, {"x", 101, ""}, {"x", -1, ""}, {"x", 1, "!"}, {"x", 1, "Lw"}} {
		if _, _, err := h.List(h.db, bad.thing, bad.max, bad.from); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestConcurrentUpdatesOfOneShadowAreSerialised(t *testing.T) {
	h := newHouse(t)
	const writers, each = 8, 25
	var mu sync.Mutex
	seen := map[int64]bool{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				c, err := h.update(kiln, fmt.Sprintf(`{"state":{"reported":{"w%d":%d}}}`, w, i))
				other, err2 := h.update(shadow.ID{Thing: fmt.Sprintf("own%d", w)}, `{"state":{"desired":{"a":1}}}`)
				if err != nil || err2 != nil || other.Version != int64(i+1) {
					t.Errorf("%v %v %d", err, err2, other.Version)
					return
				}
				mu.Lock()
				if seen[c.Version] {
					t.Errorf("version %d was given twice", c.Version)
				}
				seen[c.Version] = true
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	d, ok, err := h.Load(h.db, kiln)
	if err != nil || !ok || d.Version != writers*each || d.Reported.Len() != writers {
		t.Errorf("%+v %v %v", d, ok, err)
	}
	for w := range writers {
		if n, _ := d.Reported.Get(fmt.Sprintf("w%d", w)).Int(); n != each-1 {
			t.Errorf("w%d is %d", w, n)
		}
	}
}

func TestShadowsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	h.mustUpdate(t, kiln, `{"state":{"desired":{"a":1.50},"reported":{"l":[1,"x",true]}}}`)
	h.mustUpdate(t, shadow.ID{Thing: "kiln7", Name: "old"}, `{"state":{}}`)
	if _, err := h.delete(shadow.ID{Thing: "kiln7", Name: "old"}, ""); err != nil {
		t.Fatal(err)
	}
	before, err := h.get(kiln, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	h = open(t, dir)
	after, err := h.get(kiln, "")
	if err != nil || string(after.Body) != string(before.Body) {
		t.Errorf("%v\nbefore %s\nafter  %s", err, before.Body, after.Body)
	}
	if c := h.mustUpdate(t, shadow.ID{Thing: "kiln7", Name: "old"}, `{"state":{}}`); c.Version != 3 {
		t.Errorf("version %d: the counter was lost", c.Version)
	}
}

func TestAUnitThatIsDroppedChangesNothing(t *testing.T) {
	h := newHouse(t)
	h.mustUpdate(t, kiln, `{"state":{"desired":{"a":1}}}`)
	errNo := errors.New("no")
	err := h.db.Do(func(u *store.Unit) error {
		if _, err := h.Update(u, kiln, me, []byte(`{"state":{"desired":{"a":2}}}`), shadow.WantAll); err != nil {
			return err
		}
		if _, err := h.Delete(u, kiln, me, nil); err != nil { // sees the unit's own write
			return err
		}
		return errNo
	}, nil)
	if err != errNo {
		t.Fatal(err)
	}
	a, err := h.get(kiln, "")
	if err != nil || !strings.Contains(string(a.Body), `"a":1`) || !strings.Contains(string(a.Body), `"version":1`) {
		t.Errorf("%s %v", a.Body, err)
	}
}

func TestADamagedRecordIsAnErrorAndNotACrash(t *testing.T) {
	h := newHouse(t)
	h.mustUpdate(t, kiln, `{"state":{"desired":{"a":1}}}`)
	key := store.KeyShadow + "kiln7/"
	good, err := h.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{{}, {9}, {1}, {1, 1}, {1, 0, 0, 0}, {2, 1}, good[:len(good)-1], append(slices.Clone(good), 0), []byte(strings.Repeat("\xff", 30))} {
		if err := h.db.Wait(func(u *store.Unit) error { u.Put(key, bad); return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := h.get(kiln, ""); fault.Of(err) != fault.Internal {
			t.Errorf("%x: %v", bad, err)
		}
		if _, err := h.update(kiln, `{"state":{}}`); fault.Of(err) != fault.Internal {
			t.Errorf("%x: %v", bad, err)
		}
	}
}
