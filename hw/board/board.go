// Package board says which board this is and which device node is which of its ports.
//
// A configuration may call a port by what is printed on the board (serial0) instead of
// by what a kernel happens to call it. What is known of boards is a table; on a board
// that is not in it nodes are called by their own names.
//
//	b := board.Detect()
//	node, err := b.Resolve("serial0") // /dev/ttyAMA0 on a Raspberry Pi 5
//
// Package simboard has the board that is not there.
package board

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Board is a board.
type Board struct {
	Model string // as it calls itself: "Raspberry Pi 4 Model B Rev 1.4"; empty when it says nothing
	Ports []Port // serial ports on its pins, in order of preference

	root string
}

// Port is a serial port on the pins of a board.
type Port struct {
	Name  string // serial0
	Node  string // /dev/ttyAMA0
	Title string // where it is
}

// models says what is on the pins, by the beginning of the model; the first that fits.
// Sources: the UART page of the Raspberry Pi documentation ("primary UART" is on GPIO 14
// and 15), the pin headers of the makers' manuals.
var models = []struct {
	prefix string
	ports  []Port
}{
	{"Raspberry Pi 5", []Port{{"serial0", "/dev/ttyAMA0", "header pins 8 and 10"}, {"debug", "/dev/ttyAMA10", "debug connector"}}},
	{"Raspberry Pi Compute Module 5", []Port{{"serial0", "/dev/ttyAMA0", "GPIO 14 and 15"}, {"debug", "/dev/ttyAMA10", "debug connector"}}},
	// With Bluetooth on, the full UART is its, and the pins have the mini UART. udev's link, where
	// it is there, knows better: see Resolve.
	{"Raspberry Pi", []Port{{"serial0", "/dev/ttyS0", "header pins 8 and 10"}}},
	{"BeagleBone", []Port{{"serial0", "/dev/ttyS1", "header P9 pins 24 and 26 (UART1)"}, {"serial1", "/dev/ttyS4", "header P9 pins 11 and 13 (UART4)"}}},
	{"Radxa ROCK", []Port{{"serial0", "/dev/ttyS2", "header pins 8 and 10"}}},
}

// Detect finds out which board this is.
func Detect() Board { return DetectUnder("/") }

// DetectUnder is Detect for the system whose files lie under root.
func DetectUnder(root string) Board {
	b := Board{root: root}
	for _, file := range []string{"proc/device-tree/model", "sys/class/dmi/id/product_name"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if model := strings.TrimSpace(strings.TrimRight(string(text), "\x00\n")); err == nil && model != "" {
			b.Model = model
			break
		}
	}
	for _, m := range models {
		if strings.HasPrefix(b.Model, m.prefix) {
			b.Ports = m.ports
			break
		}
	}
	return b
}

// Resolve gives the device node of a port: a name the board knows, or a node, which is
// taken as it is. The error is fs.ErrNotExist for a name that is neither.
func (b Board) Resolve(port string) (node string, err error) {
	if strings.HasPrefix(port, "/") {
		return port, nil
	}
	if link := "/dev/" + port; strings.HasPrefix(port, "serial") {
		if _, err := os.Stat(filepath.Join(b.root, link)); err == nil {
			return link, nil
		}
	}
	var names []string
	for _, p := range b.Ports {
		if p.Name == port {
			return p.Node, nil
		}
		names = append(names, p.Name)
	}
	what := "this board"
	if b.Model != "" {
		what = b.Model
	}
	if len(names) == 0 {
		return "", fmt.Errorf("%s has no port called %q: give a device node like /dev/ttyUSB0: %w", what, port, fs.ErrNotExist)
	}
	return "", fmt.Errorf("%s has no port called %q, only %s: %w", what, port, strings.Join(names, ", "), fs.ErrNotExist)
}
