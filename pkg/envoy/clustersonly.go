package envoy

import (
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/breakwater-mesh/breakwater/pkg/catalog"
	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// Where the routes are their owner's, retries ride on the cluster, and take the place of whatever the owner's route says of them; a
// try is bounded by how long its stream may last. Where the name in those routes is not the cluster's own, a fallback can be the last
// try: the name is then that of a composite, the retries ride on it, and the cluster has its own name.

// ride puts on the options of a cluster what would be in the route.
func (in input) ride(o *httpv3.HttpProtocolOptions) *httpv3.HttpProtocolOptions {
	if in.target.audience() != clustersOnly {
		return o
	}
	if whole, _ := in.perTry(); whole != nil {
		o.CommonHttpProtocolOptions.MaxStreamDuration = whole
	}
	if in.retries() && !in.target.OwnRetries && in.spare() == "" {
		o.RetryPolicy = in.ridingRetries()
	}
	return o
}

// leads reports whether a composite can take the name that is in the owner's routes.
func (in input) leads() bool { return in.also != "" && !in.target.OwnRetries && !in.tcp() }

// lead adds the composites that have the name in the owner's routes, and the limits by both names of each cluster: they hold on the way
// from one to the other, which a health check may make long.
func (out *Compiled) lead(t Target, clusters []input) error {
	for _, in := range clusters {
		if in.also == "" {
			continue
		}
		other := in
		other.name = in.also
		keys := other.limitKeys()
		if spare := in.spare(); spare != "" {
			keys = slices.DeleteFunc(keys, RuntimeKey.retries) // the composite has its own
			if err := out.addComposite(t, in, composite{main: in.name, spare: spare, tries: in.mainTries(false), alias: in.also}); err != nil {
				return err
			}
		}
		out.Limits = append(out.Limits, keys...)
	}
	return nil
}

// Spare adds to out, which is svc under eff, the cluster by its own name that composites of others lead to, unless it is there. The name in
// the owner's routes won't do: with a fallback of its own, that is a composite, too.
func (out *Compiled) Spare(t Target, svc *catalog.Service, eff *policy.Effective) error {
	if t.foreignName(svc, "") == "" || out.Cluster.Name == svc.Key().String() {
		return nil
	}
	plain := *svc
	plain.Spec.ClusterName, plain.Spec.Subsets = "", nil
	alone, err := Service(t, &plain, eff) // its limits are there: see lead
	out.Subsets = append(out.Subsets, alone.Cluster)
	return err
}

// ridingRetries is the full policy for the methods that may be sent twice, and none for the others. The last try is the fallback's, if
// there is one.
func (in input) ridingRetries() *routev3.RetryPolicy {
	p := in.withFallback(in.retryPolicy(), false)
	p.PerTryTimeout, p.PerTryIdleTimeout = nil, nil // Envoy ignores them here
	if methods := in.retriedMethods(); methods != nil {
		p.RetriableRequestHeaders = []*routev3.HeaderMatcher{methodMatcher(methods)}
	}
	return p
}

// Taken is p as far as t takes it. Retries that ride on a cluster, a fallback's among them, replace those of the owner's route, so they must
// be meant for that service: those of a policy that names none are left where they are.
func (t Target) Taken(p *policy.Compiled) *policy.Compiled {
	if t.audience() != clustersOnly || p.NamesService() || p.Policy.Spec.Retry == nil && p.Policy.Spec.Fallback == nil {
		return p
	}
	without := *p.Policy
	without.Spec.Retry, without.Spec.Fallback = nil, nil
	return policy.Compile(&without)
}

var ridingLines = []line{
	budgetBesideFallback,
	{field: "retry.budget", on: clustersOnly, level: Exact},
	{field: "retry.bufferBytes", on: clustersOnly, level: Unsupported, reason: ownersRoutes, instead: "the same in the owner's route"},
	{field: "retry", on: clustersOnly, when: ownRetries, level: Unsupported, reason: "the proxy's node says that its routes' own retries stay", instead: "breakwater.retry left out of the node's metadata"},
	{field: "retry", on: clustersOnly, when: tooOldToRide, level: Unsupported, reason: "an Envoy as old as this takes no retries on a cluster", instead: "Envoy 1.37 or newer"},
	{field: "retry.methods", on: clustersOnly, when: guards, always: true, inherent: true, level: Approximate, reason: "other methods are not retried at all, even where no host can have begun"},
	{field: "retry", on: clustersOnly, level: Exact},
	{field: "timeout.perTry", on: clustersOnly, inherent: true, level: Approximate, reason: "it bounds the whole response of a try, and starts with its stream"},
}

var leadingLines = []line{
	{field: "fallback.response", on: clustersOnly, level: Unsupported, reason: ownersRoutes},
	{field: "fallback", on: clustersOnly, when: both(ownRetries, leadsNowhere), level: Unsupported,
		reason: "it is the last of our retries, and the proxy's node says that its routes' own stay", instead: "breakwater.retry left out of the node's metadata"},
	{field: "fallback", on: clustersOnly, when: leadsNowhere, level: Unsupported,
		reason: "it stands behind the name that is in the owner's routes, so the service itself must have another one", instead: "clusterName in the Service"},
	{field: "fallback.service", on: clustersOnly, when: guards, level: Approximate,
		reason: "a call whose method is not retried falls back only where the service has no host to try", instead: "retry.methods: all"},
	{field: "fallback.service", on: clustersOnly, when: cutsOff, level: Approximate, reason: "a call that the policy's own limits cut off does not fall back"},
	{field: "fallback", on: clustersOnly, when: hasSpare, level: Exact},
}

// leadsNowhere reports whether there is a fallback service to which no name can lead.
func leadsNowhere(in input, _ policy.Field) bool {
	b := in.sections.Fallback
	return b != nil && b.Service != nil && in.spare() == ""
}

const ownersRoutes = "the proxy's routes are its owner's"

func ownRetries(in input, _ policy.Field) bool { return in.target.OwnRetries }

func tooOldToRide(in input, _ policy.Field) bool {
	return !in.target.knows("envoy.extensions.upstreams.http.v3.HttpProtocolOptions.retry_policy")
}

func guards(in input, _ policy.Field) bool { return in.retriedMethods() != nil }
