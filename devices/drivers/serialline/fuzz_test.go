package serialline_test

import (
	"reflect"
	"strings"
	"testing"

	"tidegate/devices"
	"tidegate/devices/drivers/serialline"
	"tidegate/devices/profile"
)

// stream plays data against p and checks what must hold whatever came: only points of
// the device, of their kind, and the same readings in whatever pieces it came.
func stream(t *testing.T, p *profile.Profile, data string) {
	whole, counts, d := play(t, p, data, 1000)
	pieces, again, _ := play(t, p, data, 3)
	if !reflect.DeepEqual(whole, pieces) || counts.Good != again.Good || counts.Garbled != again.Garbled {
		t.Errorf("in one piece %v %+v\nin many %v %+v", whole, counts, pieces, again)
	}
	points := map[string]devices.Kind{}
	for _, x := range d.Points() {
		if err := x.Check(); err != nil {
			t.Errorf("point %q: %v", x.Name, err)
		}
		points[x.Name] = x.Kind
	}
	for _, r := range whole {
		name, _, _ := strings.Cut(r, "=")
		if _, ok := points[name]; !ok {
			t.Errorf("%s is no point", name)
		}
	}
	if uint64(len(data)) < counts.Good+counts.Garbled+counts.Ignored {
		t.Errorf("%d bytes gave %+v", len(data), counts)
	}
}

func FuzzNMEA(f *testing.F) {
	for _, s := range []string{"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n", "$YXXDR,C,19.52,C,AIRTEMP,P,1.02481,B,B*2E\r\n",
		"$*00\r\n", "!AIVDM,1,1,,A,14eG;o@034o8sd<L9i:a;WF>062D,0*7D\r\n", "\\s:x*00\\$HEHDT,274.07,T*19\r\n", strings.Repeat("$", 300) + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		p, _ := profile.Builtin("nmea0183")
		stream(t, &p, data)
		stream(t, &p, sumAll(data)) // past the checksum, or little would be reached
	})
}

// sumAll makes sentences with a right checksum of all lines.
func sumAll(data string) string {
	var b strings.Builder
	for line := range strings.Lines(data) {
		body := strings.Trim(line, "$!*\r\n")
		b.WriteString(sum("$"+strings.NewReplacer("$", "", "!", "", "*", "").Replace(body)+"*") + "\n")
	}
	return b.String()
}

func FuzzParseSentence(f *testing.F) {
	f.Add([]byte("$HEHDT,274.07,T*19"))
	f.Fuzz(func(t *testing.T, line []byte) {
		fields, err := serialline.ParseSentence(line)
		if err != nil {
			return
		}
		back := sum("$" + strings.Join(fields, ",") + "*")
		if again, err := serialline.ParseSentence([]byte(back)); err != nil || !reflect.DeepEqual(again, fields) {
			t.Errorf("%q: %q, %v", line, again, err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"env":{"t":21.5},"in":[0,1]}` + "\n" + `x {"env":{"t":1e400}}` + "\n")
	f.Fuzz(func(t *testing.T, data string) {
		stream(t, &profile.Profile{Protocol: profile.JSON, Points: []profile.Point{
			{Name: "t", Path: "env.t", Scale: 0.1, Offset: 3}, {Name: "d", Path: "in[1]", Type: "bool"}, {Name: "s", Path: "[0]", Type: "string"}}}, data)
	})
}

func FuzzCSV(f *testing.F) {
	f.Add("a;b\n1;2\n\"x;1\n;;\n", true)
	f.Add("1;2;3\n1,5;x;\n", false)
	f.Fuzz(func(t *testing.T, data string, header bool) {
		p := &profile.Profile{Protocol: profile.CSV, Separator: ";", Header: header, Points: []profile.Point{
			{Name: "x", Column: "1", Scale: 0.1}, {Name: "y", Column: "2", Type: "int"}}}
		if header {
			p.Points[1].Column = "b"
		}
		stream(t, p, data)
	})
}
