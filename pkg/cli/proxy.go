package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

// proxyCommand looks into one proxy.
func (a *app) proxyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy (config|diff) ID",
		Short: "Show every resource of one proxy, or where what it accepted is not what it should hold",
	}
	cmd.AddCommand(a.proxyConfigCommand(), a.proxyDiffCommand())
	return cmd
}

func (a *app) proxyConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config ID",
		Short: "Show every resource of a proxy: its version, the one that was accepted, the policies that shaped it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client.ProxyConfig(cmd.Context(), args[0], false)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.printWhole(c)
			}
			var rows [][]string
			for _, r := range c.Resources {
				rows = append(rows, []string{r.Type, r.Name, string(r.State), dash(r.Version), dash(r.Acked), dash(strings.Join(r.Policies, ","))})
			}
			if err := a.table([]string{"TYPE", "NAME", "STATE", "VERSION", "ACKED", "POLICIES"}, rows); err != nil {
				return err
			}
			for _, r := range c.Resources {
				a.printRefused(r)
			}
			return nil
		},
	}
	a.outputFlag(cmd, "table", "yaml", "json")
	return cmd
}

func (a *app) proxyDiffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff ID",
		Short: "Show where what a proxy has accepted differs from what it should hold",
		Long:  "Show where what a proxy has accepted (-) differs from what it should hold (+), resource by resource.\nExit code 0: nowhere. 1: it does.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client.ProxyConfig(cmd.Context(), args[0], true)
			if err != nil {
				return err
			}
			if a.output != "text" {
				err = a.printWhole(c)
			} else {
				a.printDifferences(c)
			}
			if err == nil && len(c.Resources) > 0 {
				err = fmt.Errorf("%s of %s: not as it should be", plural(len(c.Resources), "resource"), c.ID)
			}
			return err
		},
	}
	a.outputFlag(cmd, "text", "yaml", "json")
	return cmd
}

func (a *app) printWhole(v any) error {
	if a.output == "json" {
		return a.printJSON(v)
	}
	return a.printYAML([]any{v})
}

func (a *app) printDifferences(c *api.ProxyConfig) {
	if len(c.Resources) == 0 {
		a.notef("%s has accepted all that it should hold\n", c.ID)
	}
	for _, r := range c.Resources {
		a.printf("%s %s %s\n", r.Type, r.Name, r.State)
		a.printRefused(r)
		if r.Unknown {
			a.printf("  it came with version %s, of which no more is known; it should be %s\n", r.Acked, dash(r.Version))
		}
		for _, l := range r.Lines {
			a.printLine(l)
		}
	}
}

// printRefused says with the proxy's words why r is not as it should be.
func (a *app) printRefused(r api.ProxyResource) {
	if r.Rejected != nil {
		a.printf("  %s %s rejected: %s\n", r.Rejected.Type, r.Rejected.Name, r.Rejected.Message)
	}
}
