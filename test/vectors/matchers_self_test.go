package vectors_test

import (
	"fmt"
	"testing"
	"time"
)

func TestMatchers(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		what, want, got string
		top, exact      bool // whether they match as a payload, and exactly
	}{
		{"numbers by value", `10`, `10.0`, true, true},
		{"numbers exactly", `0.1`, `0.10000000000000000001`, false, false},
		{"a number is no string", `1`, `"1"`, false, false},
		{"null is not absent", `{"a":null}`, `{}`, false, false},
		{"keys beyond, at the top", `{"a":1}`, `{"a":1,"b":2}`, true, false},
		{"keys beyond, below", `{"a":{"b":1}}`, `{"a":{"b":1,"c":2}}`, false, false},
		{"arrays in order", `[1,2]`, `[2,1]`, false, false},
		{"epochSeconds", `{"$match":"epochSeconds"}`, fmt.Sprint(now.Unix()), true, true},
		{"epochSeconds in milliseconds", `{"$match":"epochSeconds"}`, fmt.Sprint(now.UnixMilli()), false, false},
		{"epochMillis", `{"$match":"epochMillis"}`, fmt.Sprint(now.UnixMilli() - 90_000), true, true},
		{"epochMillis long ago", `{"$match":"epochMillis"}`, fmt.Sprint(now.UnixMilli() - 130_000), false, false},
		{"gt", `{"$match":"gt","value":3}`, `3.01`, true, true},
		{"gt equal", `{"$match":"gt","value":3}`, `3`, false, false},
		{"range", `{"$match":"range","min":0,"max":1}`, `1`, true, true},
		{"range outside", `{"$match":"range","min":0,"max":1}`, `1.1`, false, false},
		{"approx", `{"$match":"approx","value":3.141592653589793}`, `3.1415926535897936`, true, true},
		{"approx too far", `{"$match":"approx","value":3.141592653589793}`, `3.1415926536`, false, false},
		{"approx at zero", `{"$match":"approx","value":0}`, `1e-13`, true, true},
		{"regex is whole", `{"$match":"regex","value":"a|b"}`, `"ab"`, false, false},
		{"regex", `{"$match":"regex","value":"[a-z]+"}`, `"ab"`, true, true},
		{"prefix", `{"$match":"prefix","value":"ab"}`, `"abc"`, true, true},
		{"set", `{"$match":"set","value":[1,2,2]}`, `[2,1,2]`, true, true},
		{"set of others", `{"$match":"set","value":[1,2,2]}`, `[1,1,2]`, false, false},
		{"subset", `{"a":{"$match":"subset","value":{"b":1},"absent":["d"]}}`, `{"a":{"b":1,"c":2}}`, true, true},
		{"subset with an absent key", `{"$match":"subset","value":{"b":1},"absent":["c"]}`, `{"b":1,"c":2}`, false, false},
		{"any", `{"a":{"$match":"any"}}`, `{"a":null}`, true, true},
		{"any of nothing", `{"a":{"$match":"any"}}`, `{}`, false, false},
		{"epochSeconds of a clock moved too far", `{"$match":"epochSeconds"}`, fmt.Sprint(now.Unix() + 130), false, false},
	} {
		if got := matchTop([]byte(c.want), []byte(c.got), at(now)) == nil; got != c.top {
			t.Errorf("%s: as a payload got %v, want %v", c.what, got, c.top)
		}
		if got := matchExact([]byte(c.want), []byte(c.got)) == nil; got != c.exact {
			t.Errorf("%s: exactly got %v, want %v", c.what, got, c.exact)
		}
	}
	moved := span{now, now.Add(time.Hour)} // by a sequence
	for s, want := range map[int64]bool{-130: false, 0: true, 1800: true, 3700: true, 3730: false} {
		if got := matchTop([]byte(`{"$match":"epochSeconds"}`), fmt.Append(nil, now.Unix()+s), moved) == nil; got != want {
			t.Errorf("%d s after the begin of a sequence that moved its clock: got %v, want %v", s, got, want)
		}
	}
}
