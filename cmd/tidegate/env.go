package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// envCmd prints what a shell needs so that the tools of AWS find the gateway. Only
// what this gateway has is printed.
func envCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.dataFlag(&cobra.Command{Use: "env", Short: "print export lines for the shell: eval \"$(tidegate env)\"", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := filepath.Abs(a.folder())
			if err != nil {
				return err
			}
			b, err := os.ReadFile(filepath.Join(dir, "run", "listeners.json"))
			var ports map[string]string
			if err != nil || json.Unmarshal(b, &ports) != nil {
				return fault.New(fault.Unavailable, "no gateway is running on the data folder %s; start one with `tidegate run`, or name its folder with --data", dir)
			}
			status, err := localclient.New(dir).Status(c.Context())
			if err != nil {
				return err
			}
			say := func(name, value string) {
				fmt.Fprintf(w.out, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
			}
			say("TIDEGATE_DATA", dir)
			if key, secret, ok := credentials(filepath.Join(dir, "operator", "credentials")); ok {
				say("AWS_ACCESS_KEY_ID", key)
				say("AWS_SECRET_ACCESS_KEY", secret)
				say("AWS_DEFAULT_REGION", status.Region)
			}
			if ca := filepath.Join(dir, "pki", "ca.pem"); exists(ca) {
				say("AWS_CA_BUNDLE", ca)
			}
			if _, port, err := net.SplitHostPort(ports["https"]); err == nil {
				say("AWS_ENDPOINT_URL", "https://localhost:"+port)
				if aws := filepath.Join(dir, "run", "aws"); exists(aws) { // for commands that do not know AWS_ENDPOINT_URL
					say("AWS_DATA_PATH", aws)
				}
				say("TIDEGATE_URL", "https://localhost:"+port)
			}
			return nil
		}})
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// credentials reads a key from a file in the format of AWS's shared credentials.
func credentials(file string) (key, secret string, ok bool) {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			key = strings.TrimSpace(value)
		case "aws_secret_access_key":
			secret = strings.TrimSpace(value)
		}
	}
	return key, secret, key != "" && secret != ""
}
