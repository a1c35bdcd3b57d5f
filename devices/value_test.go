package devices_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"tidegate/devices"
)

func TestValuesPrintAsTheDecimalThatWasMeasured(t *testing.T) {
	for _, c := range []struct {
		v    devices.Value
		want string
	}{
		{devices.Bool(true), `true`},
		{devices.Int(math.MinInt64), `-9223372036854775808`},
		{devices.Uint(math.MaxUint64), `18446744073709551615`},
		{devices.Uint(7), `7`},
		{devices.Rat(big.NewRat(215, 10)), `21.5`},
		{devices.Rat(big.NewRat(3, 10)), `0.3`}, // 3*0.1 in floats is 0.30000000000000004
		{devices.Rat(big.NewRat(430, 10)), `43`},
		{devices.Float(1e-9), `1e-9`},
		{devices.Float(1e21), `1e+21`},
		{devices.Float(math.Copysign(0, -1)), `0`},
		{devices.Float(math.NaN()), `null`},
		{devices.Float(math.Inf(1)), `null`},
		{devices.Text("a\"b\\\n\x01\xffé"), `"a\"b\\\n\u0001` + "\uFFFD" + `é"`},
		{devices.Value{}, `null`},
	} {
		got, err := json.Marshal(c.v)
		if err != nil || string(got) != c.want {
			t.Errorf("%v as JSON: %s, %v; want %s", c.v, got, err, c.want)
		}
		var back devices.Value
		if err := json.Unmarshal([]byte(c.want), &back); err != nil || !back.Equal(c.v) {
			t.Errorf("%s reads back as %v, %v", c.want, back, err)
		}
	}
}

func TestWholeNumbersKeepAll64Bits(t *testing.T) {
	for _, s := range []string{"9007199254740993", "-9007199254740993", "18446744073709551615"} {
		v, err := devices.ParseNumber(s)
		if err != nil || v.Kind() != devices.Integer || v.String() != s {
			t.Errorf("%s became %v (%v), %v", s, v, v.Kind(), err)
		}
		if _, err := v.As(devices.Number); err == nil {
			t.Errorf("%s became a float without a word", s)
		}
	}
}

func TestConversionLosesNothing(t *testing.T) {
	if v, err := devices.Float(5).As(devices.Integer); err != nil || v != devices.Int(5) {
		t.Errorf("5.0 as a whole number: %v, %v", v, err)
	}
	if v, err := devices.Int(5).As(devices.Number); err != nil || v != devices.Float(5) {
		t.Errorf("5 as a float: %v, %v", v, err)
	}
	for _, c := range []struct {
		v devices.Value
		k devices.Kind
	}{
		{devices.Float(5.5), devices.Integer}, {devices.Float(1e30), devices.Integer}, {devices.Int(1), devices.Boolean},
		{devices.Text("1"), devices.Integer}, {devices.Bool(true), devices.Integer}, {devices.Value{}, devices.Boolean},
	} {
		if w, err := c.v.As(c.k); err == nil {
			t.Errorf("%v became the %v %v", c.v, c.k, w)
		}
	}
}

func TestNumbersOfDevicesAndNothingElse(t *testing.T) {
	for s, want := range map[string]string{"+1": "1", ".5": "0.5", "007": "7", "-0.0": "0", "4807.038": "4807.038", "1e3": "1000"} {
		if v, err := devices.ParseNumber(s); err != nil || v.String() != want {
			t.Errorf("%q: %v, %v; want %s", s, v, err, want)
		}
	}
	for _, s := range []string{"", "nan", "inf", "-Infinity", "0x10", "1_000", "1e999", "12 ", "--1", "1,5"} {
		if v, err := devices.ParseNumber(s); err == nil {
			t.Errorf("%q passed as %v", s, v)
		}
	}
	for _, s := range []string{"007", "{}", "[1]", "tru", `"a`, ""} {
		if v, err := devices.ParseJSON([]byte(s)); err == nil {
			t.Errorf("JSON %q passed as %v", s, v)
		}
	}
}

func TestFitRefusesWhatAPointCannotTake(t *testing.T) {
	lo, hi := devices.Int(5), devices.Float(80.5)
	p := devices.Point{Name: "setpoint", Group: "data", Kind: devices.Number, Writable: true, Min: &lo, Max: &hi}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if v, err := p.Fit(devices.Int(21)); err != nil || v != devices.Float(21) {
		t.Errorf("21: %v, %v", v, err)
	}
	for _, v := range []devices.Value{devices.Int(4), devices.Float(80.6), devices.Text("21"), devices.Bool(true), {}} {
		if _, err := p.Fit(v); !errors.Is(err, devices.ErrValue) {
			t.Errorf("%v: %v, want ErrValue", v, err)
		}
	}
	p.Writable = false
	if _, err := p.Fit(devices.Int(21)); !errors.Is(err, devices.ErrPoint) {
		t.Errorf("read only: %v, want ErrPoint", err)
	}
}

func TestCheckNamesEverythingThatIsWrong(t *testing.T) {
	safe := devices.Text("off")
	p := devices.Point{Name: "a b", Group: "", Unit: "\x01", Kind: devices.Boolean, Deadband: math.NaN(), Safe: &safe}
	err := p.Check()
	for _, part := range []string{"name:", "group:", "unit:", "deadband:", "safe:"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not complained about: %v", part, err)
		}
	}
}
