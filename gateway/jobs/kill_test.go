package jobs_test

import (
	"bufio"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tidegate/gateway/jobs"
)

const victimDir = "TIDEGATE_TEST_JOBS_VICTIM"

// fleetOf makes a house over a folder with things in a group.
func fleetOf(t testing.TB, dir string, things int) *house {
	h := &house{t: t, dir: dir, clk: nil, fleet: newFleet(), events: map[string]bool{}}
	for i := range things {
		h.fleet.add("g", fmt.Sprintf("p%03d", i))
	}
	return h
}

// TestVictim is no test: it is the process that the next one kills. It rolls a job out,
// does what things do, and says so.
func TestVictim(t *testing.T) {
	dir := os.Getenv(victimDir)
	if dir == "" {
		return
	}
	h := fleetOf(t, dir, 300)
	h.clk = clockAt(t0)
	h.up()
	if _, _, err := h.Show(h.db, "j"); err != nil {
		h.must(h.create(jobs.CreateInput{JobID: "j", Targets: []string{group("g")}, Settings: jobs.Settings{Rollout: &jobs.Rollout{PerMinute: 60},
			Timeout: &jobs.Timeout{Minutes: 3}, Retry: &jobs.Retry{Criteria: []jobs.RetryCriterion{{Failure: "ALL", Times: 2}}}}}))
	}
	fmt.Println("begun")
	rnd := rand.New(rand.NewSource(time.Now().UnixNano()))
	for range 1 << 20 {
		name := fmt.Sprintf("p%03d", rnd.Intn(300))
		if v := h.start(name); v != nil {
			s := []jobs.Status{jobs.Succeeded, jobs.Failed, jobs.InProgress}[rnd.Intn(3)]
			h.end(name, "j", s)
			fmt.Println("told", name, v.Number, s) // it is on the disk
		}
		if rnd.Intn(10) == 0 {
			h.pass(15 * time.Second)
		}
	}
}

func TestKilledInTheMiddleOfARollout(t *testing.T) {
	dir := t.TempDir()
	told := map[string]string{} // what each execution was acknowledged to be
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.v")
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, after := bufio.NewScanner(out), 40+30*round
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			if len(f) == 4 && f[0] == "told" {
				told[f[1]+"#"+f[2]] = f[3]
				if after--; after == 0 {
					_ = cmd.Process.Kill()
				}
			}
		}
		_ = cmd.Wait()
		if after > 0 {
			t.Fatalf("the victim ended by itself after %d reports", len(told))
		}
		h := fleetOf(t, dir, 300)
		h.clk = clockAt(t0)
		h.up()
		consistent(t, h, told)
		h.must(h.db.Close())
	}
	// The rollout goes on to its end.
	h := fleetOf(t, dir, 300)
	h.clk = clockAt(t0.Add(24 * time.Hour))
	h.up()
	defer h.db.Close()
	for range 100 {
		h.pass(time.Minute)
		for i := range 300 {
			if name := fmt.Sprintf("p%03d", i); h.start(name) != nil {
				h.end(name, "j", jobs.Succeeded)
			}
		}
		if h.job("j").Status == jobs.Completed {
			break
		}
	}
	p := h.job("j").Process
	if n := p.Succeeded + p.Failed + p.TimedOut; h.job("j").Status != jobs.Completed || n != 300 {
		t.Errorf("%s: %+v", h.job("j").Status, p)
	}
	consistent(t, h, nil)
}

// consistent compares everything that says the same thing in different places.
func consistent(t *testing.T, h *house, told map[string]string) {
	t.Helper()
	var counts jobs.ProcessDetails
	seen, pending := map[string]bool{}, map[string]string{}
	for p := (jobs.Page{}); ; {
		items, next, err := h.Executions(h.db, "j", "", p)
		h.must(err)
		for _, x := range items {
			name, s := x.ThingARN[len(base+"thing/"):], x.Summary
			if was := told[fmt.Sprintf("%s#%d", name, s.Number)]; was != "" && was != string(s.Status) && was != "IN_PROGRESS" {
				t.Errorf("%s was acknowledged to be %s and is %s", name, was, s.Status)
			}
			if seen[name] {
				if !s.Status.Terminal() {
					t.Errorf("%s has an old execution that is %s", name, s.Status)
				}
				continue
			}
			seen[name] = true
			switch s.Status {
			case jobs.Queued:
				counts.Queued++
			case jobs.InProgress:
				counts.InProgress++
			case jobs.Succeeded:
				counts.Succeeded++
			case jobs.Failed:
				counts.Failed++
			case jobs.TimedOut:
				counts.TimedOut++
			}
			if !s.Status.Terminal() {
				pending[name] = fmt.Sprint(s.Status, s.Number)
			}
		}
		if p.From = next; next == "" {
			break
		}
	}
	v := h.job("j")
	v.Process.Targets = nil
	if fmt.Sprint(v.Process) != fmt.Sprint(counts) {
		t.Errorf("counted %+v, there are %+v", v.Process, counts)
	}
	for i := range 300 {
		name, l := fmt.Sprintf("p%03d", i), jobs.Lists{}
		h.must(h.commit(func(tx jobs.Tx, _ func(jobs.Notice)) (err error) { l, err = h.Pending(tx, name); return err }))
		got := ""
		for _, x := range l.InProgress {
			got += fmt.Sprint(jobs.InProgress, x.Number)
		}
		for _, x := range l.Queued {
			got += fmt.Sprint(jobs.Queued, x.Number)
		}
		if got != pending[name] {
			t.Errorf("%s: pending %q, want %q", name, got, pending[name])
		}
	}
	for key := range told {
		if name, _, _ := strings.Cut(key, "#"); !seen[name] {
			t.Errorf("%s was acknowledged and is gone", key)
		}
	}
}
