package envoy

import (
	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Filter is an HTTP filter that a listener holds for one service. It must not be changed.
type Filter struct{ config *hcmv3.HttpFilter }

// adaptive is the filter that finds the limit of a service, off until the service's virtual host switches it on; ok is false where no
// policy asks for it. It has no configuration by route, so the listener holds one for each service: see docs/adr/0020.
func (in input) adaptive() (f Filter, ok bool) {
	a := in.sections.AdaptiveConcurrency
	if a == nil {
		return Filter{}, false
	}
	m := orElse(a.MinLatency, policy.MinLatency{})
	percent := func(p *uint32, def uint32) *typev3.Percent { return &typev3.Percent{Value: float64(orElse(p, def))} }
	config := httpFilter(in.adaptiveName(), &adaptivev3.AdaptiveConcurrency{
		ConcurrencyControllerConfig: &adaptivev3.AdaptiveConcurrency_GradientControllerConfig{GradientControllerConfig: &adaptivev3.GradientControllerConfig{
			SampleAggregatePercentile: percent(a.Percentile, 50),
			ConcurrencyLimitParams: &adaptivev3.GradientControllerConfig_ConcurrencyLimitCalculationParams{
				MaxConcurrencyLimit: wrap(a.MaxConcurrency), ConcurrencyUpdateInterval: duration(a.UpdateInterval),
			},
			MinRttCalcParams: &adaptivev3.GradientControllerConfig_MinimumRTTCalculationParams{
				Interval: duration(m.Interval), RequestCount: wrap(m.Requests), MinConcurrency: wrap(m.Concurrency),
				Jitter: percent(m.JitterPercent, 15), Buffer: percent(m.BufferPercent, 25),
			},
		}},
	})
	config.Disabled = true
	return Filter{config}, true
}

func (in input) adaptiveName() string { return "breakwater.adaptive-concurrency/" + in.name }

var adaptiveLines = []line{
	{field: "adaptiveConcurrency", on: clustersOnly, level: Unsupported, reason: "the proxy's listener is its owner's", instead: "admissionControl, or limits.maxRequests"},
}
