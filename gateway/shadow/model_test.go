package shadow_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tidegate/gateway/fault"
	"tidegate/gateway/shadow"
	"tidegate/gateway/store"
)

// model is spec/shadow.md §3 and §4 on the maps of encoding/json, as short as it can be
// said.
type model struct {
	exists  bool
	version int64 // of the shadow, or the counter of its grave
	died    int64
	state   map[string]map[string]any // desired, reported; leaves are {value, time}
}

type leaf struct {
	value any
	at    int64
}

func stamp(v any, at int64) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, x := range v {
			if x != nil {
				m[k] = stamp(x, at)
			}
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i := range v {
			l[i] = stamp(v[i], at)
		}
		return l
	}
	return leaf{v, at}
}

func mergeModel(dst map[string]any, src map[string]any, at int64) {
	for k, v := range src {
		sub, isObject := v.(map[string]any)
		old, wasObject := dst[k].(map[string]any)
		switch {
		case v == nil:
			delete(dst, k)
		case isObject && wasObject:
			mergeModel(old, sub, at)
		default:
			dst[k] = stamp(v, at)
		}
	}
}

// split takes values and times apart.
func split(v any) (value, meta any) {
	switch v := v.(type) {
	case map[string]any:
		a, b := map[string]any{}, map[string]any{}
		for k, x := range v {
			a[k], b[k] = split(x)
		}
		return a, b
	case []any:
		a, b := make([]any, len(v)), make([]any, len(v))
		for i, x := range v {
			a[i], b[i] = split(x)
		}
		return a, b
	case leaf:
		return v.value, map[string]any{"timestamp": float64(v.at)}
	}
	panic("impossible")
}

func deltaModel(want, have map[string]any) map[string]any {
	d := map[string]any{}
	for k, w := range want {
		h, there := have[k]
		wm, wok := w.(map[string]any)
		hm, hok := h.(map[string]any)
		if wok && hok {
			if sub := deltaModel(wm, hm); len(sub) > 0 {
				d[k] = sub
			}
			continue
		}
		if there {
			a, _ := split(w)
			b, _ := split(h)
			if reflect.DeepEqual(a, b) {
				continue
			}
		}
		d[k] = w
	}
	return d
}

func (m *model) update(state any, version *int64, now int64) (ok bool) {
	if !m.exists && m.died != 0 && now >= m.died+48*3600 {
		m.version, m.died = 0, 0
	}
	if version != nil {
		switch {
		case m.exists && *version != m.version:
			return false
		case !m.exists && *version > 1 && *version != m.version:
			return false
		}
	}
	if !m.exists {
		m.state = map[string]map[string]any{}
	}
	m.exists, m.died = true, 0
	m.version++
	for _, name := range []string{"desired", "reported"} {
		var section any
		if s, isObject := state.(map[string]any); isObject {
			var named bool
			if section, named = s[name]; !named {
				continue
			}
		}
		if section == nil {
			delete(m.state, name)
			continue
		}
		if m.state[name] == nil {
			m.state[name] = map[string]any{}
		}
		mergeModel(m.state[name], section.(map[string]any), now)
		if len(m.state[name]) == 0 {
			delete(m.state, name)
		}
	}
	return true
}

// document is what a get answers.
func (m *model) document(now int64) map[string]any {
	state, meta := map[string]any{}, map[string]any{}
	for name, s := range m.state {
		state[name], meta[name] = split(s)
	}
	if d := deltaModel(m.state["desired"], m.state["reported"]); len(d) > 0 {
		state["delta"], _ = split(d)
	}
	return map[string]any{"state": state, "metadata": meta, "version": float64(m.version), "timestamp": float64(now)}
}

func value(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		switch n := rapid.IntRange(0, 9).Draw(t, "kind"); {
		case n < 3 && depth > 0:
			return object(depth-1).Draw(t, "object")
		case n == 3 && depth > 0:
			l := rapid.SliceOfN(value(depth-1).Filter(func(v any) bool { return v != nil && !holdsNull(v) }), 0, 3).Draw(t, "array")
			return append([]any{}, l...)
		case n == 4:
			return nil
		case n == 5:
			return rapid.Bool().Draw(t, "bool")
		case n == 6:
			return rapid.SampledFrom([]string{"", "x", "é\"", "5"}).Draw(t, "string")
		}
		return float64(rapid.IntRange(0, 3).Draw(t, "number"))
	})
}

func object(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		m := map[string]any{}
		for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "é d"}), 0, 4, rapid.ID[string]).Draw(t, "keys") {
			m[k] = value(depth).Draw(t, k)
		}
		return m
	})
}

func holdsNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, x := range v {
			if holdsNull(x) {
				return true
			}
		}
	}
	return false
}

func TestTheRoomAgreesWithASmallModel(t *testing.T) {
	h := newHouse(t)
	errDone := errors.New("done")
	rapid.Check(t, func(t *rapid.T) {
		h.clk.Set(time.Unix(t0, 0))
		err := h.db.Do(func(u *store.Unit) error { // many requests on one unit that is then dropped
			var m model
			for range rapid.IntRange(1, 12).Draw(t, "steps") {
				step(t, h, u, &m)
			}
			return errDone
		}, nil)
		if err != errDone {
			t.Fatal(err)
		}
	})
}

func step(t *rapid.T, h *house, u *store.Unit, m *model) {
	h.clk.Advance(time.Duration(rapid.SampledFrom([]int{0, 1, 5, 3600, 47 * 3600, 48 * 3600}).Draw(t, "seconds")) * time.Second)
	now := h.clk.Now().Unix()
	if rapid.IntRange(0, 9).Draw(t, "op") == 0 {
		a, err := h.Delete(u, kiln, me, nil)
		if (err == nil) != m.exists || err != nil && !fault.Is(err, fault.NotFound) {
			t.Fatalf("delete: %v, model %+v", err, m)
		}
		if err == nil {
			want := fmt.Sprintf(`{"version":%d,"timestamp":%d}`, m.version, now)
			if string(a.Body) != want {
				t.Fatalf("delete answers %s, want %s", a.Body, want)
			}
			*m = model{version: m.version + 1, died: now}
		}
		return
	}
	request := map[string]any{}
	var state any
	if rapid.IntRange(0, 15).Draw(t, "clear") > 0 {
		s := map[string]any{}
		for _, name := range []string{"desired", "reported"} {
			switch n := rapid.IntRange(0, 9).Draw(t, name+"?"); {
			case n == 0:
				s[name] = nil
			case n < 7:
				s[name] = object(3).Draw(t, name)
			}
		}
		state = s
	}
	request["state"] = state
	var version *int64
	if rapid.IntRange(0, 4).Draw(t, "lock") == 0 {
		v := max(0, m.version+int64(rapid.IntRange(-1, 1).Draw(t, "off")))
		version, request["version"] = &v, v
	}
	b, _ := json.Marshal(request)
	before := *m
	var previous any
	if m.exists {
		doc := m.document(now)
		delete(doc["state"].(map[string]any), "delta")
		delete(doc, "timestamp")
		previous = doc
	}
	ok := m.update(state, version, now)
	c, err := h.Update(u, kiln, me, b, shadow.WantAll)
	if ok != (err == nil) {
		t.Fatalf("%s: %v, model before %+v", b, err, before)
	}
	if !ok {
		return
	}
	want := m.document(now)
	answer, err := h.Get(u, kiln, nil)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "get", answer.Body, want)
	current := want
	delta := current["state"].(map[string]any)["delta"]
	delete(current["state"].(map[string]any), "delta")
	delete(current, "timestamp")
	equal(t, "documents", c.Documents, map[string]any{"previous": previous, "current": current, "timestamp": float64(now)})
	if delta == nil {
		if c.Delta != nil {
			t.Fatalf("a delta out of nothing: %s", c.Delta)
		}
	} else {
		_, meta := split(deltaModel(m.state["desired"], m.state["reported"]))
		equal(t, "delta", c.Delta, map[string]any{"state": delta, "metadata": meta, "version": float64(m.version), "timestamp": float64(now)})
	}
	var accepted map[string]any
	if err := json.Unmarshal(c.Accepted, &accepted); err != nil || !reflect.DeepEqual(accepted["state"], anyJSON(state)) || accepted["version"] != float64(m.version) {
		t.Fatalf("accepted %s for %s", c.Accepted, b)
	}
}

// anyJSON gives v as it comes out of encoding/json.
func anyJSON(v any) (out any) {
	b, _ := json.Marshal(v)
	_ = json.Unmarshal(b, &out)
	return out
}

func equal(t *rapid.T, what string, got []byte, want any) {
	var g any
	if err := json.Unmarshal(got, &g); err != nil || !reflect.DeepEqual(g, want) {
		w, _ := json.Marshal(want)
		t.Fatalf("%s:\n got %s\nwant %s", what, got, w)
	}
}

func FuzzUpdate(f *testing.F) {
	h := newHouse(f)
	for _, s := range []string{`{"state":{"desired":{"a":{"b":null}},"reported":null},"version":1,"clientToken":"x"}`, `{"state":null}`, `{"state":{"desired":{"l":[null]}}}`} {
		f.Add([]byte(`{"state":{"desired":{"a":{"b":[1,{"c":2}]}},"reported":{"a":1}}}`), []byte(s))
	}
	errDone := errors.New("done")
	f.Fuzz(func(t *testing.T, first, second []byte) {
		err := h.db.Do(func(u *store.Unit) error {
			version := int64(0)
			for _, request := range [][]byte{first, second, first} {
				c, err := h.Update(u, kiln, me, request, shadow.WantAll)
				if err != nil {
					if fault.Of(err) == fault.Internal || c.Accepted != nil {
						t.Fatalf("%q: %v", request, err)
					}
					continue
				}
				if version++; c.Version != version {
					t.Fatalf("%q: version %d, want %d", request, c.Version, version)
				}
				for _, b := range [][]byte{c.Accepted, c.Delta, c.Documents} {
					if b != nil && !json.Valid(b) {
						t.Fatalf("%q: wrote %s", request, b)
					}
				}
				a, err := h.Get(u, shadow.ID{Thing: "kiln7"}, nil)
				if err != nil || !json.Valid(a.Body) {
					t.Fatalf("%q: then %s, %v", request, a.Body, err)
				}
			}
			return errDone
		}, nil)
		if err != errDone {
			t.Fatal(err)
		}
	})
}

// hostile requests of the largest size a broker lets through.
func hostile() map[string][]byte {
	const size = 128 << 10
	fill := func(head, unit, tail string) []byte {
		return []byte(head + strings.Repeat(unit, (size-len(head)-len(tail))/len(unit)) + tail)
	}
	keys := []byte(`{"state":{"desired":{`)
	for i := 0; len(keys) < size-100; i++ {
		keys = fmt.Appendf(keys, "\"%x\":null,", i*2654435761%(1<<32))
	}
	return map[string][]byte{
		"nulls by the thousand": append(keys[:len(keys)-1], "}}}"...),
		"one key repeated":      fill(`{"state":{"desired":{"a":0`, `,"a":{}`, `}}}`),
		"empty arrays":          fill(`{"state":{"desired":{"a":[0`, `,[]`, `]}}}`),
		"a long number":         fill(`{"state":{"desired":{"a":1`, `0`, `}}}`),
		"a long version":        fill(`{"state":{},"version":1`, `0`, `}`),
		"a long token":          fill(`{"state":{},"clientToken":"`, `t`, `"}`),
		"a long key":            fill(`{"state":{"desired":{"`, `k`, `":null}}}`),
		"escapes":               fill(`{"state":{"desired":{"a":"`, `\u0000`, `"}}}`),
		"open arrays":           fill(`{"state":{"desired":{"a":`, `[`, ``),
		"open objects":          fill(`{"state":{"desired":`, `{"a":`, ``),
		"unknown nodes":         fill(`{"state":{"desired":{}`, `,"desire":0`, `}}`),
		"white space":           fill(`{"state":`, " ", `{}}`),
		"quotes":                fill("", `"`, ""),
		"zeros":                 fill("", "\x00", ""),
	}
}

func TestHostileRequestsAreBoundedInTimeAndMemory(t *testing.T) {
	h := newHouse(t)
	for name, request := range hostile() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := h.update(shadow.ID{Thing: "x"}, string(request))
		d := time.Since(start)
		runtime.ReadMemStats(&after)
		if err != nil && fault.Of(err) == fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
		if mem := after.TotalAlloc - before.TotalAlloc; d > time.Second || mem > 32<<20 {
			t.Errorf("%s: %v and %d MB, then %v", name, d, mem>>20, err)
		}
	}
}

var kilobyte = func() []byte {
	b := []byte(`{"state":{"reported":{`)
	for i := 0; len(b) < 980; i++ {
		b = fmt.Appendf(b, `"sensor%02d":{"value":%d.%d,"unit":"mbar","ok":true},`, i, 100+i, i)
	}
	return append(b[:len(b)-1], "}}}"...)
}()

// BenchmarkUpdate1KB is the work of one update without the commit.
func BenchmarkUpdate1KB(b *testing.B) {
	h := newHouse(b)
	errDone := errors.New("done")
	b.ReportAllocs()
	b.SetBytes(int64(len(kilobyte)))
	if err := h.db.Wait(func(u *store.Unit) error { _, err := h.Update(u, kiln, me, kilobyte, shadow.WantAccepted); return err }); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := h.db.Do(func(u *store.Unit) error {
			if _, err := h.Update(u, kiln, me, kilobyte, shadow.WantAccepted); err != nil {
				return err
			}
			return errDone
		}, nil); err != errDone {
			b.Fatal(err)
		}
	}
}

// BenchmarkDurable1KB is updates of 1,000 things that are on the disk, many at once.
func BenchmarkDurable1KB(b *testing.B) {
	h := newHouse(b)
	inFlight := make(chan struct{}, 512)
	i := 0
	for b.Loop() {
		id := shadow.ID{Thing: fmt.Sprint("thing", i%1000)}
		i++
		inFlight <- struct{}{}
		err := h.db.Do(func(u *store.Unit) error { _, err := h.Update(u, id, me, kilobyte, shadow.WantAll); return err }, func([]uint64, error) { <-inFlight })
		if err != nil {
			b.Fatal(err)
		}
	}
	for range cap(inFlight) {
		inFlight <- struct{}{}
	}
}
