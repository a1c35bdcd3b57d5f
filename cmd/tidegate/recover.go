package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/gateway/identity"
	"tidegate/gateway/localapi/localclient"
	"tidegate/gateway/node"
)

// recoverCmd brings a gateway back whose TPM was lost, exchanged or cleared. It works on
// the data folder of a gateway that does not run.
func recoverCmd(w *world) *cobra.Command {
	a := &asking{w: w}
	var f node.Flags
	var authority, newCode bool
	c := a.yesFlag(&cobra.Command{Use: "recover", Short: "open the store with the recovery code, after the TPM was lost or cleared", Args: cobra.NoArgs,
		Long: `Open the store of a gateway that cannot start any more, because its TPM was exchanged,
cleared or taken out, or because the machine is not in the state its secrets were sealed
to. The recovery code, which the first start has shown, is read from standard input; from
then on the machine's present TPM opens the store.

A key that never left the lost TPM is gone. With the local authority's, the gateway goes
on serving its clients but issues no certificate, and its own ends within months.
--new-authority makes another at the next start; clients then need the new ca.pem. Their
certificates stay good.

--new-code makes another recovery code, while the TPM still opens the store: when the old
one was lost, or seen by somebody who should not have it.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := localclient.New(a.folder()).Status(c.Context()); err == nil {
				return fmt.Errorf("a gateway is running on %s; stop it first", a.folder())
			}
			f.Data = a.folder()
			cfg, err := node.LoadConfig(f, w.env)
			if err != nil {
				return misuse(err)
			}
			if authority {
				if err := a.sure("Make another local authority? Clients will not trust this gateway until they have its new ca.pem."); err != nil {
					return err
				}
				if err := identity.NewAuthority(cfg.PKI()); err != nil {
					return err
				}
				fmt.Fprintln(w.errOut, "tidegate: the next start makes another authority; give its pki/ca.pem to the clients")
				return nil
			}
			if !identity.HasStorageKey(cfg.PKI()) {
				return fmt.Errorf("the store in %s is not encrypted, there is nothing to recover", cfg.Data)
			}
			if newCode {
				if err := a.sure("Make another recovery code? The one there is opens nothing any more."); err != nil {
					return err
				}
				text, err := identity.NewRecoveryCode(node.VaultDevice(cfg), cfg.PKI(), cfg.Identity.PCRs)
				if err == nil {
					fmt.Fprintln(w.errOut, "tidegate: this recovery code is shown this once, keep it elsewhere; the old one is void")
					fmt.Fprintln(w.out, text)
				}
				return err
			}
			fmt.Fprint(w.errOut, "recovery code: ")
			code, _ := bufio.NewReader(w.in).ReadString('\n')
			if strings.TrimSpace(code) == "" {
				return misuse(fmt.Errorf("no recovery code on standard input"))
			}
			if err := identity.Recover(node.VaultDevice(cfg), cfg.PKI(), cfg.Identity.PCRs, code); err != nil {
				return err
			}
			fmt.Fprintln(w.errOut, "tidegate: the store can be opened again")
			return nil
		}})
	c.Flags().StringVar(&f.Config, "config", "", "configuration `FILE` (default "+node.DefaultFile+" if it is there)")
	c.Flags().BoolVar(&authority, "new-authority", false, "make another local authority, as the key of the present one is lost")
	c.Flags().BoolVar(&newCode, "new-code", false, "make another recovery code and print it; the old one is void")
	c.MarkFlagsMutuallyExclusive("new-authority", "new-code")
	return c
}
