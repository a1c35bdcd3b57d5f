package board_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/hw/board"
)

func detect(t *testing.T, files map[string]string) board.Board {
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return board.DetectUnder(root)
}

func TestBoardsAreKnownByTheirModel(t *testing.T) {
	for _, c := range []struct {
		files            map[string]string
		model, port, res string
	}{
		{map[string]string{"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\x00"}, "Raspberry Pi 5 Model B Rev 1.0", "serial0", "/dev/ttyAMA0"},
		{map[string]string{"proc/device-tree/model": "Raspberry Pi 3 Model B Plus Rev 1.3\x00"}, "Raspberry Pi 3 Model B Plus Rev 1.3", "serial0", "/dev/ttyS0"},
		{map[string]string{"proc/device-tree/model": "Raspberry Pi 3 Model B\x00", "dev/serial0": ""}, "Raspberry Pi 3 Model B", "serial0", "/dev/serial0"},
		{map[string]string{"sys/class/dmi/id/product_name": "NUC8i5\n"}, "NUC8i5", "/dev/ttyUSB0", "/dev/ttyUSB0"},
		{nil, "", "/dev/ttyS4", "/dev/ttyS4"},
	} {
		b := detect(t, c.files)
		if b.Model != c.model {
			t.Errorf("model %q, want %q", b.Model, c.model)
		}
		if node, err := b.Resolve(c.port); err != nil || node != c.res {
			t.Errorf("%s of %s is %q, %v; want %q", c.port, c.model, node, err, c.res)
		}
	}
}

func TestAPortTheBoardDoesNotHaveSaysWhichItHas(t *testing.T) {
	b := detect(t, map[string]string{"proc/device-tree/model": "Raspberry Pi 5 Model B\x00"})
	if _, err := b.Resolve("serial7"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "only serial0, debug") {
		t.Errorf("serial7: %v", err)
	}
	if _, err := detect(t, nil).Resolve("sim:plc"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/dev/ttyUSB0") {
		t.Errorf("sim:plc: %v", err)
	}
	board.Detect() // of this machine: whatever it is
}
