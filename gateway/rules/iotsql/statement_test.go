package iotsql_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/fault"
	"tidegate/gateway/rules/iotsql"
)

func TestStatements(t *testing.T) {
	const none = "(no action)"
	for _, c := range []struct{ sql, payload, want string }{
		{`SELECT * FROM 'a/b'`, `{"x": 1.0, "x": 2}`, `{"x": 1.0, "x": 2}`},
		{`SELECT * FROM 'a/b'`, `not json`, `not json`},
		{`SELECT * FROM 'a/b'`, `[1, 2]`, `[1, 2]`},
		{`SELECT * FROM 'a/b'`, ``, ``},
		{`SELECT *, 1 AS k FROM 'a/b'`, `{"a" : "b" }`, `{"a" : "b" ,"k":1}`},
		{`SELECT *, 1 AS a FROM 'a/b'`, `{"a":"b","c":2}`, `{"a":1,"c":2}`},
		{`SELECT *, nope AS a FROM 'a/b'`, `{"a":"b"}`, `{"a":"b"}`},
		{`SELECT *, 1 AS k FROM 'a/b'`, `{}`, `{"k":1}`},
		{`SELECT *, 1 AS k FROM 'a/b'`, ``, `{"k":1}`},
		{`SELECT *, topic(1) AS k FROM 'a/b'`, `not json`, `{"k":"a"}`},
		{`SELECT *, 1 AS k FROM 'a/b'`, `[1]`, `{"k":1}`},
		{`SELECT 1 AS k, * FROM 'a/b'`, `{"k":5,"j":6}`, `{"k":5,"j":6}`},
		{`SELECT a, b.c AS d, b.c FROM 'a/b'`, `{"a":null,"b":{"c":[1, 2]}}`, `{"a":null,"d":[1,2],"c":[1,2]}`},
		{`SELECT a FROM 'a/b'`, `{"b":1}`, `{}`},
		{`SELECT a FROM 'a/b'`, `80`, `{}`},
		{`SELECT upper(a), a + 1 FROM 'a/b'`, `{"a":"x"}`, `{"upper(a)":"X","a + 1":"x1"}`},
		{`SELECT a AS x, b AS x FROM 'a/b'`, `{"a":1,"b":2}`, `{"x":2}`},
		{`SELECT a AS x.y, b AS x.z, a AS w FROM 'a/b'`, `{"a":1,"b":2}`, `{"x":{"y":1,"z":2},"w":1}`},
		{`SELECT o AS x, b AS x.z FROM 'a/b'`, `{"o":{"k":1},"b":2}`, `{"x":{"k":1,"z":2}}`},
		{`SELECT "lit" AS a, 'q' AS b FROM 'a/b'`, `{"lit":5}`, `{"a":"lit","b":"q"}`},
		{`SELECT value, value.x AS y, value * 2 AS z FROM 'a/b'`, `{"value":4}`, `{"value":4,"z":8}`},
		{`SELECT value - 1 AS z FROM 'a/b'`, `{"value":4}`, `{"z":3}`},
		{`SELECT from_, end AS from FROM 'a/b'`, `{"from_":4,"end":5}`, `{"from_":4,"from":5}`},
		{`SELECT VALUE x FROM 'a/b'`, `{"x":"s"}`, `"s"`},
		{`SELECT VALUE x FROM 'a/b'`, `{}`, ``},
		{`SELECT VALUE * FROM 'a/b'`, ` raw `, ` raw `},
		{`SELECT VALUE [x, x] FROM 'a/b'`, `{"x":1}`, `[1,1]`},
		{`select Value (x) from 'a/b'`, `{"x":{"y":10.0}}`, `{"y":10}`},
		{`SELECT x FROM 'a/b' WHERE x`, `{"x":true}`, `{"x":true}`},
		{`SELECT x FROM 'a/b' WHERE x`, `{"x":"true"}`, none},
		{`SELECT x FROM 'a/b' WHERE x AND true`, `{"x":"true"}`, `{"x":"true"}`},
		{`SELECT x FROM 'a/b' WHERE x`, `{"x":1}`, none},
		{`SELECT x FROM 'a/b' WHERE y <> 'a'`, `{"x":1}`, none},
		{`SELECT x FROM 'a/b' WHERE NOT (y = 'a')`, `{"x":1}`, none},
		{`SELECT x FROM 'a/b' WHERE x = 1 OR y = 2`, `{"x":1}`, none},
		{`SELECT x FROM 'a/b' WHERE isUndefined(y) AND x IN [1,2]`, `{"x":1}`, `{"x":1}`},
		{`SELECT x AS y FROM 'a/b' WHERE y = 1`, `{"x":1}`, none},
		{`SELECT x FROM 'a/b' WHERE EXISTS(SELECT VALUE i FROM x AS i WHERE i > 2)`, `{"x":[1,3]}`, `{"x":[1,3]}`},
		{`SELECT decode(encode(*,'base64'),'base64') AS v FROM 'a/b' WHERE decode(encode(*,'base64'),'base64') > 50`, `80`, `{"v":80}`},
		{`SELECT encode(*, 'base64') AS d FROM 'a/b'`, "\x00\xff", `{"d":"AP8="}`},
		{`SELECT get(*, 1) AS v FROM 'a/b'`, `[5,6]`, `{"v":6}`},
		{`SELECT length(*) AS v FROM 'a/b'`, `hello`, `{"v":5}`},
		{`SELECT decode(*, 'base64').a AS v FROM 'a/b'`, `eyJhIjo1fQ==`, `{"v":5}`},
		{`SET @a = x * 2, @b = @a + 1, @o = o SELECT @a AS a, @b, @o.k AS k, @o.k.z AS no FROM 'a/b' WHERE @b > 2`, `{"x":1,"o":{"k":7}}`, `{"a":2,"b":3,"k":7}`},
		{`SET @u = nope SELECT @u AS u, isUndefined(@u) AS is FROM 'a/b'`, `{}`, `{"is":true}`},
		{`SET @min = 2 SELECT (SELECT VALUE i FROM x AS i WHERE i >= @min) AS big FROM 'a/b'`, `{"x":[1,2,3]}`, `{"big":[2,3]}`},
		{"SELECT\n\tx\r\nFROM\t\"a/b\"\nWHERE x=1", `{"x":1}`, `{"x":1}`},
		{`SELECT x FROM a/b WHERE x=1`, `{"x":1}`, `{"x":1}`},
		{`SELECT topic() AS t`, `{}`, `{"t":"a/b"}`},
		// what is JSON and what is not
		{`SELECT *, 1 AS k FROM 'a/b'`, `{"a":1,}`, `{"k":1}`},
		{`SELECT a FROM 'a/b'`, `{"a":01}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":1}x`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":"` + "\x01" + `"}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":"` + "\xff" + `"}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":"\x"}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{'a':1}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":NaN}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":-}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":1.}`, `{}`},
		{`SELECT a FROM 'a/b'`, "\ufeff" + `{"a":1}`, `{}`},
		{`SELECT a FROM 'a/b'`, ` {"a":"\ud800x\/" } `, `{"a":"` + "\ufffd" + `x/"}`},
		{`SELECT a FROM 'a/b'`, `{"\u0061":1e400,"b":1}`, `{"a":1E+400}`},
		{`SELECT a FROM 'a/b'`, `{"a":1e4000}`, `{}`},
		{`SELECT a FROM 'a/b'`, `{"a":{"b":1e4000}}`, `{"a":{"b":1e4000}}`},
		{`SELECT a FROM 'a/b'`, `{"a":` + strings.Repeat("[", 199) + strings.Repeat("]", 199) + `}`, `{"a":` + strings.Repeat("[", 199) + strings.Repeat("]", 199) + `}`},
		{`SELECT a FROM 'a/b'`, `{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, `{}`},
	} {
		st, err := iotsql.Parse(c.sql, iotsql.V2016)
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		got := none
		res, err := st.Eval(input("a/b", c.payload))
		if res.Matched {
			got = string(res.Payload)
		}
		if err != nil || got != c.want {
			t.Errorf("%s\n on %s\n got %s %v\nwant %s", c.sql, c.payload, got, err, c.want)
		}
	}
}

func TestErrorsSayWhereAndWhat(t *testing.T) {
	for _, c := range []struct {
		sql  string
		v    iotsql.Version
		want string
	}{
		{``, 1, `column 1: expected SELECT, found the end`},
		{`SELEC *`, 1, `column 1: expected SELECT, found SELEC`},
		{`SELECT FROM 'a'`, 1, `column 8: expected an expression, found FROM`},
		{`SELECT * FROM`, 1, `column 14: expected a topic filter in single quotes, found the end`},
		{`SELECT * FROM 'a/#/b'`, 1, `column 15: a wildcard must fill its level`},
		{`SELECT * FROM 'a' WHERE`, 1, `column 24: expected an expression, found the end`},
		{`SELECT * FROM 'a' WHER x`, 1, `column 19: expected WHERE or the end, found WHER`},
		{`SELECT a b FROM 'a'`, 1, `column 10: expected a comma, FROM, WHERE or the end, found b`},
		{`SELECT a FROM 'a' WHERE x = = 1`, 1, `column 29: expected an expression, found =`},
		{`SELECT a FROM 'a' WHERE x = 1 = 2`, 1, `column 31: comparisons do not chain; put parentheses around the one at column 27`},
		{`SELECT a FROM 'a' WHERE x = 1)`, 1, `column 30: expected an operator or the end, found )`},
		{`SELECT a FROM 'a' WHERE (x = 1`, 1, `column 31: expected an operator or ), found the end`},
		{`SELECT 'abc FROM 'a'`, 1, `column 19: expected a comma, FROM, WHERE or the end, found a`},
		{`SELECT a FROM 'a`, 1, `column 15: the string that begins here has no closing '`},
		{`SELECT "abc`, 1, `column 8: the string that begins here has no closing "`},
		{`SELECT foo(1)`, 1, `column 8: there is no function foo()`},
		{"SELECT\n  ä,\n  é + foo(1)", 1, `line 3, column 7: there is no function foo()`},
		{`SELECT length('x')`, 0, `column 8: length() needs SQL version 2016-03-23`},
		{`SELECT [1]`, 0, `column 8: array literals need SQL version 2016-03-23`},
		{`SELECT {'a':1}`, 0, `column 8: object literals need SQL version 2016-03-23`},
		{`SELECT (SELECT a FROM b)`, 0, `column 9: nested queries need SQL version 2016-03-23`},
		{`SET @a = 1 SELECT @a`, 0, `column 1: variables need SQL version 2016-03-23`},
		{`SELECT cast(1 AS Decimal)`, 0, `column 18: casts to Decimal need SQL version 2016-03-23`},
		{`SELECT cast(1 AS Float)`, 1, `column 18: expected a type: String, Int, Decimal or Boolean, found Float`},
		{`SELECT cast(1, Int)`, 1, `column 14: expected AS, found ,`},
		{`SELECT @a`, 1, `column 8: @a is not set`},
		{`SET @a = @a SELECT 1`, 1, `column 10: @a is not set`},
		{`SET @a = 1, @a = 2 SELECT 1`, 1, `column 13: @a is set already`},
		{`SET a = 1 SELECT 1`, 1, `column 5: expected a variable such as @name, found a`},
		{`SET @ = 1 SELECT 1`, 1, `column 5: a variable is @ and 1 to 64 letters, digits or _`},
		{`SELECT a.5`, 1, `column 10: expected a name, found 5; for a key that is no name write get(object, "key")`},
		{`SELECT 5abc`, 1, `column 8: a name cannot begin with a digit`},
		{`SELECT 1.`, 1, `column 9: a decimal point needs digits behind it`},
		{`SELECT 1E`, 1, `column 9: an exponent needs digits`},
		{`SELECT 1E9999`, 1, `column 8: the number is outside 1E-999 to 9.99E999`},
		{`SELECT a ? b`, 1, `column 10: the character '?' means nothing here`},
		{`SELECT CASE WHEN a THEN b END`, 1, `column 13: expected the value to compare, found WHEN; write CASE value WHEN`},
		{`SELECT CASE a END`, 1, `column 15: expected WHEN, found END`},
		{`SELECT CASE a WHEN 1 END`, 1, `column 22: expected THEN, found END`},
		{`SELECT CASE a WHEN 1 THEN 2`, 1, `column 28: expected WHEN, ELSE or END, found the end`},
		{`SELECT abs(1`, 1, `column 13: expected a comma or ), found the end`},
		{`SELECT {'a' 1}`, 1, `column 13: expected :, found 1`},
		{`SELECT {1:1}`, 1, `column 9: expected a key, found 1`},
		{`SELECT a AS 5`, 1, `column 13: expected a name for the result, found 5`},
		{`SELECT VALUE a, b`, 1, `column 15: SELECT VALUE takes one expression`},
		{`SELECT (SELECT a)`, 1, `column 17: expected FROM, found )`},
		{`SELECT EXISTS(a)`, 1, `column 15: expected SELECT, found a`},
		{`SELECT 1 + NOT a`, 1, `column 12: NOT needs parentheses here`},
		{`SELECT get_dynamodb('t','k',1,'r') AS a, get_dynamodb('t','k',1,'r') AS b`, 1, `column 42: a statement can call get_dynamodb() once`},
		{`SELECT ` + strings.Repeat("(", 300) + `1`, 1, `nested deeper than 200 levels`},
		{`SELECT ` + strings.Repeat("-", 300) + `a`, 1, `nested deeper than 200 levels`},
		{`SELECT 1` + strings.Repeat("+1", 3000), 1, `more than 2000 operators in a row`},
		{strings.Repeat(" ", 257<<10), 1, `at most 262144 are allowed`},
	} {
		_, err := iotsql.Parse(c.sql, c.v)
		var syntax *iotsql.SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: got %v, want %s", c.sql, err, c.want)
		}
	}
}

func TestMatchesIsAWSes(t *testing.T) {
	for _, c := range []struct {
		sql, topic string
		want       bool
	}{
		{`SELECT * FROM 'a/#'`, "a/b", true}, {`SELECT * FROM 'a/#'`, "a", false}, {`SELECT * FROM '#'`, "$aws/x", false}, {`SELECT *`, "a", false},
	} {
		st, err := iotsql.Parse(c.sql, iotsql.V2016)
		if err != nil || st.Matches(c.topic) != c.want {
			t.Errorf("%s on %s: want %v, %v", c.sql, c.topic, c.want, err)
		}
	}
}

func TestVersionNames(t *testing.T) {
	for name, want := range map[string]iotsql.Version{"": iotsql.V2015, "2015-10-08": iotsql.V2015, "2016-03-23": iotsql.V2016, "beta": iotsql.V2016} {
		if got, err := iotsql.ParseVersion(name); err != nil || got != want {
			t.Errorf("%q: got %v, %v", name, got, err)
		}
	}
	if _, err := iotsql.ParseVersion("2020-01-01"); !fault.Is(err, fault.Invalid) {
		t.Errorf("unknown version: got %v", err)
	}
}

func TestArrayAtTheTopIn2015Fails(t *testing.T) {
	st, err := iotsql.Parse(`SELECT VALUE a FROM 'x'`, iotsql.V2015)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = st.Eval(input("x", `{"a":[1]}`)); !fault.Is(err, fault.Unsupported) {
		t.Errorf("got %v", err)
	}
}

// A hostile rule or message costs an error, not the gateway.
func TestBounds(t *testing.T) {
	many := `{"a":[` + strings.Repeat(`1,`, 20_000) + `1],"s":"` + strings.Repeat("x", 1000) + `"}`
	doubling := `SET @v0 = s`
	for i := range 40 {
		doubling += fmt.Sprintf(", @v%d = @v%d + @v%d", i+1, i, i)
	}
	nested := `SET @v0 = a`
	for i := range 40 {
		nested += fmt.Sprintf(", @v%d = [@v%d, @v%d]", i+1, i, i)
	}
	equal := strings.Replace(nested, "= a", "= 1", 1)
	deep := `SET @v0 = 1`
	for i := range 1500 {
		deep += fmt.Sprintf(", @v%d = [@v%d]", i+1, i)
	}
	for what, c := range map[string]struct {
		sql, payload string
		code         fault.Code
	}{
		"texts that double":             {doubling + ` SELECT @v40 AS v`, many, fault.TooLarge},
		"arrays that double, written":   {nested + ` SELECT @v40 AS v`, many, fault.TooLarge},
		"arrays that double, compared":  {equal + ` SELECT @v40 = @v40 AS v`, many, fault.TooLarge},
		"nested without end":            {deep + ` SELECT @v1500 AS v`, many, fault.TooLarge},
		"a query in a query":            {`SELECT (SELECT VALUE (SELECT VALUE x FROM a AS x) FROM a AS y) AS v`, many, fault.TooLarge},
		"membership in a query":         {`SELECT (SELECT VALUE 5 IN a FROM a AS y) AS v`, many, fault.TooLarge},
		"replacing by much":             {`SELECT replace(s, '', concat(s,s,s,s,s,s,s,s,s,s)) AS v`, many, fault.TooLarge},
		"a pattern without end":         {`SELECT regexp_matches(s, '(x+x+)+y') AS v`, many, fault.Timeout},
		"a pattern out of the message":  {`SELECT regexp_matches(s, p) AS v`, `{"p":"(x+x+)+y","s":"` + strings.Repeat("x", 1000) + `"}`, fault.Timeout},
		"splicing arrays over and over": {`SET @a = concat(a,a,a,a,a,a,a,a), @b = concat(@a,@a,@a,@a,@a,@a,@a,@a) SELECT concat(@b,@b) AS v`, many, fault.TooLarge},
		"a pattern for every element":   {`SELECT (SELECT VALUE regexp_replace(s, '(x|xx)*y', '') FROM a AS i) AS v`, many, fault.Timeout},
	} {
		st, err := iotsql.Parse(c.sql, iotsql.V2016)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		start := time.Now()
		if _, err := st.Eval(input("a", c.payload)); !fault.Is(err, c.code) {
			t.Errorf("%s: got %v", what, err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: took %s", what, d)
		}
	}
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ template, want string }{
		{`plain`, `plain`}, {``, ``}, {`$`, `$`}, {`$x {y} }`, `$x {y} }`}, {`$$aws/${s}`, `$$aws/text`}, {`$${s}`, `$text`},
		{`${s}/${topic(2)}`, `text/b`}, {`a${nope}b${nul}c`, `abc`}, {`${ i + 1 }`, `8`}, {`${i > 5}`, `true`}, {`${o.k}`, `1`},
		{`${{'a': '}'}}`, `{"a":"}"}`}, {`${'${x}'}`, `${x}`}, {`${"it's"}`, `it's`}, {`${'a''b'}`, `a'b`}, {`${a}`, `[1,2,3]`},
		{`${CASE i WHEN 7 THEN {'k': {}} END}`, `{"k":{}}`}, {`${parse_time("yyyy", timestamp())}`, `2024`}, {`${w}`, `10`}, {`é${s}é`, `étexté`},
		{`${get((SELECT n FROM e), 1).n}`, `y`},
	} {
		tmpl, err := iotsql.ParseTemplate(c.template, iotsql.V2016)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		if got, err := tmpl.Expand(input("a/b", fields)); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.template, got, err, c.want)
		}
		if fixed, ok := tmpl.Fixed(); ok && fixed != c.want {
			t.Errorf("%s: fixed %q", c.template, fixed)
		}
	}
	for template, want := range map[string]string{
		`a/${`: `column 5: expected an expression, found the end`, `${}`: `column 3: expected an expression, found }`, `${a`: `column 4: expected an operator or }, found the end`,
		`${a b}`: `column 5: expected an operator or }, found b`, `${foo()}`: `column 3: there is no function foo()`, `x ${@v}`: `column 5: @v is not set`, `${'a}`: `column 3: the string`,
	} {
		if _, err := iotsql.ParseTemplate(template, iotsql.V2016); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", template, err, want)
		}
	}
}

// A template sees the variables as SELECT saw them, and evaluates them itself when
// nothing was selected before.
func TestTemplatesSeeVariables(t *testing.T) {
	st, err := iotsql.Parse(`SET @id = newuuid(), @n = x + 1 SELECT @id AS id FROM 'a'`, iotsql.V2016)
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := st.Template(`out/${@id}/${@n}/${id}`)
	if err != nil {
		t.Fatal(err)
	}
	in := input("a", `{"x":1}`)
	res, err := st.Eval(in)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSuffix(strings.TrimPrefix(string(res.Payload), `{"id":"`), `"}`)
	if got, err := tmpl.Expand(in); err != nil || got != "out/"+id+"/2/" {
		t.Errorf("got %q, %v, want the id %s", got, err, id)
	}
	in.Reset("a", []byte(`{"x":5}`))
	if got, err := tmpl.Expand(in); err != nil || !strings.HasSuffix(got, "/6/") || strings.Contains(got, id) {
		t.Errorf("of another message: got %q, %v", got, err)
	}
}

// answers is an External that knows its answers by heart.
type answers map[string]string

func (a answers) Call(name string, args [][]byte) ([]byte, error) {
	key := name
	for _, arg := range args {
		key += " " + string(arg)
	}
	switch s, ok := a[key]; {
	case !ok:
		return nil, fault.New(fault.Unavailable, "nothing for %s", key)
	case s == "":
		return nil, nil
	default:
		return []byte(s), nil
	}
}

func TestExternalCalls(t *testing.T) {
	ext := answers{
		`aws_lambda "arn" {"x":1}`:                       `{"r":{"ok":true}}`,
		`get_thing_shadow "pump" "role"`:                 `{"state":{"reported":{"v":10.0}}}`,
		`get_dynamodb "t" "k"  "role"`:                   ``,
		`decode "AA==" "proto" "b" "k" "f" "m"`:          `{"p":1}`,
		`get_secret "id" "SecretString" "key" "role"`:    `"hush"`,
		`get_registry_data "DescribeThing" "x" "role"`:   `{"thingName":"x"}`,
		`machinelearning_predict "m" "role" {"a":[1,2]}`: `0.5`,
	}
	for _, c := range []struct{ expr, want, names string }{
		{`aws_lambda('arn', *).r.ok`, `true`, "[aws_lambda]"},
		{`get_thing_shadow('pump','role').state.reported.v`, `10`, "[get_thing_shadow]"},
		{`get_dynamodb('t','k',nope,'role').a`, ``, "[get_dynamodb]"},
		{`decode('AA==','proto','b','k','f','m').p`, `1`, "[decode]"},
		{`get_secret('id','SecretString','key','role')`, `"hush"`, "[get_secret]"},
		{`get_registry_data('DescribeThing','x','role').thingName`, `"x"`, "[get_registry_data]"},
		{`machinelearning_predict('m','role',{'a':[1,2]})`, `0.5`, "[machinelearning_predict]"},
		{`abs(x)`, `1`, "[]"},
	} {
		st, err := iotsql.Parse(`SELECT VALUE `+c.expr, iotsql.V2016)
		if err != nil {
			t.Fatal(err)
		}
		in := input("a", `{"x":1}`)
		in.External = ext
		res, err := st.Eval(in)
		if err != nil || string(res.Payload) != c.want || fmt.Sprint(st.External()) != c.names {
			t.Errorf("%s: got %s, %v, external %v", c.expr, res.Payload, err, st.External())
		}
	}
	st, err := iotsql.Parse(`SELECT aws_lambda('other', x) AS v`, iotsql.V2016)
	if err != nil {
		t.Fatal(err)
	}
	in := input("a", `{"x":1}`)
	in.External = ext
	if _, err := st.Eval(in); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a call that fails: got %v", err)
	}
}

func TestStatementIsSharedByGoroutines(t *testing.T) {
	st, err := iotsql.Parse(`SELECT regexp_replace(s, p, 'x') AS r, parse_time(f, 0, z) AS t, (SELECT VALUE i FROM a AS i WHERE i > 1) AS q FROM 'a'`, iotsql.V2016)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			in := input("a", "")
			for i := range 200 {
				in.Reset("a", fmt.Appendf(nil, `{"s":"abc%d","p":"[a-c]+%d","f":"yyyy","z":"Europe/Berlin","a":[1,2,%d]}`, i%3, i%3, g+2))
				res, err := st.Eval(in)
				if want := fmt.Sprintf(`{"r":"x","t":"1970","q":[2,%d]}`, g+2); err != nil || string(res.Payload) != want {
					t.Errorf("got %s, %v, want %s", res.Payload, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNoAllocationWithoutAMatch(t *testing.T) {
	for _, sql := range []string{`SELECT * FROM 'a' WHERE temp > 60`, `SELECT * FROM 'a' WHERE temp > 50 AND state = 'stopped'`, `SELECT * FROM 'a' WHERE topic(2) = 'x' AND coords.latitude * 2 > 200.5`} {
		st, err := iotsql.Parse(sql, iotsql.V2016)
		if err != nil {
			t.Fatal(err)
		}
		var in iotsql.Input
		payload := []byte(telemetry)
		if n := testing.AllocsPerRun(100, func() {
			in.Reset("dt/pump", payload)
			if res, err := st.Eval(&in); err != nil || res.Matched {
				t.Error(err, res.Matched)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", sql, n)
		}
	}
}
