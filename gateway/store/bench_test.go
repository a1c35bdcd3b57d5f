package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/gateway/clock"
	"tidegate/gateway/store"
)

// submitters commits b.N units of one block each from n goroutines with one in flight, and reports the latency.
func submitters(b *testing.B, cfg store.Config, n int, rec store.Rec) {
	s, err := store.Open(cfg, clock.System())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	s.SetKeeper(passing{})
	s.Start()
	lat := make([][]time.Duration, n)
	var wg sync.WaitGroup
	var before, after syscall.Rusage
	b.ReportAllocs()
	b.ResetTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for g := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			done := make(chan error, 1)
			u := s.NewUnit()
			u.Done = func(_ []uint64, err error) { done <- err }
			for i := g; i < b.N; i += n {
				began := time.Now()
				u.Reset()
				u.Append(rec)
				if err := s.Submit(u); err != nil {
					b.Error(err)
					return
				}
				if err := <-done; err != nil {
					b.Error(err)
					return
				}
				lat[g] = append(lat[g], time.Since(began))
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	all := slices.Concat(lat...)
	slices.Sort(all)
	b.ReportMetric(float64(b.N)*float64(rec.Count)/b.Elapsed().Seconds(), "rec/s")
	b.ReportMetric(float64(b.N)*float64(rec.Count)/cpu.Seconds(), "rec/core-s")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(b.N)/float64(s.Stats().Commits), "units/commit")
}

// passing is a keeper for whom every record was delivered before the applier came.
type passing struct{}

func (passing) Ride(bool, func(string, []byte))                                  {}
func (passing) Restless() bool                                                   { return false }
func (passing) Settle(next uint64, _ func(string, []byte)) uint64                { return next }
func (passing) Trim([]store.Segment, int64, func(string, []byte)) (below uint64) { return 0 }

// keeping is a keeper for whom nothing is delivered.
type keeping struct{ passing }

func (keeping) Settle(uint64, func(string, []byte)) uint64 { return 0 }

func BenchmarkSubmit(b *testing.B) {
	single := store.Rec{Count: 1, Data: make([]byte, 300)}
	for _, n := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("submitters=%d", n), func(b *testing.B) { submitters(b, store.DefaultConfig(b.TempDir()), n, single) })
	}
	for _, n := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("sync=5ms/submitters=%d", n), func(b *testing.B) {
			cfg := store.DefaultConfig(b.TempDir())
			cfg.SyncDelay.Delay = 5 * time.Millisecond
			submitters(b, cfg, n, single)
		})
	}
	block := store.Rec{Count: 64, Data: make([]byte, 64*270)}
	b.Run("blocks-of-64/submitters=16", func(b *testing.B) { submitters(b, store.DefaultConfig(b.TempDir()), 16, block) })
}

// BenchmarkRawSync is what the disk itself takes: a write of one page and an fdatasync.
func BenchmarkRawSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	for i := range 1024 {
		f.WriteAt(page, int64(i)*4096)
	}
	f.Sync()
	var lat []time.Duration
	b.ResetTimer()
	for i := range b.N {
		began := time.Now()
		f.WriteAt(page, int64(i%1024)*4096)
		syscall.Fdatasync(int(f.Fd()))
		lat = append(lat, time.Since(began))
	}
	slices.Sort(lat)
	b.ReportMetric(float64(lat[len(lat)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(lat[len(lat)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkQueued fills the store with a million records that nobody has read, opens it again and reads them.
func BenchmarkQueued(b *testing.B) {
	for range b.N {
		const blocks, count = 1_000_000 / 50, 50
		dir := b.TempDir()
		cfg := store.DefaultConfig(dir)
		fill := func() time.Duration {
			s, err := store.Open(cfg, clock.System())
			if err != nil {
				b.Fatal(err)
			}
			s.SetKeeper(keeping{})
			s.Start()
			began := time.Now()
			for range blocks {
				u := s.NewUnit()
				u.Append(store.Rec{Count: count, Data: make([]byte, count*270)})
				if err := s.Submit(u); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Drain(); err != nil {
				b.Fatal(err)
			}
			d := time.Since(began)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			return d
		}()
		began := time.Now()
		s, err := store.Open(cfg, clock.System())
		if err != nil {
			b.Fatal(err)
		}
		opened := time.Since(began)
		s.Start()
		began = time.Now()
		r, n := s.Records(1), uint64(0)
		for {
			_, rec, ok, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			n += uint64(rec.Count)
		}
		read := time.Since(began)
		s.Close()
		if n != blocks*count {
			b.Fatalf("read %d records", n)
		}
		b.ReportMetric(1e6/fill.Seconds(), "fill-rec/s")
		b.ReportMetric(float64(opened.Milliseconds()), "open-ms")
		b.ReportMetric(1e6/read.Seconds(), "read-rec/s")
	}
}
