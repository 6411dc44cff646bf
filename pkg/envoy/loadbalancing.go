package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
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
	c.CommonLbConfig.HealthyPanicThreshold = &typev3.Percent{Value: float64(orElse(lb.PanicThreshold, defaultPanicThreshold))}
}

func lbPolicy(algorithm string) (clusterv3.Cluster_LbPolicy, bool) {
	switch algorithm {
	case "round-robin":
		return clusterv3.Cluster_ROUND_ROBIN, true
	case "least-request":
		return clusterv3.Cluster_LEAST_REQUEST, true
	case "random":
		return clusterv3.Cluster_RANDOM, true
	}
	return clusterv3.Cluster_ROUND_ROBIN, false
}

var balancingLines = []line{
	{field: "loadBalancing.algorithm", when: unknownAlgorithm, level: Unsupported,
		reason: "unknown: hosts are taken in turn", instead: "round-robin, least-request or random"},
}

func unknownAlgorithm(in input, _ policy.Field) bool {
	_, known := lbPolicy(orElse(in.sections.LoadBalancing.Algorithm, policy.RoundRobin))
	return !known
}
