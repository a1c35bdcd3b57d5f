package serial_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"tidegate/hw/serial"
)

func TestPortsAreListedWithWhatTheyAre(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(path, to string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	// A USB adapter, as Linux 6 shows it.
	usb := "sys/devices/pci0/usb1/1-2"
	file(usb+"/idVendor", "0403")
	file(usb+"/idProduct", "6001")
	file(usb+"/manufacturer", "FTDI")
	file(usb+"/product", "FT232R USB UART")
	file(usb+"/serial", "A50285BI")
	file(usb+"/1-2:1.0/ttyUSB0/dev", "188:0")
	link(usb+"/1-2:1.0/ttyUSB0/driver", filepath.Join(root, "sys/bus/usb-serial/drivers/ftdi_sio"))
	file("sys/bus/usb-serial/drivers/ftdi_sio/bind", "")
	link("sys/class/tty/ttyUSB0/device", filepath.Join(root, usb+"/1-2:1.0/ttyUSB0"))
	link("dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0", "../../ttyUSB0")
	// A UART of the board, one that is only reserved, and a console.
	file("sys/devices/platform/serial8250/x", "")
	file("sys/class/tty/ttyS0/type", "4")
	link("sys/class/tty/ttyS0/device", filepath.Join(root, "sys/devices/platform/serial8250"))
	file("sys/class/tty/ttyS1/type", "0")
	link("sys/class/tty/ttyS1/device", filepath.Join(root, "sys/devices/platform/serial8250"))
	file("sys/class/tty/tty1/dev", "4:1")

	got, err := serial.ListUnder(root)
	want := []serial.Info{
		{Name: "/dev/ttyS0"},
		{Name: "/dev/ttyUSB0", ByID: "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0", Driver: "ftdi_sio",
			Vendor: "0403", Product: "6001", Manufacturer: "FTDI", Title: "FT232R USB UART", Serial: "A50285BI"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := serial.List(); err != nil {
		t.Errorf("this machine's: %v", err)
	}
}
