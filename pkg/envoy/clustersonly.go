package envoy

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Where the routes are their owner's, retries ride on the cluster, and take the place of whatever the owner's route says of them; a
// try is bounded by how long its stream may last.

// ride puts on the cluster what would be in the route.
func (in input) ride(o *httpv3.HttpProtocolOptions) {
	if in.target.audience() != clustersOnly {
		return
	}
	if whole, _ := in.perTry(); whole != nil {
		o.CommonHttpProtocolOptions.MaxStreamDuration = whole
	}
	if in.retries() && !in.target.OwnRetries {
		o.RetryPolicy = in.ridingRetries()
	}
}

// ridingRetries is the full policy for the methods that may be sent twice, and none for the others.
func (in input) ridingRetries() *routev3.RetryPolicy {
	p := in.retryPolicy()
	p.PerTryTimeout, p.PerTryIdleTimeout = nil, nil // Envoy ignores them here
	if methods := in.retriedMethods(); methods != nil {
		p.RetriableRequestHeaders = []*routev3.HeaderMatcher{methodMatcher(methods)}
	}
	return p
}

// Taken is p as far as t takes it. Retries that ride on a cluster replace those of the owner's route, so they must be meant for that
// service: those of a policy that names none are left where they are.
func (t Target) Taken(p *policy.Compiled) *policy.Compiled {
	if t.audience() != clustersOnly || p.NamesService() || p.Policy.Spec.Retry == nil {
		return p
	}
	without := *p.Policy
	without.Spec.Retry = nil
	return policy.Compile(&without)
}

var ridingLines = []line{
	{field: "retry.budget", on: clustersOnly, level: Exact},
	{field: "retry.bufferBytes", on: clustersOnly, level: Unsupported, reason: ownersRoutes, instead: "the same in the owner's route"},
	{field: "retry", on: clustersOnly, when: ownRetries, level: Unsupported, reason: "the proxy's node says that its routes' own retries stay", instead: "breakwater.retry left out of the node's metadata"},
	{field: "retry", on: clustersOnly, when: tooOldToRide, level: Unsupported, reason: "an Envoy as old as this takes no retries on a cluster", instead: "Envoy 1.37 or newer"},
	{field: "retry.methods", on: clustersOnly, when: guards, always: true, inherent: true, level: Approximate, reason: "other methods are not retried at all, even where no host can have begun"},
	{field: "retry", on: clustersOnly, level: Exact},
	{field: "timeout.perTry", on: clustersOnly, inherent: true, level: Approximate, reason: "it bounds the whole response of a try, and starts with its stream"},
}

const ownersRoutes = "the proxy's routes are its owner's"

func ownRetries(in input, _ policy.Field) bool { return in.target.OwnRetries }

func tooOldToRide(in input, _ policy.Field) bool {
	return !in.target.knows("envoy.extensions.upstreams.http.v3.HttpProtocolOptions.retry_policy")
}

func guards(in input, _ policy.Field) bool { return in.retriedMethods() != nil }
