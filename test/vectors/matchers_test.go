package vectors_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

// load reads the vectors of a set into v, a pointer to a slice. It is false when
// TIDEGATE_VECTORS names a folder without that set.
func load(t *testing.T, name string, v any) bool {
	t.Helper()
	dir, given := os.LookupEnv("TIDEGATE_VECTORS")
	if !given || dir == "" {
		dir, given = "testdata", false
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if given && os.IsNotExist(err) {
		t.Logf("%s holds no %s", dir, name)
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return true
}

// run runs one vector as a subtest. A disputed one must fail, or its entry is out of date.
func run(t *testing.T, id string, disputed map[string]string, check func() error) {
	t.Helper()
	t.Run(id, func(t *testing.T) {
		err := check()
		reason, known := disputed[id]
		switch {
		case known && err == nil:
			t.Errorf("this vector passes; take it out of the disputed ones (%s)", reason)
		case known:
			t.Logf("disputed: %s: %v", reason, err)
		case err != nil:
			t.Error(err)
		}
	})
}

// each runs the vectors of a set. One is read within its own subtest, so that what this
// runner cannot read fails by itself and not with the whole file.
func each[V any](t *testing.T, name string, disputed map[string]string, check func(v V) error) {
	t.Helper()
	var set []json.RawMessage
	if !load(t, name, &set) {
		return
	}
	for i, raw := range set {
		var head struct{ ID string }
		if err := json.Unmarshal(raw, &head); err != nil || head.ID == "" {
			head.ID = fmt.Sprintf("%s[%d]", name, i)
		}
		run(t, head.ID, disputed, func() error {
			var v V
			if err := json.Unmarshal(raw, &v); err != nil {
				return err
			}
			return check(v)
		})
	}
}

// decode reads JSON with exact numbers.
func decode(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one JSON value")
	}
	return v, nil
}

// span is the time a sequence has seen so far: from its begin to where it has moved its clock. A time within it is "now".
type span struct{ from, to time.Time }

func at(t time.Time) span { return span{t, t} }

// matchExact compares JSON texts at every level; want may hold matchers.
func matchExact(want, got []byte) error { return matchTexts(want, got, false, at(time.Now())) }

// matchTop compares JSON texts as payloads and bodies are: of an object at the top, keys
// that want does not name are ignored.
func matchTop(want, got []byte, now span) error { return matchTexts(want, got, true, now) }

func matchTexts(want, got []byte, loose bool, now span) error {
	w, err := decode(want)
	if err != nil {
		return fmt.Errorf("expectation: %w", err)
	}
	g, err := decode(got)
	if err != nil {
		return fmt.Errorf("got %q, which is not JSON: %w; want %s", got, err, want)
	}
	if err := match("", w, g, loose, now); err != nil {
		return fmt.Errorf("%w\n got %s\nwant %s", err, got, want)
	}
	return nil
}

// match compares a decoded value with what is wanted. path tells where it stands.
func match(path string, want, got any, loose bool, now span) error {
	differ := func() error { return fmt.Errorf("at %q: got %s, want %s", path, text(got), text(want)) }
	switch w := want.(type) {
	case map[string]any:
		if kind, ok := w["$match"].(string); ok {
			return matcher(path, kind, w, got, now)
		}
		g, ok := got.(map[string]any)
		if !ok {
			return differ()
		}
		for _, k := range keys(w) {
			v, present := g[k]
			if !present {
				return fmt.Errorf("at %q: %q is missing", path, k)
			}
			if err := match(path+"/"+k, w[k], v, false, now); err != nil {
				return err
			}
		}
		for _, k := range keys(g) {
			if _, wanted := w[k]; !wanted && !loose {
				return fmt.Errorf("at %q: %q is one too many", path, k)
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return differ()
		}
		for i := range w {
			if err := match(fmt.Sprintf("%s/%d", path, i), w[i], g[i], false, now); err != nil {
				return err
			}
		}
		return nil
	case json.Number:
		x, y, ok := rats(w, got)
		if !ok || x.Cmp(y) != 0 {
			return differ()
		}
		return nil
	}
	if want != got {
		return differ()
	}
	return nil
}

// matcher compares with a {"$match": …}.
func matcher(path, kind string, m map[string]any, got any, now span) error {
	fail := func() error { return fmt.Errorf("at %q: got %s, want %s", path, text(got), text(m)) }
	near := func(unit time.Duration) error {
		n, ok := rat(got)
		if !ok || !n.IsInt() {
			return fail()
		}
		if most := int64(math.MaxInt64 / unit); !n.Num().IsInt64() || n.Num().Int64() > most || n.Num().Int64() < 0 {
			return fail()
		}
		t := time.Unix(0, 0).Add(time.Duration(n.Num().Int64()) * unit)
		if t.Before(now.from.Add(-2*time.Minute)) || t.After(now.to.Add(2*time.Minute)) {
			return fail()
		}
		return nil
	}
	holds := func(ok bool) error {
		if !ok {
			return fail()
		}
		return nil
	}
	switch kind {
	case "any":
		return nil
	case "epochSeconds":
		return near(time.Second)
	case "epochMillis":
		return near(time.Millisecond)
	case "gt":
		limit, n, ok := rats(m["value"], got)
		return holds(ok && n.Cmp(limit) > 0)
	case "range":
		lo, n, ok := rats(m["min"], got)
		hi, _, ok2 := rats(m["max"], got)
		return holds(ok && ok2 && n.Cmp(lo) >= 0 && n.Cmp(hi) <= 0)
	case "approx":
		want, n, ok := rats(m["value"], got)
		if !ok {
			return fail()
		}
		bound := big.NewRat(1, 1e12)
		if want.Sign() != 0 {
			bound.Mul(bound, new(big.Rat).Abs(want))
		}
		return holds(n.Sub(n, want).Abs(n).Cmp(bound) <= 0)
	case "regex":
		s, ok := got.(string)
		re, err := regexp.Compile(`^(?:` + fmt.Sprint(m["value"]) + `)$`)
		return holds(err == nil && ok && re.MatchString(s))
	case "prefix":
		s, ok := got.(string)
		return holds(ok && strings.HasPrefix(s, fmt.Sprint(m["value"])))
	case "set":
		want, ok := m["value"].([]any)
		have, ok2 := got.([]any)
		if !ok || !ok2 || len(want) != len(have) {
			return fail()
		}
		used := make([]bool, len(have))
	next:
		for _, w := range want {
			for i, h := range have {
				if !used[i] && match(path, w, h, false, now) == nil {
					used[i] = true
					continue next
				}
			}
			return fail()
		}
		return nil
	case "subset":
		have, ok := got.(map[string]any)
		if !ok {
			return fail()
		}
		absent, _ := m["absent"].([]any)
		for _, k := range absent {
			if _, there := have[fmt.Sprint(k)]; there {
				return fmt.Errorf("at %q: %q must not be there", path, k)
			}
		}
		return match(path, m["value"], got, true, now)
	}
	return fmt.Errorf("at %q: unknown matcher %q", path, kind)
}

func rat(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok || len(n) > 2000 {
		return nil, false
	}
	return new(big.Rat).SetString(n.String())
}

func rats(a, b any) (x, y *big.Rat, ok bool) {
	x, ok = rat(a)
	if !ok {
		return nil, nil, false
	}
	y, ok = rat(b)
	return x, y, ok
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func keys(m map[string]any) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}
