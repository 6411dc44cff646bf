package world

import (
	"slices"
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// Each kind of proxy gets what it reads, and nothing else.
func TestWhatEachProfileHolds(t *testing.T) {
	w, c := newWorld(service(key("shop", "payments"), func(s *catalog.Service) { s.Spec.Hosts = []string{"pay.example.com"} }))
	layers := envoy.LayerNames()
	for profile, want := range map[string]map[view.Type][]string{
		envoy.GRPC: {
			view.LDS: {"pay.example.com", "payments", "payments.shop"}, view.RDS: {"shop/payments"}, view.CDS: {"shop/payments"}, view.EDS: {"shop/payments"},
		},
		envoy.ClustersOnly: {view.RTDS: layers, view.CDS: {"shop/payments"}, view.EDS: {"shop/payments"}},
		envoy.Agent: {
			view.RTDS: layers, view.LDS: {"outbound"}, view.SRDS: {"pay.example.com", "payments", "payments.shop"}, view.RDS: {"shop/payments"},
			view.CDS: {"shop/payments"}, view.EDS: {"shop/payments"},
		},
	} {
		b := NewBuilder()
		b.Update(w, c)
		k := orders()
		k.Profile = profile
		class := b.Join(k)
		for typ := range view.NumTypes {
			if got := names(class.Head().Views[typ]); !slices.Equal(got, want[typ]) {
				t.Errorf("%s: %v = %q, want %q", profile, typ, got, want[typ])
			}
		}
		gone := Changes{
			Services: map[manifest.Key]*catalog.Service{key("shop", "payments"): nil},
			Hosts:    map[string]*manifest.Key{"payments.shop": nil, "pay.example.com": nil},
		}
		b.Update(w.With(2, gone), gone)
		for _, typ := range []view.Type{view.LDS, view.SRDS, view.RDS, view.CDS, view.EDS} {
			if got := names(class.Head().Views[typ]); len(got) > 0 && got[0] != "outbound" {
				t.Errorf("%s: %v still holds %q", profile, typ, got)
			}
		}
	}
}
