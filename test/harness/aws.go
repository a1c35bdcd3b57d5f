package harness

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
)

// Environment is what `tidegate env` exports for this gateway, as KEY=VALUE.
func (g *Gateway) Environment() (env []string) {
	g.tb.Helper()
	out, errw, code := g.CLI("env")
	if code != 0 {
		g.tb.Fatalf("harness: tidegate env: exit %d: %s", code, errw)
	}
	for line := range strings.Lines(out) {
		if pair, ok := strings.CutPrefix(strings.TrimSpace(line), "export "); ok {
			name, value, _ := strings.Cut(pair, "=")
			env = append(env, name+"="+strings.ReplaceAll(strings.Trim(value, "'"), `'\''`, "'"))
		}
	}
	return env
}

// AWS runs the unmodified aws command against this gateway, Debian's where it is
// installed; env comes on top of what `tidegate env` exports.
func (g *Gateway) AWS(env []string, args ...string) (stdout, stderr string, code int) {
	g.tb.Helper()
	const debians = "/usr/bin/aws"
	name := "aws"
	if _, err := os.Stat(debians); err == nil {
		name = debians
	}
	var o, e bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env = append(append(append(os.Environ(), "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_MAX_ATTEMPTS=1"), g.Environment()...), env...)
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		g.tb.Fatalf("harness: aws (make deps installs it): %v", err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}
