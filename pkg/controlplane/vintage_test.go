package controlplane

import (
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/breakwater-mesh/breakwater/pkg/api"
	"github.com/breakwater-mesh/breakwater/pkg/store"
	"github.com/breakwater-mesh/breakwater/pkg/world"
)

func TestTheVintageIsRaisedOnceAllKnowIt(t *testing.T) {
	kv := store.NewMemory(store.Limits{})
	var others []api.Replica
	w := (&world.World{}).With(1, world.Changes{})
	r := raiser{kv: kv, log: hclog.NewNullLogger(), self: api.Replica{Vintage: 3}, others: func() []api.Replica { return others }, world: func() *world.World { return w }}
	try := func(want int) {
		t.Helper()
		if err := r.try(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := 0
		if e, err := kv.Get(t.Context(), store.VintageKey); err != nil {
			t.Fatal(err)
		} else if e.Revision > 0 {
			if got, err = world.DecodeVintage(e.Value); err != nil {
				t.Fatal(err)
			}
		}
		if got != want {
			t.Errorf("with %+v the stored vintage is %d, want %d", others, got, want)
		}
	}
	others = []api.Replica{{Vintage: 3}, {}} // of a release that does not say
	try(0)
	others = []api.Replica{{Vintage: 2}, {Vintage: 4}}
	try(2)
	others = nil
	try(2) // the world has yet to hear of it
	head, err := kv.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w = w.With(head.Revision, world.Changes{Vintage: 2})
	others = []api.Replica{{Vintage: 1}}
	try(2) // never lowered
	others = nil
	try(3)
}
