package commitlog

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzReplay gives a file of the ring any content: replaying never panics, gives out only frames whose checksums are
// right, in ascending order, and the log can be appended to afterwards.
func FuzzReplay(f *testing.F) {
	good := header(1, 1, 64<<10)
	frame := append(make([]byte, FrameHeader), "hello"...)
	putFrame(frame, 1, 1)
	f.Add(append(bytes.Clone(good), frame...), uint64(0))
	f.Add(good, uint64(3))
	f.Add([]byte("junk"), uint64(0))
	f.Fuzz(func(t *testing.T, content []byte, from uint64) {
		dir := t.TempDir()
		cfg := Config{Dir: dir, Files: 3, FileSize: 64 << 10}
		for _, name := range []string{"log.00", "log.01", "log.02"} {
			b := make([]byte, cfg.FileSize)
			if name == "log.01" {
				copy(b, content)
			}
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		last := from
		rep, err := l.Replay(from, func(index uint64, payload []byte) error {
			if index <= last || len(payload) == 0 {
				t.Fatalf("entry %d of %d bytes after %d", index, len(payload), last)
			}
			last = index
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Last < 1<<63 {
			if err := l.Append(max(rep.Last, from)+1, append(make([]byte, FrameHeader), 'x')); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzFrame takes any bytes for a frame: only what putFrame made is accepted.
func FuzzFrame(f *testing.F) {
	frame := append(make([]byte, FrameHeader), "hello"...)
	putFrame(frame, 7, 9)
	f.Add(frame, uint64(7))
	f.Fuzz(func(t *testing.T, b []byte, number uint64) {
		index, payload, ok := parseFrame(b, number)
		if !ok {
			return
		}
		again := append(make([]byte, FrameHeader), payload...)
		putFrame(again, number, index)
		if !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("frame %x parses but is made differently: %x", b[:len(again)], again)
		}
	})
}
