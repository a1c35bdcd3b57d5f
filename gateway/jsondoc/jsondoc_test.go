package jsondoc_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/jsondoc"
)

func parse(t testing.TB, s string) jsondoc.Value {
	t.Helper()
	v, err := jsondoc.Parse([]byte(s), jsondoc.Options{})
	if err != nil {
		t.Fatalf("parse %.80q: %v", s, err)
	}
	return v
}

func text(v jsondoc.Value) string {
	if v.Kind() == jsondoc.None {
		return ""
	}
	return string(jsondoc.Append(nil, &v))
}

func TestEncodingIsCompactAndOrdered(t *testing.T) {
	for in, want := range map[string]string{
		` { "b" : [ 1 , true , null , "x" ] , "a" : { } } `: `{"a":{},"b":[1,true,null,"x"]}`,
		`{"a":1,"b":2,"a":3}`:                               `{"a":3,"b":2}`,
		`{"z":1,"z":2,"y":{"q":1,"q":[]},"z":3}`:            `{"y":{"q":[]},"z":3}`,
		`123456789012345678901234567890.10e+5`:              `123456789012345678901234567890.10e+5`,
		`"\u00e9\ud83d\ude00\/\"\\\b\f\n\r\t\u0001\u007f"`:  "\"é😀/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u007f\"",
		"\"temp\u00e9rature 21\u00b0 \u2028\"":              "\"température 21° \u2028\"",
		`[]`:                                                `[]`, `-0`: `-0`, `1E2`: `1E2`, `"a\u0000b"`: `"a\u0000b"`,
	} {
		v := parse(t, in)
		if got := text(v); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
		if v.Size() != len(want) {
			t.Errorf("%s: size %d, want %d", in, v.Size(), len(want))
		}
	}
}

func TestWhatIsNotJSONIsRefused(t *testing.T) {
	for _, s := range []string{``, ` `, `{`, `}`, `[`, `]`, `[1,]`, `[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a" 1}`, `{a:1}`, `{'a':1}`, `01`,
		`1.`, `.1`, `-`, `+1`, `1e`, `1e+`, `1.e1`, `- 1`, `0x10`, `NaN`, `Infinity`, `tru`, `truee`, `nulll`, `"`, `"\`, `"\x"`, `"\u12"`, `"\u12g4"`,
		"\"\t\"", "\"\n\"", "\"\x00\"", `1 2`, `{} {}`, `[1 2]`, "\ufeff{}", `"\ud800"`, `"\ud800\u0041"`, `"\udc00\ud800"`, `"\ud800\ud800"`,
		`1e1234567890`, `{"a":1}x`, `//`, `{"a":1/**/}`, `[1}`, `{"a":1]`, `{1:1}`, `"a\`} {
		v, err := jsondoc.Parse([]byte(s), jsondoc.Options{})
		var syntax *jsondoc.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%q: got %v %v", s, text(v), err)
		} else if syntax.Offset < 0 || syntax.Offset > len(s) || syntax.What == "" || err.Error() == "" {
			t.Errorf("%q: error %+v", s, syntax)
		}
	}
	for _, s := range []string{"\"\xff\"", "\xed\xa0\x80", "{\"a\xc0\x80\":1}", "\xff\xfe{\x00}\x00"} {
		if _, err := jsondoc.Parse([]byte(s), jsondoc.Options{}); err != jsondoc.ErrEncoding {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func TestBoundsHold(t *testing.T) {
	nest := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	for _, c := range []struct {
		in   []byte
		o    jsondoc.Options
		want error
	}{
		{nest(8), jsondoc.Options{MaxDepth: 8}, nil},
		{nest(9), jsondoc.Options{MaxDepth: 8}, jsondoc.ErrTooDeep},
		{nest(jsondoc.MaxDepth), jsondoc.Options{}, nil},
		{nest(jsondoc.MaxDepth + 1), jsondoc.Options{MaxDepth: 1 << 30}, jsondoc.ErrTooDeep},
		{nest(5_000_000), jsondoc.Options{}, jsondoc.ErrTooDeep},
		{[]byte(`[[],[[]],{}]`), jsondoc.Options{MaxDepth: 3}, nil},
		{[]byte(`"123456"`), jsondoc.Options{MaxSize: 8}, nil},
		{[]byte(`"1234567"`), jsondoc.Options{MaxSize: 8}, jsondoc.ErrTooLarge},
	} {
		if _, err := jsondoc.Parse(c.in, c.o); err != c.want {
			t.Errorf("%.20s %+v: got %v, want %v", c.in, c.o, err, c.want)
		}
	}
}

func TestDepthCountsContainers(t *testing.T) {
	for in, want := range map[string]int{`1`: 0, `{}`: 1, `[1]`: 1, `{"a":{"b":1}}`: 2, `{"a":[{"b":[]}],"c":1}`: 4} {
		if v := parse(t, in); v.Depth() != want {
			t.Errorf("%s: depth %d, want %d", in, v.Depth(), want)
		}
	}
}

func TestNullsInArraysAreSeen(t *testing.T) {
	for in, want := range map[string]bool{`null`: false, `{"a":null}`: false, `[null]`: true, `{"a":[1,[2,null]]}`: true, `{"a":[{"b":null}]}`: true, `[1]`: false} {
		if v := parse(t, in); v.ArrayWithNull() != want {
			t.Errorf("%s: %v", in, v.ArrayWithNull())
		}
	}
}

func TestNumbersCompareByValue(t *testing.T) {
	same := [][]string{
		{"10", "10.0", "1e1", "1E+1", "100e-1", "0.1e2", "10.00000000000000000000000"},
		{"0", "-0", "0.0", "0e999999999", "-0.00e-7", "0E0"},
		{"0.00123", "1.23e-3", "123e-5", "0.0000123E2"},
		{"-12345678901234567890123", "-1.2345678901234567890123e22"},
		{"1e400", "10e399", "0.1e401"}, {"12345678901234567890124"}, {"1"}, {"-10"}, {"10.000000000000000000000001"}, {"100"},
	}
	for i, a := range same {
		for j, b := range same {
			for _, x := range a {
				for _, y := range b {
					vx, vy := parse(t, x), parse(t, y)
					if got := jsondoc.Equal(&vx, &vy); got != (i == j) {
						t.Errorf("%s and %s: equal %v", x, y, got)
					}
				}
			}
		}
	}
	ten := parse(t, `"10"`)
	if n := parse(t, `10`); jsondoc.Equal(&n, &ten) {
		t.Error("a string equals a number")
	}
}

func TestMerge(t *testing.T) {
	for _, c := range []struct{ dst, src, want string }{
		{`{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{`{"a":1}`, `{"a":null}`, `{}`},
		{`{}`, `{"a":null}`, `{}`},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":null}}`, `{"a":{"c":2}}`},
		{`{"a":{"b":1}}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"a":1}`, `{"a":{"b":null,"c":{"d":null,"e":1}}}`, `{"a":{"c":{"e":1}}}`},
		{`{"a":[1,2]}`, `{"a":[3]}`, `{"a":[3]}`},
		{`{"a":[1]}`, `{"a":{"b":1}}`, `{"a":{"b":1}}`},
		{`{"a":{"b":1}}`, `{"a":5}`, `{"a":5}`},
		{`{"a":{"b":1}}`, `{"a":{}}`, `{"a":{"b":1}}`},
		{`{"a":1}`, `{"a":{}}`, `{"a":{}}`},
		{`{"m":1}`, `{"a":1,"z":2}`, `{"a":1,"m":1,"z":2}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{``, `{"a":null,"b":1}`, `{"b":1}`},
	} {
		var dst jsondoc.Value
		if c.dst != "" {
			dst = parse(t, c.dst)
		}
		src := parse(t, c.src)
		before := text(dst)
		m := jsondoc.Merge(&dst, &src)
		if got := text(m); got != c.want || m.Size() != len(got) {
			t.Errorf("%s + %s: got %s (size %d), want %s", c.dst, c.src, got, m.Size(), c.want)
		}
		if text(dst) != before || text(src) != c.src {
			t.Errorf("%s + %s changed its input", c.dst, c.src)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ want, have, diff string }{
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":1}`, ``, `{"a":1}`},
		{`{"a":{"b":1}}`, ``, `{"a":{"b":1}}`},
		{`{"a":1}`, `{"a":1.0,"b":2}`, ``},
		{`{"a":{"b":1,"c":2}}`, `{"a":{"b":1,"c":3,"d":4}}`, `{"a":{"c":2}}`},
		{`{"a":{"b":1}}`, `{"a":7}`, `{"a":{"b":1}}`},
		{`{"a":7}`, `{"a":{"b":1}}`, `{"a":7}`},
		{`{"a":[1,2,3]}`, `{"a":[1,2]}`, `{"a":[1,2,3]}`},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, `{"a":[1,2]}`},
		{`{"a":[1,{"b":2}]}`, `{"a":[1,{"b":2.0}]}`, ``},
		{`{"a":{}}`, `{"a":{"b":1}}`, ``},
		{`{"a":{}}`, `{}`, `{"a":{}}`},
		{`{"a":true,"b":false}`, `{"a":false,"b":false}`, `{"a":true}`},
		{``, `{"a":1}`, ``},
	} {
		var want, have jsondoc.Value
		if c.want != "" {
			want = parse(t, c.want)
		}
		if c.have != "" {
			have = parse(t, c.have)
		}
		d, differs := jsondoc.Diff(&want, &have)
		if got := text(d); got != c.diff || differs != (c.diff != "") {
			t.Errorf("%s against %s: got %s %v, want %s", c.want, c.have, got, differs, c.diff)
		}
	}
}

func TestMarksTravelWithLeaves(t *testing.T) {
	old, err := jsondoc.Parse([]byte(`{"a":{"b":1,"c":[1,2]},"d":"x"}`), jsondoc.Options{Mark: 100})
	if err != nil {
		t.Fatal(err)
	}
	patch, _ := jsondoc.Parse([]byte(`{"a":{"b":2,"e":{}},"f":null}`), jsondoc.Options{Mark: 200})
	m := jsondoc.Merge(&old, &patch)
	marks := func(v jsondoc.Value) string {
		return string(jsondoc.AppendLeaves(nil, &v, func(b []byte, v *jsondoc.Value) []byte { return fmt.Append(b, v.Mark) }))
	}
	if got, want := marks(m), `{"a":{"b":200,"c":[100,100],"e":{}},"d":100}`; got != want {
		t.Errorf("merged: %s, want %s", got, want)
	}
	if got, want := marks(patch), `{"a":{"b":200,"e":{}},"f":200}`; got != want {
		t.Errorf("patch: %s, want %s", got, want)
	}
	have := parse(t, `{"a":{"b":2}}`)
	d, _ := jsondoc.Diff(&m, &have)
	if got, want := marks(d), `{"a":{"c":[100,100],"e":{}},"d":100}`; got != want {
		t.Errorf("difference: %s, want %s", got, want)
	}
	b := jsondoc.AppendBinary(nil, &m, 150)
	back, rest, err := jsondoc.DecodeBinary(string(b)+"rest", 150)
	if err != nil || rest != "rest" || marks(back) != marks(m) || text(back) != text(m) {
		t.Errorf("binary: %s %s %q %v", text(back), marks(back), rest, err)
	}
	for cut := range b {
		if v, rest, err := jsondoc.DecodeBinary(string(b[:cut]), 150); err == nil {
			t.Errorf("cut at %d gave %s and %q", cut, text(v), rest)
		}
	}
}

func TestAnArenaIsUsedAgain(t *testing.T) {
	var a jsondoc.Arena
	o := jsondoc.Options{Mark: 1}
	work := func(first, second string) string {
		x, err := a.Parse([]byte(first), o)
		if err != nil {
			t.Fatal(err)
		}
		y, err := a.Parse([]byte(second), o)
		if err != nil {
			t.Fatal(err)
		}
		m := a.Merge(&x, &y)
		d, _ := a.Diff(&m, &x)
		back, _, err := a.DecodeBinary(string(jsondoc.AppendBinary(nil, &m, 1)), 1)
		if err != nil || !jsondoc.Equal(&back, &m) {
			t.Fatalf("binary: %v %s", err, text(back))
		}
		s := text(x) + text(y) + text(m) + text(d)
		a.Reset()
		return s
	}
	long := "[" + strings.Repeat(`{"a":[1,2]},`, 3000) + "1]"
	for range 3 {
		if got, want := work(`{"a":1,"b":{"c":2}}`, `{"b":{"d":[3]},"e":null}`), `{"a":1,"b":{"c":2}}{"b":{"d":[3]},"e":null}{"a":1,"b":{"c":2,"d":[3]}}{"b":{"d":[3]}}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := work(`{"a":`+long+`}`, `{"b":`+long+`}`), `{"a":`+long+`}{"b":`+long+`}{"a":`+long+`,"b":`+long+`}{"b":`+long+`}`; got != want {
			t.Errorf("the large one came out wrong")
		}
	}
	in := []byte(`{"a":[1,2,{"b":"c"}],"d":{"e":null}}`)
	if n := testing.AllocsPerRun(100, func() { _, _ = a.Parse(in, o); a.Reset() }); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

func TestReadingValues(t *testing.T) {
	v := parse(t, `{"i":7,"big":99999999999999999999,"f":1.5,"e":1e3,"s":"x","t":true,"l":[1,2],"huge":1e999,"o":{"k":null},"x1":1,"x2":2,"x3":3}`)
	if n, ok := v.Get("i").Int(); n != 7 || !ok {
		t.Error("i", n, ok)
	}
	for _, k := range []string{"big", "f", "e", "s", "none"} {
		if _, ok := v.Get(k).Int(); ok {
			t.Errorf("%s passes as int", k)
		}
	}
	if !v.Get("big").Integer() || v.Get("f").Integer() || v.Get("e").Integer() || v.Get("s").Integer() {
		t.Error("Integer answers wrongly")
	}
	if f, ok := v.Get("f").Float(); f != 1.5 || !ok {
		t.Error("f", f, ok)
	}
	if f, ok := v.Get("huge").Float(); f < 1e308 || !ok {
		t.Error("huge", f, ok)
	}
	if _, ok := v.Get("s").Float(); ok {
		t.Error("a string passes as float")
	}
	if v.Get("s").Text() != "x" || v.Get("t").Text() != "true" || v.Get("l").Len() != 2 || v.Get("l").Get("x") != nil || v.Get("nope").Kind() != jsondoc.None {
		t.Error("accessors answer wrongly")
	}
	for k, want := range map[string]string{"s": "string", "t": "boolean", "l": "array", "o": "object", "i": "number", "none": "nothing"} {
		if got := v.Get(k).Kind().String(); got != want {
			t.Errorf("%s is a %s", k, got)
		}
	}
	made := jsondoc.ObjectValue([]jsondoc.Member{{Key: "z", Value: jsondoc.IntValue(-5)}, {Key: "a", Value: jsondoc.StringValue("\"q\"")},
		{Key: "l", Value: jsondoc.ArrayValue([]jsondoc.Member{{Value: jsondoc.BoolValue(false)}, {Value: jsondoc.NullValue()}})}})
	if got, want := text(made), `{"a":"\"q\"","l":[false,null],"z":-5}`; got != want || made.Size() != len(want) || !made.ArrayWithNull() {
		t.Errorf("made %s", got)
	}
}

// TestHostileInputCostsLittle parses what would make a careless parser quadratic or
// recursive without bound.
func TestHostileInputCostsLittle(t *testing.T) {
	const size = 128 << 10
	var keys strings.Builder
	keys.WriteByte('{')
	for i := 0; keys.Len() < size; i++ {
		fmt.Fprintf(&keys, "%q:0,", fmt.Sprintf("k%d", (i*7919)%30011))
	}
	for name, in := range map[string]string{
		"many keys":       strings.TrimSuffix(keys.String(), ",") + "}",
		"one key for all": "{" + strings.Repeat(`"a":1,`, size/6) + `"a":2}`,
		"many arrays":     "[" + strings.Repeat("[],", size/3) + "[]]",
		"long number":     strings.Repeat("9", size),
		"long fraction":   "0." + strings.Repeat("0", size) + "1",
		"escapes":         `"` + strings.Repeat(`\u0041`, size/6) + `"`,
		"open strings":    strings.Repeat(`"`, size),
		"commas":          `"` + strings.Repeat(",", size) + `"`,
		"brackets":        strings.Repeat("[", size),
		"braces":          strings.Repeat(`{"a":`, size/5),
	} {
		start := time.Now()
		v, err := jsondoc.Parse([]byte(in), jsondoc.Options{})
		if err == nil {
			b := jsondoc.AppendBinary(nil, &v, 0)
			if _, _, err := jsondoc.DecodeBinary(string(b), 0); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			w := jsondoc.Merge(&v, &v)
			if !jsondoc.Equal(&v, &w) {
				t.Errorf("%s: differs from itself", name)
			}
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s took %v", name, d)
		}
		if n := testing.AllocsPerRun(1, func() { _, _ = jsondoc.Parse([]byte(in), jsondoc.Options{}) }); n > size/8 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// oracle merges the way RFC 7396 says, on the trees of encoding/json.
func oracle(dst, src any) any {
	s, ok := src.(map[string]any)
	if !ok {
		return src
	}
	out := map[string]any{}
	if d, ok := dst.(map[string]any); ok {
		for k, v := range d {
			out[k] = v
		}
	}
	for k, v := range s {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = oracle(out[k], v)
		}
	}
	return out
}

func random(r *rand.Rand, depth int) any {
	switch n := r.IntN(9); {
	case n < 3 && depth > 0:
		m := map[string]any{}
		for range r.IntN(5) {
			m[string(rune('a'+r.IntN(5)))] = random(r, depth-1)
		}
		return m
	case n == 3 && depth > 0:
		l := make([]any, r.IntN(3))
		for i := range l {
			l[i] = random(r, depth-1)
		}
		return l
	case n == 4:
		return nil
	case n == 5:
		return r.IntN(2) == 0
	case n == 6:
		return string(rune('a' + r.IntN(3)))
	}
	return float64(r.IntN(3))
}

func TestMergeAgreesWithRFC7396(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		a, b := map[string]any{"r": random(r, 3), "q": random(r, 3)}, map[string]any{"r": random(r, 3), "s": random(r, 3)}
		a = oracle(nil, a).(map[string]any) // a stored document has no nulls outside arrays
		ja, _ := json.Marshal(a)
		jb, _ := json.Marshal(b)
		va, vb := parse(t, string(ja)), parse(t, string(jb))
		m := jsondoc.Merge(&va, &vb)
		want, _ := json.Marshal(oracle(a, b))
		if text(m) != string(want) || m.Size() != len(want) {
			t.Fatalf("%s + %s: got %s, want %s", ja, jb, text(m), want)
		}
		u, differs := jsondoc.Undo(&m, &va)
		if differs != (text(m) != text(va)) {
			t.Fatalf("%s and %s: differ: %v", text(m), text(va), differs)
		}
		if differs {
			if back := jsondoc.Merge(&m, &u); text(back) != text(va) {
				t.Fatalf("%s undone by %s is %s, was %s", text(m), text(u), text(back), text(va))
			}
		}
		if d, differs := jsondoc.Diff(&va, &m); differs {
			back := jsondoc.Merge(&m, &d)
			if left, still := jsondoc.Diff(&va, &back); still {
				t.Fatalf("after applying %s to %s %s is still missing", text(d), text(m), text(left))
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,null,true,{"b":"\u00e9\ud83d\ude00"}],"a":{}}`, `"\ud800"`, `1e9999999999`, `[[[[`, "\"\xff\"", `{"b":1,"a":-0.0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := jsondoc.Parse(in, jsondoc.Options{MaxDepth: 50})
		if err != nil {
			var syntax *jsondoc.SyntaxError
			if errors.As(err, &syntax) && json.Valid(in) && !strings.Contains(syntax.What, `\u escape`) && !strings.Contains(syntax.What, "exponent") {
				t.Fatalf("%q refused: %v", in, err)
			}
			return
		}
		if !json.Valid(in) {
			t.Fatalf("%q accepted", in)
		}
		out := jsondoc.Append(nil, &v)
		if len(out) != v.Size() {
			t.Fatalf("size %d, encoded %d: %q", v.Size(), len(out), out)
		}
		back, err := jsondoc.Parse(out, jsondoc.Options{})
		if err != nil || !jsondoc.Equal(&v, &back) || !bytes.Equal(out, jsondoc.Append(nil, &back)) || back.Depth() != v.Depth() {
			t.Fatalf("%q came back as %q, %v", in, out, err)
		}
		decode := func(b []byte) (a any) {
			d := json.NewDecoder(bytes.NewReader(b))
			d.UseNumber()
			if d.Decode(&a) != nil {
				t.Fatalf("%q does not decode", b)
			}
			return a
		}
		if !reflect.DeepEqual(decode(in), decode(out)) {
			t.Fatalf("%q means something else than %q", out, in)
		}
		bin := jsondoc.AppendBinary(nil, &v, 0)
		again, rest, err := jsondoc.DecodeBinary(string(bin), 0)
		if err != nil || rest != "" || !bytes.Equal(out, jsondoc.Append(nil, &again)) || again.Size() != v.Size() || again.ArrayWithNull() != v.ArrayWithNull() {
			t.Fatalf("binary form of %q: %v", out, err)
		}
	})
}

func FuzzDecodeBinary(f *testing.F) {
	v, _ := jsondoc.Parse([]byte(`{"a":[1,2.5e3,null,true,{"b":"x"}],"c":{}}`), jsondoc.Options{Mark: 9})
	f.Add(string(jsondoc.AppendBinary(nil, &v, 5)))
	f.Fuzz(func(t *testing.T, s string) {
		v, _, err := jsondoc.DecodeBinary(s, 5)
		if err != nil {
			return
		}
		if out := jsondoc.Append(nil, &v); !json.Valid(out) || len(out) != v.Size() {
			t.Fatalf("decoded to %q", out)
		}
	})
}

func FuzzMergeDiff(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1}}`), []byte(`{"a":{"b":null}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		va, err := jsondoc.Parse(a, jsondoc.Options{})
		if err != nil || va.Kind() != jsondoc.Object {
			return
		}
		vb, err := jsondoc.Parse(b, jsondoc.Options{})
		if err != nil || vb.Kind() != jsondoc.Object {
			return
		}
		var none jsondoc.Value
		va = jsondoc.Merge(&none, &va)
		m := jsondoc.Merge(&va, &vb)
		if n := len(jsondoc.Append(nil, &m)); n != m.Size() {
			t.Fatalf("size %d, encoded %d", m.Size(), n)
		}
		if again := jsondoc.Merge(&m, &vb); !jsondoc.Equal(&m, &again) {
			t.Fatal("merging twice changes something")
		}
		if _, differs := jsondoc.Diff(&m, &m); differs {
			t.Fatal("a document differs from itself")
		}
		back := m
		if u, differs := jsondoc.Undo(&m, &va); differs {
			back = jsondoc.Merge(&m, &u)
		}
		if text(back) != text(va) {
			t.Fatalf("%s undone is %s, was %s", text(m), text(back), text(va))
		}
	})
}

var kilobyte = func() []byte {
	b := []byte(`{"state":{"reported":{`)
	for i := 0; len(b) < 980; i++ {
		b = fmt.Appendf(b, `"sensor%02d":{"value":%d.%d,"unit":"mbar","ok":true},`, i, 100+i, i)
	}
	return append(bytes.TrimSuffix(b, comma), "}}}"...)
}()

var comma = []byte(",")

func BenchmarkParse1KB(b *testing.B) {
	b.SetBytes(int64(len(kilobyte)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = jsondoc.Parse(kilobyte, jsondoc.Options{})
	}
}

func BenchmarkParseInArena1KB(b *testing.B) {
	var a jsondoc.Arena
	b.ReportAllocs()
	for b.Loop() {
		_, _ = a.Parse(kilobyte, jsondoc.Options{})
		a.Reset()
	}
}

func BenchmarkAppend1KB(b *testing.B) {
	v := parse(b, string(kilobyte))
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = jsondoc.Append(buf[:0], &v)
	}
}

func BenchmarkDecodeBinary1KB(b *testing.B) {
	v := parse(b, string(kilobyte))
	s := string(jsondoc.AppendBinary(nil, &v, 0))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = jsondoc.DecodeBinary(s, 0)
	}
}

func BenchmarkMerge1KB(b *testing.B) {
	v := parse(b, string(kilobyte))
	b.ReportAllocs()
	for b.Loop() {
		jsondoc.Merge(&v, &v)
	}
}
