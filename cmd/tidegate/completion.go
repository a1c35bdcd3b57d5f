package main

import "github.com/spf13/cobra"

// completionCmd writes what makes a shell complete the commands, their flags and their
// arguments:
//
//	source <(tidegate completion bash)
//	tidegate completion zsh > "${fpath[1]}/_tidegate"
//	tidegate completion fish > ~/.config/fish/completions/tidegate.fish
func completionCmd(w *world) *cobra.Command {
	return &cobra.Command{Use: "completion SHELL", Short: "print what makes a shell complete these commands: bash, zsh, fish, powershell",
		Long: `Print the completion script of a shell: bash, zsh, fish or powershell. For bash, in one
session: source <(tidegate completion bash)
for every session, as root: tidegate completion bash > /etc/bash_completion.d/tidegate`,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"}, Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(w.out, true)
			case "zsh":
				return root.GenZshCompletion(w.out)
			case "fish":
				return root.GenFishCompletion(w.out, true)
			}
			return root.GenPowerShellCompletionWithDesc(w.out)
		}}
}
