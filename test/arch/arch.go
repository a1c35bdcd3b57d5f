// Package arch keeps the shape of the module: which package may import which, that each says what it is for, and that
// every third-party mechanism has one package that wraps it. The rules stand in floors.txt; the test runs them over the
// output of go list. It promises nothing about what code does, only about where it stands.
package arch

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Package is what the checks look at, in the field names of `go list -json`. Imports are those of the non-test files.
type Package struct {
	ImportPath, Name, Doc string
	Imports               []string
	GoFiles, CgoFiles     []string
}

// Rules are the contents of floors.txt.
type Rules struct {
	Floors map[string]int      // floor of each listed folder
	Wraps  map[string][]string // wrapped module (a prefix of import paths) → folders that may import it; DIR/... for a tree
	Shared map[string]bool     // packages that their own floor may import, too
	Named  map[string]bool     // package names that may be those of a standard package
}

// ReadRules parses floors.txt: lines of "FLOOR FOLDER", "wrap MODULE FOLDER...", "shared FOLDER" and "named NAME"; a # starts
// a comment.
func ReadRules(r io.Reader) (Rules, error) {
	rules := Rules{map[string]int{}, map[string][]string{}, map[string]bool{}, map[string]bool{}}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		floor, err := strconv.Atoi(f[0])
		switch {
		case f[0] == "shared" && len(f) == 2:
			rules.Shared[f[1]] = true
		case f[0] == "named" && len(f) == 2:
			rules.Named[f[1]] = true
		case f[0] == "wrap" && len(f) > 2:
			rules.Wraps[f[1]] = f[2:]
		case err == nil && len(f) == 2:
			rules.Floors[f[1]] = floor
		default:
			return rules, fmt.Errorf("floors.txt: %q is none of FLOOR FOLDER, wrap, shared, named", sc.Text())
		}
	}
	return rules, sc.Err()
}

// Check returns one line for each break of the rules, sorted. std holds the import paths of the standard library.
func Check(module string, pkgs []Package, std []string, rules Rules) []string {
	var bad []string
	no := func(p, format string, a ...any) { bad = append(bad, p+": "+fmt.Sprintf(format, a...)) }
	stdNames := map[string]bool{}
	for _, s := range std {
		stdNames[path.Base(s)] = !strings.Contains(s, "internal/") && !strings.HasPrefix(s, "vendor/")
	}
	names := map[string]string{}
	for _, p := range pkgs {
		dir := strings.TrimPrefix(p.ImportPath, module+"/")
		floor, ok := rules.floor(dir)
		if !ok {
			no(dir, "stands on no floor; add it to floors.txt")
			continue
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			no(dir, "has no package comment")
		}
		if len(p.CgoFiles) > 0 {
			no(dir, "needs cgo (%s)", strings.Join(p.CgoFiles, " "))
		}
		if stdNames[p.Name] && !rules.Named[p.Name] {
			no(dir, "is named like the standard library's %s", p.Name)
		}
		if other := names[p.Name]; p.Name != "main" && other != "" {
			no(dir, "has the same name as %s", other)
		}
		names[p.Name] = dir
		for _, imp := range p.Imports {
			local, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				if floor == 0 && !slices.Contains(std, imp) {
					no(dir, "is on floor 0 and imports %s; only the standard library may be used there", imp)
				}
				if floor == 0 && slices.Contains([]string{"net", "os", "os/exec", "net/http", "syscall"}, imp) && !strings.HasSuffix(p.Name, "test") {
					no(dir, "is on floor 0 and imports %s; no I/O there", imp)
				}
				for mod, may := range rules.Wraps {
					if within(imp, mod) && !slices.ContainsFunc(may, func(d string) bool { return covers(d, dir) }) {
						no(dir, "imports %s, which %s wraps", imp, strings.Join(may, ", "))
					}
				}
				continue
			}
			below, _ := rules.floor(local)
			family := within(dir, local) || within(local, dir)
			if below > floor || below == floor && !family && !rules.Shared[local] && floor < 7 {
				no(dir, "is on floor %d and imports %s on floor %d", floor, local, below)
			}
			if strings.HasSuffix(path.Base(local), "test") && !strings.HasSuffix(p.Name, "test") && floor < 7 {
				no(dir, "imports the test helper %s outside its tests", local)
			}
		}
	}
	slices.Sort(bad)
	return bad
}

// floor is that of the longest listed folder that holds dir.
func (r Rules) floor(dir string) (int, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if f, ok := r.Floors[d]; ok {
			return f, true
		}
	}
	return 0, false
}

// covers tells whether a wrap entry (a folder, or a tree written DIR/...) stands for dir.
func covers(entry, dir string) bool {
	tree, isTree := strings.CutSuffix(entry, "/...")
	return dir == entry || isTree && within(dir, tree)
}

func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }
