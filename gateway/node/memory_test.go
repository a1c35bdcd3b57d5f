package node

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// resident is how much memory of its own the process holds, in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "RssAnon:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// Memory that a burst of work has taken goes back to the system soon after, and not only after minutes.
func TestMemoryIsGivenBackAfterABurst(t *testing.T) {
	stop, done := make(chan struct{}), make(chan struct{})
	var burst [][]byte
	for range 100 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		burst = append(burst, b)
	}
	full := resident(t)
	if len(burst) != 100 || full < 100<<20 {
		t.Fatalf("%d bytes are held", full)
	}
	burst = nil
	go func() { defer close(done); giveBack(stop) }()
	defer func() { close(stop); <-done }()
	for end := time.Now().Add(60 * time.Second); resident(t) > full-80<<20; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("of %d bytes %d are held", full, resident(t))
		}
	}
}
