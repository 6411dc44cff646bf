package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy/carriers"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// schemas are the fields of the kinds, in the order of the structs.
var schemas = map[string][]manifest.FieldDoc{
	"policy":    manifest.Describe[policy.Spec](""),
	"guardrail": manifest.Describe[policy.GuardrailSpec](""),
	"service":   manifest.Describe[catalog.ServiceSpec](""),
	"endpoint":  manifest.Describe[catalog.EndpointSpec](""),
}

func (a *app) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain (policy|guardrail|service|endpoint)[.FIELD...] | SECTION[.FIELD...]",
		Short: "Say what a field does, what Envoy gets of it, and what changing it does to live traffic",
		Example: `  bwctl explain policy
  bwctl explain policy.retry.backOff
  bwctl explain circuitBreaker
  bwctl explain service.dependsOn`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.explainField(args[0]) },
	}
}

// explainField writes what is known of a field, and of those right below it.
func (a *app) explainField(path string) error {
	kind, field, _ := strings.Cut(path, ".")
	kind, field = strings.ToLower(kind), strings.TrimPrefix(field, "spec.")
	fields, ok := schemas[kind]
	if !ok && below(schemas["policy"], path) { // as effective and fidelity write it
		kind, field, fields, ok = "policy", path, schemas["policy"], true
	}
	if !ok {
		return usagef("%s: want policy, guardrail, service or endpoint, and a field of it, such as policy.retry.backOff", kind)
	}
	if field == "" || field == "spec" {
		return a.explainBelow(fields, "")
	}
	i := slices.IndexFunc(fields, func(d manifest.FieldDoc) bool { return plain(d.Path) == plain(field) })
	if i < 0 {
		var known []string
		for _, d := range fields {
			known = append(known, plain(d.Path))
		}
		hint := "bwctl explain " + kind + " lists the fields"
		if near := manifest.Nearest(plain(field), known); near != "" {
			hint = "did you mean " + kind + "." + near + "?"
		}
		return usagef("%s has no field %s: %s", kind, field, hint)
	}
	a.explainOne(kind, fields[i])
	return a.explainBelow(fields, plain(fields[i].Path))
}

// below reports whether the first word of path is one of the fields.
func below(fields []manifest.FieldDoc, path string) bool {
	first, _, _ := strings.Cut(path, ".")
	return slices.ContainsFunc(fields, func(d manifest.FieldDoc) bool { return d.Path == first })
}

// plain is a path without the signs of lists.
func plain(path string) string { return strings.ReplaceAll(path, "[]", "") }

func (a *app) explainOne(kind string, d manifest.FieldDoc) {
	a.printf("%s.%s\n  %s\n\n", kind, d.Path, d.Doc)
	line := func(name, text string) {
		if text != "" {
			a.printf("%-10s%s\n", name, text)
		}
	}
	line("type", d.Type)
	line("values", strings.Join(d.Values, ", "))
	line("unit", d.Unit)
	line("minimum", d.Minimum)
	line("maximum", d.Maximum)
	line("default", d.Default)
	line("scope", d.Scope)
	line("a change", d.Effect)
	if c, ok := carriers.Of(d.Path); ok && kind == "policy" {
		line("Envoy", c.Text())
		line("since", c.Since)
		for _, f := range c.Fidelity {
			line("", f.Profile+": "+f.Level)
		}
	}
}

// explainBelow lists the fields right below path.
func (a *app) explainBelow(fields []manifest.FieldDoc, path string) error {
	var rows [][]string
	for _, d := range fields {
		rest, below := plain(d.Path), path == ""
		if path != "" {
			rest, below = strings.CutPrefix(plain(d.Path), path+".")
		}
		if !below || strings.Contains(rest, ".") {
			continue
		}
		gets := ""
		if c, ok := carriers.Of(d.Path); ok { // a path of another kind is none of its fields
			gets = c.Text()
		}
		rows = append(rows, []string{rest, d.Type, d.Default, dash(d.Effect), dash(gets)})
	}
	if len(rows) == 0 {
		return nil
	}
	if path != "" {
		a.printf("\n")
	}
	return a.table([]string{"FIELD", "TYPE", "DEFAULT", "A CHANGE", "ENVOY GETS"}, rows)
}
