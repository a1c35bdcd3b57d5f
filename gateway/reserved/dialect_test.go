package reserved

import (
	"errors"
	"testing"

	"tidegate/gateway/fault"
)

func TestEveryCodeHasAStatus(t *testing.T) {
	for _, c := range fault.Codes() {
		if n := status(fault.New(c, "x")); n < 400 || n > 599 {
			t.Errorf("%v: %d", c, n)
		}
		if provisionCodes[c] == "" {
			t.Errorf("%v: no name in provisioning", c)
		}
	}
	if err := errors.New("secret"); status(err) != 500 || shown(err) != "Internal service failure" {
		t.Error("a foreign error is shown")
	}
}
