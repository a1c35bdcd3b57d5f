package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// thingType is a type in answers.
type thingType struct {
	Name       string `json:"thingTypeName"`
	ID         string `json:"thingTypeId,omitempty"`
	ARN        string `json:"thingTypeArn"`
	Properties struct {
		Description string   `json:"thingTypeDescription,omitempty"`
		Searchable  []string `json:"searchableAttributes"`
	} `json:"thingTypeProperties"`
	Metadata struct {
		Deprecated   bool  `json:"deprecated"`
		DeprecatedAt epoch `json:"deprecationDate,omitempty"`
		Created      epoch `json:"creationDate"`
	} `json:"thingTypeMetadata"`
}

func (t *thingType) state() string {
	if t.Metadata.Deprecated {
		return "deprecated"
	}
	return "active"
}

// typeCmd keeps the types of things.
func typeCmd(w *world) *cobra.Command {
	ls, show, create, set, rm := &asking{w: w}, &asking{w: w}, &asking{w: w}, &asking{w: w}, &asking{w: w}
	var description string
	var searchable []string
	createCmd := create.dataFlag(&cobra.Command{Use: "create NAME", Short: "make a type", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := iot[thingType](c.Context(), create.client(), "POST", under("thing-types", args[0]), nil,
				map[string]any{"thingTypeProperties": map[string]any{"thingTypeDescription": description, "searchableAttributes": searchable}})
			if err == nil {
				fmt.Fprintln(w.out, t.ARN)
			}
			return err
		}})
	createCmd.Flags().StringVar(&description, "description", "", "what it is, in `WORDS`")
	createCmd.Flags().StringArrayVar(&searchable, "searchable", nil, "an `ATTRIBUTE` to search by; up to three")
	var deprecated, active bool
	setCmd := set.dataFlag(&cobra.Command{Use: "set NAME", Short: "deprecate a type, so that no new thing gets it, or take that back", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return order(c.Context(), set.client(), "POST", under("thing-types", args[0], "deprecate"), nil, map[string]any{"undoDeprecate": active})
		}})
	setCmd.Flags().BoolVar(&deprecated, "deprecated", false, "no new thing gets it")
	setCmd.Flags().BoolVar(&active, "active", false, "things get it again")
	setCmd.MarkFlagsOneRequired("deprecated", "active")
	setCmd.MarkFlagsMutuallyExclusive("deprecated", "active")
	return group("type", "the types of things",
		ls.flags(&cobra.Command{Use: "ls", Short: "list types", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				ts, err := all[thingType](c.Context(), ls.client(), "GET", "/thing-types", nil, "thingTypes")
				if err != nil {
					return err
				}
				return ls.print(ts, func() {
					var rows [][]string
					for _, t := range ts {
						rows = append(rows, []string{t.Name, t.state(), orDash(t.Properties.Searchable...), orDash(t.Properties.Description)})
					}
					ls.table("TYPE STATE SEARCHABLE DESCRIPTION", rows)
				})
			}}),
		show.flags(&cobra.Command{Use: "show NAME", Short: "show a type", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				t, err := iot[thingType](c.Context(), show.client(), "GET", under("thing-types", args[0]), nil, nil)
				if err != nil {
					return err
				}
				return show.print(t, func() {
					show.facts("name", t.Name, "arn", t.ARN, "state", t.state(), "searchable", orDash(t.Properties.Searchable...),
						"description", orDash(t.Properties.Description), "created", t.Metadata.Created.String())
				})
			}}),
		createCmd, setCmd,
		rm.yesFlag(&cobra.Command{Use: "rm NAME", Short: "remove a type, five minutes after it was deprecated", Args: cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				if err := rm.sure("Remove the thing type %s?", args[0]); err != nil {
					return err
				}
				return order(c.Context(), rm.client(), "DELETE", under("thing-types", args[0]), nil, nil)
			}}))
}
