package envoy

import (
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// detection is the outlier detection that a cluster gets: what is enforced, or else what is only observed. There is one of it.
func (in input) detection() (o *policy.OutlierDetection, observed bool) {
	if o := in.sections.OutlierDetection; o != nil {
		return o, false
	}
	return in.observed.OutlierDetection, true
}

// limitOfRate is the rate limit that a route gets, as detection.
func (in input) limitOfRate() (l *policy.RateLimit, observed bool) {
	if l := in.sections.RateLimit; l != nil {
		return l, false
	}
	return in.observed.RateLimit, true
}

// admissionControl is what a cluster gets of it, as detection; what is only observed, an agent alone counts.
func (in input) admissionControl() (a *policy.AdmissionControl, observed bool) {
	if a := in.sections.AdmissionControl; a != nil || in.target.audience() != agents {
		return a, false
	}
	a = in.observed.AdmissionControl
	return a, a != nil
}

// ejectNothing leaves of outlier detection what counts: every detection, and no ejection.
func ejectNothing(o *clusterv3.OutlierDetection) {
	for _, chance := range []**wrapperspb.UInt32Value{
		&o.EnforcingConsecutive_5Xx, &o.EnforcingConsecutiveGatewayFailure, &o.EnforcingConsecutiveLocalOriginFailure,
		&o.EnforcingSuccessRate, &o.EnforcingLocalOriginSuccessRate, &o.EnforcingFailurePercentage, &o.EnforcingFailurePercentageLocalOrigin,
	} {
		*chance = wrapperspb.UInt32(0)
	}
	o.DetectDegradedHosts = wrapperspb.Bool(false) // it puts hosts behind others without an ejection
}

func never() *corev3.RuntimeFractionalPercent {
	return &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{}}
}

// observedLines speak of the fields of sections that only observe. Of what none of them speaks, proxies that can count it at all are as
// exact as where they enforce it.
var observedLines = []line{
	{field: "outlierDetection", on: grpcClients, level: Unsupported, reason: "a gRPC client counts nothing that it does not do"},
	{field: "outlierDetection", on: proxies, when: ejects, beside: true, level: Unsupported, reason: "a proxy detects once, and that is enforced"},
	{field: "outlierDetection.detectDegradedHosts", on: proxies, level: Unsupported, reason: "a host that calls itself degraded would get less"},
	{field: "outlierDetection.baseEjectionTime", on: proxies, always: true, inherent: true, level: Approximate,
		reason: "no host is ever out: one that would be gets its calls, and is detected again after as many failures"},
	{field: "circuitBreaker", level: Unsupported, reason: "nothing opens"},
	{field: "rateLimit", on: proxies, when: limitsRate, beside: true, level: Unsupported, reason: "a route has one rate limit, and that is enforced"},
	{field: "admissionControl", on: agents, when: admits, beside: true, level: Unsupported, reason: "a cluster has one admission control, and that is enforced"},
	{field: "admissionControl", on: agents, when: fallsBack, beside: true, level: Unsupported, reason: "a service with a fallback has it where the fallback is chosen, and there nothing is only counted"},
	{field: "admissionControl", on: agents, level: Exact},
	{field: "limits.maxRequests", on: agents, level: Exact},
	{field: "limits.maxPendingRequests", on: agents, when: bulkheadAlone, level: Exact},
	{field: "timeout.request", on: agents, level: Exact},
	{field: "timeout.perTry", on: agents, level: Exact},
}

// bulkheadAlone holds where a bulkhead has no queue of its own.
func bulkheadAlone(_ input, f policy.Field) bool { return f.Origin.Path == "bulkhead.maxConcurrent" }

func fallsBack(in input, _ policy.Field) bool { return in.spare() != "" }

func ejects(in input, _ policy.Field) bool     { return in.sections.OutlierDetection != nil }
func limitsRate(in input, _ policy.Field) bool { return in.sections.RateLimit != nil }

// observedFidelity speaks of one field of a section that only observes.
func (in input) observedFidelity(f policy.Field) (Fidelity, bool) {
	section, _, _ := strings.Cut(f.Path, ".")
	if section == "loadBalancing" && below(f.Origin.Path, "circuitBreaker") {
		return Fidelity{}, false // of a breaker that never opens
	}
	for _, l := range observedLines {
		if !in.tcp() && l.fits(in, f) {
			return l.fidelity(f.Path), true
		}
	}
	if section != "outlierDetection" && section != "rateLimit" {
		return Fidelity{Field: f.Path, Level: Unsupported, Reason: "a proxy of this kind can't count it without doing it"}, !f.Origin.Default
	}
	in.sections.OutlierDetection, in.sections.RateLimit = in.observed.OutlierDetection, in.observed.RateLimit
	return in.fidelity(f)
}
