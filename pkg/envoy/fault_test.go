package envoy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// A route with faults waits for all that injects them, which waits for the service's own cluster; and none of that is in the cluster.
func TestWhatFaultsNeed(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/fault.txtar")
	if err != nil {
		t.Fatal(err)
	}
	g := readGolden(t, archive)
	compile := func(mutate func(goldenCase)) Compiled {
		t.Helper()
		mutate(g)
		c, err := Service(g.target, g.service, g.effective())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	with := compile(func(goldenCase) {})
	if got, want := fmt.Sprint(with.Route.Needs), "[CDS shop/payments CDS shop/payments~fault LDS shop/payments~fault RDS shop/payments~fault]"; got != want {
		t.Errorf("the route needs %s, want %s", got, want)
	}
	own := view.ID{Type: view.CDS, Name: "shop/payments"}
	for _, r := range with.Faults {
		if r.Type != view.CDS && !slices.Contains(r.Needs, own) {
			t.Errorf("%s needs %v, want the service's own cluster among it", r.ID(), r.Needs)
		}
	}
	without := compile(func(g goldenCase) { g.policies[0].Spec.Fault = nil })
	if without.Cluster.Version != with.Cluster.Version {
		t.Error("the fault changes the service's own cluster")
	}
	if len(without.Faults) > 0 {
		t.Errorf("%v are left without a fault", without.Faults)
	}
}
