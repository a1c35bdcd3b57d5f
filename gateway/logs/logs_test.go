package logs_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"tidegate/gateway/logs"
)

func TestTheLevelChangesWhileInUse(t *testing.T) {
	var out bytes.Buffer
	log := logs.New(&out, logs.DefaultConfig())
	client := log.With(logs.Client, "c1").WithGroup("g")
	client.Debug("not shown")
	if err := logs.SetLevel(log, "debug"); err != nil {
		t.Fatal(err)
	}
	client.Debug("shown", logs.Err(errors.New("boom")), logs.Err(nil))
	if got := out.String(); strings.Contains(got, "not shown") || !strings.Contains(got, "msg=shown client=c1 g.err=boom\n") {
		t.Errorf("got %q", got)
	}
	if err := logs.SetLevel(log, "loud"); err == nil {
		t.Error("a level that does not exist is taken")
	}
	if err := logs.SetLevel(logs.Discard(), "debug"); err == nil {
		t.Error("a foreign logger is taken")
	}
}

func TestJSONLines(t *testing.T) {
	var out bytes.Buffer
	logs.New(&out, logs.Config{Level: "warn", Format: "json"}).Warn("w", logs.Bytes, 3)
	if got := out.String(); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"bytes":3`) {
		t.Errorf("got %q", got)
	}
}

func TestValidateNamesEveryWrongKey(t *testing.T) {
	if err := logs.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	err := logs.Config{Level: "info+2", Format: "xml"}.Validate()
	if err == nil || !strings.Contains(err.Error(), "level: ") || !strings.Contains(err.Error(), "format: ") {
		t.Errorf("got %v", err)
	}
}
