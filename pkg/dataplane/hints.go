package dataplane

import (
	"math"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// The hints of our control plane to its agents, in the metadata of a cluster or of a route: what an Envoy knows nothing of. They are no
// fields of Envoy's, so that what can't be read is no fault, and counts as absent.
const (
	hints         = "breakwater.agent"
	hintMaxProbes = "half_open_max_probes"
	hintSuccesses = "half_open_successes"

	hintObservedRequests  = "observe_max_requests"
	hintObservedAdmission = "observe_admission"

	hintAttemptBudget   = "attempt_budget"
	hintObservedTimeout = "observe_timeout"
	hintObservedPerTry  = "observe_per_try"
)

// halfOpen is how an ejection ends, as the hints say; the zero value where they say nothing.
func halfOpen(m *corev3.Metadata) resilience.HalfOpen {
	said := hintsOf(m)
	number := func(name string) uint32 {
		n := said[name].GetNumberValue()
		if n < 1 || n > 1000 {
			return 0
		}
		return uint32(n)
	}
	h := resilience.HalfOpen{MaxProbes: number(hintMaxProbes), Successes: number(hintSuccesses)}
	if h.MaxProbes == 0 || h.Successes == 0 {
		return resilience.HalfOpen{}
	}
	return h
}

// observedRequests is a limit of requests that is only counted, nil where there is none.
func observedRequests(m *corev3.Metadata) *uint32 {
	v, ok := hintsOf(m)[hintObservedRequests].GetKind().(*structpb.Value_NumberValue)
	if !ok || v.NumberValue < 0 || v.NumberValue >= math.MaxUint32 {
		return nil
	}
	return new(uint32(v.NumberValue))
}

// observesAdmission reports whether admission control that is not enabled is to be counted.
func observesAdmission(m *corev3.Metadata) bool {
	return hintsOf(m)[hintObservedAdmission].GetNumberValue() == 1
}

func hintsOf(m *corev3.Metadata) map[string]*structpb.Value {
	return m.GetFilterMetadata()[hints].GetFields()
}

// hint takes the hints of a route from its metadata.
func (out *Route) hint() {
	text := func(name string) string { return out.Metadata[MetadataKey{hints, name}] }
	out.AttemptBudget = text(hintAttemptBudget) == "on"
	out.ObservedTimeout, _ = time.ParseDuration(text(hintObservedTimeout))
	out.ObservedPerTry, _ = time.ParseDuration(text(hintObservedPerTry))
}
