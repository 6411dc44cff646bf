package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/client"
)

func (a *app) historyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history (policy|guardrail|service) NAME [GENERATION]",
		Short: "Show the edits of an object, also of one that was deleted, or the object as it was",
		Long:  "Show the edits of an object, the newest first, also of one that was deleted; with a generation the object as it was then,\nas apply takes it.",
		Example: `  bwctl history policy orders-to-payments -n shop
  bwctl history policy orders-to-payments 3 -n shop`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			plural, err := withHistory(args[0])
			if err != nil {
				return err
			}
			if len(args) == 3 {
				return a.printGeneration(cmd, plural, args[1], args[2])
			}
			h, err := a.client.History(cmd.Context(), plural, a.namespace, args[1])
			if err != nil {
				return err
			}
			switch a.output {
			case "json":
				return a.printJSON(h)
			case "yaml":
				return a.printYAML([]any{h})
			}
			return a.printHistory(h)
		},
	}
	a.outputFlag(cmd, "table", "yaml", "json")
	return cmd
}

// withHistory is the plural of a kind whose edits are kept.
func withHistory(kind string) (string, error) {
	switch plural := plurals[kind]; plural {
	case api.Policies, api.Guardrails, api.Services:
		return plural, nil
	}
	return "", usagef("%s: want policy, guardrail or service", kind)
}

func (a *app) printHistory(h *api.History) error {
	var rows [][]string
	for _, e := range h.Items {
		changed := strings.ReplaceAll(strings.Join(e.Changed, ","), "spec.", "")
		for i, line := range folded(changed) {
			row := []string{"", "", "", "", line, ""}
			if i == 0 {
				row = []string{fmt.Sprint(e.Generation), string(e.Action), e.At.UTC().Format(time.RFC3339), dash(e.By), dash(line), dash(e.Why)}
			}
			rows = append(rows, row)
		}
	}
	return a.table([]string{"GENERATION", "EDIT", "AT", "BY", "CHANGED", "WHY"}, rows)
}

// printGeneration writes an object as it was. A deletion has none.
func (a *app) printGeneration(cmd *cobra.Command, plural, name, text string) error {
	n, err := parseGeneration(text)
	if err != nil {
		return err
	}
	past, err := a.client.Generation(cmd.Context(), plural, a.namespace, name, n)
	if err != nil {
		return err
	}
	a.notef("generation %d, %s at %s by %s", past.Generation, past.Action, past.At.UTC().Format(time.RFC3339), dash(past.By))
	if past.Why != "" {
		a.notef(": %s", past.Why)
	}
	a.notef("\n")
	switch {
	case past.Object == nil:
		return nil
	case a.output == "json":
		return a.printJSON(past.Object)
	}
	return a.printYAML([]any{past.Object})
}

func parseGeneration(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, usagef("%s: want a generation, a number from 1", text)
	}
	return n, nil
}

func (a *app) rollbackCommand() *cobra.Command {
	var o client.RollbackOptions
	var wait waiting
	cmd := &cobra.Command{
		Use:   "rollback (policy|guardrail|service) NAME [GENERATION]",
		Short: "Write an object anew as it was at a generation, also one that was deleted",
		Long: "Write an object anew as it was at a generation, also one that was deleted: labels, annotations and spec. It is a write like any other,\n" +
			"with a generation of its own, and passes the same checks. Without a generation: undo the last edit, unless there is a newer one by then.",
		Example: `  bwctl rollback policy orders-to-payments -n shop --dry-run
  bwctl rollback policy orders-to-payments 3 -n shop --reason "too many retries" --wait`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wait.checkWrite(cmd, o.DryRun); err != nil {
				return err
			}
			plural, err := withHistory(args[0])
			if err != nil {
				return err
			}
			if o.Exact && plural != api.Policies {
				return usagef("--require-exact: is for policies")
			}
			var n int64
			if len(args) == 3 {
				n, err = parseGeneration(args[2])
			} else {
				n, err = a.beforeLast(cmd, plural, args[1], &o)
			}
			if err != nil {
				return err
			}
			a.client.Reason = printable(a.reason)
			result, err := a.client.Rollback(cmd.Context(), plural, a.namespace, args[1], n, o)
			if err != nil {
				return err
			}
			return a.applied(cmd.Context(), result, o.DryRun, wait)
		},
	}
	wait.waitFlags(cmd)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "write nothing, and show what it would do to the connected proxies")
	cmd.Flags().BoolVar(&o.Wide, "wide", false, "rebuild clusters of more than one service on more than 10 % of the proxies")
	cmd.Flags().BoolVar(&o.Strict, "strict", false, "refuse what lint finds errors in")
	cmd.Flags().BoolVar(&o.Exact, "require-exact", false, "refuse a policy of which a connected proxy enforces a field less exactly than it could")
	cmd.Flags().StringVar(&a.reason, "reason", "", "why, for the history; absent: rollback to generation N")
	a.outputFlag(cmd, "text", "json")
	return cmd
}

// beforeLast is the generation before the last edit, which must still be the last when it is undone: o says so.
func (a *app) beforeLast(cmd *cobra.Command, plural, name string, o *client.RollbackOptions) (int64, error) {
	h, err := a.client.History(cmd.Context(), plural, a.namespace, name)
	if err != nil {
		return 0, err
	}
	last := h.Items[0]
	if last.Action == api.Created || len(h.Items) < 2 {
		return 0, usagef("generation %d created %s/%s: nothing to go back to but what was before; name a generation of bwctl history, or delete it", last.Generation, h.Namespace, h.Name)
	}
	o.IfMatch = last.ETag()
	if last.Action == api.Deleted {
		o.IfNoneMatch = "*"
	}
	return h.Items[1].Generation, nil
}
