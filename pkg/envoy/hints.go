package envoy

import (
	"google.golang.org/protobuf/types/known/structpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
)

// Hints are what only an agent does. They stand in the metadata of a cluster or a route, which decides nothing on an Envoy; and an Envoy gets none,
// since any changed byte rebuilds its cluster.
const Hints = "breakwater.agent"

// What the hints are called, in the metadata of a cluster under Hints. Each is a number.
const (
	HintMaxProbes = "half_open_max_probes"
	HintSuccesses = "half_open_successes"

	HintObservedRequests  = "observe_max_requests" // as limits.maxRequests, but only counted
	HintObservedAdmission = "observe_admission"    // 1: the admission control that is not enabled is counted
)

// What they are called in the metadata of a route. Each is text.
const (
	HintAttemptBudget   = "attempt_budget"  // "on": each attempt says how much of the call's deadline is left for it
	HintObservedTimeout = "observe_timeout" // as timeout.request, but only counted
	HintObservedPerTry  = "observe_per_try" // as timeout.perTry, likewise
)

// hint writes the hints of a cluster, where there are any.
func (in input) hint(c *clusterv3.Cluster) {
	if in.target.audience() != agents {
		return
	}
	hints := make(map[string]*structpb.Value)
	number := func(name string, n uint32) { hints[name] = structpb.NewNumberValue(float64(n)) }
	if b := in.sections.CircuitBreaker; b != nil && b.HalfOpen != nil && orElse(b.HalfOpen.Probe, true) {
		number(HintMaxProbes, orElse(b.HalfOpen.MaxProbes, 1))
		number(HintSuccesses, orElse(b.HalfOpen.Successes, 1))
	}
	if l := in.observed.Limits; l != nil && l.MaxRequests != nil && *l.MaxRequests != manifest.Unlimited {
		number(HintObservedRequests, uint32(*l.MaxRequests))
	}
	if _, observed := in.admissionControl(); observed {
		number(HintObservedAdmission, 1)
	}
	if len(hints) > 0 {
		c.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{Hints: {Fields: hints}}}
	}
}

// agentHints are the hints of a route, nil where there are none.
func (in input) agentHints() *structpb.Struct {
	if in.target.audience() != agents {
		return nil
	}
	hints := make(map[string]*structpb.Value)
	if in.deadline() != nil {
		hints[HintAttemptBudget] = structpb.NewStringValue("on")
	}
	if t := in.observed.Timeout; t != nil {
		for name, d := range map[string]*manifest.Duration{HintObservedTimeout: t.Request, HintObservedPerTry: t.PerTry} {
			if finite(d) {
				hints[name] = structpb.NewStringValue(d.D().String())
			}
		}
	}
	if len(hints) == 0 {
		return nil
	}
	return &structpb.Struct{Fields: hints}
}
