package policy

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes and goes, in whatever steps, a ranking has all policies in their order, and finds for a service those that match it.
func TestRankingFindsWhatMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := compileAll(drawPolicies(t, 8))
		services, _ := drawServices()
		var r Ranking
		var there []*Compiled
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			var gone, come []*Compiled
			for _, c := range rapid.Permutation(all).Draw(t, "order") {
				is := slices.Contains(there, c)
				if !rapid.Bool().Draw(t, "changes") {
					continue
				}
				if is {
					gone = append(gone, c)
				} else {
					come = append(come, c)
				}
			}
			before := slices.Clone(r.All())
			next := r.With(gone, come)
			if !slices.Equal(r.All(), before) {
				t.Fatal("With changed the ranking that it was made of")
			}
			r = next
			there = slices.DeleteFunc(slices.Concat(there, come), func(c *Compiled) bool { return slices.Contains(gone, c) })
			slices.SortFunc(there, (*Compiled).Compare)
			if !slices.Equal(r.All(), there) {
				t.Fatalf("All() = %v, want %v", named(r.All()), named(there))
			}
			for _, svc := range services {
				want := slices.DeleteFunc(slices.Clone(there), func(c *Compiled) bool { return !c.Matches(svc) })
				if got := r.Matching(svc); !slices.Equal(got, want) {
					t.Fatalf("Matching(%v) = %v, want %v", svc.Key, named(got), named(want))
				}
			}
		}
	})
}

func named(list []*Compiled) (names []string) {
	for _, c := range list {
		names = append(names, c.Policy.Key().String())
	}
	return names
}
