package policy

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// drawGuardrail draws a valid guardrail over every service of the shop.
func drawGuardrail(t *rapid.T, name string) *Guardrail {
	g := &Guardrail{Metadata: manifest.Meta{Namespace: "shop", Name: name}, Spec: GuardrailSpec{To: Target{Service: Every}}}
	for _, b := range rapid.SliceOfNDistinct(rapid.SampledFrom(boundables), 1, 6, func(b boundable) string { return b.path }).Draw(t, "fields") {
		bars := []Bar{"1", "5", "50"}
		if b.kind == durations {
			bars = []Bar{"1ms", "2ms", "1s", "20s"}
		}
		g.Spec.Bounds = append(g.Spec.Bounds, Bound{Field: b.path, Max: few(t, "max", bars...), Min: few(t, "min", bars...)})
		if len(ValidateGuardrail(g)) > 0 {
			g.Spec.Bounds = g.Spec.Bounds[:len(g.Spec.Bounds)-1]
		}
	}
	return g
}

// TestClampLaws holds random merges between random bounds: every maximum is kept, what comes out is valid, nothing of it is written into a
// policy, and no section is switched on.
func TestClampLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policies := drawPolicies(t, 4)
		svc := Service{Key: manifest.Key{Namespace: "shop", Name: "orders"}, Protocol: "http"}
		free, _ := Merge(svc, compileAll(policies))
		before := asJSON(t, policies)
		all := compileAll(policies)
		for _, name := range []string{"guard-a", "guard-b"} {
			all = append(all, CompileGuardrail(drawGuardrail(t, name)))
		}
		slices.SortFunc(all, (*Compiled).Compare)
		e, _ := Merge(svc, all)
		if after := asJSON(t, policies); after != before {
			t.Fatalf("a clamp wrote into a policy:\n%s", cmp.Diff(before, after))
		}
		if found := e.check(); len(found) > 0 {
			t.Fatalf("the result is invalid: %v\n%s", found, asJSON(t, e))
		}
		if errs := manifest.CheckBounds(&e.Sections, "spec"); len(errs) > 0 {
			t.Fatalf("the result has values out of bounds: %v", errs)
		}
		for _, g := range all {
			for _, b := range g.bounds {
				keepsTo(t, e, b)
			}
		}
		if e.Retry != nil && free.Retry == nil || e.OutlierDetection != nil && free.OutlierDetection == nil {
			t.Fatal("a guardrail has switched a section on")
		}
		slices.Reverse(all)
		slices.SortFunc(all, (*Compiled).Compare)
		if again, _ := Merge(svc, all); asJSON(t, again) != asJSON(t, e) {
			t.Fatal("the order of the guardrails counts")
		}
	})
}

func keepsTo(t *rapid.T, e *Effective, b bound) {
	c := clamping{merging: newMerging(&Service{}, nil), sections: &e.Sections}
	if now, ok := c.holds(b.leaf); ok && b.max != nil && now.more(*b.max) {
		t.Fatalf("%s is %v, more than %v\n%s", boundables[b.leaf].path, now, *b.max, asJSON(t, e))
	}
}
