package world

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Classes that hold the same hold one view, as they are made and after every edit: what is kept, compared and noted for one is for all.
func TestClassesThatHoldTheSameHoldOneView(t *testing.T) {
	w, c := meshOf(t, 30)
	b := NewBuilder()
	b.Update(w, c)
	one, two := b.Join(callerOf(0)), b.Join(callerOf(1))
	same := func(when string) {
		t.Helper()
		for typ := range view.NumTypes {
			if x, y := one.Head().Views[typ], two.Head().Views[typ]; x != y {
				t.Errorf("%s: two classes hold two views of %s, want one", when, typ)
			}
		}
	}
	same("joined")
	edited := key("shop", "edited")
	for i, to := range []string{"s0005", "*"} {
		for j, sections := range []policy.Sections{
			{Timeout: &policy.Timeout{Request: ptr(manifest.Duration("7s"))}},
			{Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(7))}},
		} {
			before := one.Head().Views
			c := Changes{Policies: map[manifest.Key]*policy.Compiled{edited: compiled(t, edited, policy.Spec{To: policy.Target{Service: to}, Precedence: ptr(int32(1)), Sections: sections})}}
			b.Update(b.World().With(int64(2+2*i+j), c), c)
			if one.Head().Views == before {
				t.Fatalf("an edit of %s changed nothing", to)
			}
			same("edited " + to)
		}
	}
	names := b.Log().At(b.World().Rev).Names()
	if len(names) == 0 || !b.Log().At(b.World().Rev).Touched(one) || !b.Log().At(b.World().Rev).Touched(two) {
		t.Errorf("the log has %d names of the last edit, or not both classes", len(names))
	}
}
