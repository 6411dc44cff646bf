package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// balance sets how a host is chosen: in turn, unless a policy says otherwise.
func (in input) balance(c *clusterv3.Cluster) {
	c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	lb := in.sections.LoadBalancing
	if lb == nil {
		return
	}
	c.LbPolicy, _ = lbPolicy(orElse(lb.Algorithm, "round-robin"))
	if lb.PanicThreshold != nil {
		c.CommonLbConfig.HealthyPanicThreshold = &typev3.Percent{Value: float64(*lb.PanicThreshold)}
	}
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
