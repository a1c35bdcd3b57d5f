package harness

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Node runs a script with Node.js and the packages of test/harness/node, which make deps has put into bin/node, to its end.
// It gives what the script said on both outputs; a script that is not over in time is ended.
func Node(tb TB, limit time.Duration, script string, args ...string) (said string, err error) {
	tb.Helper()
	modules := filepath.Join(Root(tb), "bin", "node", "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "aws-iot-device-sdk-v2")); err != nil {
		tb.Fatalf("harness: the IoT Device SDK for JavaScript is not there (make deps installs it): %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "node", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	return out.String(), err
}
