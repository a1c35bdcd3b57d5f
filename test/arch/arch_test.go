package arch_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"tidegate/test/arch"
)

func list(t *testing.T, env string, args ...string) []byte {
	t.Helper()
	c := exec.Command("go", append([]string{"list"}, args...)...)
	c.Dir, c.Env, c.Stderr = "../..", append(os.Environ(), env), os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func readRules(t *testing.T) arch.Rules {
	t.Helper()
	f, err := os.Open("floors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rules, err := arch.ReadRules(f)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// With cgo switched on, so that a file that needs it is seen and not left out.
func TestEveryPackageKeepsToItsFloor(t *testing.T) {
	var pkgs []arch.Package
	dec := json.NewDecoder(strings.NewReader(string(list(t, "CGO_ENABLED=1", "-json=ImportPath,Name,Doc,Imports,GoFiles,CgoFiles", "./..."))))
	for {
		var p arch.Package
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	std := strings.Fields(string(list(t, "CGO_ENABLED=1", "std")))
	for _, line := range arch.Check("tidegate", pkgs, std, readRules(t)) {
		t.Error(line)
	}
}

func TestEveryRoomIsNamedInTheArchitecture(t *testing.T) {
	page, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range strings.Fields(string(list(t, "CGO_ENABLED=0", "./gateway/...", "./devices/...", "./sync/..."))) {
		room = strings.TrimPrefix(room, "tidegate/")
		if !strings.HasSuffix(room, "test") && !strings.Contains(string(page), "`"+room+"`") {
			t.Errorf("%s is not in the table of rooms in ARCHITECTURE.md", room)
		}
	}
}

// A dependency that has only cgo files leaves a package without Go files, which go list reports.
func TestNothingNeedsCgo(t *testing.T) {
	for _, goarch := range []string{"amd64", "arm64"} {
		t.Setenv("GOARCH", goarch)
		out := list(t, "CGO_ENABLED=0", "-e", "-deps", "-f", "{{with .Error}}{{$.ImportPath}}: {{.}}{{end}}", "./...")
		if bad := strings.TrimSpace(string(out)); bad != "" {
			t.Errorf("%s without cgo: %s", goarch, bad)
		}
	}
}

// The checker itself: each kind of break is found, and a tidy module has none.
func TestALineThatSaysNothingIsRefused(t *testing.T) {
	if _, err := arch.ReadRules(strings.NewReader("two gateway/x")); err == nil || !strings.Contains(err.Error(), "two gateway/x") {
		t.Errorf("got %v, want an error that shows the line", err)
	}
}

func TestBreaksAreFound(t *testing.T) {
	rules, err := arch.ReadRules(strings.NewReader(`
		0 words
		0 fault # with a remark
		1 tool
		2 fact
		2 other
		1 hw
		7 test
		wrap example.org/db tool hw/...
		shared fault
		named net`))
	if err != nil {
		t.Fatal(err)
	}
	std := []string{"net", "strings", "os", "internal/abi", "testing"}
	pkg := func(dir string, imports ...string) arch.Package {
		return arch.Package{ImportPath: "m/" + dir, Name: dir[strings.LastIndex(dir, "/")+1:], Doc: "d", GoFiles: []string{"x.go"}, Imports: imports}
	}
	tests := []struct {
		name string
		pkgs []arch.Package
		want string // part of the one line expected; "" when none is
	}{
		{"a tidy module", []arch.Package{pkg("words", "strings", "m/fault"), pkg("fault"), pkg("hw/db", "example.org/db"), pkg("hw/net"), pkg("tool", "m/words", "example.org/db/v4"), pkg("fact", "m/tool", "m/fact/part"), pkg("fact/part"), pkg("test/x", "m/fact", "m/test/y"), pkg("test/y")}, ""},
		{"a package that is not listed", []arch.Package{pkg("attic")}, "attic: stands on no floor"},
		{"an import of a higher floor", []arch.Package{pkg("tool", "m/fact")}, "tool: is on floor 1 and imports fact on floor 2"},
		{"an import of the same floor", []arch.Package{pkg("fact", "m/other")}, "fact: is on floor 2 and imports other on floor 2"},
		{"an import between siblings", []arch.Package{pkg("fact/a", "m/fact/b")}, "fact/a: is on floor 2 and imports fact/b"},
		{"an unlisted subfolder that climbs", []arch.Package{pkg("hw/gpio", "m/fact")}, "hw/gpio: is on floor 1 and imports fact"},
		{"no package comment", []arch.Package{{ImportPath: "m/fact", Name: "fact", GoFiles: []string{"x.go"}}}, "has no package comment"},
		{"a standard name", []arch.Package{pkg("fact/strings")}, "is named like the standard library's strings"},
		{"one name twice", []arch.Package{pkg("fact/a"), pkg("other/a")}, "other/a: has the same name as fact/a"},
		{"a third party on floor 0", []arch.Package{pkg("words", "example.org/x")}, "only the standard library"},
		{"I/O on floor 0", []arch.Package{pkg("words", "net")}, "no I/O there"},
		{"a wrapped module elsewhere", []arch.Package{pkg("fact", "example.org/db/v4")}, "fact: imports example.org/db/v4, which tool, hw/... wraps"},
		{"a test helper outside tests", []arch.Package{pkg("fact", "m/tool/tooltest")}, "imports the test helper tool/tooltest"},
		{"cgo", []arch.Package{{ImportPath: "m/fact", Name: "fact", Doc: "d", GoFiles: []string{"x.go"}, CgoFiles: []string{"c.go"}}}, "needs cgo (c.go)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := arch.Check("m", test.pkgs, std, rules)
			if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
				t.Errorf("got %q, want one line with %q", got, test.want)
			}
		})
	}
}
