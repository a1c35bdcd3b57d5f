package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Results are what was measured, round by round, as they are kept in the JSON file.
type Results struct {
	At       time.Time
	Commit   string
	Machine  string
	Settings Settings
	Cases    map[string]map[string][]Round // by case, by broker
}

// Round is one measurement.
type Round struct {
	Figures Figures `json:",omitempty"`
	Failed  string  `json:",omitempty"`
}

func newResults(s Settings) *Results {
	commit, _ := exec.Command("git", "describe", "--always", "--dirty").Output()
	kernel, _ := exec.Command("uname", "-srm").Output()
	r := &Results{At: time.Now(), Commit: strings.TrimSpace(string(commit)), Settings: s, Cases: map[string]map[string][]Round{},
		Machine: fmt.Sprintf("%s, %s, %s", strings.TrimSpace(string(kernel)), cpuModel(), runtime.Version())}
	fmt.Printf("%s; tidegate %s; medians of %d rounds\n", r.Machine, r.Commit, s.Rounds)
	if inMemory(s.Dir) {
		fmt.Println("WARNING: " + s.Dir + " is in memory: whatever says \"on disk\" is not; give a folder on a real disk with -dir")
	}
	return r
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

func (r *Results) add(c Case, broker string, f Figures, err error) {
	if r.Cases[c.Name] == nil {
		r.Cases[c.Name] = map[string][]Round{}
	}
	round := Round{Figures: f}
	if err != nil {
		round.Failed = err.Error()
	}
	r.Cases[c.Name][broker] = append(r.Cases[c.Name][broker], round)
}

// median of a figure over the rounds that did not fail.
func (r *Results) median(c Case, broker, figure string) (float64, bool) {
	var all []float64
	for _, round := range r.Cases[c.Name][broker] {
		if v, ok := round.Figures[figure]; ok {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2, true
}

// print writes one case: every broker's median, how ours compares with each, and the goal.
func (r *Results) print(w io.Writer, c Case) {
	fmt.Fprintf(w, "\n%s: %s [%s]\n", c.Name, c.Title, c.Unit)
	ours, have := r.median(c, product, "value")
	for _, name := range r.Settings.Peers {
		v, ok := r.median(c, name, "value")
		rounds := r.Cases[c.Name][name]
		switch {
		case len(rounds) == 0:
			continue
		case !ok:
			fmt.Fprintf(w, "  %-10s %12s  %s\n", name, "-", rounds[0].Failed)
			continue
		}
		ratio := ""
		if have && name != product && v > 0 {
			ratio = fmt.Sprintf("ours is %.2f ×", ours/v)
		}
		fmt.Fprintf(w, "  %-10s %12s  %-18s %s\n", name, number(v), ratio, r.others(c, name))
	}
	if g := c.Goal; have && g.Factor > 0 {
		want, ok := g.Factor, true
		text := number(g.Factor) + " " + c.Unit
		if g.Peer != "" {
			var peer float64
			peer, ok = r.median(c, g.Peer, "value")
			want, text = peer*g.Factor, fmt.Sprintf("%v × %s (%s)", g.Factor, g.Peer, number(peer*g.Factor))
		}
		sign, met := "≥", ours >= want
		if c.Less {
			sign, met = "≤", ours <= want
		}
		verdict := "MISSED"
		if met {
			verdict = "met"
		}
		if ok {
			fmt.Fprintf(w, "  goal %s %s: %s\n", sign, text, verdict)
		}
	}
}

// others are the medians of a case's other figures.
func (r *Results) others(c Case, broker string) string {
	names := map[string]bool{}
	for _, round := range r.Cases[c.Name][broker] {
		for f := range round.Figures {
			names[f] = f != "value"
		}
	}
	var out []string
	for _, f := range slices.Sorted(func(yield func(string) bool) {
		for f, other := range names {
			if other && !yield(f) {
				return
			}
		}
	}) {
		v, _ := r.median(c, broker, f)
		out = append(out, f+" "+number(v))
	}
	return strings.Join(out, ", ")
}

func number(v float64) string {
	switch {
	case v >= 1000 || v <= -1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func (r *Results) save() (string, error) {
	if err := os.MkdirAll(r.Settings.Out, 0o755); err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", err
	}
	file := filepath.Join(r.Settings.Out, r.At.Format("20060102-150405")+".json")
	return file, os.WriteFile(file, append(b, '\n'), 0o644)
}
