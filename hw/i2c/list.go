package i2c

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Info is a bus that is there.
type Info struct {
	Name    string            `json:"name"`              // /dev/i2c-1
	Adapter string            `json:"adapter"`           // as the kernel calls it: bcm2835 (i2c@7e804000)
	Claimed map[uint16]string `json:"claimed,omitempty"` // by a driver of the kernel: nobody else should speak to these
}

// List gives the buses that have a device node, in order of their numbers.
func List() ([]Info, error) { return ListUnder("/") }

// ListUnder is List for the system whose /sys lies under root.
func ListUnder(root string) ([]Info, error) {
	class := filepath.Join(root, "sys/class/i2c-dev")
	entries, err := os.ReadDir(class)
	if os.IsNotExist(err) {
		return nil, nil // no bus, or the module i2c-dev is not loaded
	} else if err != nil {
		return nil, err
	}
	var found []Info
	for _, e := range entries {
		n, err := number(e.Name())
		if err != nil {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(class, e.Name(), "name")) // an adapter without one has none
		found = append(found, Info{Name: fmt.Sprintf("/dev/i2c-%d", n), Adapter: strings.TrimSpace(string(name)), Claimed: claimed(root, n)})
	}
	slices.SortFunc(found, func(a, b Info) int {
		x, _ := number(filepath.Base(a.Name))
		y, _ := number(filepath.Base(b.Name))
		return cmp.Compare(x, y)
	})
	return found, nil
}

func number(name string) (int, error) { return strconv.Atoi(strings.TrimPrefix(name, "i2c-")) }

// claimed gives the addresses of bus n that a driver of the kernel has, as in 1-0068.
func claimed(root string, n int) map[uint16]string {
	by := map[uint16]string{}
	dir := filepath.Join(root, "sys/bus/i2c/devices")
	entries, _ := os.ReadDir(dir) // none: nothing is claimed
	for _, e := range entries {
		bus, address, ok := strings.Cut(e.Name(), "-")
		a, err := strconv.ParseUint(address, 16, 16)
		if !ok || err != nil || bus != strconv.Itoa(n) {
			continue
		}
		if driver, err := os.Readlink(filepath.Join(dir, e.Name(), "driver")); err == nil {
			by[uint16(a)] = filepath.Base(driver)
		}
	}
	return by
}
