package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/secret"
)

func TestThePasswordOfASecretKey(t *testing.T) {
	const key = "../../gateway/jobs/bundle/testdata/locked.key"
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		password secret.Text
		typed    string
		says     string // of the error; empty for none
	}{
		"in a file":                {password: secret.Text("file:" + file)},
		"in the environment":       {password: "env:PASS"},
		"typed":                    {typed: "correct horse\n"},
		"typed without a line end": {typed: "correct horse"},
		"wrong":                    {typed: "battery staple\n", says: "locked.key: the password does not open the secret key: give the one it was made with, or name where it is with --password file:PATH or env:NAME"},
		"not given":                {says: "there is no password: name where it is with --password"},
		"on the command line":      {password: "correct horse", says: "file:PATH or env:NAME: what stands on a command line is seen by everybody"},
	} {
		var asked strings.Builder
		w := &world{in: strings.NewReader(c.typed), errOut: &asked, env: func(name string) string {
			return map[string]string{"PASS": "correct horse"}[name]
		}}
		_, err := secretKey(w, key, c.password)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if strings.Contains(asked.String(), "correct") {
			t.Errorf("%s: the password is shown: %q", name, asked.String())
		}
	}
}
