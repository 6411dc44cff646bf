package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// table writes rows under a head; cells beyond the head are left out.
func (a *app) table(head []string, rows [][]string) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row[:min(len(row), len(head))], "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		a.printf("%s\n", strings.TrimRight(line, " \n"))
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func orZero[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// side is one side of a policy as a cell.
func side(namespace, service string, selector map[string]string) string {
	text := service
	if selector != nil {
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(selector)) {
			pairs = append(pairs, k+"="+selector[k])
		}
		text = strings.Join(pairs, ",")
	}
	if namespace != "" {
		text = namespace + "/" + text
	}
	return text
}

func from(f *policy.Source) string {
	if f == nil {
		return "any"
	}
	return side(f.Namespace, f.Service, f.Selector)
}

// condition is the status of a condition as a cell, with the reason where it is not True.
func condition(s api.Status, name string) string {
	for _, c := range s.Conditions {
		if c.Type != name {
			continue
		}
		if c.Status == api.True {
			return string(c.Status)
		}
		return fmt.Sprintf("%s (%s)", c.Status, c.Reason)
	}
	return "-"
}

// sectionsOf are the names of the sections that a policy has.
func sectionsOf(p api.PolicyResponse) []string {
	text, err := json.Marshal(p.Spec.Sections)
	if err != nil {
		return nil
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(text, &sections); err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(sections))
}
