package world

import (
	"fmt"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
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

// Classes part where what they are to hold does: as they are made, at an edit for one of them, and as one calls less than before. Each has what
// it would have if it were alone.
func TestClassesThatHoldDifferentThingsPart(t *testing.T) {
	w, c := meshOf(t, 30)
	b := NewBuilder()
	b.Update(w, c)
	classes := map[ClassKey]*Class{}
	for _, i := range []int{0, 1, gateways, gateways + 1} {
		classes[callerOf(i)] = b.Join(callerOf(i))
	}
	asAlone := func(when string) {
		t.Helper()
		for key, class := range classes {
			alone := NewBuilder()
			alone.Update(b.World(), all(b.World()))
			want := alone.Join(key).Head()
			for typ := range view.NumTypes {
				view.Diff(want.Views[typ], class.Head().Views[typ], func(want, got *view.Resource) {
					t.Errorf("%s: %s has %v %s, want %s", when, key.Service, typ, version(got), version(want))
				})
			}
		}
	}
	asAlone("joined")
	edited := key("shop", "edited")
	for i, from := range []*policy.Source{nil, {Service: callerOf(1).Service}, {Service: callerOf(gateways).Service}} {
		change := Changes{Policies: map[manifest.Key]*policy.Compiled{edited: compiled(t, edited, policy.Spec{
			To: policy.Target{Service: shared(30)}, From: from, Precedence: ptr(int32(1)),
			Sections: policy.Sections{Timeout: &policy.Timeout{Request: ptr(manifest.Duration("7s"))}, Limits: &policy.Limits{MaxRequests: ptr(manifest.Count(7))}},
		})}}
		b.Update(b.World().With(int64(2+i), change), change)
		asAlone("edited for " + fmt.Sprint(from))
	}
	less := service(key("shop", meshName(1)), func(s *catalog.Service) { meshService(s, 1, 30); s.Spec.DependsOn = &[]string{meshName(2)} })
	change := Changes{Services: map[manifest.Key]*catalog.Service{less.Key(): less}}
	b.Update(b.World().With(9, change), change)
	asAlone("one calls less")
}
