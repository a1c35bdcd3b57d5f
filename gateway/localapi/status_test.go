package localapi

import (
	"testing"

	"tidegate/gateway/fault"
)

func TestEveryCodeHasAStatus(t *testing.T) {
	for _, c := range fault.Codes() {
		if statuses[c] < 400 {
			t.Errorf("%v has the status %d", c, statuses[c])
		}
	}
}
