package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// operatorCmd keeps the people who may administer the gateway.
func operatorCmd(w *world) *cobra.Command {
	ls, show, set, rm, revoke := &asking{w: w}, &asking{w: w}, &asking{w: w}, &asking{w: w}, &asking{w: w}
	var role string
	setCmd := set.dataFlag(&cobra.Command{Use: "set NAME", Short: "give an operator another role", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return set.client().SetOperator(c.Context(), args[0], role)
		}})
	setCmd.Flags().StringVar(&role, "role", "", "`ROLE`: admin, operator or viewer")
	setCmd.MarkFlagRequired("role") //nolint:errcheck // it is there
	return group("operator", "the people who may administer the gateway",
		ls.flags(&cobra.Command{Use: "ls", Short: "list operators", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				os, err := ls.client().Operators(c.Context())
				if err != nil {
					return err
				}
				return ls.print(os, func() {
					var rows [][]string
					for _, o := range os {
						var keys []string
						for _, k := range o.Keys {
							keys = append(keys, k.ID)
						}
						rows = append(rows, []string{o.Name, o.Role, ago(time.Now(), o.Created), orDash(keys...)})
					}
					ls.table("OPERATOR ROLE AGE KEYS", rows)
				})
			}}),
		show.flags(&cobra.Command{Use: "show NAME", Short: "show an operator with the access keys, without their secrets", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				os, err := show.client().Operators(c.Context())
				if err != nil {
					return err
				}
				for _, o := range os {
					if o.Name == args[0] {
						return show.print(o, func() {
							show.facts("name", o.Name, "role", o.Role, "created", o.Created.Local().Format("2006-01-02 15:04:05"))
							for _, k := range o.Keys {
								show.facts("key", k.ID+", made "+k.Created.Local().Format("2006-01-02 15:04:05"))
							}
						})
					}
				}
				return fault.New(fault.NotFound, "operator %s does not exist", args[0])
			}}),
		operatorCreate(w), setCmd, operatorRotate(w),
		revoke.yesFlag(&cobra.Command{Use: "revoke NAME KEY", Short: "take an access key away, at once", Args: cobra.ExactArgs(2),
			RunE: func(c *cobra.Command, args []string) error {
				if err := revoke.sure("Revoke the key %s of %s?", args[1], args[0]); err != nil {
					return err
				}
				return revoke.client().RevokeOperatorKey(c.Context(), args[0], args[1])
			}}),
		rm.yesFlag(&cobra.Command{Use: "rm NAME", Short: "remove an operator with all access keys", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				if err := rm.sure("Remove the operator %s?", args[0]); err != nil {
					return err
				}
				return rm.client().RemoveOperator(c.Context(), args[0])
			}}))
}

func operatorCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var role, out string
	c := a.dataFlag(&cobra.Command{Use: "create NAME", Short: "add an operator and print the access key, this once", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.client().CreateOperator(c.Context(), localclient.NewOperator{Name: args[0], Role: role})
			if err != nil {
				return err
			}
			return a.handOut(k, out)
		}})
	c.Flags().StringVar(&role, "role", "operator", "`ROLE`: admin, operator (everything but who is trusted) or viewer")
	c.Flags().StringVar(&out, "out", "", "write the key to a `FILE` of mode 0600 instead")
	return c
}

func operatorRotate(w *world) *cobra.Command {
	a := &asking{w: w}
	var out string
	var now bool
	c := a.dataFlag(&cobra.Command{Use: "rotate NAME", Short: "give an operator a new access key", Args: cobra.ExactArgs(1),
		Long: `Give an operator a new access key and print it, this once. The present key stays good
until it is revoked, so that both can be in use for a while; with --now it is not.

When DATA/operator/credentials holds a key of this operator, the new one is written there.`,
		RunE: func(c *cobra.Command, args []string) error {
			k, err := a.client().RotateOperator(c.Context(), args[0], now)
			if err != nil {
				return err
			}
			if k.File != "" && out == "" {
				fmt.Fprintf(w.errOut, "tidegate: the new key %s is in %s\n", k.ID, k.File)
				return nil
			}
			return a.handOut(k, out)
		}})
	c.Flags().BoolVar(&now, "now", false, "the keys there were are of no use from now on")
	c.Flags().StringVar(&out, "out", "", "write the key to a `FILE` of mode 0600 instead")
	return c
}

// handOut shows a key, or writes it to a file, as the tools of AWS read it.
func (a *asking) handOut(k localclient.Key, file string) error {
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", k.ID, k.Secret)
	if file == "" {
		fmt.Fprint(a.w.out, text)
		return nil
	}
	return os.WriteFile(file, []byte(text), 0o600)
}
