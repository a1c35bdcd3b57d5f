package secret_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/gateway/secret"
)

func TestRevealFindsTheSecretWhereItIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(file, []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(name string) string { return map[string]string{"PW": "from env"}[name] }
	for in, want := range map[string]string{"plain": "plain", "": "", "env:PW": "from env", "file:" + file: "from file", "http://x": "http://x"} {
		if got, err := secret.Text(in).Reveal(env); err != nil || got != want {
			t.Errorf("%q reveals %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{"env:NONE": "NONE", "file:/nowhere/pw": "/nowhere/pw"} {
		if _, err := secret.Text(in).Reveal(env); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want an error that names %s", in, err, want)
		}
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	v := struct{ Password secret.Text }{"hunter2"}
	j, _ := json.Marshal(v)
	for _, s := range []string{fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), string(j)} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("printed: %s", s)
		}
	}
	if got := secret.Text("file:/etc/pw").String(); got != "file:/etc/pw" {
		t.Errorf("where it is: %q", got)
	}
}
