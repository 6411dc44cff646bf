package envoy

import (
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// outlierDetection is nil where no policy asks for it. Otherwise every field is written, so that nothing hangs on Envoy's defaults,
// and a detector that is absent is off: a threshold of 0, where that switches it off, and enforced in 0 % of cases.
func (in input) outlierDetection() *clusterv3.OutlierDetection {
	o, observed := in.detection()
	if o == nil {
		return nil
	}
	enforcing := orElse(o.EnforcingPercent, policy.EnforcingPercent{})
	out := &clusterv3.OutlierDetection{
		Interval:              duration(o.Interval),
		BaseEjectionTime:      duration(o.BaseEjectionTime),
		MaxEjectionTime:       duration(o.MaxEjectionTime),
		MaxEjectionTimeJitter: durationpb.New(0),
		MaxEjectionPercent:    wrap(o.MaxEjectionPercent),

		AlwaysEjectOneHost:                     boolean(o.AlwaysEjectOneHost, false),
		SuccessfulActiveHealthCheckUnejectHost: boolean(in.uneject(o), true),
		DetectDegradedHosts:                    boolean(o.DetectDegradedHosts, false),
		SplitExternalLocalOriginErrors:         orElse(o.SplitLocalOriginErrors, false),

		Consecutive_5Xx:                        threshold(o.Consecutive5xx),
		EnforcingConsecutive_5Xx:               enforced(o.Consecutive5xx != nil, enforcing.Consecutive5xx),
		ConsecutiveGatewayFailure:              threshold(o.ConsecutiveGatewayFailure),
		EnforcingConsecutiveGatewayFailure:     enforced(o.ConsecutiveGatewayFailure != nil, enforcing.ConsecutiveGatewayFailure),
		ConsecutiveLocalOriginFailure:          threshold(o.ConsecutiveLocalOriginError),
		EnforcingConsecutiveLocalOriginFailure: enforced(o.ConsecutiveLocalOriginError != nil, enforcing.ConsecutiveLocalOriginError),
	}
	if finite(o.MaxEjectionTimeJitter) {
		out.MaxEjectionTimeJitter = duration(o.MaxEjectionTimeJitter)
	}
	addSuccessRate(out, o.SuccessRate, enforcing.SuccessRate)
	addFailurePercentage(out, o.FailurePercentage, enforcing.FailurePercentage)
	if observed {
		ejectNothing(out)
	}
	return out
}

// uneject is what a passing health check does to an ejection. Where there are none, what a policy says of it must not rebuild the cluster.
func (in input) uneject(o *policy.OutlierDetection) *bool {
	if in.sections.HealthCheck == nil {
		return nil
	}
	return o.UnejectOnHealthCheck
}

// addSuccessRate judges, with split errors, what hosts answered and what the proxy saw itself, each on its own.
func addSuccessRate(out *clusterv3.OutlierDetection, s *policy.SuccessRate, enforcing *uint32) {
	split := out.SplitExternalLocalOriginErrors
	out.EnforcingSuccessRate = enforced(s != nil, enforcing)
	out.EnforcingLocalOriginSuccessRate = enforced(s != nil && split, enforcing)
	s = new(orElse(s, policy.SuccessRate{}))
	out.SuccessRateMinimumHosts = wrapperspb.UInt32(orElse(s.MinimumHosts, 5))
	out.SuccessRateRequestVolume = wrapperspb.UInt32(orElse(s.RequestVolume, 100))
	out.SuccessRateStdevFactor = wrapperspb.UInt32(orElse(s.StdevFactor, 1900))
}

func addFailurePercentage(out *clusterv3.OutlierDetection, f *policy.FailurePercentage, enforcing *uint32) {
	split := out.SplitExternalLocalOriginErrors
	out.EnforcingFailurePercentage = enforced(f != nil, enforcing)
	out.EnforcingFailurePercentageLocalOrigin = enforced(f != nil && split, enforcing)
	f = new(orElse(f, policy.FailurePercentage{}))
	out.FailurePercentageThreshold = wrapperspb.UInt32(orElse(f.Threshold, 85))
	out.FailurePercentageMinimumHosts = wrapperspb.UInt32(orElse(f.MinimumHosts, 5))
	out.FailurePercentageRequestVolume = wrapperspb.UInt32(orElse(f.RequestVolume, 50))
}

// threshold of a consecutive detector; 0 switches it off.
func threshold(n *uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(orElse(n, 0)) }

// enforced is the chance that a detection ejects: all of them, unless the policy says otherwise, and none without the detector.
func enforced(present bool, percent *uint32) *wrapperspb.UInt32Value {
	if !present {
		return wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(orElse(percent, 100))
}

func wrap(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt32(*n)
}

func boolean(b *bool, def bool) *wrapperspb.BoolValue { return wrapperspb.Bool(orElse(b, def)) }

var outlierLines = slices.Concat([]line{
	{field: "outlierDetection.useFailureCriteria", on: proxies, when: criteriaMiss, level: Approximate,
		reason: "a host that answers unknown, unimplemented, internal or data-loss is charged, whatever failureCriteria say"},
	{field: "outlierDetection.consecutiveGatewayFailure", on: proxies, when: usesCriteria, level: Approximate,
		reason: "of the failures by failureCriteria it counts 502, 503 and 504 and missing answers alone", instead: "outlierDetection.consecutive5xx"},
	{field: "outlierDetection.baseEjectionTime", on: proxies, when: ofBreaker, inherent: true, level: Approximate,
		reason: "a circuit breaker closes at the first check after it, up to a second later"},
	{field: "outlierDetection.baseEjectionTime", on: proxies, always: true, inherent: true, level: Approximate,
		reason: "a host comes back at the first check after it, up to one interval later", instead: "outlierDetection.interval"},
}, statusLines("consecutive5xx", "consecutiveGatewayFailure", "successRate", "failurePercentage"))

// statusLines are those of the detectors that judge what a host answered.
func statusLines(detectors ...string) []line {
	var list []line
	for _, name := range detectors {
		list = append(list, line{field: "outlierDetection." + name, on: proxies, when: grpcService, inherent: true, level: Approximate,
			reason: "a gRPC status is seen where the response is nothing but trailers; a call that fails later counts as a success"})
	}
	return list
}
