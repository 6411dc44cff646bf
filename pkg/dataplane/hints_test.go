package dataplane_test

import (
	"testing"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/envoy"
	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// What only an agent does reaches it beside what Envoy knows, and an Envoy's cluster has nothing of it.
func TestAHalfOpenBreakerReachesTheAgentAlone(t *testing.T) {
	svc := &catalog.Service{Metadata: manifest.Meta{Namespace: "shop", Name: "payments"}}
	for _, c := range []struct {
		profile  string
		halfOpen *policy.HalfOpen
		want     resilience.HalfOpen
	}{
		{envoy.Agent, &policy.HalfOpen{MaxProbes: new(uint32(2)), Successes: new(uint32(3))}, resilience.HalfOpen{MaxProbes: 2, Successes: 3}},
		{envoy.Agent, &policy.HalfOpen{Probe: new(true)}, resilience.HalfOpen{MaxProbes: 1, Successes: 1}},
		{envoy.Agent, &policy.HalfOpen{Probe: new(false), MaxProbes: new(uint32(2))}, resilience.HalfOpen{}},
		{envoy.Agent, nil, resilience.HalfOpen{}},
		{envoy.Sidecar, &policy.HalfOpen{MaxProbes: new(uint32(2))}, resilience.HalfOpen{}},
	} {
		p := &policy.Policy{Metadata: manifest.Meta{Namespace: "shop", Name: "p"}}
		p.Spec.To.Service = "payments"
		p.Spec.CircuitBreaker = &policy.CircuitBreaker{FailureThreshold: new(uint32(3)), HalfOpen: c.halfOpen}
		called := policy.Service{Key: svc.Key(), Protocol: string(catalog.HTTP)}
		effective, _ := policy.Merge(called, []*policy.Compiled{policy.Compile(p)})
		compiled, err := envoy.Service(envoy.Target{Profile: c.profile, Version: "1.40"}, svc, effective)
		if err != nil {
			t.Fatal(err)
		}
		assignment, err := envoy.Assignment(svc, nil)
		if err != nil {
			t.Fatal(err)
		}
		table, faults := dataplane.Compile(holds(ofCompiler(t, compiled.Cluster), ofCompiler(t, assignment)), nil)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		if got := table.Clusters["shop/payments"].Outlier.HalfOpen; got != c.want {
			t.Errorf("%s of %+v: got %+v, want %+v", c.profile, c.halfOpen, got, c.want)
		}
	}
}
