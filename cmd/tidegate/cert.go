package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// cert is a certificate in answers.
type cert struct {
	ID       string `json:"certificateId"`
	ARN      string `json:"certificateArn"`
	Status   string `json:"status"`
	Mode     string `json:"certificateMode,omitempty"`
	CA       string `json:"caCertificateId,omitempty"`
	Created  epoch  `json:"creationDate"`
	PEM      string `json:"certificatePem,omitempty"`
	Validity *struct {
		From  epoch `json:"notBefore"`
		Until epoch `json:"notAfter"`
	} `json:"validity,omitempty"`

	Things   []string `json:"things,omitempty"`
	Policies []string `json:"policies,omitempty"`
}

// certCmd keeps the certificates of devices.
func certCmd(w *world) *cobra.Command {
	return group("cert", "the certificates of devices", certLs(w), certShow(w), certCreate(w), certSet(w), certRm(w))
}

func describeCert(ctx context.Context, cl *localclient.Client, id string) (cert, error) {
	out, err := iot[struct {
		Cert cert `json:"certificateDescription"`
	}](ctx, cl, "GET", under("certificates", id), nil, nil)
	return out.Cert, err
}

// attachedTo names the policies of a certificate or group.
func attachedTo(ctx context.Context, cl *localclient.Client, target string) ([]string, error) {
	ps, err := all[policyRef](ctx, cl, "POST", under("attached-policies", target), nil, "policies")
	names := []string{}
	for _, p := range ps {
		names = append(names, p.Name)
	}
	return names, err
}

// oneCert finds the certificate that is meant by an ARN, an id or the beginning of one.
func oneCert(ctx context.Context, cl *localclient.Client, text string) (string, error) {
	text = lastOf(text)
	if len(text) == 64 {
		return text, nil
	}
	if len(text) < 6 {
		return "", misuse(fmt.Errorf("%q is too short to tell certificates apart; give six digits of its id or more", text))
	}
	cs, err := all[cert](ctx, cl, "GET", "/certificates", nil, "certificates")
	if err != nil {
		return "", err
	}
	found := ""
	for _, c := range cs {
		if strings.HasPrefix(c.ID, strings.ToLower(text)) {
			if found != "" {
				return "", fault.New(fault.Conflict, "more than one certificate begins with %s; give more of its id", text)
			}
			found = c.ID
		}
	}
	if found == "" {
		return "", fault.New(fault.NotFound, "no certificate begins with %s", text)
	}
	return found, nil
}

func certLs(w *world) *cobra.Command {
	a := &asking{w: w}
	var status string
	c := a.flags(&cobra.Command{Use: "ls", Short: "list certificates", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cs, err := all[cert](c.Context(), a.client(), "GET", "/certificates", nil, "certificates")
			if err != nil {
				return err
			}
			kept := []cert{}
			for _, x := range cs {
				if status == "" || strings.EqualFold(x.Status, status) {
					kept = append(kept, x)
				}
			}
			return a.print(kept, func() {
				var rows [][]string
				for _, x := range kept {
					rows = append(rows, []string{x.ID, x.Status, x.Created.String()})
				}
				a.table("CERTIFICATE STATUS CREATED", rows)
			})
		}})
	c.Flags().StringVar(&status, "status", "", "only those that are `STATUS`: active, inactive, revoked …")
	return c
}

func certShow(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "show ID", Short: "show a certificate with its things and policies; the beginning of its id will do", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			id, err := oneCert(ctx, cl, args[0])
			if err != nil {
				return err
			}
			x, err := describeCert(ctx, cl, id)
			if err != nil {
				return err
			}
			if x.Policies, err = attachedTo(ctx, cl, x.ARN); err != nil {
				return err
			}
			if x.Things, err = thingsOf(ctx, cl, x.ARN); err != nil {
				return err
			}
			return a.print(x, func() {
				a.facts("id", x.ID, "arn", x.ARN, "status", x.Status, "registered", x.Mode, "created", x.Created.String())
				if x.Validity != nil {
					a.facts("valid", x.Validity.From.String()+" to "+x.Validity.Until.String())
				}
				a.facts("things", orDash(x.Things...), "policies", orDash(x.Policies...))
				fmt.Fprint(w.out, "\n"+x.PEM)
			})
		}})
}

// thingsOf names the things of a certificate.
func thingsOf(ctx context.Context, cl *localclient.Client, arn string) ([]string, error) {
	page, err := func() (out struct{ Things []string }, err error) {
		return out, cl.IoT(ctx, localclient.Request{Method: "GET", Path: "/principals/things", Header: map[string]string{"x-amzn-principal": arn}}, &out)
	}()
	return page.Things, err
}

func certCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var csr, register, out string
	var inactive bool
	var policies, things []string
	c := a.dataFlag(&cobra.Command{Use: "create", Short: "make a certificate, or register one that was made elsewhere", Args: cobra.NoArgs,
		Long: `Make a key and a certificate for it and write device.pem, device.key and ca.pem; or, with
--csr, a certificate for a key that stays where it is; or, with --register, take a
certificate in that somebody else has signed. It prints the certificate's ARN.`,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, ctx := a.client(), c.Context()
			file := csr + register
			q := url.Values{}
			var x cert
			switch {
			case register != "":
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				body := map[string]any{"certificatePem": string(text), "status": "ACTIVE"}
				if inactive {
					body["status"] = "INACTIVE"
				}
				x, err = iot[cert](ctx, cl, "POST", "/certificate/register", nil, body)
				if fault.Is(err, fault.Invalid) { // by a CA that is not registered
					x, err = iot[cert](ctx, cl, "POST", "/certificate/register-no-ca", nil, body)
				}
				if err != nil {
					return err
				}
			case csr != "":
				text, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				q.Set("setAsActive", fmt.Sprint(!inactive))
				if x, err = iot[cert](ctx, cl, "POST", "/certificates", q, map[string]any{"certificateSigningRequest": string(text)}); err != nil {
					return err
				}
			default:
				k, err := newPocket(out)
				if err != nil {
					return err
				}
				request, err := k.request("Tidegate device certificate")
				if err != nil {
					return err
				}
				q.Set("setAsActive", fmt.Sprint(!inactive))
				if x, err = iot[cert](ctx, cl, "POST", "/certificates", q, map[string]any{"certificateSigningRequest": request}); err != nil {
					return err
				}
				if err := k.write(x.PEM, filepath.Join(a.folder(), "pki", "ca.pem")); err != nil {
					return err
				}
			}
			if csr != "" {
				if err := os.WriteFile(filepath.Join(out, "device.pem"), []byte(x.PEM), 0o644); err != nil {
					return err
				}
			}
			if err := tie(ctx, cl, x.ARN, policies, nil, things, nil); err != nil {
				return err
			}
			fmt.Fprintln(w.out, x.ARN)
			return nil
		}})
	c.Flags().StringVar(&csr, "csr", "", "a signing request in a `FILE`; the certificate is written to device.pem")
	c.Flags().StringVar(&register, "register", "", "a certificate in a `FILE`, to be taken in")
	c.Flags().StringVar(&out, "out", ".", "`DIR` for the files")
	c.Flags().BoolVar(&inactive, "inactive", false, "it is not to be used yet")
	c.Flags().StringArrayVar(&policies, "policy", nil, "a `POLICY` to attach; may be repeated")
	c.Flags().StringArrayVar(&things, "thing", nil, "a `THING` to attach it to; may be repeated")
	c.MarkFlagsMutuallyExclusive("csr", "register")
	return c
}

// tie attaches policies and things to a certificate and detaches others.
func tie(ctx context.Context, cl *localclient.Client, arn string, policies, noPolicies, things, noThings []string) error {
	for _, p := range policies {
		if err := order(ctx, cl, "PUT", under("target-policies", p), nil, map[string]any{"target": arn}); err != nil {
			return err
		}
	}
	for _, p := range noPolicies {
		if err := order(ctx, cl, "POST", under("target-policies", p), nil, map[string]any{"target": arn}); err != nil {
			return err
		}
	}
	for _, t := range things {
		if err := attachThing(ctx, cl, "PUT", t, arn); err != nil {
			return err
		}
	}
	for _, t := range noThings {
		if err := attachThing(ctx, cl, "DELETE", t, arn); err != nil {
			return err
		}
	}
	return nil
}

func setCertStatus(ctx context.Context, cl *localclient.Client, id, status string) error {
	return order(ctx, cl, "PUT", under("certificates", id), url.Values{"newStatus": {status}}, nil)
}

func certSet(w *world) *cobra.Command {
	a := &asking{w: w}
	var active, inactive, revoked bool
	var policies, noPolicies, things, noThings []string
	c := a.yesFlag(&cobra.Command{Use: "set ID", Short: "change what a certificate is good for", Args: cobra.ExactArgs(1),
		Long: "Change what a certificate is good for. One that is revoked or inactive loses its\nconnections at once.",
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			id, err := oneCert(ctx, cl, args[0])
			if err != nil {
				return err
			}
			x, err := describeCert(ctx, cl, id)
			if err != nil {
				return err
			}
			status := ""
			switch {
			case active:
				status = "ACTIVE"
			case inactive:
				status = "INACTIVE"
			case revoked:
				status = "REVOKED"
				if err := a.sure("Revoke the certificate %s? Its connections are cut.", id); err != nil {
					return err
				}
			case len(policies)+len(noPolicies)+len(things)+len(noThings) == 0:
				return misuse(fmt.Errorf("set what? give at least one of --active, --inactive, --revoked, --policy, --no-policy, --thing, --no-thing"))
			}
			if err := tie(ctx, cl, x.ARN, policies, noPolicies, things, noThings); err != nil || status == "" {
				return err
			}
			return setCertStatus(ctx, cl, id, status)
		}})
	c.Flags().BoolVar(&active, "active", false, "it may be used")
	c.Flags().BoolVar(&inactive, "inactive", false, "it may not be used for now")
	c.Flags().BoolVar(&revoked, "revoked", false, "it is not to be trusted any more")
	c.Flags().StringArrayVar(&policies, "policy", nil, "a `POLICY` to attach; may be repeated")
	c.Flags().StringArrayVar(&noPolicies, "no-policy", nil, "a `POLICY` to detach; may be repeated")
	c.Flags().StringArrayVar(&things, "thing", nil, "a `THING` to attach it to; may be repeated")
	c.Flags().StringArrayVar(&noThings, "no-thing", nil, "a `THING` to detach it from; may be repeated")
	c.MarkFlagsMutuallyExclusive("active", "inactive", "revoked")
	return c
}

func certRm(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.yesFlag(&cobra.Command{Use: "rm ID", Short: "remove a certificate for good, with all it is attached to", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			id, err := oneCert(ctx, cl, args[0])
			if err != nil {
				return err
			}
			if _, err := describeCert(ctx, cl, id); err != nil {
				return err
			}
			if err := a.sure("Remove the certificate %s? Its connections are cut.", id); err != nil {
				return err
			}
			return removeCert(ctx, cl, id, true)
		}})
}

// removeCert deactivates a certificate and removes it; with untie it is taken off its
// things first, without, one that still has any is left alone and fault.Conflict.
func removeCert(ctx context.Context, cl *localclient.Client, id string, untie bool) error {
	x, err := describeCert(ctx, cl, id)
	if err != nil {
		return err
	}
	things, err := thingsOf(ctx, cl, x.ARN)
	if err != nil {
		return err
	}
	if len(things) > 0 && !untie {
		return fault.New(fault.Conflict, "the certificate %s is attached to %s", id, orDash(things...))
	}
	if x.Status == "ACTIVE" {
		if err := setCertStatus(ctx, cl, id, "INACTIVE"); err != nil {
			return err
		}
	}
	if err := tie(ctx, cl, x.ARN, nil, nil, nil, things); err != nil {
		return err
	}
	return order(ctx, cl, "DELETE", under("certificates", id), url.Values{"forceDelete": {"true"}}, nil)
}
