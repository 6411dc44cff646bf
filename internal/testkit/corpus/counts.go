package corpus

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Rarer are the fields of the language that fewer than n of the policies have, the rarest first, each with how many do.
func Rarer(policies []*policy.Policy, n int) []string {
	all, counts := rarer(policies, n)
	for i, path := range all {
		all[i] = fmt.Sprintf("%s %d", path, counts[path])
	}
	return all
}

func rarer(policies []*policy.Policy, n int) (all []string, counts map[string]int) {
	counts = map[string]int{}
	for _, p := range policies {
		for path := range paths(p.Spec) {
			counts[path]++
		}
	}
	for _, d := range manifest.Describe[policy.Sections]("") {
		if counts[d.Path] < n {
			all = append(all, d.Path)
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(counts[a], counts[b]) })
	return all, counts
}

// paths are those of all that is set in v.
func paths(v any) map[string]bool {
	data, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var tree any
	if json.Unmarshal(data, &tree) != nil {
		return nil
	}
	found := map[string]bool{}
	walk(tree, "", found)
	return found
}

func walk(v any, path string, found map[string]bool) {
	found[path] = true
	switch x := v.(type) {
	case map[string]any:
		for name, inner := range x {
			if path != "" {
				name = path + "." + name
			}
			walk(inner, name, found)
		}
	case []any:
		for _, inner := range x {
			walk(inner, path+"[]", found)
		}
	}
}
