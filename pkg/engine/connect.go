package engine

import (
	"github.com/breakwater-mesh/breakwater/pkg/dataplane"
	"github.com/breakwater-mesh/breakwater/pkg/resilience"
)

// Lease is a TCP connection to a host. Release is owed.
type Lease struct{ host *Host }

// Release takes the connection back.
func (l *Lease) Release() {
	l.host.State.End()
	l.host.CloseConnection(resilience.Default)
}

// Connect picks a host of a cluster for a TCP stream and has dial connect to it as the cluster says. A host that can't be reached is
// charged for it. Without a lease the report says why.
func (e *Engine) Connect(cluster string, dial func(h *Host, config *dataplane.Cluster) Failure) (*Lease, Report) {
	snap := e.now.Load()
	c := &Call{engine: e, snap: snap, route: &dataplane.Route{}, target: snap.cluster(cluster)}
	if c.target == nil {
		return nil, Report{Flags: NC}
	}
	serving, h := c.pick(1)
	if h == nil {
		c.target.live.stats.add(noneHealthy)
		return nil, Report{Flags: UH, Cluster: cluster}
	}
	a := &Attempt{Host: h, serving: serving, probe: c.probes}
	if !h.OpenConnection(resilience.Default, false) {
		a.endProbe()
		return nil, Report{Flags: UO, Cluster: cluster}
	}
	report := Report{Cluster: cluster, Host: h.Address}
	h.State.Begin()
	lease := &Lease{h}
	if failure := dial(h, serving.config); failure != None {
		h.ConnectFailed(failure == ConnectTimeout)
		serving.live.stats.add(rqPendingFailureEject)
		a.record(resilience.ConnectFailed)
		lease.Release()
		report.Flags = flagOf(failure) | URX // there is one attempt
		return nil, report
	}
	serving.live.stats.add(rqTotal)
	serving.live.record(h, resilience.Connected)
	a.record(resilience.Outcome(200)) // without the split, a connection is a success
	return lease, report
}
