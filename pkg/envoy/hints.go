package envoy

import (
	"google.golang.org/protobuf/types/known/structpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// Hints are what only an agent does. They stand in the metadata of a cluster or a route, which decides nothing on an Envoy; and an Envoy gets none,
// since any changed byte rebuilds its cluster.
const Hints = "breakwater.agent"

// What the hints are called, in the metadata of a cluster under Hints. Each is a number.
const (
	HintMaxProbes = "half_open_max_probes"
	HintSuccesses = "half_open_successes"
)

// HintAttemptBudget is called so in the metadata of a route; "on" makes each attempt say how much of the call's deadline is left for it.
const HintAttemptBudget = "attempt_budget"

// hint writes the hints of a cluster, where there are any.
func (in input) hint(c *clusterv3.Cluster) {
	b := in.sections.CircuitBreaker
	if in.target.audience() != agents || b == nil || b.HalfOpen == nil || !orElse(b.HalfOpen.Probe, true) {
		return
	}
	number := func(n *uint32) *structpb.Value { return structpb.NewNumberValue(float64(orElse(n, 1))) }
	c.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{Hints: {Fields: map[string]*structpb.Value{
		HintMaxProbes: number(b.HalfOpen.MaxProbes), HintSuccesses: number(b.HalfOpen.Successes),
	}}}}
}
