package iotsql_test

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"tidegate/gateway/rules/iotsql"
)

// table reads a file of testdata: rows of tab separated fields.
func table(t *testing.T, name string, fields int) [][]string {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unescape := strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r", `\t`, "\t")
	var rows [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "# ") {
			continue
		}
		row := strings.Split(s.Text(), "\t")
		if len(row) != fields {
			t.Fatalf("%s: %q has %d fields", name, s.Text(), len(row))
		}
		for i := range row {
			row[i] = unescape.Replace(row[i])
		}
		rows = append(rows, row)
	}
	return rows
}

// eval evaluates an expression against fields of a payload and gives its JSON, empty for
// Undefined.
func eval(t *testing.T, expr string, payload map[string]any) string {
	t.Helper()
	body, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return evalRaw(t, expr, string(body), iotsql.V2016)
}

func evalRaw(t *testing.T, expr, payload string, v iotsql.Version) string {
	t.Helper()
	st, err := iotsql.Parse("SELECT VALUE "+expr+" FROM 'a/b'", v)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	in := input("a/b", payload)
	res, err := st.Eval(in)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return string(res.Payload)
}

func quoted(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.TrimSpace(b.String())
}

func sameJSON(t *testing.T, got, want string) bool {
	t.Helper()
	var g, w any
	if json.Unmarshal([]byte(got), &g) != nil || json.Unmarshal([]byte(want), &w) != nil {
		return got == want
	}
	return g == w
}

func TestRegularExpressionsAreJavas(t *testing.T) {
	// One statement each for all rows: it keeps the last pattern it compiled.
	var st [3]*iotsql.Statement
	for i, expr := range []string{"regexp_matches(s, p)", "regexp_substr(s, p)", "regexp_replace(s, p, w)"} {
		var err error
		if st[i], err = iotsql.Parse("SELECT VALUE "+expr, iotsql.V2016); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range table(t, "regex.tsv", 5) {
		pattern, text, with, first, all := row[0], row[1], row[2], row[3], row[4]
		body, err := json.Marshal(map[string]any{"p": pattern, "s": text, "w": with})
		if err != nil {
			t.Fatal(err)
		}
		want := [3]string{map[byte]string{'M': "true", 'N': "false", 'E': ""}[first[0]]}
		if first[0] == 'M' {
			want[1] = quoted(first[2:])
		}
		if all != "E" {
			want[2] = quoted(all[2:])
		}
		for i := range st {
			res, err := st[i].Eval(input("a/b", string(body)))
			if got := string(res.Payload); err != nil || !sameJSON(t, got, want[i]) {
				t.Errorf("%q, %q by %q, %s: got %s, %v, want %s", pattern, text, with, [3]string{"matches", "first", "replaced"}[i], got, err, want[i])
			}
		}
	}
}

func TestTimesAreReadAsTheJDKDoes(t *testing.T) {
	for _, row := range table(t, "times.tsv", 3) {
		pattern, text, want := row[0], row[1], strings.TrimPrefix(row[2], "E")
		if got := eval(t, "time_to_epoch(s, p)", map[string]any{"p": pattern, "s": text}); got != want {
			t.Errorf("%q by %q: got %q, want %q", text, pattern, got, want)
		}
	}
}
