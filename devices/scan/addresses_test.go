package scan_test

import (
	"errors"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"tidegate/devices/scan"
	"tidegate/hw/i2c"
	"tidegate/hw/i2c/i2csim"
)

func TestWhoIsOnABusIsFound(t *testing.T) {
	sim := i2csim.New()
	for _, a := range []uint16{0x23, 0x45, 0x68, 0x77} {
		sim.Plug(a, i2csim.Registers(1))
	}
	b := i2c.On("sim", sim)
	found, err := scan.Addresses(t.Context(), b, map[uint16]string{0x68: "rtc-ds1307"})
	want := []scan.Address{{Address: "0x23"}, {Address: "0x45", Profiles: []string{"sht31"}}, {Address: "0x68", Driver: "rtc-ds1307"},
		{Address: "0x77", Profiles: []string{"bme280", "bmp180", "bmp280"}}}
	if err != nil || !reflect.DeepEqual(found, want) {
		t.Errorf("got  %+v, %v\nwant %+v", found, err, want)
	}
	if asked := sim.Calls(); asked != 0x77-0x08 {
		t.Errorf("%d addresses were asked, want all but the one that the kernel has", asked)
	}
	sim.Break(unix.ETIMEDOUT)
	if found, err := scan.Addresses(t.Context(), b, nil); !errors.Is(err, i2c.ErrStuck) || found != nil {
		t.Errorf("stuck: %v, %v", found, err)
	}
}
