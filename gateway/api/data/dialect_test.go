package data

import (
	"testing"

	"tidegate/gateway/fault"
)

func TestEveryCodeHasAName(t *testing.T) {
	for _, c := range fault.Codes() {
		if p := dialect(fault.New(c, "text")); p.Name == "" || p.Status < 400 || p.Message != "text" {
			t.Errorf("%v: %+v", c, p)
		}
	}
}
