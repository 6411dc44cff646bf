package envoy

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/breakwater-mesh/breakwater/pkg/manifest"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
	"github.com/breakwater-mesh/breakwater/pkg/view"
)

// What a gRPC client gets holds only what it reads, and never what it would refuse. It asks for a listener by the host that it dials,
// and follows the names from there.

// APIListener leads one alias, the host that a gRPC client dials, to the routes of a service. The alias must be a valid host.
func APIListener(alias string, service manifest.Key) *view.Resource {
	name := service.String()
	r, err := resource(view.LDS, alias, &listenerv3.Listener{
		Name: alias,
		ApiListener: &listenerv3.ApiListener{ApiListener: pack(&hcmv3.HttpConnectionManager{
			RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: name}},
			StatPrefix:     Outbound,
			HttpFilters: []*hcmv3.HttpFilter{
				httpFilter(faultFilter, &faultv3.HTTPFault{}), httpFilter("envoy.filters.http.router", &routerv3.Router{}),
			},
		})},
	}, view.ID{Type: view.RDS, Name: name})
	if err != nil {
		panic(fmt.Sprintf("listener %q of %s: %v", alias, name, err)) // an empty name, which no manifest has
	}
	return r
}

// grpcCluster is the cluster as a gRPC client reads it. Limits are always in it: without one the client has its own.
func (in input) grpcCluster() *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: in.name,
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
			{Priority: corev3.RoutingPriority_DEFAULT, MaxRequests: wrapperspb.UInt32(unlimited)},
		}},
		OutlierDetection: in.grpcOutlierDetection(),
	}
	in.discover(c)
	if l := in.sections.Limits; l != nil && l.MaxRequests != nil {
		c.CircuitBreakers.Thresholds[0].MaxRequests.Value = uint32(*l.MaxRequests)
	}
	if lb := in.sections.LoadBalancing; lb != nil && orElse(lb.Algorithm, "") == "least-request" {
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST // anything but this and taking turns is refused
	}
	return c
}

// grpcOutlierDetection has the two detectors that a gRPC client knows. Success rates are judged unless that is switched off.
func (in input) grpcOutlierDetection() *clusterv3.OutlierDetection {
	o := in.sections.OutlierDetection
	if !statistical(o) {
		return nil
	}
	full := in.outlierDetection()
	return &clusterv3.OutlierDetection{
		Interval: full.Interval, BaseEjectionTime: full.BaseEjectionTime, MaxEjectionTime: full.MaxEjectionTime, MaxEjectionPercent: full.MaxEjectionPercent,

		EnforcingSuccessRate: full.EnforcingSuccessRate, SuccessRateMinimumHosts: full.SuccessRateMinimumHosts,
		SuccessRateRequestVolume: full.SuccessRateRequestVolume, SuccessRateStdevFactor: full.SuccessRateStdevFactor,

		EnforcingFailurePercentage: full.EnforcingFailurePercentage, FailurePercentageThreshold: full.FailurePercentageThreshold,
		FailurePercentageMinimumHosts: full.FailurePercentageMinimumHosts, FailurePercentageRequestVolume: full.FailurePercentageRequestVolume,
	}
}

func statistical(o *policy.OutlierDetection) bool {
	return o != nil && (o.SuccessRate != nil || o.FailurePercentage != nil)
}

// grpcRoutes is the route as a gRPC client reads it; none where it takes no POST, which every call of it is.
func (r routed) grpcRoutes() []*routev3.Route {
	if taken := r.methods(); taken != nil && !slices.Contains(taken, "POST") {
		return nil
	}
	action := &routev3.RouteAction{RetryPolicy: r.grpcRetryPolicy()}
	r.lead(action, func(b backend) string { return b.cluster })
	if limit := r.wholeCall(); finite(limit) {
		action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: duration(limit)}
	}
	return []*routev3.Route{{Name: r.spec.Name, Match: r.match(nil), Action: &routev3.Route_Route{Route: action}, TypedPerFilterConfig: r.faultConfig()}}
}

// wholeCall is how long a call may last, nil for no limit.
func (in input) wholeCall() *manifest.Duration {
	t := in.sections.Timeout
	switch {
	case t == nil:
		return nil
	case finite(t.Request):
		return t.Request
	}
	return t.MaxStream
}

// grpcRetryPolicy is nil where nothing is retried: a client refuses a policy of no retries, and would take one without a status that
// it knows for an order to retry nothing, whatever stands around it.
func (in input) grpcRetryPolicy() *routev3.RetryPolicy {
	r := in.sections.Retry
	if methods := in.retriedMethods(); !in.retries() || methods != nil && !slices.Contains(methods, "POST") {
		return nil
	}
	on := grpcStatuses(r.RetryOn)
	if len(on) == 0 {
		return nil
	}
	p := &routev3.RetryPolicy{RetryOn: strings.Join(on, ","), NumRetries: wrapperspb.UInt32(orElse(r.NumRetries, 1))}
	if b := r.BackOff; b != nil && finite(b.Base) {
		p.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: duration(b.Base), MaxInterval: duration(b.Max)}
	}
	return p
}

// grpcStatuses are the conditions that a gRPC client knows.
func grpcStatuses(retryOn []string) []string {
	var known []string
	for _, token := range retryOn {
		if slices.Contains(grpcConditions[:], token) {
			known = append(known, token)
		}
	}
	return known
}

// grpcLines are what of each section a gRPC client reads. Of what is not here it reads nothing: see unsaid.
var grpcLines = []line{
	{field: "timeout.request", on: grpcClients, inherent: true, level: Approximate, reason: "it starts with the call, and bounds a stream as a whole"},
	{field: "timeout.maxStream", on: grpcClients, level: Exact},

	{field: "retry.numRetries", on: grpcClients, when: retriesNothing, beside: true, level: Unsupported, reason: notRetried, instead: retryUnavailable},
	{field: "retry.numRetries", on: grpcClients, level: Exact},
	{field: "retry.retryOn", on: grpcClients, when: retriesNothing, always: true, level: Unsupported, reason: notRetried, instead: retryUnavailable},
	{field: "retry.retryOn", on: grpcClients, when: retriesForeign, level: Approximate,
		reason: "the client retries on statuses of gRPC alone; a connection that fails is unavailable, and what a server never saw is sent again in any case", instead: retryUnavailable},
	{field: "retry.retryOn", on: grpcClients, level: Exact},
	{field: "retry.methods", on: grpcClients, level: Exact},
	{field: "retry.backOff", on: grpcClients, inherent: true, level: Approximate, reason: "each pause is 0.8 to 1.2 of base, doubled each time up to max, not anything up to that"},

	{field: "limits.maxRequests", on: grpcClients, level: Exact},
	{field: "limits", on: grpcClients, level: Unsupported, reason: "a gRPC client counts calls under way alone", instead: "limits.maxRequests"},

	{field: "outlierDetection.successRate", on: grpcClients, inherent: true, level: Approximate, reason: anyStatus},
	{field: "outlierDetection.failurePercentage", on: grpcClients, inherent: true, level: Approximate, reason: anyStatus},
	{field: "outlierDetection.enforcingPercent.successRate", on: grpcClients, level: Exact},
	{field: "outlierDetection.enforcingPercent.failurePercentage", on: grpcClients, level: Exact},
	{field: "outlierDetection.interval", on: grpcClients, when: judgesStatistics, level: Exact},
	{field: "outlierDetection.baseEjectionTime", on: grpcClients, when: judgesStatistics, always: true, inherent: true, level: Approximate,
		reason: "a host comes back at the first check after it, up to one interval later", instead: "outlierDetection.interval"},
	{field: "outlierDetection.maxEjectionTime", on: grpcClients, when: judgesStatistics, level: Exact},
	{field: "outlierDetection.maxEjectionPercent", on: grpcClients, when: judgesStatistics, inherent: true, level: Approximate, reason: "one host may go whatever it says"},
	{field: "outlierDetection.alwaysEjectOneHost", on: grpcClients, when: both(judgesStatistics, asks), level: Exact},
	{field: "outlierDetection.alwaysEjectOneHost", on: grpcClients, when: judgesStatistics, inherent: true, level: Approximate, reason: "one host may go whatever it says"},
	{field: "outlierDetection", on: grpcClients, level: Unsupported, reason: "a gRPC client counts no failures in a row; it ejects by success rate and failure percentage", instead: "outlierDetection.failurePercentage"},

	{field: "loadBalancing.algorithm", on: grpcClients, when: takesTurns, level: Exact},
	{field: "loadBalancing.algorithm", on: grpcClients, level: Unsupported, reason: "hosts are taken in turn", instead: "round-robin or least-request"},
	{field: "loadBalancing.panicThreshold", on: grpcClients, when: neverPanics, level: Exact},
	{field: "loadBalancing.panicThreshold", on: grpcClients, level: Unsupported, reason: "a gRPC client never sends to hosts that are out", instead: "loadBalancing.panicThreshold: 0"},
}

const (
	notRetried       = "a gRPC client retries on cancelled, deadline-exceeded, internal, resource-exhausted and unavailable alone"
	retryUnavailable = "retry.retryOn: [unavailable]"
	anyStatus        = "every status but OK is a failure, whatever it says of the host"
)

func retriesNothing(in input, _ policy.Field) bool {
	return len(grpcStatuses(in.sections.Retry.RetryOn)) == 0
}

func retriesForeign(in input, _ policy.Field) bool {
	on := in.sections.Retry.RetryOn
	return len(grpcStatuses(on)) < len(on)
}

func judgesStatistics(in input, _ policy.Field) bool {
	return statistical(in.sections.OutlierDetection)
}

func takesTurns(in input, _ policy.Field) bool {
	return slices.Contains([]string{policy.RoundRobin, "least-request"}, orElse(in.sections.LoadBalancing.Algorithm, policy.RoundRobin))
}

func neverPanics(in input, _ policy.Field) bool {
	return orElse(in.sections.LoadBalancing.PanicThreshold, 1) == 0
}
