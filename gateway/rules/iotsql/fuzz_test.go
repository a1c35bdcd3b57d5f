package iotsql_test

import (
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"tidegate/gateway/rules/iotsql"
)

func seeds(f *testing.F) {
	for _, e := range expressions {
		f.Add(e.expr, fields)
	}
	for _, s := range []string{`{"a":[1,{"b":null}],"s":"é\u00e9\n","n":-1.5e3}`, `[[[[]]]]`, `"x"`, `{"a":1}{`, "\xff"} {
		f.Add(`a`, s)
	}
}

// FuzzEval looks for panics, hangs and results that are not JSON.
func FuzzEval(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, expr, payload string) {
		defer func(start time.Time) {
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("%q on %q takes %s", expr, payload, d)
			}
		}(time.Now())
		for _, v := range []iotsql.Version{iotsql.V2015, iotsql.V2016} {
			st, err := iotsql.Parse("SELECT "+expr+" AS v FROM 'a' WHERE "+expr, v)
			if err == nil {
				_, _ = st.Eval(input("a/b", payload))
			}
			if st, err = iotsql.Parse("SELECT VALUE ("+expr+")", v); err != nil {
				continue
			}
			res, err := st.Eval(input("a/b", payload))
			if err == nil && len(res.Payload) > 0 && !json.Valid(res.Payload) {
				t.Errorf("%q on %q gives %q", expr, payload, res.Payload)
			}
		}
	})
}

// FuzzParse looks for panics in whole statements.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"SELECT *", "SET @a = 1 SELECT @a.b AS c.d FROM a/# WHERE EXISTS(SELECT VALUE x FROM y AS z)", "SELECT CASE a WHEN 1 THEN 2 ELSE cast('x' AS Int) END", "select value {'a':[1]} from \"x\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		for _, v := range []iotsql.Version{iotsql.V2015, iotsql.V2016} {
			if st, err := iotsql.Parse(sql, v); err == nil {
				_, _ = st.Eval(input("a/b", fields))
			} else if err.Error() == "" {
				t.Error("an error without a text")
			}
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"a/${b}/c", "${{'a':'}'}}", "$${x}", "${(SELECT VALUE n FROM e)}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if tmpl, err := iotsql.ParseTemplate(s, iotsql.V2016); err == nil {
			_, _ = tmpl.Expand(input("a/b", fields))
		}
	})
}

// FuzzPayload compares what counts as JSON with the standard library.
func FuzzPayload(f *testing.F) {
	seeds2 := []string{fields, telemetry, `{"a":1}`, `[1,2]`, `"\u00zz"`, `-0.0e+1`, ` null `, `{"a":"\ud83d\ude00"}`, "\"\x7f\"", `"` + "\xc3" + `"`}
	for _, s := range seeds2 {
		f.Add(s)
	}
	st, err := iotsql.Parse(`SELECT VALUE [*] FROM 'a'`, iotsql.V2016)
	if err == nil {
		f.Fatal("a star in an array must be refused")
	}
	if st, err = iotsql.Parse(`SELECT VALUE nanvl(*, 1)`, iotsql.V2016); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		in := input("a", s)
		want := json.Valid([]byte(s)) && utf8.ValidString(s)
		if in.JSON() != want && len(s) < 200 { // deeper than 200 levels is no JSON to us
			t.Errorf("%q: got %v, want %v", s, in.JSON(), want)
		}
		if res, err := st.Eval(in); err != nil || len(res.Payload) > 0 && !json.Valid(res.Payload) {
			t.Errorf("%q: gives %q, %v", s, res.Payload, err)
		}
	})
}
