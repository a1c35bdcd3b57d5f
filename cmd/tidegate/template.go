package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"tidegate/gateway/localapi/localclient"
)

// template is one in answers.
type template struct {
	Name        string `json:"templateName"`
	ARN         string `json:"templateArn"`
	Description string `json:"description,omitempty"`
	Enabled     bool   `json:"enabled"`
	Type        string `json:"type"`
	Modified    epoch  `json:"lastModifiedDate"`
	Default     int    `json:"defaultVersionId,omitempty"`
	Body        string `json:"templateBody,omitempty"`
	Hook        *hook  `json:"preProvisioningHook,omitempty"`

	Versions []templateVersion `json:"versions,omitempty"`
}

type hook struct {
	Target string `json:"targetArn"`
}

type templateVersion struct {
	ID      int   `json:"versionId"`
	Default bool  `json:"isDefaultVersion"`
	Created epoch `json:"creationDate"`
}

func (t *template) state() string {
	if t.Enabled {
		return "enabled"
	}
	return "disabled"
}

// templateCmd keeps the templates by which devices provision themselves.
func templateCmd(w *world) *cobra.Command {
	return group("template", "how devices provision themselves", templateLs(w), templateShow(w), templateCreate(w), templateSet(w), templateClaim(w), templateRm(w))
}

func templateLs(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "ls", Short: "list templates", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ts, err := all[template](c.Context(), a.client(), "GET", "/provisioning-templates", nil, "templates")
			if err != nil {
				return err
			}
			return a.print(ts, func() {
				var rows [][]string
				for _, t := range ts {
					rows = append(rows, []string{t.Name, t.Type, t.state(), orDash(t.Description)})
				}
				a.table("TEMPLATE TYPE STATE DESCRIPTION", rows)
			})
		}})
}

func getTemplate(ctx context.Context, cl *localclient.Client, name string) (template, error) {
	t, err := iot[template](ctx, cl, "GET", under("provisioning-templates", name), nil, nil)
	if err == nil {
		t.Versions, err = all[templateVersion](ctx, cl, "GET", under("provisioning-templates", name, "versions"), nil, "versions")
	}
	return t, err
}

func templateShow(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "show NAME", Short: "show a template and its versions", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := getTemplate(c.Context(), a.client(), args[0])
			if err != nil {
				return err
			}
			return a.print(t, func() {
				target := ""
				if t.Hook != nil {
					target = t.Hook.Target
				}
				a.facts("name", t.Name, "arn", t.ARN, "type", t.Type, "state", t.state(), "description", orDash(t.Description), "hook", orDash(target), "modified", t.Modified.String())
				for _, v := range t.Versions {
					word := strconv.Itoa(v.ID) + ", made " + v.Created.String()
					if v.Default {
						word += ", in force"
					}
					a.facts("version", word)
				}
				fmt.Fprintf(w.out, "\n%s\n", t.Body)
			})
		}})
}

// localRole stands where AWS wants the role that provisions; here the gateway does.
const localRole = "arn:aws:iam::000000000000:role/tidegate"

func templateCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var description, hookARN, kind string
	var disabled bool
	c := a.dataFlag(&cobra.Command{Use: "create NAME FILE", Short: "make a template of a body in a file, - for standard input", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := w.document(args[1])
			if err != nil {
				return err
			}
			body := map[string]any{"templateName": args[0], "templateBody": text, "enabled": !disabled, "provisioningRoleArn": localRole, "description": description, "type": kind}
			if hookARN != "" {
				body["preProvisioningHook"] = hook{hookARN}
			}
			t, err := iot[template](c.Context(), a.client(), "POST", "/provisioning-templates", nil, body)
			if err == nil {
				fmt.Fprintln(w.out, t.ARN)
			}
			return err
		}})
	c.Flags().StringVar(&description, "description", "", "what it is for, in `WORDS`")
	c.Flags().StringVar(&hookARN, "hook", "", "`ARN` of the function that is asked before a device is provisioned")
	c.Flags().StringVar(&kind, "type", "FLEET_PROVISIONING", "`TYPE`: FLEET_PROVISIONING, or JITP for devices with certificates of a registered CA")
	c.Flags().BoolVar(&disabled, "disabled", false, "nobody is to use it yet")
	return c
}

func templateSet(w *world) *cobra.Command {
	a := &asking{w: w}
	var description, hookARN string
	var enabled, disabled, noHook bool
	var version int
	c := a.dataFlag(&cobra.Command{Use: "set NAME [FILE]", Short: "change a template; a body in a file becomes the version in force", Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			body := map[string]any{}
			if enabled || disabled {
				body["enabled"] = enabled
			}
			if version > 0 {
				body["defaultVersionId"] = version
			}
			if c.Flags().Changed("description") {
				body["description"] = description
			}
			if hookARN != "" {
				body["preProvisioningHook"] = hook{hookARN}
			}
			if noHook {
				body["removePreProvisioningHook"] = true
			}
			if len(body) == 0 && len(args) == 1 {
				return misuse(fmt.Errorf("set what? give a FILE or at least one of --enabled, --disabled, --version, --description, --hook, --no-hook"))
			}
			if len(args) == 2 {
				text, err := w.document(args[1])
				if err != nil {
					return err
				}
				if err := order(ctx, cl, "POST", under("provisioning-templates", args[0], "versions"), url.Values{"setAsDefault": {"true"}}, map[string]any{"templateBody": text}); err != nil {
					return err
				}
			}
			if len(body) == 0 {
				return nil
			}
			return order(ctx, cl, "PATCH", under("provisioning-templates", args[0]), nil, body)
		}})
	c.Flags().StringVar(&description, "description", "", "what it is for, in `WORDS`")
	c.Flags().StringVar(&hookARN, "hook", "", "`ARN` of the function that is asked before a device is provisioned")
	c.Flags().BoolVar(&noHook, "no-hook", false, "nobody is asked")
	c.Flags().BoolVar(&enabled, "enabled", false, "devices may use it")
	c.Flags().BoolVar(&disabled, "disabled", false, "devices may not use it")
	c.Flags().IntVar(&version, "version", 0, "the `VERSION` that is to be in force")
	c.MarkFlagsMutuallyExclusive("enabled", "disabled")
	c.MarkFlagsMutuallyExclusive("hook", "no-hook")
	return c
}

func templateClaim(w *world) *cobra.Command {
	a := &asking{w: w}
	var out string
	c := a.dataFlag(&cobra.Command{Use: "claim NAME", Short: "make a key and certificate that are good for provisioning once, for a few minutes", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			key := filepath.Join(out, "claim.key")
			if exists(key) {
				return fmt.Errorf("%s is there already and is not written over; choose another folder with --out", key)
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			claim, err := iot[struct {
				ID      string `json:"certificateId"`
				PEM     string `json:"certificatePem"`
				KeyPair struct{ PrivateKey string }
				Until   epoch `json:"expiration"`
			}](c.Context(), a.client(), "POST", under("provisioning-templates", args[0], "provisioning-claim"), nil, nil)
			if err != nil {
				return err
			}
			authority, err := os.ReadFile(filepath.Join(a.folder(), "pki", "ca.pem"))
			if err != nil {
				return err
			}
			for _, f := range []struct {
				name, text string
				mode       os.FileMode
			}{{"claim.key", claim.KeyPair.PrivateKey, 0o600}, {"claim.pem", claim.PEM, 0o644}, {"ca.pem", string(authority), 0o644}} {
				if err := os.WriteFile(filepath.Join(out, f.name), []byte(f.text), f.mode); err != nil {
					return err
				}
			}
			fmt.Fprintf(w.errOut, "tidegate: claim.pem, claim.key and ca.pem in %s are good until %s\n", out, claim.Until)
			return nil
		}})
	c.Flags().StringVar(&out, "out", ".", "`DIR` for the files")
	return c
}

func templateRm(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.yesFlag(&cobra.Command{Use: "rm NAME", Short: "remove a template with all its versions", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			t, err := getTemplate(ctx, cl, args[0])
			if err != nil {
				return err
			}
			if err := a.sure("Remove the template %s? No device can provision itself by it any more.", t.Name); err != nil {
				return err
			}
			for _, v := range t.Versions {
				if !v.Default {
					if err := order(ctx, cl, "DELETE", under("provisioning-templates", t.Name, "versions", strconv.Itoa(v.ID)), nil, nil); err != nil {
						return err
					}
				}
			}
			return order(ctx, cl, "DELETE", under("provisioning-templates", t.Name), nil, nil)
		}})
}
