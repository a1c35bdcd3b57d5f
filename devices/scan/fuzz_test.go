package scan_test

import (
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/scan"
)

// Whatever comes over the wire is told as something, and nothing is made up.
func FuzzWhatIsHeard(f *testing.F) {
	for _, s := range []string{"$GPGGA,1*4B\r\n", "$*00\r\n", "{\"a\":1}\n", "1,2\r\n3,4\r\n", "\x00\xff\r", "\n", "!AIVDM,1*zz\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		if said == "" {
			return // nobody speaks: that takes the whole time
		}
		o := scan.Options{Bauds: []int{9600}, Listen: 10 * time.Second}
		found, err := scan.Probe(t.Context(), func(int, string) (devices.Port, error) { return line(said), nil }, o, nil)
		if err != nil || len(found) != 1 {
			t.Fatalf("%+v, %v", found, err)
		}
		switch got := found[0]; got.Protocol {
		case "nmea", "json", "csv", "text", "bytes":
		default:
			t.Errorf("%+v", got)
		}
	})
}
