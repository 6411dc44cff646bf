package engine

import (
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// target is one configuration of a cluster with its live state. It is immutable.
type target struct {
	config *dataplane.Cluster
	live   *cluster
}

// pick chooses the host of attempt n, and the cluster that serves it; nil is none.
func (c *Call) pick(n int) (serving *target, h *Host) {
	members := c.target.config.Members
	if len(members) == 0 || c.target.config.Aggregate {
		return c.pickOf(c.target)
	}
	// Attempt i goes to member i, or to the next that has a host.
	for i := n - 1; i < len(members); i++ {
		if serving, h := c.pickOf(c.snap.cluster(members[i])); h != nil {
			return serving, h
		}
	}
	return nil, nil
}

// pickOf chooses among the hosts that t or its members have now, which may be others than when the call began.
func (c *Call) pickOf(t *target) (serving *target, h *Host) {
	switch {
	case t == nil:
		return nil, nil
	case t.config.Aggregate:
		return c.pickAmong(t)
	}
	now := t.live.fleet.Load()
	for range 2*len(now.hosts) + 1 {
		choice := now.picker.PickRetry(c.engine.options.Rand, c.hash, &c.tried, c.retry.policy)
		if choice.Member < 0 || c.fit(t, now.hosts[choice.Member]) {
			return t, c.take(t, now, choice)
		}
	}
	return t, nil // whoever is there is tried by others
}

// pickAmong chooses a member of an aggregate, and a host of it.
func (c *Call) pickAmong(t *target) (serving *target, h *Host) {
	members := t.config.Members
	var few [4]*fleet
	fleets := few[:]
	if len(members) > len(few) {
		fleets = make([]*fleet, len(members))
	}
	picker := func(i int) *resilience.Picker {
		member := c.snap.cluster(members[i])
		if member == nil || member.config.Members != nil { // the hosts of an aggregate are not its own
			return nil
		}
		fleets[i] = member.live.fleet.Load()
		return fleets[i].picker
	}
	at, choice := t.live.linear.Pick(len(members), picker, t.config.Balancing.PanicThreshold, c.engine.options.Rand, c.hash, &c.tried, c.retry.policy)
	if at < 0 {
		return nil, nil
	}
	serving = c.snap.clusters[members[at]]
	if choice.Member >= 0 && !c.fit(serving, fleets[at].hosts[choice.Member]) {
		return serving, nil
	}
	return serving, c.take(serving, fleets[at], choice)
}

func (c *Call) take(t *target, from *fleet, choice resilience.Choice) *Host {
	for range choice.Panics {
		t.live.stats.add(healthyPanic)
	}
	if choice.Member < 0 {
		return nil
	}
	h := from.hosts[choice.Member]
	c.tried.Add(h.State)
	return h
}
