package main

import (
	"fmt"
	"os"
	"syscall"
)

// stage is what a testing.T is to a test: harness and rigs are started on it and end with it.
type stage struct {
	dir      string
	cleanups []func()
	failed   bool
}

// failure is the panic that ends a case.
type failure struct{ text string }

// Error is what went wrong.
func (f failure) Error() string { return f.text }

func newStage(dir string) *stage { return &stage{dir: dir} }

// Helper does nothing here.
func (s *stage) Helper() {}

// Fatalf ends the case.
func (s *stage) Fatalf(format string, args ...any) {
	s.failed = true
	panic(failure{fmt.Sprintf(format, args...)})
}

// Errorf marks the case as failed.
func (s *stage) Errorf(format string, args ...any) {
	s.failed = true
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// Logf prints.
func (s *stage) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// Failed tells whether Fatalf or Errorf was called.
func (s *stage) Failed() bool { return s.failed }

// Cleanup calls f at the end, the last one first.
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// TempDir is a new folder that goes at the end.
func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp(s.dir, "tidegate-bench-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *stage) end() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
}

// inMemory tells whether a folder is on tmpfs, where a sync costs nothing.
func inMemory(dir string) bool {
	var fs syscall.Statfs_t
	const tmpfs = 0x01021994 // TMPFS_MAGIC
	return syscall.Statfs(dir, &fs) == nil && fs.Type == tmpfs
}
