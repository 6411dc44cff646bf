package world

import (
	"slices"
	"strings"
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

// Where the routes are their owner's, cluster, assignments and limits have the name that stands in them; elsewhere our own.
func TestClusterName(t *testing.T) {
	payments := manifest.Key{Namespace: "shop", Name: "payments"}
	called := service(payments)
	called.Spec.ClusterName = "pay"
	called.Spec.Subsets = map[string]map[string]string{"v1": {"version": "v1"}}
	b := NewBuilder()
	w := &World{}
	put := func(services ...*catalog.Service) {
		c := Changes{Services: map[manifest.Key]*catalog.Service{}}
		for _, s := range services {
			c.Services[s.Key()] = s
		}
		next := w.With(w.Rev+1, c)
		b.Update(next, c)
		w = next
	}
	put(called)
	held := func(profile string) string {
		k := orders()
		k.Profile = profile
		head := b.Join(k).Head()
		var list []string
		for _, typ := range []view.Type{view.CDS, view.EDS} {
			list = append(list, names(head.Views[typ])...)
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	wants := func(step, foreign, ours string) {
		t.Helper()
		if got := held(envoy.ClustersOnly); got != foreign {
			t.Errorf("%s: with clusters alone %q, want %q", step, got, foreign)
		}
		if got := held(envoy.Sidecar); got != ours {
			t.Errorf("%s: a sidecar has %q, want %q", step, got, ours)
		}
	}
	const plain = "shop/payments shop/payments shop/payments|v1 shop/payments|v1"
	wants("at first", "pay pay pay|v1 pay|v1", plain)
	renamed := *called
	renamed.Spec.ClusterName = "money"
	put(&renamed)
	wants("renamed", "money money money|v1 money|v1", plain)

	// Two that meet: the first by name has it, and the other one its own.
	other := service(manifest.Key{Namespace: "shop", Name: "billing"})
	other.Spec.ClusterName = "money"
	put(other)
	wants("met", "money money "+plain, "shop/billing shop/billing "+plain)
	if err := b.Problems()[payments]; err == nil || !strings.Contains(err.Error(), "that of shop/billing is") {
		t.Errorf("problem %v, want one that names shop/billing", err)
	}
	again := *other
	again.Spec.ClusterName = ""
	put(&again)
	wants("apart", "money money money|v1 money|v1 shop/billing shop/billing", "shop/billing shop/billing "+plain)
	if err := b.Problems()[payments]; err != nil {
		t.Errorf("problem %v, want none", err)
	}
	put(&again, called)
	c := Changes{Services: map[manifest.Key]*catalog.Service{payments: nil}}
	next := w.With(w.Rev+1, c)
	b.Update(next, c)
	wants("gone", "shop/billing shop/billing", "shop/billing shop/billing")
}
