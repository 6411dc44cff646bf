package envoy

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

func levels(report []Fidelity) map[string]Level {
	all := map[string]Level{}
	for _, f := range report {
		all[f.Field] = f.Level
	}
	return all
}

// A policy for a route reaches no proxy with routes of its own, though one for the service would, on the cluster.
func TestPolicyForARouteOnAForeignRoute(t *testing.T) {
	whole := policy.Policy{Metadata: manifest.Meta{Namespace: "shop", Name: "all"}}
	whole.Spec.To.Service = "payments"
	whole.Spec.Retry = &policy.Retry{NumRetries: new(uint32(2))}
	part := policy.Policy{Metadata: manifest.Meta{Namespace: "shop", Name: "reads"}}
	part.Spec.To = policy.Target{Service: "payments", Route: "reads"}
	part.Spec.Retry = &policy.Retry{AvoidPreviousHosts: new(true)}
	svc := payments(catalog.HTTP)
	eff, _ := policy.Merge(policy.Service{Key: svc.Key()}, []*policy.Compiled{policy.Compile(&whole), policy.Compile(&part)})
	for profile, want := range map[string]Level{Sidecar: Exact, ClustersOnly: Unsupported} {
		got := levels(Report(Target{Profile: profile, Version: "1.40"}, svc, eff))
		if got["retry.avoidPreviousHosts"] != want || got["retry.numRetries"] != Exact {
			t.Errorf("%s: %v, want avoidPreviousHosts %s and numRetries exact", profile, got, want)
		}
	}
}

func TestTCPServiceByProfile(t *testing.T) {
	svc := payments(catalog.TCP)
	svc.Spec.LocalPort = new(uint32(5432))
	for profile, listens := range map[string]bool{Sidecar: true, Agent: true, ClustersOnly: false, GRPC: false} {
		c, err := Service(Target{Profile: profile, Version: "1.40"}, svc, &policy.Effective{})
		if err != nil {
			t.Fatal(err)
		}
		if c.Route != nil || (c.Local != nil) != listens || c.Cluster == nil {
			t.Errorf("%s: a route %v, a listener %v, want none and %v", profile, c.Route != nil, c.Local != nil, listens)
		}
	}
}

// Two services whose routes lead to one cluster, each with a fallback for what fails there, have a composite each: what Envoy reads
// from it is what holds for the route.
func TestCompositesOverAForeignBackendAreTheRoutes(t *testing.T) {
	p := policy.Policy{Metadata: manifest.Meta{Namespace: "shop", Name: "all"}}
	p.Spec.To.Service = policy.Every
	p.Spec.Fallback = &policy.Fallback{Service: new("shop/email")}
	queue := payments(catalog.HTTP)
	queue.Metadata.Name = "queue"
	away := payments(catalog.HTTP)
	away.Spec.Routes = []catalog.Route{{Name: "away", Backends: []catalog.Backend{{Service: "queue"}}}}
	names := map[string]bool{}
	for _, svc := range []*catalog.Service{queue, away} {
		eff, _ := policy.Merge(policy.Service{Key: svc.Key()}, []*policy.Compiled{policy.Compile(&p)})
		c, err := Service(sidecar, svc, eff)
		if err != nil {
			t.Fatal(err)
		}
		for _, composite := range c.Composites {
			if names[composite.Name] {
				t.Errorf("both have a composite %s", composite.Name)
			}
			names[composite.Name] = true
		}
	}
	if !names["shop/queue~shop/email~1"] || !names["shop/queue~shop/email~1~shop/payments"] {
		t.Errorf("composites %v, want one of each over queue", names)
	}
}
