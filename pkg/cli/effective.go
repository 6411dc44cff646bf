package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/catalog"
)

func (a *app) effectiveCommand() *cobra.Command {
	var service string
	var q api.EffectiveQuery
	var all bool
	cmd := &cobra.Command{
		Use:   "effective --to SERVICE [--from SERVICE | --proxy ID] [--subset NAME] [--route NAME]",
		Short: "Show what holds for the calls from one service to another, and where each value comes from",
		Long:  "Show what holds for the calls from one service to another, and where each value comes from. A service is NAME or NAMESPACE/NAME.\nWithout --from: for any caller that no policy names.\nWith --subset what differs by subset, the fields of scope cluster; with --route those of scope route; with both, both.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if service == "" {
				return usagef("--to is required")
			}
			to := catalog.ParseRef(service, a.namespace)
			if q.From != "" {
				q.From = catalog.ParseRef(q.From, a.namespace).String()
			}
			e, err := a.client.Effective(cmd.Context(), to.Namespace, to.Name, q)
			if err != nil {
				return err
			}
			switch a.output {
			case "json":
				return a.printJSON(e)
			case "yaml":
				return a.printYAML([]any{e})
			}
			return a.printEffective(e, all)
		},
	}
	cmd.Flags().StringVar(&q.From, "from", "", "the calling service")
	cmd.Flags().StringVar(&q.Proxy, "proxy", "", "a connected proxy, by its node id, in place of the calling service")
	cmd.Flags().StringVar(&service, "to", "", "the called service")
	cmd.Flags().StringVar(&q.Subset, "subset", "", "the called subset of it")
	cmd.Flags().StringVar(&q.Route, "route", "", "the route of it that the calls take; default for the one that takes the rest")
	cmd.Flags().BoolVar(&all, "all", false, "show the fields that no policy sets too, after the others")
	a.outputFlag(cmd, "table", "yaml", "json")
	return cmd
}

func (a *app) printEffective(e *api.EffectiveResponse, all bool) error {
	caller := e.From
	if caller == "" {
		caller = "any other caller"
	}
	a.notef("%s -> %s%s at revision %d\n", caller, e.Service, partText(e), e.Revision)
	for _, p := range e.Problems {
		a.notef("warning: %s\n", p)
	}
	if len(e.Guardrails) > 0 {
		a.notef("guardrails: %s\n", strings.Join(e.Guardrails, ", "))
	}
	if len(e.Policies)+len(e.Guardrails) == 0 {
		a.notef("no policy applies: calls pass as they are\n")
		return nil
	}
	if len(e.Policies) > 0 {
		a.notef("policies, the most specific last: %s\n", strings.Join(e.Policies, ", "))
	}
	for _, p := range e.Expiring {
		a.notef("%s is removed at %s\n", p.Policy, p.ExpiresAt)
	}
	rows, defaults := fieldRows(e.Fields)
	observed, more := fieldRows(e.Observed)
	if all {
		rows, observed = append(rows, defaults...), append(observed, more...)
	} else if n := len(defaults) + len(more); n > 0 {
		a.notef("%s no policy sets: --all shows them\n", plural(n, "field"))
	}
	if len(rows) > 0 {
		if err := a.table([]string{"FIELD", "VALUE", "ORIGIN"}, rows); err != nil {
			return err
		}
	}
	if len(observed) == 0 {
		return nil
	}
	return a.table([]string{"OBSERVED, NOT ENFORCED", "VALUE", "ORIGIN"}, observed)
}

// fieldRows are what policies set, and what none does.
func fieldRows(fields []api.EffectiveField) (rows, defaults [][]string) {
	for _, f := range fields {
		if f.Origin.Default && f.Origin.ClampedBy == "" {
			defaults = append(defaults, cells(f.Path, value(f.Value), []string{"default"})...)
		} else {
			rows = append(rows, effectiveRows(f)...)
		}
	}
	return rows, defaults
}

// partText says which part of the service was asked for.
func partText(e *api.EffectiveResponse) string {
	text := ""
	if e.Route != "" {
		text += ", route " + e.Route
	}
	if e.Subset != "" {
		text += ", subset " + e.Subset
	}
	return text
}

// The widest that values and origins get before they go on in the next row, so that a table fits a terminal.
const (
	valueWidth  = 32
	originWidth = 44
)

// effectiveRows are a field, and below it the values that it overrides, from the most specific policy on.
func effectiveRows(f api.EffectiveField) [][]string {
	source := []string{f.Origin.Policy}
	if f.Origin.Path != f.Path {
		if source = []string{f.Origin.String()}; len(source[0]) > originWidth {
			source = []string{f.Origin.Policy, "(" + f.Origin.Path + ")"}
		}
	}
	if f.Origin.Default {
		source = []string{"default"}
	}
	if f.Origin.ClampedBy != "" {
		source = append(source, f.Origin.Clamped())
	}
	rows := cells(f.Path, value(f.Value), source)
	for _, l := range f.Losers {
		rows = append(rows, cells("  overrides", value(l.Value), []string{l.Origin.Policy})...)
	}
	return rows
}

// cells are the rows that a field takes.
func cells(field string, value, source []string) [][]string {
	var rows [][]string
	for i, line := range value {
		rows = append(rows, []string{"", line, ""})
		if i < len(source) {
			rows[i][2] = source[i]
		}
	}
	for i := len(rows); i < len(source); i++ {
		rows = append(rows, []string{"", "", source[i]})
	}
	rows[0][0] = field
	return rows
}

// folded breaks a list after commas. A single word stays whole.
func folded(text string) []string {
	lines := []string{""}
	for part := range strings.SplitAfterSeq(text, ",") {
		if last := len(lines) - 1; lines[last] != "" && len(lines[last])+len(part) > valueWidth {
			lines = append(lines, part)
		} else {
			lines[last] += part
		}
	}
	return lines
}

// value is JSON as the lines of a cell: text without quotes where it can be read so, and off for what a policy switched off.
func value(raw []byte) []string {
	var v any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		return []string{string(raw)}
	}
	switch v := v.(type) {
	case nil:
		return []string{"off"}
	case string:
		return []string{abridged(v)}
	}
	return folded(compact(v))
}

// textWidth is the most that a table shows of a text; -o yaml has all of it.
const textWidth = 60

// abridged is a text in one line.
func abridged(text string) string {
	if text == "" || strings.ContainsFunc(text, unicode.IsControl) {
		text = quoted(text)
	}
	if runes := []rune(text); len(runes) > textWidth {
		return string(runes[:textWidth]) + "..."
	}
	return text
}

var word = regexp.MustCompile(`^[^\s"'{}\[\],:\\]+$`)

// compact is a list or an object as JSON, with words without quotes.
func compact(v any) string {
	switch v := v.(type) {
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = compact(item)
		}
		return "[" + strings.Join(items, ",") + "]"
	case map[string]any:
		var items []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			items = append(items, name+":"+compact(v[name]))
		}
		return "{" + strings.Join(items, ",") + "}"
	case string:
		if word.MatchString(v) {
			return v
		}
		return quoted(v)
	}
	return fmt.Sprint(v)
}

// quoted is a text as JSON writes it.
func quoted(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return text
	}
	return strings.TrimSuffix(b.String(), "\n")
}
