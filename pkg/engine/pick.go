package engine

import "github.com/breakwater-mesh/breakwater/pkg/dataplane"

// target is one configuration of a cluster with its live state. It is immutable.
type target struct {
	config *dataplane.Cluster
	live   *cluster
}

// pick chooses the host of attempt n, and the cluster that serves it; nil is none.
func (c *Call) pick(n int) (serving *target, h *Host) {
	members := c.target.config.Members
	if len(members) == 0 {
		return c.target, c.pickFrom(c.target.live)
	}
	// Attempt i goes to member i, or to the next that has a host.
	for i := n - 1; i < len(members); i++ {
		member := c.snap.clusters[members[i]]
		if member == nil {
			continue
		}
		if h := c.pickFrom(member.live); h != nil {
			return member, h
		}
	}
	return nil, nil
}

// pickFrom chooses among the hosts that the cluster has now, which may be others than when the call began.
func (c *Call) pickFrom(live *cluster) *Host {
	now := live.fleet.Load()
	choice := now.picker.PickRetry(c.engine.options.Rand, &c.tried, c.retry.policy)
	for range choice.Panics {
		live.stats.add(healthyPanic)
	}
	if choice.Member < 0 {
		return nil
	}
	h := now.hosts[choice.Member]
	c.tried.Add(h.State)
	return h
}
