package serial

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Info is a serial port that is there.
type Info struct {
	Name   string `json:"name"`             // /dev/ttyUSB0
	ByID   string `json:"by_id,omitempty"`  // /dev/serial/by-id/… : stays the same in any socket; empty when there is none
	Driver string `json:"driver,omitempty"` // the kernel's driver: ftdi_sio, cdc_acm, 8250 …
	// What a USB adapter says of itself; empty for others.
	Vendor       string `json:"vendor,omitempty"`  // four hexadecimal digits
	Product      string `json:"product,omitempty"` // four hexadecimal digits
	Manufacturer string `json:"manufacturer,omitempty"`
	Title        string `json:"title,omitempty"`
	Serial       string `json:"serial,omitempty"`
}

// List gives the serial ports of this machine in order of their names: those with
// hardware behind them, not consoles and ptys.
func List() ([]Info, error) { return ListUnder("/") }

// ListUnder is List for the system whose /sys and /dev lie under root.
func ListUnder(root string) ([]Info, error) {
	class := filepath.Join(root, "sys/class/tty")
	entries, err := os.ReadDir(class)
	if err != nil {
		return nil, err
	}
	ids := byID(root)
	var found []Info
	for _, e := range entries {
		dir := filepath.Join(class, e.Name())
		hw, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if err != nil {
			continue // virtual: console, pty
		}
		if read(dir, "type") == "0" {
			continue // an 8250 port that was reserved and is not there (PORT_UNKNOWN)
		}
		i := Info{Name: "/dev/" + e.Name(), ByID: ids[e.Name()]}
		if driver, err := filepath.EvalSymlinks(filepath.Join(hw, "driver")); err == nil {
			i.Driver = filepath.Base(driver)
		}
		for up := hw; len(up) > len(root) && filepath.Base(up) != "devices"; up = filepath.Dir(up) {
			if v := read(up, "idVendor"); v != "" {
				i.Vendor, i.Product = v, read(up, "idProduct")
				i.Manufacturer, i.Title, i.Serial = read(up, "manufacturer"), read(up, "product"), read(up, "serial")
				break
			}
		}
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// byID maps ttyUSB0 to its stable name, where udev made one.
func byID(root string) map[string]string {
	ids := map[string]string{}
	dir := filepath.Join(root, "dev/serial/by-id")
	entries, _ := os.ReadDir(dir) // no folder: no USB port, or no udev
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			ids[filepath.Base(to)] = "/dev/serial/by-id/" + e.Name()
		}
	}
	return ids
}

func read(dir, file string) string {
	b, _ := os.ReadFile(filepath.Join(dir, file)) // attributes that are missing are empty
	return strings.TrimSpace(string(b))
}
