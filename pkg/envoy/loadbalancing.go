package envoy

import (
	"google.golang.org/protobuf/types/known/durationpb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/breakwater-mesh/breakwater/pkg/policy"
)

// defaultPanicThreshold is Envoy's: with fewer healthy hosts, in percent, it balances over all of them. It is always written, so that
// a policy that states it changes nothing.
const defaultPanicThreshold = 50

// balance sets how a host is chosen: in turn, unless a policy says otherwise.
func (in input) balance(c *clusterv3.Cluster) {
	lb := orElse(in.sections.LoadBalancing, policy.LoadBalancing{})
	c.LbPolicy, _ = lbPolicy(orElse(lb.Algorithm, policy.RoundRobin))
	common := c.CommonLbConfig
	common.HealthyPanicThreshold = &typev3.Percent{Value: float64(orElse(lb.PanicThreshold, defaultPanicThreshold))}
	switch {
	case orElse(lb.LocalityWeighted, false):
		common.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
			LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
		}
	case orElse(lb.FailTrafficOnPanic, false) && !lb.Hashes():
		// Nothing else of it takes effect: a proxy has no cluster of its own.
		common.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig_{
			ZoneAwareLbConfig: &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig{FailTrafficOnPanic: true},
		}
	}
	if lb.SlowStart == nil || !finite(lb.SlowStart.Window) {
		return
	}
	switch c.LbPolicy {
	case clusterv3.Cluster_ROUND_ROBIN:
		c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: in.slowStart(lb.SlowStart)}}
	case clusterv3.Cluster_LEAST_REQUEST:
		c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: in.slowStart(lb.SlowStart)}}
	}
}

func (in input) slowStart(s *policy.SlowStart) *clusterv3.Cluster_SlowStartConfig {
	return &clusterv3.Cluster_SlowStartConfig{
		SlowStartWindow: duration(s.Window),
		// The key is required, and no layer has it.
		Aggression:       &corev3.RuntimeDouble{DefaultValue: orElse(s.Aggression, 1), RuntimeKey: "load_balancing." + in.name + ".slow_start_aggression"},
		MinWeightPercent: &typev3.Percent{Value: float64(orElse(s.MinWeightPercent, 10))},
	}
}

func lbPolicy(algorithm string) (clusterv3.Cluster_LbPolicy, bool) {
	switch algorithm {
	case policy.RoundRobin:
		return clusterv3.Cluster_ROUND_ROBIN, true
	case policy.LeastRequest:
		return clusterv3.Cluster_LEAST_REQUEST, true
	case policy.Random:
		return clusterv3.Cluster_RANDOM, true
	case policy.RingHash:
		return clusterv3.Cluster_RING_HASH, true
	case policy.Maglev:
		return clusterv3.Cluster_MAGLEV, true
	}
	return clusterv3.Cluster_ROUND_ROBIN, false
}

// hashOn is what is hashed of the calls of a route: what the first of its clusters that hashes asks for, as far as they are the
// service's own.
func hashOn(clusters []input, backends []backend) []policy.HashKey {
	for _, b := range backends {
		for _, in := range clusters {
			if lb := in.sections.LoadBalancing; in.name == b.cluster && lb != nil && lb.Hashes() {
				return lb.HashOn
			}
		}
	}
	return nil
}

// hashPolicy is the carrier of hashOn: the route hashes, its clusters pick by the hash.
func hashPolicy(keys []policy.HashKey) []*routev3.RouteAction_HashPolicy {
	var list []*routev3.RouteAction_HashPolicy
	for _, k := range keys {
		p := &routev3.RouteAction_HashPolicy{Terminal: orElse(k.Terminal, false)}
		switch {
		case k.Header != nil:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Header_{Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: *k.Header}}
		case k.Cookie != nil:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_Cookie_{Cookie: hashCookie(k.Cookie)}
		case k.QueryParameter != nil:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_QueryParameter_{QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: *k.QueryParameter}}
		default:
			p.PolicySpecifier = &routev3.RouteAction_HashPolicy_ConnectionProperties_{
				ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
			}
		}
		list = append(list, p)
	}
	return list
}

// hashCookie has a time to live of zero where it lives as long as the client's session.
func hashCookie(c *policy.HashCookie) *routev3.RouteAction_HashPolicy_Cookie {
	out := &routev3.RouteAction_HashPolicy_Cookie{Name: orElse(c.Name, ""), Path: orElse(c.Path, "")}
	if c.TTL != nil {
		out.Ttl = durationpb.New(c.TTL.D())
	}
	return out
}

var balancingLines = []line{
	{field: "loadBalancing.algorithm", when: unknownAlgorithm, level: Unsupported,
		reason: "unknown: hosts are taken in turn", instead: "round-robin, least-request or random"},
	{field: "loadBalancing.hashOn", on: proxies, when: not(hashes), beside: true, level: Unsupported,
		reason: "the algorithm in force does not hash", instead: "ring-hash or maglev for loadBalancing.algorithm"},
	{field: "loadBalancing.hashOn", on: clustersOnly, level: Unsupported,
		reason: "the proxy's routes are its owner's", instead: "a hash_policy in the owner's route"},
	{field: "loadBalancing.failTrafficOnPanic", on: proxies, when: hashes, beside: true, level: Unsupported,
		reason: "with ring-hash and maglev a call in panic goes to all hosts"},
	{field: "loadBalancing.slowStart", on: proxies, when: noSlowStart, beside: true, level: Unsupported,
		reason: "the algorithm in force gives every host its whole share at once", instead: "round-robin or least-request for loadBalancing.algorithm"},
}

func hashes(in input, _ policy.Field) bool { return in.sections.LoadBalancing.Hashes() }

func noSlowStart(in input, _ policy.Field) bool {
	algorithm := orElse(in.sections.LoadBalancing.Algorithm, policy.RoundRobin)
	return algorithm != policy.RoundRobin && algorithm != policy.LeastRequest
}

func unknownAlgorithm(in input, _ policy.Field) bool {
	_, known := lbPolicy(orElse(in.sections.LoadBalancing.Algorithm, policy.RoundRobin))
	return !known
}
