package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/client"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

func (a *app) applyCommand() *cobra.Command {
	var files []string
	var o client.ApplyOptions
	var wait waiting
	cmd := &cobra.Command{
		Use:   "apply -f FILE|DIR|- [-f ...] [--delete KIND/NAMESPACE/NAME ...]",
		Short: "Write manifests, all of them or none",
		Example: `  bwctl apply -f policies/
  bwctl apply -f new.yaml --delete Policy/shop/old
  cat policy.yaml | bwctl apply -f - --wait`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wait.checkWrite(cmd, o.DryRun); err != nil {
				return err
			}
			text, err := a.manifests(files, o)
			if err != nil {
				return err
			}
			a.client.Reason = printable(a.reason)
			result, err := a.client.Apply(cmd.Context(), text, o)
			if err != nil {
				return err
			}
			return a.applied(cmd.Context(), result, o.DryRun, wait)
		},
	}
	a.manifestFlags(cmd, &files, &o)
	wait.waitFlags(cmd)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "write nothing, and show what it would do to the connected proxies")
	cmd.Flags().BoolVar(&o.Wide, "wide", false, "rebuild clusters of more than one service on more than 10 % of the proxies")
	shrinkFlag(cmd, &o.AllowShrink)
	cmd.Flags().StringVar(&a.reason, "reason", "", "why, for the history")
	a.outputFlag(cmd, "text", "json")
	return cmd
}

// applied says what a write did, or a dry run would have, and waits for the proxies if so asked.
func (a *app) applied(ctx context.Context, result *api.ApplyResult, dryRun bool, wait waiting) error {
	if err := a.printApplied(result, dryRun); err != nil || !wait.wanted {
		return err
	}
	a.output = "text" // of the delivery there is one line, beside the data
	return a.await(ctx, result.Revision, wait)
}

// printApplied says what a write did, or a dry run would have.
func (a *app) printApplied(result *api.ApplyResult, dryRun bool) error {
	switch {
	case a.output == "json":
		return a.printJSON(result)
	case dryRun:
		return a.printDryRun(result)
	}
	for _, r := range result.Results {
		a.printf("%s %s/%s %s\n", strings.ToLower(r.Kind), r.Namespace, r.Name, r.Action)
	}
	a.warn(result.Warnings)
	a.warnOf(result.Findings, api.SeverityWarning)
	a.noteRevision(result.Revision)
	return nil
}

// noteRevision says at which revision a write came about, if anything was written or was there already.
func (a *app) noteRevision(revision int64) {
	if revision > 0 {
		a.notef("at revision %d\n", revision)
	}
}

func (a *app) validateCommand() *cobra.Command {
	var files []string
	var o client.ApplyOptions
	cmd := &cobra.Command{
		Use:   "validate -f FILE|DIR|- [-f ...]",
		Short: "Check manifests as an apply would, against what the server holds, and write nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := a.manifests(files, o)
			if err != nil {
				return err
			}
			result, err := a.client.Validate(cmd.Context(), text, o)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.printJSON(result)
			}
			a.printForeseen(result.Results, "valid, ")
			a.warn(result.Warnings)
			a.warnOf(result.Findings, api.SeverityInfo)
			return nil
		},
	}
	a.manifestFlags(cmd, &files, &o)
	a.outputFlag(cmd, "text", "json")
	return cmd
}

// printForeseen says what would become of each object.
func (a *app) printForeseen(results []api.Result, valid string) {
	for _, r := range results {
		a.printf("%s %s/%s %s%s\n", strings.ToLower(r.Kind), r.Namespace, r.Name, valid, foreseen(r.Action))
	}
}

func foreseen(action api.Action) string {
	if action == api.Unchanged {
		return "would change nothing"
	}
	return "would be " + string(action)
}

func (a *app) manifestFlags(cmd *cobra.Command, files *[]string, o *client.ApplyOptions) {
	cmd.Flags().StringArrayVarP(files, "filename", "f", nil, "file, directory, or - for the standard input; may be repeated")
	cmd.Flags().StringArrayVar(&o.Delete, "delete", nil, "delete Kind/namespace/name in the same transaction; may be repeated")
	cmd.Flags().BoolVar(&o.Force, "force", false, "delete services though others name them")
	cmd.Flags().BoolVar(&o.Strict, "strict", false, "refuse what lint finds errors in")
	cmd.Flags().BoolVar(&o.Exact, "require-exact", false, "refuse policies of which a connected proxy enforces a field less exactly than it could")
}

// manifests is the text of all files; nil where there are only deletions.
func (a *app) manifests(files []string, o client.ApplyOptions) ([]byte, error) {
	if len(files) == 0 && len(o.Delete) > 0 {
		return nil, nil
	}
	s, err := a.readSources(files)
	if err != nil {
		return nil, err
	}
	return s.text, nil
}

func (a *app) warn(warnings []api.Warning) {
	for _, w := range warnings {
		a.notef("warning: %s\n", w)
	}
}

func (a *app) deleteCommand() *cobra.Command {
	var files []string
	var o client.DeleteOptions
	var wait waiting
	cmd := &cobra.Command{
		Use:   "delete (policy|guardrail|service|endpoint) NAME... | KIND/[NAMESPACE/]NAME... | -f FILE",
		Short: "Delete objects",
		Long:  "Delete objects by name, one after the other, or all objects of some manifests in one transaction. An endpoint's name is SERVICE/ID.",
		Example: `  bwctl delete policy orders-to-payments -n shop --wait
  bwctl delete $(bwctl get policies -A -o name)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wait.check(cmd, true); err != nil {
				return err
			}
			revisions, err := a.deleteAll(cmd, files, args, o)
			if err != nil || !wait.wanted {
				return err
			}
			for _, revision := range revisions {
				if err := a.await(cmd.Context(), revision, wait); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&files, "filename", "f", nil, "file, directory, or - for the standard input; may be repeated")
	wait.waitFlags(cmd)
	cmd.Flags().BoolVar(&o.Force, "force", false, "delete a service though others name it")
	cmd.Flags().BoolVar(&o.Wide, "wide", false, "rebuild clusters of more than one service on more than 10 % of the proxies")
	shrinkFlag(cmd, &o.AllowShrink)
	return cmd
}

func shrinkFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "allow-shrink", false, "remove more than 30 % of a namespace's services or of a service's endpoints")
}

// deleteAll deletes what is named, and returns the revisions at which that came about.
func (a *app) deleteAll(cmd *cobra.Command, files, args []string, o client.DeleteOptions) (revisions []int64, err error) {
	switch {
	case len(files) > 0 && len(args) > 0:
		return nil, usagef("give names or -f, not both")
	case len(files) > 0:
		revision, err := a.deleteManifests(cmd, files, o)
		return []int64{revision}, err
	case len(args) == 0 || len(args) == 1 && !strings.Contains(args[0], "/"):
		return nil, usagef("want a kind and a name, or -f")
	}
	refs, err := a.references(args)
	if err != nil {
		return nil, err
	}
	for _, r := range refs {
		revision, err := a.deleteOne(cmd, r, o)
		if err != nil {
			return nil, err
		}
		revisions = append(revisions, revision)
	}
	return revisions, nil
}

func (a *app) deleteOne(cmd *cobra.Command, r reference, o client.DeleteOptions) (revision int64, err error) {
	var result *api.ApplyResult
	switch plurals[r.kind] {
	case api.Policies, api.Guardrails, api.Services:
		result, err = a.client.Delete(cmd.Context(), plurals[r.kind], r.namespace, r.name, o)
	case endpointPlural:
		service, id, ok := strings.Cut(r.name, "/")
		if !ok {
			return 0, usagef("endpoint %s: want SERVICE/ID", r.name)
		}
		result, err = a.client.DeleteEndpoint(cmd.Context(), r.namespace, service, id)
	default:
		return 0, usagef("%s: want policy, guardrail, service or endpoint", r.kind)
	}
	if err != nil {
		return 0, err
	}
	a.printf("%s %s/%s deleted\n", singular(r.kind), r.namespace, r.name)
	a.noteRevision(result.Revision)
	return result.Revision, nil
}

func (a *app) deleteManifests(cmd *cobra.Command, files []string, with client.DeleteOptions) (revision int64, err error) {
	s, err := a.readSources(files)
	if err != nil {
		return 0, err
	}
	documents, faults := manifest.Decode("", s.text, manifest.YAML, manifest.Limits{Total: api.MaxApplyBytes})
	o := client.ApplyOptions{Force: with.Force, Wide: with.Wide, AllowShrink: with.AllowShrink}
	for _, d := range documents {
		if f := d.CheckKind([]string{policy.Kind, policy.GuardrailKind, catalog.Kind}, nil); f != nil {
			faults = append(faults, f)
			continue
		}
		namespace := d.Metadata.Namespace
		if namespace == "" {
			namespace = manifest.DefaultNamespace
		}
		o.Delete = append(o.Delete, api.DeleteRef(d.Kind, namespace, d.Metadata.Name))
	}
	if len(faults) > 0 {
		return 0, faults
	}
	result, err := a.client.Apply(cmd.Context(), nil, o)
	if err != nil {
		return 0, err
	}
	for _, r := range result.Results {
		what := string(r.Action)
		if r.Action == api.Unchanged {
			what = "not found"
		}
		a.printf("%s %s/%s %s\n", strings.ToLower(r.Kind), r.Namespace, r.Name, what)
	}
	a.noteRevision(result.Revision)
	return result.Revision, nil
}

func (a *app) versionCommand() *cobra.Command {
	var own bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of bwctl and of the server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.printf("bwctl   %s\n", a.Version)
			if own {
				return nil
			}
			v, err := a.client.Version(cmd.Context())
			if err != nil {
				return fmt.Errorf("the server's version: %w", err)
			}
			a.printf("server  %s (%s)\n", v.Version, v.APIVersion)
			return nil
		},
	}
	cmd.Flags().BoolVar(&own, "client", false, "ask no server")
	return cmd
}
