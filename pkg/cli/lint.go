package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
)

var severities = []string{string(api.SeverityError), string(api.SeverityWarning), string(api.SeverityInfo)}

func (a *app) lintCommand() *cobra.Command {
	var severity string
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "lint",
		Short: "Show where the policies of a namespace will hurt, and what to write instead",
		Long:  "Show where the policies of a namespace will hurt, and what to write instead. Files are looked at by validate -f.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(severities, severity) {
				return usagef("--severity %s: want %s", severity, join(severities))
			}
			namespace := a.namespace
			if everywhere {
				namespace = ""
			}
			result, err := a.client.Lint(cmd.Context(), namespace, api.Severity(severity))
			switch {
			case err != nil:
				return err
			case a.output == "json":
				return a.printJSON(result)
			}
			for _, f := range result.Items {
				a.printFinding(f)
			}
			a.notef("%s at revision %d\n", plural(len(result.Items), "finding"), result.Revision)
			return nil
		},
	}
	cmd.Flags().StringVar(&severity, "severity", string(api.SeverityInfo), "least severity: "+join(severities))
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "of all namespaces")
	a.outputFlag(cmd, "text", "json")
	return cmd
}

// printFinding writes a finding as a paragraph.
func (a *app) printFinding(f api.Finding) {
	a.printf("%s %s %s %s/%s %s\n", f.Severity, f.Code, f.Kind, f.Namespace, f.Name, f.Path)
	if len(f.Calls) > 0 {
		a.printf("    %s%s\n", f.CallPath(), more(f))
	}
	a.printf("    %s\n    write %s\n", f.Why, f.Instead)
}

func more(f api.Finding) string {
	if f.More == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d more", f.More)
}

// warnOf notes the findings of that severity and worse.
func (a *app) warnOf(findings []api.Finding, least api.Severity) {
	for _, f := range findings {
		if f.Severity.Below(least) {
			continue
		}
		a.notef("%s: %s%s\n", f.Severity, f, more(f))
		if f.Severity != api.SeverityInfo {
			a.notef("    write %s\n", f.Instead)
		}
	}
}
