package dataplane

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// outlier is nil where the cluster has no outlier detection. What is not set is Envoy's default. The metadata are the cluster's.
func (r *reader) outlier(path string, o *clusterv3.OutlierDetection, m *corev3.Metadata) *resilience.Outlier {
	if o == nil {
		return nil
	}
	out := &resilience.Outlier{
		Consecutive5xx: resilience.Consecutive{
			Threshold: orValue(o.GetConsecutive_5Xx(), 5), Enforcing: orValue(o.GetEnforcingConsecutive_5Xx(), 100),
		},
		ConsecutiveGatewayFailure: resilience.Consecutive{
			Threshold: orValue(o.GetConsecutiveGatewayFailure(), 5), Enforcing: orValue(o.GetEnforcingConsecutiveGatewayFailure(), 0),
		},
		ConsecutiveLocalOriginFailure: resilience.Consecutive{
			Threshold: orValue(o.GetConsecutiveLocalOriginFailure(), 5), Enforcing: orValue(o.GetEnforcingConsecutiveLocalOriginFailure(), 100),
		},
		SplitLocalOriginErrors: o.GetSplitExternalLocalOriginErrors(),
		SuccessRate: resilience.SuccessRate{
			MinimumHosts: orValue(o.GetSuccessRateMinimumHosts(), 5), RequestVolume: orValue(o.GetSuccessRateRequestVolume(), 100),
			StdevFactor: orValue(o.GetSuccessRateStdevFactor(), 1900), Enforcing: orValue(o.GetEnforcingSuccessRate(), 100),
		},
		FailurePercentage: resilience.FailurePercentage{
			Threshold: orValue(o.GetFailurePercentageThreshold(), 85), MinimumHosts: orValue(o.GetFailurePercentageMinimumHosts(), 5),
			RequestVolume: orValue(o.GetFailurePercentageRequestVolume(), 50), Enforcing: orValue(o.GetEnforcingFailurePercentage(), 0),
		},
		EnforcingLocalOriginSR: orValue(o.GetEnforcingLocalOriginSuccessRate(), 100),
		EnforcingLocalOriginFP: orValue(o.GetEnforcingFailurePercentageLocalOrigin(), 0),
		Interval:               orDuration(o.GetInterval(), 10*time.Second),
		BaseEjectionTime:       orDuration(o.GetBaseEjectionTime(), 30*time.Second),
		MaxEjectionTimeJitter:  o.GetMaxEjectionTimeJitter().AsDuration(),
		MaxEjectionPercent:     orValue(o.GetMaxEjectionPercent(), 10),
		AlwaysEjectOneHost:     o.GetAlwaysEjectOneHost().GetValue(),
		DetectDegradedHosts:    o.GetDetectDegradedHosts().GetValue(),
		UnejectOnHealthCheck:   true,
		HalfOpen:               halfOpen(m),
	}
	if b := o.GetSuccessfulActiveHealthCheckUnejectHost(); b != nil {
		out.UnejectOnHealthCheck = b.GetValue()
	}
	out.MaxEjectionTime = orDuration(o.GetMaxEjectionTime(), max(300*time.Second, out.BaseEjectionTime))
	if out.MaxEjectionTime < out.BaseEjectionTime {
		r.fault(path+".max_ejection_time", "is less than base_ejection_time")
	}
	return out
}
