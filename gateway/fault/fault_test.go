package fault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tidegate/gateway/fault"
)

func TestCodeIsFoundThroughWrapping(t *testing.T) {
	err := fmt.Errorf("open: %w", fault.Wrap(fault.Full, errors.New("statfs: 3 KB left"), "the disk is full"))
	if got, want := fault.Of(err), fault.Full; got != want {
		t.Errorf("code %v, want %v", got, want)
	}
	if !fault.Is(err, fault.Full) || fault.Is(err, fault.Invalid) || fault.Is(nil, fault.Internal) {
		t.Error("Is answers wrongly")
	}
	if got := fault.Message(err); got != "the disk is full" {
		t.Errorf("shown: %q", got)
	}
	if !strings.Contains(err.Error(), "3 KB left") {
		t.Errorf("the log loses the cause: %q", err)
	}
}

func TestForeignErrorsAreInternalAndSayNothing(t *testing.T) {
	err := errors.New("password=hunter2")
	if fault.Of(err) != fault.Internal || fault.Message(err) != "internal failure" || fault.Is(err, fault.Internal) {
		t.Errorf("foreign error: %v, %q", fault.Of(err), fault.Message(err))
	}
}

func TestEveryCodeHasAName(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range fault.Codes() {
		if s := c.String(); s == "" || seen[s] {
			t.Errorf("code %d is called %q", c, s)
		} else {
			seen[s] = true
		}
	}
}
