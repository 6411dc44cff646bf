package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

func (a *app) fidelityCommand() *cobra.Command {
	var dialects []string
	var version string
	var all bool
	cmd := &cobra.Command{
		Use:   "fidelity POLICY",
		Short: "Show how exactly the proxies enforce a policy, and what to write to get nearer",
		Long: "Show how exactly the proxies enforce a policy, field by field, and what to write to get nearer: for every dialect of the connected\n" +
			"proxies that it concerns, or for a sidecar where there is none.",
		Example: `  bwctl fidelity orders-to-payments
  bwctl fidelity orders-to-payments --dialect grpc
  bwctl fidelity orders-to-payments --envoy 1.36`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if version != "" && len(dialects) == 0 {
				dialects = []string{"sidecar"}
			}
			f, err := a.client.Fidelity(cmd.Context(), a.namespace, args[0], version, dialects...)
			if err != nil {
				return err
			}
			switch a.output {
			case "json":
				return a.printJSON(f)
			case "yaml":
				return a.printYAML([]any{f})
			}
			return a.printFidelity(f, all)
		},
	}
	cmd.Flags().StringArrayVar(&dialects, "dialect", nil, "sidecar, clusters-only, grpc or agent, in use or not; may be repeated")
	cmd.Flags().StringVar(&version, "envoy", "", "a version of Envoy, 1.32 to 1.40: of --dialect sidecar, unless clusters-only is asked for")
	cmd.Flags().BoolVar(&all, "all", false, "show the fields that are exact too")
	a.outputFlag(cmd, "text", "yaml", "json")
	return cmd
}

// printFidelity writes a paragraph for each field that is not exact.
func (a *app) printFidelity(f *api.FidelityResponse, all bool) error {
	a.warnUnreachable(f.Unreachable)
	for _, d := range f.Dialects {
		exact := 0
		for _, field := range d.Fields {
			if field.Level == api.Exact {
				exact++
			}
		}
		a.notef("%s, %s: %d of %s exact\n", d, proxies(d.Proxies), exact, plural(len(d.Fields), "field"))
		for _, field := range d.Fields {
			if all || field.Level != api.Exact {
				a.printFieldFidelity(field)
			}
		}
	}
	return nil
}

func (a *app) printFieldFidelity(f api.FieldFidelity) {
	level := f.Level
	if f.Protocol != "" {
		level += " for " + f.Protocol + " services"
	}
	if f.Inherent {
		level += " (inherent)"
	}
	a.printf("%s: %s\n", f.Field, level)
	if f.Reason != "" {
		a.printf("    %s\n", f.Reason)
	}
	if f.Instead != "" {
		a.printf("    instead: %s\n", f.Instead)
	}
}

func proxies(n int) string {
	if n == 1 {
		return "1 proxy"
	}
	return fmt.Sprintf("%d proxies", n)
}
