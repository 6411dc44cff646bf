package dataplane

import (
	"time"

	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

func (r *reader) adaptive(path string, m *adaptivev3.AdaptiveConcurrency) *AdaptiveConcurrency {
	c := m.GetGradientControllerConfig()
	limit, rtt := c.GetConcurrencyLimitParams(), c.GetMinRttCalcParams()
	path += ".gradient_controller_config"
	if rtt.GetInterval() == nil {
		r.fault(path+".min_rtt_calc_params.interval", "is missing")
	}
	if limit.GetConcurrencyUpdateInterval().AsDuration() < time.Millisecond {
		r.fault(path+".concurrency_limit_params.concurrency_update_interval", "is less than 1ms")
	}
	return &AdaptiveConcurrency{
		Place:  r.id.String() + " " + path,
		Status: statusFrom(m.GetConcurrencyLimitExceededStatus(), 503),
		Off:    m.GetEnabled() != nil && !m.GetEnabled().GetDefaultValue().GetValue(),
		Limits: resilience.GradientLimits{
			UpdateInterval: limit.GetConcurrencyUpdateInterval().AsDuration(),
			MaxConcurrency: orValue(limit.GetMaxConcurrencyLimit(), 1000),
			Percentile:     share(c.GetSampleAggregatePercentile(), 50),
			MinRTTInterval: rtt.GetInterval().AsDuration(),
			MinRTTRequests: orValue(rtt.GetRequestCount(), 50),
			MinConcurrency: orValue(rtt.GetMinConcurrency(), 3),
			Jitter:         share(rtt.GetJitter(), 15),
			Buffer:         share(rtt.GetBuffer(), 25),
		},
	}
}

// share is p, or percent where there is none, as a share of 1.
func share(p *typev3.Percent, percent float64) float64 {
	if p != nil {
		percent = p.GetValue()
	}
	return percent / 100
}
