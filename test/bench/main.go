// Command bench measures the gateway beside its peers: Debian's mosquitto, nats-server with MQTT and JetStream, and bare
// mochi. Usage:
//
//	go run ./test/bench [-case REGEXP] [-peers LIST] [-rounds N] [-time D] [-dir DIR] [-out DIR] [-list]
//
// The load generator keeps to the first core of the machine and the broker under test to the second, each broker in turn in
// the same round, so that all have the same neighbours; what counts is mostly work per second of the broker's own CPU time,
// which is stable where the clock on the wall is not. Figures are medians over the rounds. The gateway is asked for more than
// its peers: where a case says "on disk", its subscribers keep persistent sessions, so that no PUBACK may leave before the
// message is synced; the peers run as they are fastest, in memory.
//
// Raw figures go to bench-out/ as JSON, with what machine they are from.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Settings are the flags.
type Settings struct {
	Case   string
	Peers  []string
	Rounds int
	Time   time.Duration
	Dir    string // where the brokers keep their data
	Out    string
}

const pinned = "TIDEGATE_BENCH_PINNED"

func main() {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3:])
		return
	}
	var s Settings
	var peers string
	list := flag.Bool("list", false, "list the cases and end")
	flag.StringVar(&s.Case, "case", "", "only cases whose name matches this `REGEXP`")
	flag.StringVar(&peers, "peers", strings.Join(peerNames, ","), "brokers to measure")
	flag.IntVar(&s.Rounds, "rounds", 3, "rounds; the median counts")
	flag.DurationVar(&s.Time, "time", 2*time.Second, "how long each measurement lasts")
	flag.StringVar(&s.Dir, "dir", os.TempDir(), "where the brokers keep their data: a real disk, or the syncs mean nothing")
	flag.StringVar(&s.Out, "out", "bench-out", "folder for the raw figures")
	flag.Parse()
	s.Peers = strings.Split(peers, ",")
	match, err := regexp.Compile(s.Case)
	if err != nil || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench:", errorOr(err, "takes no arguments, only flags"))
		os.Exit(2)
	}
	var run []Case
	for _, c := range slices.Concat(cases, shadowCases) {
		if match.MatchString(c.Name) {
			run = append(run, c)
		}
	}
	if *list {
		for _, c := range run {
			fmt.Printf("%-22s %s (%s)\n", c.Name, c.Title, c.Unit)
		}
		return
	}
	pin()
	measureAll(s, run)
}

func errorOr(err error, text string) string {
	if err != nil {
		return err.Error()
	}
	return text
}

// pin runs this program again on the first core alone, which also makes Go use one thread at a time.
func pin() {
	if os.Getenv(pinned) != "" {
		return
	}
	self, err := os.Executable()
	taskset, err2 := exec.LookPath("taskset")
	if err != nil || err2 != nil || runtime.NumCPU() < 2 {
		fmt.Fprintln(os.Stderr, "bench: not pinned to cores of their own (two cores and taskset are needed): figures will be noisy")
		return
	}
	err = syscall.Exec(taskset, append([]string{"taskset", "-c", "0", self}, os.Args[1:]...), append(os.Environ(), pinned+"=1"))
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

// onItsCore is the prefix that puts a broker on the second core.
func onItsCore() []string {
	if os.Getenv(pinned) == "" {
		return nil
	}
	return []string{"taskset", "-c", "1"}
}

// measureAll runs every case on every peer, round by round.
func measureAll(s Settings, run []Case) {
	results := newResults(s)
	for _, c := range run {
		for round := range s.Rounds {
			for _, name := range s.Peers {
				if name != product && (c.Alone || slices.Contains(c.Not, name)) {
					continue
				}
				figures, err := measure(s, c, name)
				if err != nil {
					fmt.Fprintf(os.Stderr, "bench: %s, %s, round %d: %v\n", c.Name, name, round+1, err)
				}
				results.add(c, name, figures, err)
			}
		}
		results.print(os.Stdout, c)
	}
	if file, err := results.save(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	} else {
		fmt.Println("raw figures:", file)
	}
}

// measure runs one case on one fresh broker.
func measure(s Settings, c Case, name string) (figures Figures, err error) {
	st := newStage(s.Dir)
	defer st.end()
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = failed
		}
	}()
	figures = c.Run(&Bench{stage: st, Settings: s, Case: c, Name: name})
	return figures, nil
}
