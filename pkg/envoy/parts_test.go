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
