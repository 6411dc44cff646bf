package world

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// The tests of this file are named after the traps of xDS in docs/xds-traps.md.

// content reads a resource.
func content[M proto.Message](t *testing.T, r *view.Resource, m M) M {
	t.Helper()
	var packed anypb.Any
	if err := proto.Unmarshal(r.Any(), &packed); err != nil {
		t.Fatal(err)
	}
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A service without endpoints has an assignment that says so, and its routes and cluster are there: a proxy that starts waits for each of them.
func TestTrap07_AServiceWithoutEndpointsHasAnEmptyAssignment(t *testing.T) {
	w, c := newWorld(service(key("shop", "payments")))
	b := NewBuilder()
	b.Update(w, c)
	head := b.Join(orders()).Head()
	r := head.Views[view.EDS].Get("shop/payments")
	if r == nil {
		t.Fatal("there is no assignment")
	}
	if a := content(t, r, &endpointv3.ClusterLoadAssignment{}); a.GetClusterName() != "shop/payments" || len(a.GetEndpoints()) != 0 {
		t.Errorf("the assignment is %v, want an empty one", a)
	}
	for _, typ := range []view.Type{view.CDS, view.RDS} {
		if head.Views[typ].Get("shop/payments") == nil {
			t.Errorf("there is no %s", typ)
		}
	}
}

// Envoy gives an assignment to one of the clusters that ask for it: no two ask for the same, and each is there under the cluster's own name.
func TestTrap10_EveryClusterHasAnAssignmentOfItsOwn(t *testing.T) {
	w, c := newWorld(
		service(key("shop", "queue")),
		service(key("shop", "payments"), func(s *catalog.Service) {
			s.Spec.ClusterName, s.Spec.Subsets = "pay", map[string]map[string]string{"v2": {"version": "v2"}}
		}),
	)
	fallback := compiled(t, key("shop", "p"), policy.Spec{To: policy.Target{Service: "payments"}, Sections: policy.Sections{Fallback: &policy.Fallback{Service: ptr("queue")}}})
	c.Policies[fallback.Policy.Key()] = fallback
	w = w.With(2, Changes{Policies: map[manifest.Key]*policy.Compiled{fallback.Policy.Key(): fallback}})
	for _, profile := range []string{envoy.Sidecar, envoy.Agent, envoy.ClustersOnly, envoy.GRPC} {
		b, k := NewBuilder(), orders()
		b.Update(w, c)
		k.Profile = profile
		head, of := b.Join(k).Head(), map[string]string{}
		for r := range head.Views[view.CDS].All() {
			m := content(t, r, &clusterv3.Cluster{})
			if m.GetType() != clusterv3.Cluster_EDS || m.GetEdsClusterConfig() == nil {
				continue
			}
			name := m.GetEdsClusterConfig().GetServiceName()
			if other, taken := of[name]; name != r.Name || taken || head.Views[view.EDS].Get(name) == nil {
				t.Errorf("%s: the assignment of %s is %q, which %q has too; there: %v", profile, r.Name, name, other, head.Views[view.EDS].Get(name) != nil)
			}
			of[name] = r.Name
		}
		if len(of) < 2 {
			t.Errorf("%s: only %v was compared", profile, of)
		}
	}
}
