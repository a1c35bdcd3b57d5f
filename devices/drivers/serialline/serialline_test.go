package serialline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/devices"
	"tidegate/devices/devicestest"
	"tidegate/devices/drivers/serialline"
	"tidegate/devices/profile"
	"tidegate/hw/serial"
	"tidegate/hw/serial/ptypair"
)

// tape is a port that plays bytes in pieces of at most step and then is lost.
type tape struct {
	data []byte
	step int
	at   time.Time
}

func (p *tape) Read(ctx context.Context, b []byte) (int, time.Time, error) {
	if len(p.data) == 0 {
		return 0, p.at, io.ErrUnexpectedEOF
	}
	n := copy(b, p.data[:min(p.step, len(p.data))])
	p.data = p.data[n:]
	p.at = p.at.Add(time.Millisecond)
	return n, p.at, ctx.Err()
}
func (p *tape) Write(context.Context, []byte) error { return errors.New("nobody writes to a line") }
func (p *tape) Discard() error                      { return nil }
func (p *tape) Close() error                        { return nil }

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// play gives what a driver makes of text, as "point=value quality", and its counts.
func play(t testing.TB, p *profile.Profile, text string, step int) ([]string, devices.Counts, *serialline.Driver) {
	t.Helper()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	d := serialline.New(&tape{data: []byte(text), step: step, at: start}, p)
	var got []string
	err := d.Stream(t.Context(), func(sample []devices.Reading) {
		for _, r := range sample {
			got = append(got, fmt.Sprintf("%s=%v %v", r.Point, r.Value, r.Quality))
		}
	})
	if !errors.Is(err, devices.ErrGone) {
		t.Errorf("stream: %v, want ErrGone", err)
	}
	return got, d.Counts(), d
}

func nmea(t *testing.T) *profile.Profile {
	p, ok := profile.Builtin("nmea0183")
	if !ok {
		t.Fatal("no profile nmea0183")
	}
	return &p
}

func want(t *testing.T, got, want []string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestSentencesBecomeReadings(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       []string
	}{
		{"position", "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47", []string{
			"latitude=48.1173 good", "longitude=11.51666667 good", "fix=1 good", "satellites=8 good", "hdop=0.9 good", "altitude=545.4 good"}},
		{"no fix is uncertain", "$GPGGA,123519,4807.038,S,01131.000,W,0,00,,,M,,M,,*48", []string{
			"latitude=-48.1173 uncertain", "longitude=-11.51666667 uncertain", "fix=0 uncertain", "satellites=0 uncertain"}},
		{"course", "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A", []string{
			"latitude=48.1173 good", "longitude=11.51666667 good", "speed=22.4 good", "course=84.4 good", "variation=-3.1 good"}},
		{"void", "$GPRMC,123519,V,,,,,,,230394,,*33", nil},
		{"apparent wind in m/s", "$WIMWV,214.8,R,5.0,M,A*37", []string{"wind_angle_apparent=214.8 good", "wind_speed_apparent=9.7192224622 good"}},
		{"true wind in knots", "$WIMWV,010.0,T,12.5,N,A*1C", []string{"wind_angle_true=10 good", "wind_speed_true=12.5 good"}},
		{"a unit that is none", "$WIMWV,010.0,T,12.5,X,A*0A", []string{"wind_angle_true=10 good", "wind_speed_true=null bad"}},
		{"depth", "$SDDBT,0036.4,f,0011.1,M,0006.0,F*28", []string{"depth=11.1 good"}},
		{"heading", "$HEHDT,274.07,T*19", []string{"heading=274.07 good"}},
		{"transducers", "$YXXDR,C,19.52,C,AIRTEMP,P,1.02481,B,Baro meter,H,55,P,,Z,1,Q,odd*26", []string{
			"xdr_AIRTEMP=19.52 good", "xdr_Baro_meter=1.02481 good", "xdr_H3=55 good", "xdr_odd=1 uncertain"}},
		{"barometer in bar", "$WIMMB,30.2269,I,1.0236,B*72", []string{"pressure=1023.6 good"}},
		{"a number that is none", "$HEHDT,27x.07,T*56", []string{"heading=null bad"}},
		{"minutes past 59", "$GPGLL,4899.038,N,01131.000,E,123519,A*2D", []string{"latitude=null bad", "longitude=11.51666667 good"}},
		{"noise before it", "\x00\xff%$GP$HEHDT,274.07,T*19", []string{"heading=274.07 good"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := c.line
			if c.name != "position" { // the first is the standard's own example; the others get their sum here
				line = sum(line)
			}
			got, counts, _ := play(t, nmea(t), line+"\r\n", 7)
			want(t, got, c.want)
			if counts.Good != 1 || counts.Garbled != 0 {
				t.Errorf("counts %+v", counts)
			}
		})
	}
}

// sum puts the right checksum on the last sentence of a line.
func sum(line string) string {
	begin, end := strings.LastIndexByte(line, '$'), strings.LastIndexByte(line, '*')
	var x byte
	for _, c := range []byte(line[begin+1 : end]) {
		x ^= c
	}
	return fmt.Sprintf("%s*%02X", line[:end], x)
}

func TestADamagedSentenceIsCountedAndNeverGood(t *testing.T) {
	for name, line := range map[string]string{
		"a flipped bit":     "$HEHDT,275.07,T*19",
		"no checksum":       "$HEHDT,274.07,T",
		"half a checksum":   "$HEHDT,274.07,T*1",
		"a long checksum":   "$HEHDT,274.07,T*191",
		"no hexadecimal":    "$HEHDT,274.07,T*G9",
		"no beginning":      "HEHDT,274.07,T*19",
		"bytes, not text":   "$HEHDT,274\x01.07,T*18",
		"an endless line":   "$HEHDT," + strings.Repeat("1", 300) + ",T*19",
		"noise":             "\x80\x81\xfe\xff",
		"no address at all": "$*00",
	} {
		got, counts, _ := play(t, nmea(t), line+"\r\n$HEHDT,274.07,T*19\r\n", 1000)
		want(t, got, []string{"heading=274.07 good"}) // the next one is not harmed
		if counts.Garbled != 1 || counts.Good != 1 || counts.Last == "" {
			t.Errorf("%s: %+v", name, counts)
		}
	}
}

func TestSentencesOfNoInterestAreIgnored(t *testing.T) {
	p := &profile.Profile{Protocol: profile.NMEA, Sentences: []string{"HDT"}, Points: []profile.Point{
		{Name: "chain", Sentence: "PXYZA", Field: 2, Unit: "m", Scale: 0.1, Group: "anchor"},
		{Name: "down", Sentence: "PXYZA", Field: 1, Type: "bool"}}}
	got, counts, _ := play(t, p, strings.Join([]string{sum("$HEHDT,274.07,T*"), sum("$PXYZA,1,215*"), sum("$PHDT,9,T*"), sum("$SDDBT,,f,3,M,,F*"),
		sum("$PXYZA,2,*"), ""}, "\n"), 1000)
	want(t, got, []string{"heading=274.07 good", "chain=21.5 good", "down=true good", "down=null bad"})
	if counts.Ignored != 2 || counts.Good != 3 || counts.Garbled != 0 {
		t.Errorf("counts %+v", counts)
	}
}

func TestASecondSourceCountsWhileTheFirstIsSilent(t *testing.T) {
	gga := "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"
	gll := sum("$GPGLL,4807.000,N,01131.000,E,123519,A*") + "\r\n"
	count := func(text string, step int) int {
		got, _, _ := play(t, nmea(t), text, step)
		n := 0
		for _, r := range got {
			if strings.HasPrefix(r, "latitude") {
				n++
			}
		}
		return n
	}
	if got := count(gll+gga+gll, 1000); got != 2 { // before it is heard, and itself
		t.Errorf("%d positions, want 2", got)
	}
	noise := strings.Repeat("x", 200)
	silence := strings.Repeat(noise+"\n", 60) // 12,060 bytes at 1 ms each
	if got := count(gga+silence+gll, 1); got != 2 {
		t.Errorf("%d positions after silence, want 2", got)
	}
}

func TestPointsThatADeviceNamesItselfAreFoundAndBounded(t *testing.T) {
	var text strings.Builder
	for i := range 100 {
		text.WriteString(sum(fmt.Sprintf("$YXXDR,C,%d,C,T%d*", i, i)) + "\r\n")
	}
	text.WriteString(sum("$YXXDR,P,1,B,T0*") + "\r\n") // another unit for a known one
	before := len(nmeaPoints(t))
	got, _, d := play(t, nmea(t), text.String(), 64)
	if found := len(d.Points()) - before; found != 64 || len(got) != 65 {
		t.Errorf("%d points found, %d readings", found, len(got))
	}
	if got[64] != "xdr_T0=null bad" {
		t.Errorf("a unit that changed: %s", got[64])
	}
}

func nmeaPoints(t *testing.T) []devices.Point { return nmea(t).DevicePoints() }

func TestJSONLines(t *testing.T) {
	p := &profile.Profile{Protocol: profile.JSON, MaxLine: 128, Points: []profile.Point{
		{Name: "t", Path: "env.t", Unit: "°C"}, {Name: "raw", Path: "env.raw", Scale: 0.1, Offset: -40}, {Name: "n", Path: "n", Type: "int"},
		{Name: "door", Path: "in[1]", Type: "bool"}, {Name: "who", Path: "who", Type: "string"}}}
	text := strings.Join([]string{
		`{"env":{"t":21.5,"raw":615},"n":9007199254740993,"in":[0,1],"who":"a\tb"}`,
		`I (1234) sensor: {"env":{"t":"21.6"}}`, // a log's prefix, a number as text
		`{"env":{"t":null,"raw":true},"n":1.5,"in":[0,2],"who":7}`,
		`{"other":1}`,                          // ignored
		`{"env":{"t":21.`,                      // torn
		`{"env":{"t":21.5}} {}`,                // two
		`no JSON`,                              //
		`{"env":{"t":NaN}}`,                    //
		`{"env":{"t":1e999}}`,                  // not finite
		`[` + strings.Repeat("1,", 100) + `1]`, // too long
	}, "\r\n") + "\n"
	for _, step := range []int{1, 3, 1000} {
		got, counts, _ := play(t, p, text, step)
		want(t, got, []string{"t=21.5 good", "raw=21.5 good", "n=9007199254740993 good", "door=true good", `who="a\tb" good`,
			"t=21.6 good", "t=null bad", "raw=null bad", "n=null bad", "door=null bad", `who="7" good`, "t=null bad"})
		if counts.Good != 4 || counts.Ignored != 1 || counts.Garbled != 5 {
			t.Errorf("counts %+v", counts)
		}
	}
}

func TestCSVWithALineOfNames(t *testing.T) {
	p := &profile.Profile{Protocol: profile.CSV, Separator: ";", Header: true, Points: []profile.Point{
		{Name: "level", Column: "Level mm", Type: "int"}, {Name: "t", Column: "T"}}}
	got, counts, _ := play(t, p, "12;21,5;x\r\nT;Level mm;what\r\n21,5; 1200;ok\r\n21.6;;\r\n1;2\r\nT;what;Level mm\n3;x;4\n\x01;1;1\nx;y;z\n", 5)
	want(t, got, []string{"level=1200 good", "t=21.5 good", "t=21.6 good", "level=4 good", "t=3 good"})
	if counts.Good != 3 || counts.Ignored != 2 || counts.Garbled != 4 {
		t.Errorf("counts %+v", counts)
	}
}

func TestCSVWithoutNamesLeavesOutTheFirstLineWhoseBeginningMayBeMissing(t *testing.T) {
	p := &profile.Profile{Protocol: profile.CSV, Points: []profile.Point{
		{Name: "a", Column: "1", Scale: 0.1}, {Name: "b", Column: "3", Type: "bool"}, {Name: "s", Column: "2", Type: "string"}}}
	got, counts, _ := play(t, p, "2,x,1\n215,\"x, y\",0\n216,x\n217,,perhaps\n", 1000)
	want(t, got, []string{"a=21.5 good", "b=false good", `s="x, y" good`, "a=21.7 good", "b=null bad"})
	if counts.Good != 2 || counts.Ignored != 1 || counts.Garbled != 1 {
		t.Errorf("counts %+v", counts)
	}
}

func TestLinesInOnePieceAreSamplesOfTheirOwn(t *testing.T) {
	d := serialline.New(&tape{data: []byte("$HEHDT,274.07,T*19\r\n$HEHDT,274.07,T*19\r\n$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"),
		step: 1000, at: start}, nmea(t))
	times := map[time.Time]int{}
	d.Stream(t.Context(), func(sample []devices.Reading) { times[sample[0].At]++ })
	if len(times) != 3 {
		t.Errorf("%d samples, want 3: %v", len(times), times)
	}
}

func TestALineHasOneDevice(t *testing.T) {
	link, err := serialline.Attach(&tape{}, profile.Line{})
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	if _, err := link.Device(3, nmea(t)); err == nil {
		t.Error("a unit number passed")
	}
	if _, err := link.Device(0, nmea(t)); err != nil {
		t.Error(err)
	}
	if _, err := link.Device(0, nmea(t)); err == nil {
		t.Error("a second device passed")
	}
}

func TestConformance(t *testing.T) {
	devicestest.Run(t, func(t *testing.T) devicestest.Rig {
		pair, err := ptypair.Open()
		if err != nil {
			t.Fatal(err)
		}
		port, err := serial.Open(serial.Config{Name: pair.Path, Baud: 4800})
		if err != nil {
			t.Fatal(err)
		}
		link, err := serialline.Attach(port, profile.Line{})
		if err != nil {
			t.Fatal(err)
		}
		d, err := link.Device(0, nmea(t))
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		mute := sync.OnceFunc(func() { close(stop) })
		var talking sync.WaitGroup
		talking.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					pair.SetDeadline(time.Now().Add(50 * time.Millisecond)) // nobody may be listening
					pair.Write([]byte("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"))
				}
			}
		})
		t.Cleanup(func() { mute(); talking.Wait(); link.Close(); pair.Close() })
		return devicestest.Rig{Driver: d, Mute: mute, Unplug: func() { mute(); talking.Wait(); pair.Close() }}
	})
}

func BenchmarkNMEA(b *testing.B) {
	p, _ := profile.Builtin("nmea0183")
	line := "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	d := serialline.New(&tape{data: []byte(strings.Repeat(line, b.N)), step: 1024, at: start}, &p)
	b.ResetTimer()
	d.Stream(b.Context(), func([]devices.Reading) {})
}
