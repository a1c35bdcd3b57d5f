package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tidegate/gateway/fault"
	"tidegate/gateway/localapi/localclient"
)

// authorizer is one in answers.
type authorizer struct {
	Name     string            `json:"authorizerName"`
	ARN      string            `json:"authorizerArn"`
	Function string            `json:"authorizerFunctionArn"`
	TokenKey string            `json:"tokenKeyName,omitempty"`
	Keys     map[string]string `json:"tokenSigningPublicKeys,omitempty"`
	Status   string            `json:"status"`
	Unsigned bool              `json:"signingDisabled"`
	Default  bool              `json:"default"`
}

// authorizerCmd keeps the custom authorizers.
func authorizerCmd(w *world) *cobra.Command {
	return group("authorizer", "who lets clients in by tokens and passwords", authorizerLs(w), authorizerShow(w), authorizerCreate(w), authorizerSet(w), authorizerTest(w), authorizerRm(w))
}

func getAuthorizer(ctx context.Context, cl *localclient.Client, path string) (authorizer, error) {
	out, err := iot[struct {
		It authorizer `json:"authorizerDescription"`
	}](ctx, cl, "GET", path, nil, nil)
	return out.It, err
}

// defaultAuthorizer names the one that is asked when a client names none, "" for nobody.
func defaultAuthorizer(ctx context.Context, cl *localclient.Client) (string, error) {
	x, err := getAuthorizer(ctx, cl, "/default-authorizer")
	if fault.Is(err, fault.NotFound) {
		return "", nil
	}
	return x.Name, err
}

func authorizerLs(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "ls", Short: "list authorizers", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, ctx := a.client(), c.Context()
			names, err := all[authorizer](ctx, cl, "GET", "/authorizers", nil, "authorizers")
			if err != nil {
				return err
			}
			first, err := defaultAuthorizer(ctx, cl)
			if err != nil {
				return err
			}
			xs := []authorizer{}
			for _, n := range names {
				x, err := getAuthorizer(ctx, cl, under("authorizer", n.Name))
				if err != nil {
					return err
				}
				x.Default = x.Name == first
				xs = append(xs, x)
			}
			return a.print(xs, func() {
				var rows [][]string
				for _, x := range xs {
					rows = append(rows, []string{x.Name, x.Status, yesNo(x.Default), x.Function})
				}
				a.table("AUTHORIZER STATUS DEFAULT FUNCTION", rows)
			})
		}})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func authorizerShow(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.flags(&cobra.Command{Use: "show NAME", Short: "show an authorizer", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			x, err := getAuthorizer(ctx, cl, under("authorizer", args[0]))
			if err != nil {
				return err
			}
			first, err := defaultAuthorizer(ctx, cl)
			if err != nil {
				return err
			}
			x.Default = x.Name == first
			return a.print(x, func() {
				a.facts("name", x.Name, "arn", x.ARN, "status", x.Status, "default", yesNo(x.Default), "function", x.Function, "token name", orDash(x.TokenKey), "signed", yesNo(!x.Unsigned))
				for name := range x.Keys {
					a.facts("key", name)
				}
			})
		}})
}

func authorizerCreate(w *world) *cobra.Command {
	a := &asking{w: w}
	var function, token string
	var keys []string
	c := a.dataFlag(&cobra.Command{Use: "create NAME", Short: "make an authorizer", Args: cobra.ExactArgs(1),
		Long: `Make an authorizer. Without --token no signature is asked of tokens: the function alone
judges them, as one that verifies JWTs does. It is asked for clients that name it; see
"set --default" for all the others.`,
		RunE: func(c *cobra.Command, args []string) error {
			body := map[string]any{"authorizerFunctionArn": function, "signingDisabled": token == ""}
			if token != "" {
				files, err := pairs("key", keys)
				if err != nil {
					return err
				}
				pems := map[string]string{}
				for name, file := range files {
					b, err := os.ReadFile(file)
					if err != nil {
						return err
					}
					pems[name] = string(b)
				}
				body["tokenKeyName"], body["tokenSigningPublicKeys"] = token, pems
			}
			x, err := iot[authorizer](c.Context(), a.client(), "POST", under("authorizer", args[0]), nil, body)
			if err == nil {
				fmt.Fprintln(w.out, x.ARN)
			}
			return err
		}})
	c.Flags().StringVar(&function, "function", "", "`ARN` of the function that judges")
	c.Flags().StringVar(&token, "token", "", "`NAME` under which clients send a token with a signature")
	c.Flags().StringArrayVar(&keys, "key", nil, "a public key for that signature, as `NAME=FILE`; up to two")
	c.MarkFlagRequired("function") //nolint:errcheck // it is there
	c.MarkFlagsRequiredTogether("token", "key")
	return c
}

func authorizerSet(w *world) *cobra.Command {
	a := &asking{w: w}
	var active, inactive, first, notFirst bool
	var function string
	c := a.dataFlag(&cobra.Command{Use: "set NAME", Short: "change an authorizer", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			body := map[string]any{}
			if active {
				body["status"] = "ACTIVE"
			}
			if inactive {
				body["status"] = "INACTIVE"
			}
			if function != "" {
				body["authorizerFunctionArn"] = function
			}
			if len(body) > 0 {
				if err := order(ctx, cl, "PUT", under("authorizer", args[0]), nil, body); err != nil {
					return err
				}
			}
			switch {
			case first:
				return order(ctx, cl, "POST", "/default-authorizer", nil, map[string]any{"authorizerName": args[0]})
			case notFirst:
				if now, err := defaultAuthorizer(ctx, cl); err != nil || now != args[0] {
					return err
				}
				return order(ctx, cl, "DELETE", "/default-authorizer", nil, nil)
			}
			return nil
		}})
	c.Flags().BoolVar(&active, "active", false, "it is asked")
	c.Flags().BoolVar(&inactive, "inactive", false, "it is not asked, and lets nobody in")
	c.Flags().BoolVar(&first, "default", false, "it is asked for clients that name none")
	c.Flags().BoolVar(&notFirst, "no-default", false, "it is asked only for clients that name it")
	c.Flags().StringVar(&function, "function", "", "`ARN` of the function that judges")
	c.MarkFlagsMutuallyExclusive("active", "inactive")
	c.MarkFlagsMutuallyExclusive("default", "no-default")
	c.MarkFlagsOneRequired("active", "inactive", "default", "no-default", "function")
	return c
}

func authorizerTest(w *world) *cobra.Command {
	a := &asking{w: w}
	var token, signature, user, password, client string
	c := a.dataFlag(&cobra.Command{Use: "test NAME", Short: "ask an authorizer as a client would, and print what it says", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			body := map[string]any{"token": token, "tokenSignature": signature}
			if user+password+client != "" {
				body["mqttContext"] = map[string]any{"username": user, "password": []byte(password), "clientId": client}
			}
			out, err := iot[json.RawMessage](c.Context(), a.client(), "POST", under("authorizer", args[0], "test"), nil, body)
			if err != nil {
				return err
			}
			a.json = true
			return a.print(out, nil)
		}})
	c.Flags().StringVar(&token, "token", "", "the `TOKEN`")
	c.Flags().StringVar(&signature, "signature", "", "its `SIGNATURE`, in base64")
	c.Flags().StringVar(&user, "user", "", "MQTT user `NAME`")
	c.Flags().StringVar(&password, "password", "", "MQTT `PASSWORD`")
	c.Flags().StringVar(&client, "client", "", "MQTT client `ID`")
	return c
}

func authorizerRm(w *world) *cobra.Command {
	a := &asking{w: w}
	return a.yesFlag(&cobra.Command{Use: "rm NAME", Short: "remove an authorizer", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, ctx := a.client(), c.Context()
			x, err := getAuthorizer(ctx, cl, under("authorizer", args[0]))
			if err != nil {
				return err
			}
			if err := a.sure("Remove the authorizer %s? Nobody gets in by it any more.", x.Name); err != nil {
				return err
			}
			if x.Status == "ACTIVE" {
				if err := order(ctx, cl, "PUT", under("authorizer", x.Name), nil, map[string]any{"status": "INACTIVE"}); err != nil {
					return err
				}
			}
			return order(ctx, cl, "DELETE", under("authorizer", x.Name), nil, nil)
		}})
}
