package store_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/store"
)

// The victim of kill -9 is this test binary again: producers that commit a record and two keys a unit and print what was
// acknowledged.

const victimDir = "TIDEGATE_STORE_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		victim(dir)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const producers = 6

func victimConfig(dir string) store.Config {
	cfg := small(dir)
	cfg.Key = []byte("0123456789abcdef")
	cfg.MemTable, cfg.ValueFile, cfg.SegmentBytes, cfg.TrailBytes = 1<<20, 1<<20, 64<<10, 64<<10 // so that tables, files and segments turn over
	cfg.ApplyBytes, cfg.ApplyEvery = 64<<10, 20*time.Millisecond
	return cfg
}

// window is a keeper that keeps the newest records only, so that segments are dropped all the time.
type window struct{ passing }

func (window) Settle(next uint64, put func(string, []byte)) uint64 {
	floor := uint64(1)
	if next > 400 {
		floor = next - 400
	}
	put("floor", binary.BigEndian.AppendUint64(nil, floor))
	return floor
}

func (window) Trim(segs []store.Segment, _ int64, _ func(string, []byte)) uint64 {
	if n := len(segs); n > 0 && segs[n-1].Last > 1000 {
		return segs[n-1].Last - 1000
	}
	return 0
}

func victim(dir string) {
	s, err := store.Open(victimConfig(dir), clock.System())
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	s.SetKeeper(window{})
	s.Start()
	var mu sync.Mutex
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, "ready")
	out.Flush()
	s.OnBatch(func() { mu.Lock(); out.Flush(); mu.Unlock() })
	var wg sync.WaitGroup
	for p := range producers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			v, err := s.Get(fmt.Sprintf("last/%d", p))
			n := uint64(0)
			if err == nil && v != nil {
				n = binary.BigEndian.Uint64(v)
			}
			for {
				n++
				n := n // Done runs when the producer is long further
				val := binary.BigEndian.AppendUint64(nil, n)
				err := s.Do(func(u *store.Unit) error {
					u.Append(store.Rec{Count: 1, Data: append(fmt.Appendf(nil, "%d %d ", p, n), make([]byte, rand.IntN(3000))...)})
					u.Put(fmt.Sprintf("last/%d", p), val)
					u.Put(fmt.Sprintf("twin/%d", p), val)
					u.Note(fmt.Sprintf("last/%d", p), val)
					return nil
				}, func(first []uint64, err error) {
					if err == nil {
						mu.Lock()
						fmt.Fprintf(out, "%d %d %d\n", p, n, first[0])
						mu.Unlock()
					}
				})
				if err != nil {
					return
				}
			}
		}()
	}
	wg.Wait()
}

func TestKillNineLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	acked := map[string]uint64{} // "producer n" → number
	last := [producers]uint64{}
	notes := uint64(0)
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run", "^$")
		cmd.Env = append(os.Environ(), victimDir+"="+dir)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(pipe)
		if line, err := in.ReadString('\n'); line != "ready\n" {
			t.Fatalf("round %d: victim says %q, %v", round, line, err)
		}
		kill := time.AfterFunc(time.Duration(rand.IntN(250))*time.Millisecond, func() { cmd.Process.Kill() })
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				break
			}
			var p int
			var n, number uint64
			if c, _ := fmt.Sscanf(line, "%d %d %d\n", &p, &n, &number); c == 3 {
				acked[fmt.Sprint(p, " ", n)] = number
				last[p] = max(last[p], n)
			}
		}
		io.Copy(io.Discard, pipe)
		cmd.Wait()
		kill.Stop()

		s, err := store.Open(victimConfig(dir), clock.System())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if ds := s.Damages(); len(ds) > 0 {
			t.Errorf("round %d: damages %v", round, ds)
		}
		for p := range producers {
			a, b := get(t, s, fmt.Sprintf("last/%d", p)), get(t, s, fmt.Sprintf("twin/%d", p))
			if a != b {
				t.Errorf("round %d: producer %d: two keys of a unit disagree: %x, %x", round, p, a, b)
			}
			if n := uint64(0); last[p] > 0 {
				if len(a) == 8 {
					n = binary.BigEndian.Uint64([]byte(a))
				}
				if n < last[p] {
					t.Errorf("round %d: producer %d: state %d, acknowledged %d", round, p, n, last[p])
				}
			}
		}
		for p := range producers { // the trail tells every value, one behind the other
			told, v := uint64(0), get(t, s, fmt.Sprintf("last/%d", p))
			if err := s.Notes(fmt.Sprintf("last/%d", p), func(note []byte) bool {
				n := binary.BigEndian.Uint64(note)
				if told == 0 && string(note) != v || told > 0 && n != told-1 {
					t.Errorf("round %d: producer %d: the trail has %d behind %d, the state is %x", round, p, n, told, v)
				}
				told = n
				return true
			}); err != nil {
				t.Fatal(err)
			}
			notes += told
		}
		// What must be there: everything from the floor that the applier wrote, or from the log.
		floor := uint64(1)
		if v, _ := s.Get("floor"); v != nil {
			floor = binary.BigEndian.Uint64(v)
		}
		seen := map[string]uint64{}
		r, next := s.Records(floor), floor
		for {
			first, rec, ok, err := r.Next()
			if err != nil {
				t.Fatalf("round %d: above the floor %d: %v", round, floor, err)
			}
			if !ok {
				break
			}
			if first != next && next != floor {
				t.Fatalf("round %d: record %d behind %d", round, first, next-1)
			}
			next = first + uint64(rec.Count)
			f := strings.Fields(string(rec.Data[:min(40, len(rec.Data))]))
			seen[f[0]+" "+f[1]] = first
		}
		if next != s.Next() {
			t.Errorf("round %d: records end at %d, next is %d", round, next, s.Next())
		}
		for k, number := range acked {
			if number >= floor && seen[k] != number {
				t.Errorf("round %d: acknowledged %q has number %d, want %d", round, k, seen[k], number)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d acknowledged", rounds, len(acked))
	if notes == 0 {
		t.Error("the trail has nothing")
	}
	if len(acked) < 100*rounds/2 {
		t.Errorf("only %d acknowledged: the victim does not get to work", len(acked))
	}
}
